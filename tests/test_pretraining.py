"""A backbone that adapts to samples without labels: masks, losses, statistics, and a value like any other."""

import copyreg
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import png
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skltransfer import (
    AdaptedBackbone,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    describe_backbone,
    load,
    load_backbone,
    score_transferability,
)
from skltransfer.backbones import AdaptedWeights, adapted_backbone, seeded
from skltransfer.engine import Activations, FrozenStages
from skltransfer.engine.tasks.masked_tokens import MaskedLanguageModel, MaskedTexts, TiedHead
from skltransfer.engine.training import loop as training
from skltransfer.exceptions import AdaptationWarning, BackboneNotFoundError, UnsupportedBackboneError, WeightsError
from skltransfer.inputs import samples_from_collection

TEXTS = [f"{word} film, {word} story {i}" for i in range(10) for word in ("a good", "a dull")]
LABELS = np.array([1, 0] * 10)
OF_TEXTS = {"objective": "masked_lm", "dtype": "float32", "learning_rate": 1e-3, "random_state": 0}
FLOAT32 = {"dtype": "float32", "random_state": 0}


@pytest.fixture
def pictures(rng):
    return 0.3 * rng.random((24, 16, 16))


@pytest.fixture(scope="module")
def of_texts():
    return AdaptedBackbone("toy:text", **OF_TEXTS).fit(TEXTS)


def masked(fraction=0.15, texts=TEXTS):
    """Texts as they are, with tokens hidden, and the stages."""
    backbone = load_backbone("toy:text")
    stages = FrozenStages(backbone, dtype=torch.float32, device=torch.device("cpu"), store=None)
    activations = Activations(stages, samples_from_collection(texts, "text"), stages.address(0))
    return activations, MaskedTexts(activations, stages, fraction, seed=0), stages


def test_tokens_are_hidden_replaced_and_left_in_shares_of_8_1_and_1():
    texts = ["".join(chr(33 + (7 * i + j) % 90) for j in range(100 + i % 20)) for i in range(200)]
    activations, masks, _ = masked(0.3, texts)
    whole = activations.take(np.arange(200))
    ids, asked = masks.take(np.arange(200)).unbind(1)
    chosen = asked >= 0
    np.testing.assert_array_equal(chosen.sum(1), [round(0.3 * len(text)) for text in texts])
    np.testing.assert_array_equal(chosen.sum(1), masks.n_asked(np.arange(200)))
    assert torch.equal(asked[chosen], whole[chosen])
    assert torch.equal(ids[~chosen], whole[~chosen])  # padding too
    assert (ids[chosen] == 0).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (ids[chosen] == whole[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_padding_and_special_tokens_are_never_asked_for():
    activations, masks, _ = masked(0.9, ["ab\x00\x00cd", "e\x00f", "some longer text"])
    whole = activations.take(np.arange(3))
    asked = masks.take(np.arange(3))[:, 1]
    assert not ((asked >= 0) & (whole <= 0)).any()
    assert masks.n_asked(np.arange(3)).tolist() == [4, 2, 14]


def test_masks_of_looking_stay_and_those_of_training_change():
    _, masks, _ = masked()
    rows = np.array([3, 8, 5])
    first = masks.take(rows)
    masks.take(np.arange(20))
    assert torch.equal(masks.take(rows), first)
    assert torch.equal(masks.take(rows[::-1].copy()), first.flip(0))
    with seeded(0):
        drawn = [masks.take_to_train(rows)[0] for _ in range(2)]
    with seeded(0):
        again = masks.take_to_train(rows)[0]
    assert torch.equal(drawn[0], again)
    assert not torch.equal(drawn[0], drawn[1])


def test_a_texts_loss_is_the_mean_cross_entropy_of_its_tokens_whatever_stands_beside_it():
    _, masks, stages = masked(0.4, ["a good film", "an even better story than that"])
    model = MaskedLanguageModel(stages, 0, masks.frequencies(np.arange(2)), seed=0).eval()
    batch = masks.take(np.arange(2))
    with torch.inference_mode():
        together = model(batch)
        alone = model(masks.take(np.array([0])))
        ids, asked = batch[1]
        scores = model.head(model.suffix(ids[None])[0]).log_softmax(dim=1)
    expected = -np.mean([scores[i, token] for i, token in enumerate(asked.tolist()) if token >= 0])
    assert together[1].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(alone[0], together[0])


def test_a_new_head_begins_with_what_frequencies_tell_and_shares_token_vectors():
    _, masks, stages = masked()
    frequencies = masks.frequencies(np.arange(20))
    assert frequencies[ord("o")] == sum(text.count("o") for text in TEXTS)
    model = MaskedLanguageModel(stages, 0, frequencies, seed=0)
    assert isinstance(model.head, TiedHead)
    assert model.head.tokens.weight is model.suffix.model.get_input_embeddings().weight
    assert model.head.bias.argmax().item() == frequencies.argmax()
    frozen = MaskedLanguageModel(stages, 2, frequencies, seed=0)
    assert frozen.head.tokens.weight is not load_backbone("toy:text").text_model().get_input_embeddings().weight
    assert not frozen.head.tokens.weight.requires_grad


def test_hidden_tokens_are_guessed_better_than_before(of_texts):
    report = of_texts.adaptation_report_
    assert report["loss_after"] < report["loss_before"]
    assert (report["n_samples"], report["n_held_out"]) == (20, 2)
    assert report["loss_after"] == min(of_texts.history_["validation_loss"])
    assert of_texts.n_iter_ == len(of_texts.history_["loss"]) == 3
    assert of_texts.n_trainable_params_ == sum(p.numel() for p in load_backbone("toy:text").suffix(0).parameters())


def test_it_warns_where_nothing_was_learnt():
    with pytest.warns(AdaptationWarning, match="guessed no better than before"):
        AdaptedBackbone("toy:text", **OF_TEXTS | {"learning_rate": 1e-12}).fit(TEXTS)


@pytest.mark.parametrize("freeze_depth", [0.0, 0.5])
def test_frozen_stages_do_not_move_and_the_others_do(freeze_depth):
    backbone = load_backbone("toy:text")
    model = AdaptedBackbone("toy:text", freeze_depth=freeze_depth, **OF_TEXTS).fit(TEXTS)
    assert model.freeze_boundary_ == ("input" if freeze_depth == 0 else "encoder.layers.0")
    before, after = backbone.library_state(), model.backbone_.library_state()
    for stage in range(4):
        names = backbone.stage_parameters(stage)
        assert any(not torch.equal(before[name], after[name]) for name in names) == (stage >= model.n_frozen_stages_)


@pytest.mark.parametrize("objective", ["masked_lm", "norm_statistics"])
def test_the_order_of_rows_does_not_matter(objective, pictures, rng):
    name, X = ("toy:text", np.array(TEXTS)) if objective == "masked_lm" else ("toy:images", pictures)
    options = OF_TEXTS | {"objective": objective, "max_epochs": 1}
    orders = np.arange(len(X)), rng.permutation(len(X))
    models = [AdaptedBackbone(name, **options).fit(X[order]) for order in orders]
    assert models[0].backbone_.fingerprint == models[1].backbone_.fingerprint
    assert models[0].backbone_ is models[1].backbone_


def test_statistics_become_those_of_the_samples():
    pictures = np.random.default_rng(0).integers(0, 80, (24, 16, 16, 3), dtype=np.uint8)
    model = AdaptedBackbone("toy:images", **FLOAT32).fit(pictures)
    base = load_backbone("toy:images")
    state, old = model.backbone_.library_state(), base.library_state()
    inputs = torch.stack([base.preprocessing(picture) for picture in pictures])
    seen = torch.nn.functional.conv2d(inputs, old["stem.0.weight"], old["stem.0.bias"], padding=1)
    torch.testing.assert_close(state["stem.1.running_mean"], seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["stem.1.running_var"], seen.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)
    changed = {key for key in state if not torch.equal(state[key], old[key])}
    assert changed == {f"{stage}.1.running_{what}" for stage in base.stage_names for what in ("mean", "var")}
    shift = model.adaptation_report_["norm_shift"]
    distance = (state["stem.1.running_mean"] - old["stem.1.running_mean"]) ** 2 / (old["stem.1.running_var"] + 1e-5)
    assert shift["stem.1"] == pytest.approx(distance.mean().sqrt().item(), rel=1e-5)
    assert list(shift) == [f"{stage}.1" for stage in base.stage_names]
    assert model.history_ == {}


def test_a_prior_keeps_part_of_the_old_statistics(pictures):
    models = [AdaptedBackbone("toy:images", prior=prior, **FLOAT32).fit(pictures) for prior in (0.0, 24.0, 1e9)]
    shifts = [model.adaptation_report_["norm_shift"]["stem.1"] for model in models]
    assert shifts[1] == pytest.approx(shifts[0] / 2, rel=1e-4)
    assert shifts[2] < 1e-6 < shifts[0]


def test_the_adapted_network_is_a_backbone_like_any_other(of_texts):
    backbone, base = of_texts.backbone_, load_backbone("toy:text")
    assert backbone.fingerprint != base.fingerprint
    assert clone(PretrainedFeatureExtractor(backbone)).backbone is backbone
    old, features, alone = (
        PretrainedFeatureExtractor(network, dtype="float32", cache=cache).transform(TEXTS)
        for network, cache in ((base, "memory"), (backbone, "memory"), (backbone, None))
    )
    assert not np.allclose(features, old)  # though both were remembered in one place
    np.testing.assert_allclose(features, alone, atol=1e-5)
    np.testing.assert_array_equal(features, of_texts.transform(TEXTS))
    assert "pretrained + " in str(describe_backbone(backbone))
    search = GridSearchCV(FineTunedClassifier(freeze_depth=1.0), {"backbone": ["toy:text", backbone]}, cv=2)
    assert np.isfinite(search.fit(TEXTS, LABELS).cv_results_["mean_test_score"]).all()
    ranking = str(score_transferability(["toy:text", backbone], TEXTS, LABELS))
    assert f"toy:text ({backbone.weights})" in ranking


def test_another_reading_length_keeps_the_adapted_weights(of_texts):
    options = {"backbone": of_texts.backbone_, "freeze_depth": 1.0, "dtype": "float32"}
    whole, short = (FineTunedClassifier(**options, max_length=n).fit(TEXTS, LABELS) for n in (None, 60))
    np.testing.assert_allclose(short.transform(TEXTS), whole.transform(TEXTS), rtol=1e-5)


READ_IN_ANOTHER_PROCESS = """
import pickle, sys
import numpy as np
backbone, model, adapted, texts, features, proba = pickle.load(open(sys.argv[1], "rb"))
assert model.backbone is backbone is adapted.backbone_
np.testing.assert_array_equal(adapted.transform(texts), features)
np.testing.assert_array_equal(model.predict_proba(texts), proba)
"""


def test_a_pickle_holds_what_changed_and_works_elsewhere(of_texts, tmp_path):
    model = FineTunedClassifier(of_texts.backbone_, freeze_depth=0.7, max_epochs=1, **FLOAT32).fit(TEXTS, LABELS)
    content = (of_texts.backbone_, model, of_texts, TEXTS, of_texts.transform(TEXTS), model.predict_proba(TEXTS))
    (tmp_path / "all.pkl").write_bytes(pickle.dumps(content))
    subprocess.run([sys.executable, "-c", READ_IN_ANOTHER_PROCESS, str(tmp_path / "all.pkl")], check=True)


def test_what_is_unpickled_is_never_the_network_before(of_texts):
    reload, (name, weights, options, expected) = pickle_of(of_texts.backbone_)
    assert isinstance(weights, AdaptedWeights)
    with pytest.raises(WeightsError, match="has fingerprint"):
        reload(name, weights.base, options, expected)
    with pytest.raises(WeightsError, match="unexpected .*nonsense"):
        load_backbone(name, weights=AdaptedWeights("pretrained", {"nonsense": np.zeros(3, np.float32)}))


def pickle_of(backbone):
    """What a pickle calls, and with what."""
    return copyreg.dispatch_table[type(backbone)](backbone)


def test_it_adapts_again_what_was_adapted(of_texts):
    again = AdaptedBackbone(of_texts.backbone_, **OF_TEXTS | {"freeze_depth": -1}).fit(TEXTS).backbone_
    assert again.weights.base == "pretrained"
    assert again.fingerprint not in (of_texts.backbone_.fingerprint, load_backbone("toy:text").fingerprint)
    frozen = again.stage_parameters(1)[0]
    assert torch.equal(again.library_state()[frozen], of_texts.backbone_.library_state()[frozen])
    assert pickle.loads(pickle.dumps(again)).fingerprint == again.fingerprint


def test_only_what_changed_is_kept(pictures):
    backbone = AdaptedBackbone("toy:images", **FLOAT32).fit(pictures).backbone_
    assert len(backbone.weights.changed) == 8
    assert adapted_backbone(backbone, load_backbone("toy:images").library_state()).weights.changed == {}


@pytest.mark.parametrize("kind", ["texts", "pictures"])
def test_a_file_tells_where_it_comes_from_and_is_read_by_name(kind, of_texts, pictures, tmp_path):
    model = of_texts if kind == "texts" else AdaptedBackbone("toy:images", cache=None, **FLOAT32).fit(pictures)
    X, path, base = (
        TEXTS if kind == "texts" else pictures,
        tmp_path / "adapted.safetensors",
        load_backbone(model.backbone),
    )
    model.save(path)
    with safe_open(path, "np") as file:
        told = json.loads(file.metadata()["skltransfer"])
        assert set(file.keys()) == set(base.library_state())
    assert told["fitted"]["adaptation_report_"]
    assert told["parameters"]["objective"] == model.objective
    assert told["base_fingerprint"] == base.fingerprint
    assert load_backbone(model.backbone, weights=path).fingerprint == model.backbone_.fingerprint
    copied = load(path)
    assert copied.backbone_.fingerprint == model.backbone_.fingerprint
    assert copied.adaptation_report_ == model.adaptation_report_
    assert copied.get_params() == model.get_params()
    np.testing.assert_array_equal(copied.transform(X), model.transform(X))


def test_a_file_that_does_not_fit_is_refused(of_texts, tmp_path):
    of_texts.save(tmp_path / "adapted.safetensors")
    with pytest.raises(WeightsError, match="cannot be read by this version, or is damaged"):
        load(tmp_path / "adapted.safetensors", backbone="toy:images")
    other = load_backbone("toy:text", max_length=9)
    with pytest.raises(WeightsError, match="has fingerprint .* but .* was expected"):
        load(tmp_path / "adapted.safetensors", backbone=other)


@pytest.mark.parametrize("include_backbone", [False, True])
def test_a_classifier_on_it_is_saved_with_what_changed(of_texts, tmp_path, include_backbone):
    model = FineTunedClassifier(of_texts.backbone_, freeze_depth=0.7, max_epochs=1, **FLOAT32).fit(TEXTS, LABELS)
    model.save(tmp_path / "model.skl", include_backbone=include_backbone)
    copied = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert copied.backbone.fingerprint == of_texts.backbone_.fingerprint


@pytest.mark.parametrize("use", [lambda it: FineTunedClassifier(it).fit(TEXTS, LABELS), load_backbone])
def test_the_estimator_itself_is_no_backbone(of_texts, use):
    with pytest.raises(
        BackboneNotFoundError, match="clone would unfit: of a fitted AdaptedBackbone, pass its backbone_"
    ):
        use(of_texts)


def test_what_cannot_be_adapted_is_refused_by_name(pictures, monkeypatch):
    with pytest.raises(UnsupportedBackboneError, match=r"is for texts, and 'toy:images' reads samples of kind 'image'"):
        AdaptedBackbone("toy:images", objective="masked_lm").fit(pictures)
    with pytest.raises(ValueError, match=r"finds no BatchNorm in 'toy:text'. Choose another backbone"):
        AdaptedBackbone("toy:text").fit(TEXTS)
    for name, X, objective in (("toy:images", pictures, "norm_statistics"), ("toy:text", TEXTS, "masked_lm")):
        with pytest.raises(ValueError, match=rf"All 4 stages of '{name}' are frozen: none adapts. Freeze less"):
            AdaptedBackbone(name, objective=objective, freeze_depth=1.0).fit(X)
        with pytest.raises(ValueError, match=r"at least 2 distinct samples, got 1 among n_samples=3"):
            AdaptedBackbone(name, objective=objective).fit([X[0]] * 3)
    with pytest.raises(ValueError, match=r"at least 2 distinct texts with words in them, got 1"):
        AdaptedBackbone("toy:text", objective="masked_lm").fit(["a word", "\x00", ""])
    monkeypatch.setattr(type(load_backbone("toy:text").preprocessing), "mask_id", None)
    with pytest.raises(UnsupportedBackboneError, match=r"'toy:text' knows none. Choose a network such as BERT's"):
        AdaptedBackbone("toy:text", objective="masked_lm").fit(TEXTS)


def test_nothing_is_there_before_fit(tmp_path):
    model = AdaptedBackbone("toy:text")
    assert not hasattr(model, "backbone_")
    for act in (lambda: model.transform(TEXTS), lambda: model.save(tmp_path / "x"), model.get_feature_names_out):
        with pytest.raises(NotFittedError):
            act()


def test_an_interrupt_leaves_the_old_network(monkeypatch):
    model = AdaptedBackbone("toy:text", **OF_TEXTS | {"max_epochs": 1}).fit(TEXTS)
    before = dict(vars(model))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS[:10])
    assert vars(model) == before


def test_a_fit_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    options = OF_TEXTS | {"max_epochs": 2}
    whole = AdaptedBackbone("toy:text", **options).fit(TEXTS)
    evaluate, calls = training.evaluate, []

    def killed_in_the_last_epoch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    resumed = AdaptedBackbone("toy:text", checkpoint=tmp_path, **options)
    monkeypatch.setattr(training, "evaluate", killed_in_the_last_epoch)
    with pytest.raises(KeyboardInterrupt):
        resumed.fit(TEXTS)
    assert len(list(tmp_path.iterdir())) == 2  # one of the head, one of the stages
    monkeypatch.setattr(training, "evaluate", evaluate)
    resumed.fit(TEXTS)
    assert resumed.backbone_.fingerprint == whole.backbone_.fingerprint
    assert resumed.adaptation_report_ == whole.adaptation_report_


def test_global_generators_are_left_alone():
    states = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    AdaptedBackbone("toy:text", **OF_TEXTS | {"max_epochs": 1}).fit(TEXTS)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states


def test_samples_that_cannot_be_read_are_left_out(pictures):
    X = [png((255 * picture).astype(np.uint8)) for picture in pictures]
    X[4] = b"no picture"
    model = AdaptedBackbone("toy:images", on_bad_sample="nan", **FLOAT32)
    with pytest.warns(UserWarning, match=r"Rows \[4\] of X could not be read"):
        model.fit(X)
    assert (model.bad_samples_, model.adaptation_report_["n_samples"]) == ([4], 23)
    assert np.isnan(model.transform(X)[4]).all()
    assert model.backbone_ is AdaptedBackbone("toy:images", **FLOAT32).fit(X[:4] + X[5:]).backbone_


def test_it_is_a_step_of_a_pipeline_that_adapts_to_each_training_part():
    steps = make_pipeline(AdaptedBackbone("toy:text", **OF_TEXTS | {"max_epochs": 1}), LogisticRegression())
    grid = {"adaptedbackbone__freeze_depth": [0.0, 0.5]}
    assert np.isfinite(GridSearchCV(steps, grid, cv=2).fit(TEXTS, LABELS).best_score_)


def test_texts_that_are_cut_are_told():
    with pytest.warns(UserWarning, match="longer than max_length=10 tokens"):
        model = AdaptedBackbone("toy:text", max_length=10, **OF_TEXTS | {"max_epochs": 1}).fit(TEXTS)
    assert model.n_truncated_ == 20
    assert model.backbone_.preprocessing.max_length == 10
