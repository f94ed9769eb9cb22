"""A letter per frame: loss and gradients as the library's, greedy decoding, and what frames can hold."""

import pytest
import torch
import transformers
from speech_networks import save_ctc

from skltransfer import load_backbone
from skltransfer.backbones import ctc_head, n_frames
from skltransfer.engine import OWN_HEAD, CtcTask, NetworkSpec, new_network
from skltransfer.engine.tasks.ctc import NEW_HEAD

LENGTHS, TARGETS = (9000, 16000, 12000), ((5, 2, 6, 6), (3, 4, 5, 3, 2, 9, 8), (7,))
SIZES = {"final_dropout": 0.2, "hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}


@pytest.fixture(scope="module", params=["Wav2Vec2", "Hubert", "WavLM"])
def folder(request, tmp_path_factory):
    sizes = {} if request.param == "Wav2Vec2" else {"feat_extract_norm": "group"}
    sizes |= {"do_stable_layer_norm": True} if request.param == "Wav2Vec2" else {}
    folder = tmp_path_factory.mktemp(request.param)
    return save_ctc(folder, head=True, family=request.param, ctc_loss_reduction="sum", **SIZES, **sizes)


@pytest.fixture(scope="module")
def waveforms():
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(len(LENGTHS), max(LENGTHS), generator=generator) * 0.1
    for row, length in zip(batch, LENGTHS, strict=True):
        row[length:] = torch.nan
    return batch


def library_loss(model, waveforms):
    """The library's own loss of a padded batch."""
    labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(t) for t in TARGETS], True, -100)
    mask = ~waveforms.isnan()
    return model(input_values=waveforms.nan_to_num(), attention_mask=mask.long(), labels=labels).loss


def our_network(backbone, boundary):
    own = ctc_head(backbone)
    task = CtcTask(own.linear.out_features, own.blank, own.fingerprint)
    spec = NetworkSpec(boundary, None, OWN_HEAD, None, n_outputs=task.n_outputs, taps=(backbone.n_stages,))
    return task, new_network(backbone, spec, task.readout, seed=0)


def library_s_model(folder, backbone, boundary, activation, *, trains):
    """The library's own model, whose first unfrozen layer is given what was remembered.

    Frozen layers, whose output is replaced, draw no random numbers.
    """
    model = transformers.AutoModelForCTC.from_pretrained(folder).train(trains)
    layers = [model.get_submodule(f"{model.base_model_prefix}.{name}") for name in stage_paths(backbone)]
    if boundary == backbone.n_stages:
        model.base_model.eval()
        model.dropout.register_forward_pre_hook(lambda _, given: (activation.nan_to_num(),))
    elif boundary:
        for layer in layers[: boundary - 1]:
            layer.eval()
        first = layers[boundary - 1]
        first.register_forward_pre_hook(lambda _, given: (activation.nan_to_num(), *given[1:]))
    return model


def stage_paths(backbone):
    """Paths of the layers after the first stage, in the library's network."""
    return [name for name in backbone.stage_names if "layers." in name]


@pytest.mark.parametrize("trains", [False, True])
def test_loss_and_gradients_equal_the_library_s_at_every_boundary(folder, waveforms, trains):
    backbone = load_backbone(f"hf:{folder}")
    batch = [{"ids": torch.tensor(target)} for target in TARGETS]
    for boundary in range(backbone.n_stages + 1):
        task, network = our_network(backbone, boundary)
        with torch.no_grad():
            activation = backbone.prefix(0, boundary)(waveforms).clone() if boundary else waveforms
        model = library_s_model(folder, backbone, boundary, activation, trains=trains)
        torch.manual_seed(0)
        loss = task.loss(network.train(trains)(activation, batch), batch).sum()
        loss.backward()
        torch.manual_seed(0)
        expected = library_loss(model, waveforms)
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        theirs = dict(model.named_parameters())
        ours = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
        for name, gradient in ours.items():
            kind, _, rest = name.partition(".")
            key = f"lm_head.{rest.removeprefix('head.')}" if kind == "readout" else f"{model.base_model_prefix}.{rest}"
            scale = max(1.0, float(theirs[key].grad.abs().max()))
            torch.testing.assert_close(gradient / scale, theirs[key].grad / scale, rtol=1e-5, atol=1e-5)
        n_trained = sum(len(backbone.stage_parameters(stage)) for stage in range(boundary, backbone.n_stages))
        assert len(ours) >= 2 + n_trained - 1  # WavLM's gates of later layers get no gradient of positions


def test_answers_are_the_letters_that_the_library_s_tokenizer_reads_off_the_frames(folder, waveforms):
    backbone = load_backbone(f"hf:{folder}")
    task, network = our_network(backbone, backbone.n_stages)
    model = transformers.AutoModelForCTC.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        activation = backbone.prefix(0, backbone.n_stages)(waveforms)
        answers = task.answers(network.eval(), activation, [None] * len(waveforms))
        mask = ~waveforms.isnan()
        best = model(input_values=waveforms.nan_to_num(), attention_mask=mask.long()).logits.argmax(-1)
    lengths = [n_frames(backbone, length) for length in LENGTHS]
    expected = [tokenizer.decode(row[:n]).replace("<unk>", "") for row, n in zip(best, lengths, strict=True)]
    assert [ctc_head(backbone).texts.text(answer) for answer in answers] == expected
    assert any(expected)


def test_texts_become_the_ids_of_the_checkpoint_s_tokenizer(folder):
    texts = ctc_head(load_backbone(f"hf:{folder}")).texts
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert texts.ids("one  three") == tokenizer("one three")["input_ids"]
    assert texts.text(texts.ids("one three")) == "one three"
    assert texts.unknown("one Three") == ["T"]


def test_frames_of_padding_are_neither_in_the_loss_nor_in_the_answers(folder, waveforms):
    backbone = load_backbone(f"hf:{folder}")
    task, network = our_network(backbone, backbone.n_stages)
    batch = [{"ids": torch.tensor(target)} for target in TARGETS]
    with torch.inference_mode():
        activation = backbone.prefix(0, backbone.n_stages)(waveforms)
        losses = task.loss(network.eval()(activation), batch)
        for row, length in enumerate(LENGTHS):
            n = n_frames(backbone, length)
            alone = activation[row : row + 1, :n]
            torch.testing.assert_close(task.loss(network(alone), batch[row : row + 1])[0], losses[row])
            assert (
                task.answers(network, alone, [None])[0] == task.answers(network, activation, [None] * len(LENGTHS))[row]
            )


def test_an_empty_target_is_learnt_as_blanks_alone(folder, waveforms):
    backbone = load_backbone(f"hf:{folder}")
    task, network = our_network(backbone, backbone.n_stages)
    with torch.inference_mode():
        scores, n_frames = network.eval()(backbone.prefix(0, backbone.n_stages)(waveforms))
        losses = task.loss((scores, n_frames), [{"ids": torch.zeros(0, dtype=torch.long)}] * len(LENGTHS))
    blanks = [-row[:n].log_softmax(-1)[:, task.blank].sum() for row, n in zip(scores, n_frames, strict=True)]
    torch.testing.assert_close(losses, torch.stack(blanks), rtol=1e-5, atol=1e-5)


def test_a_file_that_names_another_head_or_a_blank_outside_is_refused():
    spec = NetworkSpec(1, None, NEW_HEAD, None, n_outputs=5, taps=(2,))
    CtcTask(5, 0, None).refuse_unless_it_reads(spec)
    for task in (CtcTask(5, 0, "hash"), CtcTask(6, 0, None), CtcTask(5, 5, None)):
        with pytest.raises(ValueError, match="head=|blank="):
            task.refuse_unless_it_reads(spec)
