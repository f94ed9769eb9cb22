"""The next token: loss, gradients and texts are those of the library's own model, from any boundary."""

import copy

import language_models
import numpy as np
import pytest
import torch
import transformers

from skltransfer import load_backbone
from skltransfer.backbones import Backbone, causal_head, seeded
from skltransfer.engine import (
    LanguageModelingTask,
    NetworkSpec,
    NetworkState,
    RecordTargets,
    continuations,
    new_network,
)
from skltransfer.engine.networks.adapters import merged
from skltransfer.engine.tasks.language_modeling import whole_model
from skltransfer.exceptions import UnsupportedBackboneError, WeightsError
from skltransfer.inputs import samples_from_prompts

PROMPTS = ["1+2=", "(3*4)-5=", "a", "twelve plus one is "]
ANSWERS = ["3", "7", "bc", "thirteen"]
FAMILIES = list(language_models.CONFIGURATIONS)
BOUNDARIES = range(5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of tiny models, by family and sizes."""
    known = {}

    def of(kind: str, **sizes) -> str:
        key = (kind, repr(sizes))
        if key not in known:
            known[key] = language_models.save_language_model(tmp_path_factory.mktemp("model"), kind, **sizes)
        return known[key]

    return of


def records_of(backbone: Backbone, *, pairs: bool = True):
    """Padded ids (n, tokens), and what counts in each row."""
    samples = samples_from_prompts(PROMPTS, causal_head(backbone).texts)
    if pairs:
        samples.continue_with(ANSWERS)
    ids = [list(samples.ids(row)) for row in range(len(PROMPTS))]
    kept = [samples.counted(row) for row in range(len(PROMPTS))]
    padded = torch.full((len(ids), max(map(len, ids))), -1)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = torch.tensor(one)
    return padded, RecordTargets(kept)


def labels_of(padded: torch.Tensor, targets: RecordTargets) -> torch.Tensor:
    labels = torch.full_like(padded, -100)
    for row, record in enumerate(targets.records):
        first = int(record["start"]) + 1
        labels[row, first : first + len(record["counted"])] = torch.from_numpy(record["counted"])
    return labels


def task_of(backbone: Backbone, targets: RecordTargets) -> LanguageModelingTask:
    mean = float(np.mean([len(record["counted"]) for record in targets.records]))
    return LanguageModelingTask(causal_head(backbone).fingerprint, mean)


def library_model(name: str):
    return transformers.AutoModelForCausalLM.from_pretrained(name.removeprefix("hf:"), dtype="float32")


def compare(name: str, boundary: int, *, trains: bool, pairs: bool = True) -> int:
    """Compare loss and gradients with the library's; the number of compared weights.

    In training mode, the library's model runs its own ``forward``, and the first unfrozen layer gets the remembered
    activation, so that both draw the same random numbers.
    """
    backbone, library = load_backbone(name), library_model(name)
    padded, targets = records_of(backbone, pairs=pairs)
    batch, task, labels = targets.take(np.arange(len(padded))), task_of(backbone, targets), labels_of(padded, targets)
    spec = NetworkSpec(boundary, None, "own", taps=(backbone.n_stages,))
    network = new_network(backbone, spec, task.readout, seed=0).train(trains)
    with torch.no_grad():
        activation = backbone.prefix(0, boundary)(padded) if boundary else padded
    base = getattr(library, library.base_model_prefix)
    library.train(trains and boundary < backbone.n_stages)  # after the last stage nothing is dropped
    for path in backbone.stage_names[1:boundary]:
        base.get_submodule(path).eval()
    if 0 < boundary < backbone.n_stages:
        layer = base.get_submodule(backbone.stage_names[boundary])
        layer.register_forward_pre_hook(handing(activation.nan_to_num()), with_kwargs=True)
    with seeded(1):
        theirs = library(input_ids=padded.clamp_min(0), attention_mask=(padded >= 0).long(), labels=labels).loss
    with seeded(1):
        losses = task.loss(network(activation.clone(), batch), batch)
    ours = losses.sum() * task.mean_tokens / sum(len(record["counted"]) for record in batch)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    theirs.backward()
    ours.backward()
    return compare_gradients(network, library, backbone)


def handing(hidden: torch.Tensor):
    """A hook that puts activations in the place of a layer's input."""

    def handed(module, args, kwargs):
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    return handed


def assert_near(ours, theirs):
    """Gradients of one weight, within 1e-5 of its largest, or of 1 where all are smaller."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1.0, theirs.abs().max().item()))


def compare_gradients(network, library, backbone) -> int:
    own = {name.removeprefix("suffix."): p.grad for name, p in network.named_parameters() if p.grad is not None}
    base = dict(getattr(library, library.base_model_prefix).named_parameters())
    asked = [
        name for stage in range(network.spec.boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)
    ]
    compared = 0
    for name in asked:
        if base[name].grad is not None:
            assert_near(own[name], base[name].grad)
            compared += 1
    head, theirs = network.readout.head.model.get_output_embeddings(), library.get_output_embeddings()
    if not network.readout.head.is_tied:
        assert_near(head.weight.grad, theirs.weight.grad)
    elif network.spec.boundary == 0:
        assert head.weight is network.suffix.model.get_input_embeddings().weight
    return compared


def case(family: str, boundary: int):
    """A few families are compared at every boundary in each run, the others at one."""
    is_usual = family in ("gpt2", "llama", "llama-tied") or boundary == 2
    return pytest.param(family, boundary, marks=[] if is_usual else [pytest.mark.slow])


@pytest.mark.parametrize(("family", "boundary"), [case(family, b) for family in FAMILIES for b in BOUNDARIES])
def test_loss_and_gradients_are_the_librarys(saved, family, boundary):
    compared = compare(saved(family, begins=family == "llama"), boundary, trains=False)
    assert compared > 5 or boundary == 4


@pytest.mark.parametrize(
    ("family", "boundary"), [case(family, b) for family in sorted(language_models.DROPPING) for b in BOUNDARIES]
)
def test_they_are_in_training_mode_too(saved, family, boundary):
    compare(saved(family, **language_models.DROPPING[family]), boundary, trains=True)


@pytest.mark.parametrize("boundary", [0, 2])
def test_a_whole_text_counts_from_its_second_token_on(saved, boundary):
    compare(saved("gpt2"), boundary, trains=False, pairs=False)


# texts


def network_of(name: str, boundary: int, *, adapter: str | None = None, seed: int = 0):
    """A network whose trained weights were moved, and the library's model with the same weights."""
    backbone, library = load_backbone(name), library_model(name)
    task = LanguageModelingTask(causal_head(backbone).fingerprint)
    spec = NetworkSpec(boundary, None, "own", adapter, taps=(backbone.n_stages,))
    network = new_network(backbone, spec, task.readout, seed=0).eval()
    generator = torch.Generator().manual_seed(seed)
    trained = {name for stage in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)}
    with torch.no_grad():
        for key, one in network.named_parameters():
            of_stage = adapter is not None or key.startswith("readout.") or key.removeprefix("suffix.") in trained
            if one.requires_grad and of_stage:
                one.add_(0.1 * torch.randn(one.shape, generator=generator))
    base, own = getattr(library, library.base_model_prefix), copy.deepcopy(network)
    if adapter is not None:
        merged(own)
    state = {key.replace(".base_layer.", "."): value for key, value in own.state_dict().items() if "lora_" not in key}
    with torch.no_grad():
        for key in trained:
            base.get_parameter(key).copy_(state[f"suffix.{key}"])
        if boundary or not own.readout.head.is_tied:  # else it is the tokens' tensor
            for key, value in state.items():
                if key.startswith("readout.head.model."):
                    parent, _, leaf = key.removeprefix("readout.head.model.").rpartition(".")
                    library.get_submodule(parent)._parameters[leaf] = torch.nn.Parameter(value)
    return network.requires_grad_(False), backbone, library.eval()


def library_texts(library, prompts, ends, **how) -> list[list[int]]:
    """What the library's own ``generate`` puts after each prompt, alone."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        settings = {"eos_token_id": ends, "pad_token_id": ends[0], "do_sample": False, **how}
        whole = library.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()
        found.append(whole[: next((i for i, one in enumerate(whole) if one in ends), len(whole)) + 1])
    return found


@pytest.mark.parametrize("beams", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("boundary", [0, 2, 4])
@pytest.mark.parametrize("family", ["gpt2", "llama", pytest.param("opt", marks=pytest.mark.slow)])
def test_texts_are_the_librarys_token_for_token(saved, family, boundary, beams):
    network, backbone, library = network_of(saved(family, scale=8.0), boundary)
    texts, how = causal_head(backbone).texts, {"max_new_tokens": 12, "num_beams": beams, "do_sample": False}
    prompts = [texts.prompt(prompt, 40).ids for prompt in PROMPTS]
    found = continuations(network, backbone, prompts, how)
    assert found == library_texts(library, prompts, [1], **how)
    assert found == [continuations(network, backbone, [prompt], how)[0] for prompt in prompts]
    assert len({tuple(one) for one in found}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in FAMILIES if one not in ("gpt2", "llama", "opt")])
def test_neighbours_change_no_text_in_any_family(saved, family):
    network, backbone, library = network_of(saved(family, scale=8.0), 2)
    texts, how = causal_head(backbone).texts, {"max_new_tokens": 8, "num_beams": 1, "do_sample": False}
    prompts = [texts.prompt(prompt, 40).ids for prompt in PROMPTS]
    assert continuations(network, backbone, prompts, how) == library_texts(library, prompts, [1], **how)


@pytest.mark.parametrize("boundary", [0, 2, 4])
def test_adapters_are_part_of_the_whole_model(saved, boundary):
    pytest.importorskip("peft")
    network, backbone, library = network_of(saved("llama", scale=8.0), boundary, adapter="lora")
    how = {"max_new_tokens": 12, "num_beams": 1, "do_sample": False}
    prompts = [causal_head(backbone).texts.prompt(prompt, 40).ids for prompt in PROMPTS]
    found = continuations(network, backbone, prompts, how)
    assert found == library_texts(library, prompts, [1], **how)
    plain = network_of(saved("llama", scale=8.0), 4, adapter=None)
    assert found != continuations(*plain[:2], prompts, how)


def test_the_whole_model_shares_the_frozen_weights(saved):
    network, backbone, _ = network_of(saved("gpt2", scale=8.0), 2)
    model, shared = whole_model(network, backbone), backbone.library_network
    assert whole_model(network, backbone) is model
    assert model.transformer.wte.weight is shared.wte.weight
    assert model.transformer.h[0].mlp.c_fc.weight is shared.h[0].mlp.c_fc.weight
    own = dict(network.suffix.named_parameters())["h.2.mlp.c_fc.weight"]
    assert model.transformer.h[2].mlp.c_fc.weight.data_ptr() == own.data_ptr()
    assert model.lm_head.weight.data_ptr() == network.readout.head.model.lm_head.weight.data_ptr()
    assert model.lm_head.weight is not shared.wte.weight


# heads


def test_a_tied_head_is_private_until_the_stem_is_trained(saved):
    for family, is_tied in (("gpt2", True), ("llama", False)):
        backbone = load_backbone(saved(family))
        task = LanguageModelingTask(causal_head(backbone).fingerprint)
        for boundary in (0, 1, 4):
            spec = NetworkSpec(boundary, None, "own", taps=(backbone.n_stages,))
            network = new_network(backbone, spec, task.readout, seed=0)
            head, tokens = network.readout.head.model.get_output_embeddings().weight, None
            assert head.requires_grad
            assert head is not backbone.library_network.get_input_embeddings().weight
            if boundary == 0:
                tokens = network.suffix.model.get_input_embeddings().weight
            assert (head is tokens) == (is_tied and boundary == 0)


@pytest.mark.parametrize("boundary", [0, 2, 4])
def test_a_state_keeps_only_what_changed(saved, boundary):
    """Adapters alone, or trained weights; a head that nobody trained is read from the backbone's files again."""
    pytest.importorskip("peft")
    for adapter in (None, "lora"):
        network, backbone, _ = network_of(saved("gpt2"), boundary, adapter=adapter)
        state = NetworkState.of(network, backbone)
        names = set(state.changed)
        if adapter is not None:
            assert all("lora_" in name for name in names)
            assert any(name.startswith("readout.") for name in names) == (boundary == 4)
        else:
            assert ("readout.head.model.lm_head.weight" in names) == (boundary > 0)
        task = LanguageModelingTask(causal_head(backbone).fingerprint)
        again = state.for_inference(backbone, task.readout, torch.device("cpu"))
        for key, value in network.state_dict().items():
            torch.testing.assert_close(again.state_dict()[key], value)


def test_other_weights_of_a_head_are_refused(saved):
    backbone = load_backbone(saved("llama"))
    spec = NetworkSpec(4, None, "own", taps=(backbone.n_stages,))
    with pytest.raises(WeightsError, match="The output head of .* has other weights than in the fit"):
        new_network(backbone, spec, LanguageModelingTask("another").readout, seed=0)
    for wrong in (NetworkSpec(4, "mean", "linear"), NetworkSpec(4, None, "own", taps=(4,), n_outputs=3)):
        with pytest.raises(ValueError, match="head="):
            LanguageModelingTask("any").refuse_unless_it_reads(wrong)


def test_a_head_of_its_own_needs_its_weights(saved, tmp_path):
    """An untied head is in the files, or is drawn with the network; nothing random goes unseen."""
    name = saved("llama")
    transformers.AutoModel.from_pretrained(name.removeprefix("hf:")).save_pretrained(tmp_path)
    language_models.save_letters(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=r"its files lack \['lm_head.weight'\]"):
        causal_head(load_backbone(f"hf:{tmp_path}"))
    drawn = [causal_head(load_backbone(name, weights=f"random:{seed}")).fingerprint for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    weights = str(tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedBackboneError, match="holds no output head"):
        causal_head(load_backbone(name, weights=weights))
    transformers.AutoModel.from_pretrained(saved("gpt2").removeprefix("hf:")).save_pretrained(tmp_path / "tied")
    language_models.save_letters(tmp_path / "tied")
    assert causal_head(load_backbone(f"hf:{tmp_path / 'tied'}")).is_tied


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("BertConfig", "BertModel looks at the tokens that come after"),
        ("DistilBertConfig", "DistilBertModel has no output head for the next token"),
        ("T5Config", "T5EncoderModel reads what another part writes about; see FineTunedTextToText"),
    ],
)
def test_networks_that_cannot_continue_texts_are_refused(kind, reason, tmp_path):
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64}
    if kind == "DistilBertConfig":
        sizes = {"vocab_size": 48, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    if kind == "T5Config":
        sizes = {"vocab_size": 48, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    transformers.AutoModel.from_config(getattr(transformers, kind)(**sizes)).save_pretrained(tmp_path)
    language_models.save_letters(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=reason) as caught:
        causal_head(load_backbone(f"hf:{tmp_path}"))
    assert "Choose a causal language model, such as GPT-2" in str(caught.value)


def test_networks_of_other_libraries_are_refused():
    with pytest.raises(UnsupportedBackboneError, match="'toy:text' cannot continue texts: it is not a network of"):
        causal_head(load_backbone("toy:text"))
