"""Decoders that were cut from their encoders: what transformers computes and writes, they compute and write."""

import re
import threading

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from writers import FAMILIES, letters_tokenizer, padded, save_marian, save_mbart, save_writer

from skltransfer import load_backbone
from skltransfer.backbones import DecoderModel, adapted_backbone, checked_options, decoder_model
from skltransfer.backbones._generation_options import OPTIONS
from skltransfer.engine import OWN_HEAD, GenerationTask, NetworkSpec, RecordTargets, new_network
from skltransfer.exceptions import UnsupportedBackboneError

TEXTS = ("the 3rd of may", "7", "a bc, de - f: 12")
TARGETS = [[5, 6, 7, 1], [9, 1], [4, 4, 30, 22, 11, 1]]
RECORDS = RecordTargets([{"ids": np.array(ids)} for ids in TARGETS])
N_TOKENS = sum(map(len, TARGETS))


QUICK = ("t5", "marian")


@pytest.fixture(
    scope="module", params=[pytest.param(f, marks=[] if f in QUICK else [pytest.mark.slow]) for f in FAMILIES]
)
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
    found |= {f"suffix.{n}": grad for n, grad in encoder.items()} | {
        f"suffix.encoder.{n}": g for n, g in encoder.items()
    }
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
    """Before a module runs: the same random numbers in both networks; the remembered activation in the library's."""

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


@pytest.mark.slow
def test_adapters_train_as_the_librarys_do(tmp_path):
    """Against peft's own model, whose adapters get the same weights; the output layer has none."""
    import peft

    folder = save_writer(tmp_path)
    task, network, activation = cut(folder, 0, adapter="lora")
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_2_SEQ_LM")
    model = peft.get_peft_model(library(folder), config)
    theirs = {name.removeprefix("base_model.model."): p for name, p in model.named_parameters() if p.requires_grad}
    theirs = {name.replace(".default", ""): p for name, p in theirs.items()}
    own = {n.replace(".default", ""): p for n, p in network.named_parameters() if p.requires_grad}
    own = {n.removeprefix("suffix.").removeprefix("readout.decoder.model."): p for n, p in own.items()}
    assert own.keys() == theirs.keys()
    for name, p in own.items():
        p.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
        theirs[name].data.copy_(p.data)
    ids, mask = padded(TEXTS)
    loss = model.eval()(input_ids=ids, attention_mask=mask, labels=labels()).loss
    loss.backward()
    batch = RECORDS.take(np.arange(len(TARGETS)))
    ours = task.loss(network.eval()(activation, batch), batch).sum() / N_TOKENS
    ours.backward()
    torch.testing.assert_close(ours, loss, rtol=1e-5, atol=1e-5)
    for name, p in own.items():
        torch.testing.assert_close(p.grad, theirs[name].grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "changes", "is_shared"), [
    ("t5", {}, True),
    ("t5-v1.1", {}, True),
    ("marian", {}, True),
    ("marian", {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 54}, False),
])  # fmt: skip
def test_shared_vectors_are_found_and_stay_shared_alone_at_the_input(tmp_path, family, changes, is_shared):
    folder = save_writer(tmp_path, family, **changes)
    assert decoder_model(load_backbone(folder), "text to text").is_tied == is_shared
    for boundary, is_trained in ((0, True), (1, not is_shared)):
        _, network, _ = cut(folder, boundary)
        decoder = network.readout.decoder.model.get_decoder().get_input_embeddings().weight
        assert decoder.requires_grad == is_trained
        if boundary == 0:
            assert (network.suffix.model.get_input_embeddings().weight is decoder) == is_shared


def test_marian_reads_one_language_and_writes_the_other_in_all_threads(tmp_path):
    folder = save_marian(tmp_path)
    backbone = load_backbone(folder)
    texts = decoder_model(backbone, "text to text").texts
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    english, german = "the red dog is in the house", "der hund ist rot"
    expected = tokenizer(english)["input_ids"], tokenizer(text_target=german)["input_ids"]
    assert expected[0] != tokenizer(text_target=english)["input_ids"]
    wrong = []

    def work():
        for _ in range(60):
            found = backbone.preprocessing(english).tolist(), texts.ids(german)
            if found != expected or texts.text(found[1]) != german:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_network_of_several_languages_writes_the_one_that_its_tokenizer_names(tmp_path):
    for name in ("named", "unnamed"):
        (tmp_path / name).mkdir()
    folder = save_mbart(tmp_path / "named", src_lang="en_XX", tgt_lang="de_DE")
    decoder = decoder_model(load_backbone(folder), "text to text")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "named")
    language = tokenizer.convert_tokens_to_ids("de_DE")
    assert decoder.texts.ids("der hund")[0] == language
    ids = tokenizer(["the dog", "a cat is red"], padding=True, return_tensors="pt")
    how = {"max_new_tokens": 6, "do_sample": False, "num_beams": 2}
    expected = library(folder).eval().generate(**ids, **how, forced_bos_token_id=language)
    hidden = load_backbone(folder).library_network(**ids).last_hidden_state.detach()
    found = decoder.generate(hidden, ids["attention_mask"].bool(), **how)
    assert found.tolist() == expected.tolist()
    assert (found[:, 1] == language).all()
    folder = save_mbart(tmp_path / "unnamed")
    with pytest.raises(UnsupportedBackboneError, match="names no target language. Load the tokenizer with src_lang"):
        decoder_model(load_backbone(folder), "text to text")


def test_an_adapted_encoder_lends_its_vectors(tmp_path):
    backbone = load_backbone(save_writer(tmp_path))
    changed = {"shared.weight": backbone.library_state()["shared.weight"] + 1}
    other = adapted_backbone(backbone, changed)
    ours, theirs = (decoder_model(one, "text to text") for one in (other, backbone))
    torch.testing.assert_close(ours.tokens.detach(), theirs.tokens.detach() + 1)
    assert ours.fingerprint != theirs.fingerprint


def test_random_weights_are_those_of_a_seed(tmp_path):
    folder = save_writer(tmp_path)
    found = [decoder_model(load_backbone(folder, weights=f"random:{i}"), "text to text").fingerprint for i in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert decoder_model(load_backbone(folder), "text to text").fingerprint not in found


def test_settings_of_a_folder_that_draw_or_return_more_are_left_out(tmp_path):
    folder = save_writer(tmp_path)
    config = transformers.GenerationConfig.from_pretrained(tmp_path)
    config.update(do_sample=True, temperature=0.5, top_k=3, return_dict_in_generate=True, output_scores=True)
    config.update(max_length=3, no_repeat_ngram_size=2)
    config.save_pretrained(tmp_path)
    task, network, activation = cut(folder, 3)
    with torch.no_grad():
        answers = task.writing({"max_new_tokens": 8, "num_beams": 1}).answers(network.eval(), activation, [None] * 3)
    assert max(map(len, answers)) > 4
    for ids in answers:  # this setting stays
        pairs = list(zip(ids, ids[1:], strict=False))
        assert len(set(pairs)) == len([pair for pair in pairs if pair != (0, 0)]) + ((0, 0) in pairs)


def test_networks_that_cannot_write_are_refused_by_name(tmp_path):
    encoder, weights = tmp_path / "encoder", tmp_path / "weights.safetensors"
    whole = save_writer(tmp_path / "whole")
    transformers.T5EncoderModel.from_pretrained(whole.removeprefix("hf:")).save_pretrained(encoder)
    transformers.AutoTokenizer.from_pretrained(whole.removeprefix("hf:")).save_pretrained(encoder)
    config = transformers.T5Config.from_pretrained(encoder)
    config.is_encoder_decoder = True
    config.save_pretrained(encoder)
    save_file({k: v.clone() for k, v in load_backbone(whole).library_state().items()}, weights)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=64, **sizes)).save_pretrained(tmp_path / "bert")
    letters_tokenizer().save_pretrained(tmp_path / "bert")
    for backbone, reason in (
        (load_backbone(f"hf:{tmp_path / 'bert'}"), "Bert has no decoder for it"),
        (load_backbone(f"hf:{encoder}"), r"its files lack \['decoder.block.0"),
        (load_backbone(whole, weights=str(weights)), "holds no decoder"),
        (load_backbone("bundled:minilm"), "it has no decoder"),
        (load_backbone("toy:text"), "it has no decoder"),
    ):
        with pytest.raises(UnsupportedBackboneError, match=f"cannot write texts: .*{reason}.*T5, BART or Marian"):
            decoder_model(backbone, "text to text")


def test_a_decoder_is_made_once_for_a_backbone(tmp_path):
    backbone = load_backbone(save_writer(tmp_path))
    found: list[DecoderModel] = []
    threads = [threading.Thread(target=lambda: found.append(decoder_model(backbone, "text to text"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": True}, "for sampling, but predictions must be reproducible"),
        ({"temperature": 0.5}, "for sampling"),
        ({"num_beams": 4}, "which is set by num_beams"),
        ({"lenght_penalty": 1.0}, "Did you mean 'length_penalty'"),
        ({"length_penalty": "long"}, "expected a number"),
        ({"repetition_penalty": 0}, "expected a positive number"),
        ({"no_repeat_ngram_size": -1}, "expected a whole number that is not negative"),
        ({"no_repeat_ngram_size": True}, "expected a whole number"),
        ({"suppress_tokens": 5}, "expected a list of token ids"),
        ({"bad_words_ids": [5]}, "expected a list of lists of token ids"),
        ({"early_stopping": 1}, "expected True, False or 'never'"),
        ({3: 4}, "expected some of"),
    ],
    ids=str,
)
def test_options_of_generate_are_checked(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        checked_options(options, {"num_beams": "num_beams"})


def test_options_of_generate_are_the_librarys():
    known = vars(transformers.GenerationConfig())
    assert set(OPTIONS) <= known.keys()
    options = {"length_penalty": -1, "no_repeat_ngram_size": 2, "suppress_tokens": [3], "bad_words_ids": [[4, 5]]}
    options |= {"early_stopping": "never", "renormalize_logits": True}
    assert checked_options(options, {}) == options
    assert checked_options(None, {}) == {}
