"""A decoder as a readout: the loss, padding, what is shared, and what a state holds."""

import copy

import numpy as np
import pytest
import torch
from writers import save_writer

from skltransfer import load_backbone
from skltransfer._system.autocast import autocast
from skltransfer.backbones import decoder_model
from skltransfer.engine import OWN_HEAD, GenerationTask, NetworkSpec, NetworkState, RecordTargets, new_network
from skltransfer.engine.tasks.generation import labels_of, read

TOY = "toy:text-to-text"
IDS = RecordTargets([{"ids": np.array(ids)} for ids in ([5, 6, 7, 1], [9, 1], [1])])


def generation(name=TOY, boundary=1, adapter=None, **more):
    backbone = load_backbone(name)
    decoder = decoder_model(backbone, "text to text")
    task = GenerationTask("text to text", decoder.n_tokens, decoder.fingerprint, **more)
    spec = NetworkSpec(boundary, None, OWN_HEAD, adapter, n_outputs=task.n_outputs, taps=(backbone.n_stages,))
    return backbone, task, spec, new_network(backbone, spec, task.readout, seed=0)


def activation_at(backbone, boundary, lengths=(6, 3, 2)):
    ids = torch.full((len(lengths), max(lengths)), -1)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.arange(5, 5 + length)
    with torch.no_grad():
        return backbone.prefix(0, boundary)(ids).clone() if boundary else ids


def test_all_tokens_count_alike_however_long_their_text_is():
    """Sums over the samples are those of the library's mean over tokens; weights are repetitions."""
    task = GenerationTask("text to text", 12, "", mean_tokens=7 / 3)
    outputs, batch = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(0)), IDS.take(np.arange(3))
    losses, labels = task.loss(outputs, batch), labels_of(batch, torch.device("cpu"))
    theirs = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(losses.mean(), theirs)
    smooth = GenerationTask("text to text", 12, "", mean_tokens=7 / 3, smoothing=0.1).loss(outputs, batch).mean()
    theirs = torch.nn.functional.cross_entropy(
        outputs.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=0.1
    )
    torch.testing.assert_close(smooth, theirs)


def test_a_file_cannot_name_arguments_of_generate_that_no_user_may():
    _, task, spec, _ = generation(learned={"suppress_tokens": [3]})
    task.refuse_unless_it_reads(spec)
    task.learned = {"assistant_model": "other"}
    with pytest.raises(ValueError, match="'assistant_model'"):
        task.refuse_unless_it_reads(spec)


def test_padding_is_masked_and_gets_no_gradient():
    backbone, task, _, network = generation()
    activation, batch = activation_at(backbone, 1), IDS.take(np.arange(3))
    hidden, mask = read((network.given(activation)[-1],))
    assert mask.sum(1).tolist() == [6, 3, 2]
    assert (hidden[~mask] == 0).all()
    assert read((torch.ones(2, 3, 4),))[1] is None
    task.loss(network(activation, batch), batch).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_sample_has_the_same_loss_alone():
    backbone, task, _, network = generation()
    activation, network = activation_at(backbone, 1), network.eval()
    with torch.no_grad():
        whole = task.loss(network(activation, IDS.take(np.arange(3))), IDS.take(np.arange(3)))
        for row, length in enumerate((6, 3, 2)):
            batch = IDS.take(np.array([row]))
            alone = task.loss(network(activation[row : row + 1, :length], batch), batch)
            torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-5)


def test_texts_are_searched_for_in_float32():
    backbone, task, _, network = generation()
    activation, how = activation_at(backbone, 1), {"max_new_tokens": 6, "do_sample": False}
    with torch.no_grad():
        given = network.eval().given(activation)
        expected = network.readout.written(given, how).tolist()
        seen = []
        network.readout.decoder.model.lm_head.register_forward_hook(lambda _, args, out: seen.append(out.dtype))
        with autocast(torch.device("cpu"), torch.bfloat16):
            task.writing(how).answers(network, activation, [None] * 3)
    assert set(seen) == {torch.float32}
    assert len(expected) == 3


def test_what_is_searched_for_is_no_part_of_the_task():
    _, task, _, _ = generation()
    other = task.writing({"max_new_tokens": 3})
    assert "how" not in vars(task)
    assert dict(task.how) == {}
    assert other.how == {"max_new_tokens": 3}


@pytest.mark.parametrize("change", [{"n_outputs": 7}, {"head": "linear"}, {"taps": ()}, {"taps": (1, 3)}], ids=str)
def test_a_network_that_is_no_decoder_is_refused(change):
    _, task, spec, _ = generation()
    task.refuse_unless_it_reads(spec)
    with pytest.raises(ValueError, match="head=|taps="):
        task.refuse_unless_it_reads(type(spec)(**vars(spec) | change))


@pytest.mark.parametrize("family", ["t5", "t5-v1.1", "bart", "marian"])
def test_a_state_holds_a_shared_tensor_once_and_what_changed_alone(family, tmp_path):
    name = save_writer(tmp_path, family)
    for boundary in (0, 1):
        backbone, task, spec, network = generation(name, boundary)
        assert not NetworkState.of(network, backbone).changed
        with torch.no_grad():
            for p in network.parameters():
                if p.requires_grad:
                    p.add_(1.0)
        state = NetworkState.of(network, backbone)
        trained = {id(p): p for p in network.parameters() if p.requires_grad}
        frozen = {id(p) for p in network.parameters() if not p.requires_grad}
        assert sum(values.size for values in state.changed.values()) == sum(p.numel() for p in trained.values())
        assert any(network.readout.decoder.tokens is p for p in network.parameters())
        assert (id(network.readout.decoder.tokens) in frozen) == (boundary == 1)
        state.refuse_unless_it_fits(backbone, task.readout, "the file")
        again = state.trainable(backbone, task.readout, torch.device("cpu"))
        for (key, value), (other, expected) in zip(
            again.state_dict().items(), network.state_dict().items(), strict=True
        ):
            assert key == other
            torch.testing.assert_close(value, expected, rtol=0, atol=0)
        if boundary == 0:
            tokens = again.suffix.model.get_input_embeddings().weight
            assert again.readout.decoder.tokens is tokens
        assert decoder_model(backbone, "text to text").fingerprint == task.decoder_hash


def test_adapters_alone_are_in_a_state():
    for boundary in (0, 1, 3):
        backbone, task, spec, network = generation(boundary=boundary, adapter="lora")
        names = NetworkState.of(network, backbone).changed
        assert names
        assert all(".lora_" in name for name in names)
        assert any(name.startswith("suffix.") for name in names) == (boundary < backbone.n_stages)
        assert not any("lm_head" in name for name in names)
        assert not network.readout.decoder.tokens.requires_grad


def test_a_copy_of_a_network_shares_the_pretrained_weights_and_ties_its_own():
    """Callbacks see a copy in each epoch: it must not hold the pretrained decoder once more."""
    _, _, _, network = generation(boundary=0)
    other = copy.deepcopy(network)
    before, after = network.readout.pretrained_state(), other.readout.pretrained_state()
    assert all(after[key] is value for key, value in before.items())
    assert other.readout.decoder.tokens is other.suffix.model.get_input_embeddings().weight
    assert other.readout.decoder.tokens is not network.readout.decoder.tokens
