"""Spans against the library's own models for question answering: loss and gradients, and how answers are found."""

import itertools

import numpy as np
import pytest
import torch
import transformers
from questions import FAMILIES, saved
from torch.nn import functional as F

from skltransfer import load_backbone
from skltransfer.backbones import seeded, span_head
from skltransfer.engine import NetworkSpec, SpanTask, new_network
from skltransfer.engine.tasks.spans import ABSENT, best_span

PAIRS = [
    ("who was born in Lima ?", "Anna was born in Lima in 1970 ."),
    ("when ?", "In 1984 , Boris moved to Oslo , and Clara moved to Rome in 1991 ."),
    ("where is Anna ?", "Oslo ."),
]
SPANS = torch.tensor([[9, 9], [14, 15], [0, 0]])  # the last one has no answer
BATCH = [{"span": span} for span in SPANS]
TASK = SpanTask()


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request, tmp_path_factory):
    return load_backbone(saved(request.param, tmp_path_factory.mktemp(request.param)))


def whole(backbone, *, train=False):
    """The library's model with its head, as it was saved."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        backbone.name.removeprefix("hf:"), dtype=torch.float32
    )
    return model.train(train)


def inputs_of(backbone, ids):
    """A padded batch of packed ids as the library takes it."""
    step, mask = backbone.preprocessing.segment_step, ids >= 0
    ids = ids.clamp_min(0)
    found = {"input_ids": ids % step if step else ids, "attention_mask": mask.long()}
    return found | ({"token_type_ids": ids // step} if step else {})


def padded(backbone):
    return torch.nn.utils.rnn.pad_sequence([backbone.preprocessing(pair) for pair in PAIRS], True, -1)


def own_network(backbone, boundary, head="own"):
    spec = NetworkSpec(boundary, None, head, n_outputs=2, taps=(backbone.n_stages,))
    return new_network(backbone, spec, TASK.readout, seed=0)


def assert_gradients_are_equal(backbone, network, library, boundary):
    encoder = getattr(library, library.base_model_prefix)
    theirs = {name: p.grad for name, p in encoder.named_parameters()}
    trained = {name for stage in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)}
    own = {name.removeprefix("suffix."): p.grad for name, p in network.named_parameters()}
    largest = max((float(grad.abs().max()) for grad in theirs.values() if grad is not None), default=0.0)
    for name in trained & theirs.keys():
        if theirs[name] is not None:
            torch.testing.assert_close(own[name], theirs[name], rtol=1e-5, atol=1e-6 * max(1.0, largest))
    for kind in ("weight", "bias"):
        torch.testing.assert_close(own[f"readout.head.1.{kind}"], getattr(library.qa_outputs, kind).grad)
    return len(trained & theirs.keys())


def test_loss_and_gradients_are_the_librarys_at_every_boundary(backbone):
    """Row by row, since the library lets padding take probability in a batch."""
    ids, library = padded(backbone), whole(backbone)
    theirs = []
    for row, (start, end) in zip(ids, SPANS, strict=True):
        inputs = inputs_of(backbone, row[row >= 0][None])
        theirs.append(library(**inputs, start_positions=start[None], end_positions=end[None]).loss)
    sum(theirs).backward()
    for boundary in range(backbone.n_stages + 1):
        network = own_network(backbone, boundary).eval()
        with torch.no_grad():
            activation = backbone.prefix(0, boundary)(ids) if boundary else ids
        ours = TASK.loss(network(activation.clone(), BATCH), BATCH)
        ours.sum().backward()
        torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-5, atol=1e-5)
        compared = assert_gradients_are_equal(backbone, network, library, boundary)
        assert compared > 0 or boundary == backbone.n_stages


def test_dropout_draws_the_librarys_numbers_in_training(backbone):
    """The library's own forward runs in train mode, and its first unfrozen layer gets the remembered activation."""
    ids = padded(backbone)
    is_padding = (ids < 0)[..., None]
    for boundary in (1, 2, backbone.n_stages):
        library, network = whole(backbone, train=True), own_network(backbone, boundary).train()
        with torch.no_grad():
            activation = backbone.prefix(0, boundary)(ids)
        encoder = getattr(library, library.base_model_prefix)
        remembered = activation.nan_to_num()
        if boundary == backbone.n_stages:
            encoder.eval()
            replace_output(encoder, remembered)
        else:
            for name in backbone.stage_names[1:boundary]:  # which do not run in ours
                encoder.get_submodule(name).eval()
            hook_on_input(encoder.get_submodule(backbone.stage_names[boundary]), remembered)
        torch.manual_seed(5)
        found = library(**inputs_of(backbone, ids))
        scores = torch.stack([found.start_logits, found.end_logits], -1).masked_fill(is_padding, -torch.inf)
        theirs = F.cross_entropy(scores, SPANS, reduction="none").mean(1)
        theirs.sum().backward()
        torch.manual_seed(5)
        ours = TASK.loss(network(activation.clone(), BATCH), BATCH)
        ours.sum().backward()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert_gradients_are_equal(backbone, network, library, boundary)
        if boundary < backbone.n_stages:
            network.eval()
            with torch.no_grad():
                assert not torch.allclose(TASK.loss(network(activation.clone(), BATCH), BATCH), ours)


def replace_output(encoder, remembered):
    encoder.register_forward_hook(lambda module, args, found: type(found)(last_hidden_state=remembered))


def hook_on_input(layer, remembered):
    def replace(module, args, kwargs):
        return ((remembered, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": remembered})

    layer.register_forward_pre_hook(replace, with_kwargs=True)


def test_padding_changes_neither_losses_nor_gradients(backbone):
    ids = padded(backbone)
    more = torch.cat([ids, torch.full((3, 5), -1)], 1)
    networks = [own_network(backbone, 0, head="spans").eval() for _ in range(2)]
    for network, one in zip(networks, (ids, more), strict=True):
        TASK.loss(network(one, BATCH), BATCH).sum().backward()
    for (name, one), (_, other) in zip(*(network.named_parameters() for network in networks), strict=True):
        if one.grad is not None:
            assert one.grad.isfinite().all(), name
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    scores = networks[1](more, BATCH)
    assert (scores[more < 0] == -torch.inf).all()
    assert scores[more >= 0].isfinite().all()


def test_tokens_of_the_question_compete_in_training_and_are_never_answered(backbone):
    """As in the library, whose loss is over all tokens; where answers are sought, a question cannot be its own."""
    pair = PAIRS[0]
    ids, context = backbone.preprocessing(pair), backbone.preprocessing.pairs.context(pair)
    scores = torch.zeros(1, len(ids), 2)
    assert float(TASK.loss(scores, BATCH[:1])) == pytest.approx(np.log(len(ids)))
    scores[0, 1] = 9.0  # a word of the question
    assert float(TASK.loss(scores, BATCH[:1])) > 8
    scores[0, context[3, 0]] = 1.0
    answer = best_span(scores[0].double().numpy(), context, 30)
    assert answer[:2] == tuple(context[3, 1:])


def test_the_own_head_is_the_checkpoints(backbone, tmp_path):
    head, library = span_head(backbone), whole(backbone)
    assert torch.equal(head[1].weight, library.qa_outputs.weight)
    assert span_head(backbone) is head
    network = own_network(backbone, backbone.n_stages)
    assert torch.equal(network.readout.head[1].weight, head[1].weight)
    assert network.readout.head[1].weight is not head[1].weight
    assert network.readout.head[1].weight.requires_grad
    assert not head[1].weight.requires_grad


def test_checkpoints_without_such_a_head_have_none(tmp_path):
    assert span_head(load_backbone("bundled:minilm")) is None
    assert span_head(load_backbone(saved("BERT", tmp_path / "encoder", headless=True))) is None
    whole_model = saved("BERT", tmp_path / "whole")
    assert span_head(load_backbone(whole_model)) is not None
    assert span_head(load_backbone(whole_model, weights="random")) is None


def test_a_model_that_computes_more_than_a_head_is_not_taken_for_one(tmp_path, monkeypatch):
    def forward(self, **inputs):
        found = original(self, **inputs)
        found.start_logits = found.start_logits + 1
        return found

    kind = transformers.BertForQuestionAnswering
    original = kind.forward
    monkeypatch.setattr(kind, "forward", forward)
    assert span_head(load_backbone(saved("BERT", tmp_path))) is None


def test_a_model_that_refuses_tokens_alone_has_none(tmp_path, monkeypatch):
    name = saved("BERT", tmp_path)

    def forward(self, **inputs):
        raise ValueError("there are no three separators")

    monkeypatch.setattr(transformers.BertForQuestionAnswering, "forward", forward)
    assert span_head(load_backbone(name)) is None


def every_span(outputs, context, longest):
    """The best one by looking at all."""
    allowed = [token for token in context if token[0] > 0 and token[2] > token[1]]
    scores = torch.tensor(outputs[[0, *(int(token[0]) for token in allowed)]]).log_softmax(0).numpy()
    found = [(float(scores[0].sum()), *ABSENT)]
    for (i, one), (j, other) in itertools.product(enumerate(allowed), enumerate(allowed)):
        if 0 <= other[0] - one[0] < longest:
            found.append((float(scores[1 + i, 0] + scores[1 + j, 1]), int(one[1]), int(other[2])))
    return max(found)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_span_is_the_best_of_all(longest):
    draw = np.random.default_rng(0)
    for _ in range(50):
        n, before = draw.integers(0, 9), draw.integers(1, 5)
        starts = np.cumsum(draw.integers(0, 3, n + 1))
        context = np.column_stack([before + np.arange(n), starts[:-1], starts[1:]])
        context[draw.random(n) < 0.2, 0] = -1  # cut off
        outputs = draw.normal(0, 2, (before + n + 1, 2))
        score, start, stop = every_span(outputs, context, longest)
        answer = best_span(outputs, context, longest)
        assert answer[:2] == (start, stop)
        assert answer.score == pytest.approx(np.exp(score))


def test_nothing_is_answered_where_it_is_as_probable_as_anything():
    context = np.array([[1, 0, 2], [2, 3, 5]])
    assert best_span(np.zeros((3, 2)), context, 9)[:2] == ABSENT
    assert best_span(np.zeros((3, 2)), context[:0], 9) == (*ABSENT, 1.0)
    assert best_span(np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]), context, 9)[:2] == (0, 5)
    assert best_span(np.array([[0.0, 0.0], [0.0, 5.0], [5.0, 0.0]]), context, 9)[:2] in ((0, 2), (3, 5))


@pytest.mark.parametrize("change", [{"head": "linear"}, {"taps": (1, 2)}, {"taps": ()}, {"n_outputs": 3}], ids=str)
def test_a_network_that_finds_no_spans_is_refused(change):
    spec = {"boundary": 1, "pooling": None, "head": "spans", "n_outputs": 2, "taps": (2,)} | change
    with pytest.raises(ValueError, match="head="):
        SpanTask().refuse_unless_it_reads(NetworkSpec(**spec))


def test_a_new_head_reads_standardized_tokens(tmp_path):
    from skltransfer import FineTunedQuestionAnswerer

    with seeded(0):
        name = saved("BERT", tmp_path)
    options = {"freeze_depth": 1.0, "head": "linear", "max_epochs": 1, "dtype": "float32", "runtime": "eager"}
    model = FineTunedQuestionAnswerer(name, random_state=0, **options).fit(PAIRS, ["Anna", "1984", ""])
    backbone = load_backbone(name)
    ids = padded(backbone)
    with torch.no_grad():
        tokens = backbone.prefix(0, backbone.n_stages)(ids)[ids >= 0].double().numpy()
    np.testing.assert_allclose(model._network_.changed["readout.mean"], tokens.mean(0), rtol=1e-4, atol=1e-5)
    z = (tokens - tokens.mean(0)) / model._network_.changed["readout.scale"]
    assert np.mean(z**2) == pytest.approx(1, rel=1e-4)
