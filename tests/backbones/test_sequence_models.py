"""Decoders that were cut from their encoders: what transformers computes and writes, they compute and write."""

import re
import threading

import numpy as np
import pytest
import torch
import transformers
from writers import FAMILIES, padded, save_writer

from skltransfer import load_backbone
from skltransfer.backbones import DecoderModel, adapted_backbone, checked_options, decoder_model
from skltransfer.backbones._generation_options import OPTIONS
from skltransfer.engine import OWN_HEAD, GenerationTask, NetworkSpec, RecordTargets, new_network
from skltransfer.exceptions import UnsupportedBackboneError

TEXTS = ("the 3rd of may", "7", "a bc, de - f: 12")
TARGETS = [[5, 6, 7, 1], [9, 1], [4, 4, 30, 22, 11, 1]]
RECORDS = RecordTargets([{"ids": np.array(ids)} for ids in TARGETS])
N_TOKENS = sum(map(len, TARGETS))


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_writer(tmp_path_factory.mktemp(request.param), request.param)


def library(folder, **how):
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder.removeprefix("hf:"), **how)


def cut(folder, boundary, adapter=None, seed=0):
    """The task, the network after a boundary, and what reaches it."""
    backbone = load_backbone(folder)
    decoder = decoder_model(backbone, "text to text")
    task = GenerationTask("text to text", decoder.n_tokens, decoder.fingerprint, 1.0)
    spec = NetworkSpec(boundary, None, OWN_HEAD, adapter, n_outputs=decoder.n_tokens, taps=(backbone.n_stages,))
    network = new_network(backbone, spec, task.readout, seed=seed)
    ids, mask = padded(TEXTS)
    batch = ids.masked_fill(mask == 0, -1)
    with torch.no_grad():
        activation = backbone.prefix(0, boundary)(batch) if boundary else batch
    return task, network, activation.clone()


def boundaries(folder):
    return range(load_backbone(folder).n_stages + 1)


def gradients(model):
    """Gradients by the names that a cut has, of encoder and decoder."""
    found = {f"readout.decoder.model.{n}": p.grad for n, p in model.named_parameters(remove_duplicate=False)}
    encoder = {n: p.grad for n, p in model.get_encoder().named_parameters(remove_duplicate=False)}
    found |= {f"suffix.{n}": grad for n, grad in encoder.items()} | {f"suffix.encoder.{n}": g for n, g in encoder.items()}
    return found | {"suffix.shared.weight": model.get_input_embeddings().weight.grad}


def assert_equal_gradients(network, model, folder):
    """Of all that an optimizer would get; a cut may hold stages before its boundary, which nothing reaches."""
    theirs, compared, backbone = gradients(model), 0, load_backbone(folder)
    frozen = {f"suffix.{n}" for stage in range(network.spec.boundary) for n in backbone.stage_parameters(stage)}
    for name, p in network.named_parameters():
        if p.requires_grad and name not in frozen:
            torch.testing.assert_close(p.grad, theirs[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared > 10


def labels():
    found = torch.full((len(TARGETS), max(map(len, TARGETS))), -100)
    for row, ids in enumerate(TARGETS):
        found[row, : len(ids)] = torch.tensor(ids)
    return found


def test_loss_and_gradients_are_the_librarys_at_every_boundary(folder):
    ids, mask = padded(TEXTS)
    model = library(folder).eval()
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels()).loss
    theirs.backward()
    for boundary in boundaries(folder):
        task, network, activation = cut(folder, boundary)
        batch = RECORDS.take(np.arange(len(TARGETS)))
        ours = task.loss(network.eval()(activation, batch), batch).sum() / N_TOKENS
        ours.backward()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert_equal_gradients(network, model, folder)


def seeding(module, replacement=None):
    """Before a module runs: the same random numbers in both networks, and the remembered activation in the library's."""

    def before(_, args, kwargs):
        torch.manual_seed(7)
        if replacement is None:
            return None
        if args:
            return (replacement, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": replacement}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def test_loss_and_gradients_are_the_librarys_in_train_mode_with_dropout(folder):
    ids, mask = padded(TEXTS)
    for boundary in boundaries(folder):
        task, network, activation = cut(folder, boundary)
        model, backbone = library(folder).train(), load_backbone(folder)
        network.train()
        batch, given = RECORDS.take(np.arange(len(TARGETS))), {"input_ids": ids}
        if boundary == backbone.n_stages:
            hidden = torch.nan_to_num(activation)
            given = {"encoder_outputs": transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)}
        elif boundary:
            path = backbone.stage_names[boundary]
            seeding(network.suffix.model.get_submodule(path))
            own = model.get_encoder().get_submodule(path.removeprefix("encoder."))
            seeding(own, torch.nan_to_num(activation))
        torch.manual_seed(7)
        theirs = model(**given, attention_mask=mask, labels=labels()).loss
        theirs.backward()
        torch.manual_seed(7)
        ours = task.loss(network(activation, batch), batch).sum() / N_TOKENS
        ours.backward()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert_equal_gradients(network, model, folder)


@pytest.mark.parametrize("how", [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 2, "length_penalty": 2.0}], ids=str)
def test_texts_are_the_librarys_token_for_token(folder, how):
    ids, mask = padded(TEXTS)
    model, how = library(folder).eval(), {"max_new_tokens": 9, "do_sample": False, **how}
    expected = model.generate(input_ids=ids, attention_mask=mask, **how).tolist()
    for boundary in boundaries(folder):
        task, network, activation = cut(folder, boundary)
        with torch.no_grad():
            assert task.writing(how).answers(network.eval(), activation, [None] * 3) == expected
