"""One knob from a linear probe to full fine-tuning: what freezes, what moves, and what fit promises."""

import pickle

import numpy as np
import pytest
import torch
from conftest import png
from networks import DEFAULT, TINY_PHOTO, weights_of
from scaling import ClippedScaler
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, r2_score
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, FineTunedRegressor, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import ClassificationTask
from skltransfer.exceptions import BadSampleError, TrainingDivergedError


def classifier(**parameters):
    defaults = {"backbone": "toy:images", "max_epochs": 2, "random_state": 0, "dtype": "float32"}
    return FineTunedClassifier(**{**defaults, **parameters})


NETWORKS = [
    ("torchvision:resnet18", "layer3"),
    ("torchvision:mobilenet_v3_small", "features.9"),
    ("torchvision:vit_b_16", "encoder.layers.encoder_layer_10"),
    (TINY_PHOTO, "block5"),
    (DEFAULT, "blocks.4"),
    ("toy:images", "stem"),
]


@pytest.mark.parametrize(
    ("name", "depth", "norm_policy"),
    [pytest.param(*network, "frozen", marks=[pytest.mark.slow] * ("vit" in network[0])) for network in NETWORKS]
    + [(*network, "train") for network in NETWORKS if "vit" not in network[0]],
)
def test_frozen_stages_stay_bitwise_and_each_unfrozen_stage_moves(name, depth, norm_policy, rng):
    weights = weights_of(name)
    X, y = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) % 2
    backbone = load_backbone(name, weights=weights)
    network = backbone.library_network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    model = FineTunedClassifier(
        name, weights=weights, freeze_depth=depth, norm_policy=norm_policy, max_epochs=1, batch_size=8, random_state=0
    )
    model.set_params(runtime="eager")  # the network itself, whose weights could change
    model.set_params(lr_schedule="constant", backbone_lr_factor=1.0).fit(X, y).predict(X)

    assert model.freeze_boundary_ == depth
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    changed = {key.removeprefix("suffix.") for key in model._network_.changed if key.startswith("suffix.")}
    for stage in range(backbone.n_stages):
        moved = changed & set(backbone.stage_parameters(stage))
        assert bool(moved) == (stage >= model.n_frozen_stages_), backbone.stage_names[stage]
    statistics = {key for key in changed if "running_" in key}
    assert bool(statistics) == (norm_policy == "train")


def test_at_depth_one_the_fit_is_scaled_logistic_regression_on_the_features(photos):
    X, y = np.concatenate([photos, photos // 2]), np.arange(24) % 3
    model = classifier(freeze_depth=1.0, C=0.3).fit(X, y)
    features = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(X)
    theirs = make_pipeline(ClippedScaler(), LogisticRegression(C=0.3, tol=1e-8, max_iter=5000)).fit(features, y)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(features), atol=1e-3)
    np.testing.assert_allclose(model.transform(X), features, rtol=1e-6)
    assert model.n_iter_ > 2
    assert set(model.history_) == {"loss"}


def test_parameters_of_training_have_no_effect_at_depth_one(two_kinds):
    X, y = two_kinds
    base = classifier(freeze_depth=1.0).fit(X, y).predict_proba(X)
    other = classifier(
        freeze_depth=1.0, max_epochs=9, learning_rate=9.0, early_stopping=True, batch_size=3, random_state=7
    )
    np.testing.assert_array_equal(other.fit(X, y).predict_proba(X), base)


def test_where_steps_are_too_small_to_change_it_the_head_is_the_probe(two_kinds):
    X, y = two_kinds
    tuned = classifier(freeze_depth=0.5, C=0.1, learning_rate=1e-12, max_epochs=1, weight_decay=0.0).fit(X, y)
    features = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(X).astype(float)
    features = ClippedScaler().fit_transform(features)
    probe = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(features, y)
    np.testing.assert_allclose(tuned.predict_proba(X), probe.predict_proba(features), atol=1e-4)
    random = classifier(freeze_depth=0.5, learning_rate=1e-12, max_epochs=1, head_init="random").fit(X, y)
    assert np.abs(random.predict_proba(X) - probe.predict_proba(features)).max() > 0.2


def test_a_head_starts_as_a_tenth_of_the_probe_if_training_can_make_it_whole_again(two_kinds):
    """A whole probe hardly errs on its own samples: nothing but noise would be left for the backbone to learn from."""
    X, y = two_kinds
    first_losses = {}
    for rate in (1e-12, 1e-2, 1.0):  # the loss of the first and only step is the start's
        model = classifier(freeze_depth=0.5, C=1.0, learning_rate=rate, lr_schedule="constant", batch_size=40)
        first_losses[rate] = model.set_params(max_epochs=1).fit(X, y).history_["loss"][0]
    probe = model.set_params(freeze_depth=1.0).fit(X, y)
    assert first_losses[1e-12] < first_losses[1e-2] < first_losses[1.0]
    tenth = log_loss(y, expit(probe.decision_function(X) / 10))
    assert first_losses[1.0] == pytest.approx(tenth, rel=0.02)  # there is dropout


def test_a_regressor_at_a_rate_near_zero_is_the_ridge_on_frozen_features(two_kinds):
    X, y = two_kinds[0], np.linspace(3, 5, 40) + (two_kinds[1] == "above")
    model = FineTunedRegressor("toy:images", freeze_depth=0.5, learning_rate=1e-9, random_state=0, dtype="float32")
    frozen = FineTunedRegressor("toy:images", freeze_depth=1.0, dtype="float32")
    np.testing.assert_allclose(model.fit(X, y).predict(X), frozen.fit(X, y).predict(X), atol=1e-3)


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [True, False], [3, 10, 7], ["b", "ä", "c"], [0.0, 1.0]])
@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_any_labels_come_back(two_kinds, labels, freeze_depth):
    X, _ = two_kinds
    y = np.array(labels, dtype=object if isinstance(labels[0], str) else None)[np.arange(40) % len(labels)]
    model = classifier(freeze_depth=freeze_depth).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert set(model.predict(X)) <= set(labels)
    p = model.predict_proba(X)
    assert p.shape == (40, len(labels))
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p)
    assert model.decision_function(X).shape == ((40,) if len(labels) == 2 else (40, len(labels)))


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
def test_fit_depends_neither_on_the_order_of_rows_nor_on_repetition_instead_of_weight(two_kinds, rng, freeze_depth):
    X, y = two_kinds
    weights = rng.integers(0, 3, len(X))
    base = classifier(freeze_depth=freeze_depth).fit(X, y, sample_weight=weights).predict_proba(X)
    p = rng.permutation(len(X))
    permuted = classifier(freeze_depth=freeze_depth).fit(X[p], y[p], sample_weight=weights[p])
    repeated = classifier(freeze_depth=freeze_depth).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_array_equal(permuted.predict_proba(X), base)
    np.testing.assert_array_equal(repeated.predict_proba(X), base)


def test_the_same_seed_gives_the_same_model_and_the_global_generators_stay(two_kinds):
    X, y = two_kinds
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second = (classifier(freeze_depth=0.0).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, classifier(freeze_depth=0.0, random_state=1).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_class_weight_pulls_towards_the_heavy_class(two_kinds, freeze_depth):
    X, y = two_kinds
    X, y = X[10:], np.where(np.arange(30) < 4, "rare", "common")
    plain, balanced, heavy = (
        classifier(freeze_depth=freeze_depth, class_weight=w, C=0.01).fit(X, y).predict_proba(X)[:, 1].mean()
        for w in (None, "balanced", {"rare": 100.0})
    )
    assert plain < balanced < heavy


def test_early_stopping_restores_the_best_weights(two_kinds):
    X, y = two_kinds
    y = np.where(np.random.default_rng(0).random(40) < 0.35, y[::-1], y)
    model = classifier(
        freeze_depth=0.0,
        early_stopping=True,
        validation_fraction=0.3,
        max_epochs=60,
        n_iter_no_change=2,
        learning_rate=0.03,
    )
    model.set_params(lr_schedule="constant", head_init="random").fit(X, y)
    held_out_loss = model.history_["validation_loss"]
    assert model.n_iter_ == len(held_out_loss) == len(model.history_["loss"]) < 60
    assert int(np.argmin(held_out_loss)) < len(held_out_loss) - 1
    once = clone(model).set_params(max_epochs=int(np.argmin(held_out_loss)) + 1).fit(X, y)
    np.testing.assert_array_equal(once.predict_proba(X), model.predict_proba(X))


def test_history_holds_equal_lists_and_the_loss_falls(two_kinds):
    model = classifier(freeze_depth=0.0, max_epochs=8, head_init="random").fit(*two_kinds)
    assert {len(values) for values in model.history_.values()} == {8}
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    assert model.history_["learning_rate"][-1] < 1e-6


def test_rates_of_stages_fall_towards_the_input(two_kinds):
    def moved(**parameters):
        model = classifier(freeze_depth=0.0, max_epochs=1, **parameters).fit(*two_kinds)
        pretrained = load_backbone("toy:images").suffix(0).state_dict()
        return {
            stage: np.abs(model._network_.changed.get(f"suffix.{stage}.0.weight", p) - p).mean()
            for stage, p in ((s, pretrained[f"{s}.0.weight"].numpy()) for s in ("stem", "block3"))
        }

    assert moved(backbone_lr_factor=0.0) == {"stem": 0, "block3": 0}
    even, decayed = moved(backbone_lr_factor=1.0), moved(backbone_lr_factor=1.0, layer_decay=0.1)
    assert decayed["stem"] < 0.02 * even["stem"]
    assert decayed["block3"] > 0.5 * even["block3"]


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_a_hidden_layer_can_be_asked_for(two_kinds, freeze_depth):
    X, y = two_kinds
    model = classifier(freeze_depth=freeze_depth, head="mlp", max_epochs=30, learning_rate=1e-2).fit(X, y)
    assert model.n_iter_ == 30
    assert model.score(X, y) == 1


def test_warm_start_goes_on_and_refuses_another_boundary(two_kinds):
    X, y = two_kinds
    model = classifier(freeze_depth=0.5, warm_start=True, head_init="random", lr_schedule="constant").fit(X, y)
    first = model.history_["loss"]
    second = model.fit(X, y).history_["loss"]
    assert second[0] < first[0]
    with pytest.raises(ValueError, match="frozen up to 'block1', now 'toy:images' with freeze_depth=0.75"):
        model.set_params(freeze_depth=0.75).fit(X, y)
    with pytest.raises(ValueError, match="labels .* that are not among classes_"):
        model.set_params(freeze_depth=0.5).fit(X, np.where(np.arange(40) % 2, "above", "beside"))


@pytest.mark.parametrize(
    "parameters", [{"head": "mlp"}, {"pooling": "max"}, {"backbone": TINY_PHOTO, "weights": "random"}]
)
def test_warm_start_does_not_go_on_with_another_network(two_kinds, parameters):
    model = classifier(freeze_depth="block1", warm_start=True).fit(*two_kinds)
    with pytest.raises(ValueError, match="go on with the same backbone.*freeze_depth, head, pooling"):
        model.set_params(**parameters).fit(*two_kinds)


def test_partial_fit_learns_batch_by_batch(two_kinds):
    X, y = two_kinds
    model = classifier(freeze_depth=1.0, learning_rate=0.02)
    for _ in range(15):
        for part in (slice(0, 20), slice(20, 40)):
            model.partial_fit(X[part], y[part], classes=["above", "below"])
    assert model.score(X, y) == 1
    assert model.n_iter_ == 30 == len(model.history_["loss"])
    with pytest.raises(ValueError, match="classes must be passed in the first call"):
        classifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="at least 2 classes .* got one class: 'above'"):
        classifier().partial_fit(X[y == "above"], y[y == "above"], classes=["above"])
    with pytest.raises(ValueError, match="is not what the first call"):
        model.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match="class_weight='balanced' needs all of y"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=["above", "below"])


def test_partial_fit_learns_a_class_that_comes_later(two_kinds):
    X, y = two_kinds
    model = classifier(freeze_depth=0.5).partial_fit(X[y == "above"], y[y == "above"], classes=["above", "below"])
    assert model.predict_proba(X).shape == (40, 2)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_numbers_are_predicted_in_their_own_unit(rng, freeze_depth):
    X = rng.random((60, 16, 16))
    y = 1e4 + 300 * X[:, :8].mean((1, 2)) - 200 * X[:, 8:].std((1, 2))
    model = FineTunedRegressor("toy:images", freeze_depth=freeze_depth, pooling="flatten", alpha=1.0, random_state=0)
    assert r2_score(y, model.fit(X, y).predict(X)) > 0.5
    assert model.predict(X).dtype == np.float64
    model.partial_fit(X, y)
    assert model.n_iter_ >= 2


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_unreadable_rows_are_left_out_of_fit_if_asked(two_kinds, freeze_depth):
    X, y = two_kinds
    spoiled, labels = [b"bad", *X, None], np.r_[["above"], y, ["below"]]
    with pytest.raises(BadSampleError, match=r"X\[0\]"):
        classifier().fit(spoiled, labels)
    model = classifier(freeze_depth=freeze_depth, on_bad_sample="nan")
    with pytest.warns(UserWarning, match=r"Rows \[0, 41\] of X could not be read and were left out"):
        model.fit(spoiled, labels)
    assert model.bad_samples_ == [0, 41]
    clean = classifier(freeze_depth=freeze_depth).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), clean.predict_proba(X))
    assert np.isnan(model.predict_proba(spoiled)[[0, 41]]).all()
    with pytest.raises(BadSampleError, match=r"X\[0\]"):
        model.predict(spoiled)


def test_rows_of_equal_content_are_named(two_kinds, tmp_path):
    X, y = two_kinds
    (tmp_path / "again.png").write_bytes(png(np.rint(X[3] * 255).astype(np.uint8)))
    model = classifier(on_bad_sample="nan")
    with pytest.warns(UserWarning, match="could not be read"):
        model.fit([*X, tmp_path / "again.png", b"bad", b"bad"], [*y, y[3], y[0], y[0]])
    assert model.duplicates_ == [[3, 40]]
    assert classifier().fit(X, y).duplicates_ == []


def test_a_set_without_a_readable_sample_is_refused():
    with pytest.raises(ValueError, match="None of the 2 samples could be read"):
        classifier(on_bad_sample="nan").fit([b"bad", b"worse"], [0, 1])


def test_a_model_of_another_processor_keeps_its_dtype_with_a_warning(two_kinds, monkeypatch):
    X, y = two_kinds
    model = classifier(dtype="bfloat16").fit(X, y).set_params(dtype="auto")
    expected = classifier(dtype="bfloat16").fit(X, y).predict_proba(X)
    monkeypatch.setattr("skltransfer._estimators.fine_tuner.is_native", lambda dtype, device: dtype == torch.float32)
    with pytest.warns(UserWarning, match="Fitted in bfloat16, which this processor computes without native support"):
        np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_it_is_native_and_survived(two_kinds, monkeypatch, native, expected):
    monkeypatch.setattr("skltransfer.engine.inference.dtypes.is_native", lambda dtype, device: native)
    assert FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds).dtype_ == expected
    monkeypatch.setattr("skltransfer.engine.inference.dtypes.LEAST_COSINE", 1.1)
    monkeypatch.setattr("skltransfer.engine.inference.dtypes._faithful", {})
    assert FineTunedClassifier("toy:images", freeze_depth=1.0).fit(*two_kinds).dtype_ == "float32"


def test_a_loss_that_is_no_number_stops_and_leaves_the_old_model(two_kinds, monkeypatch):
    X, y = two_kinds
    model = classifier(freeze_depth=0.5).fit(X, y)
    before = model.predict_proba(X)
    monkeypatch.setattr(ClassificationTask, "loss", lambda self, outputs, targets: outputs.sum(1) * float("nan"))
    with pytest.raises(TrainingDivergedError, match="The loss is nan in epoch 1. Lower learning_rate"):
        model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_an_interrupt_leaves_the_old_model_whole(two_kinds, monkeypatch):
    X, y = two_kinds
    model = classifier(freeze_depth=0.5).fit(X, y)
    before = model.predict_proba(X)
    calls = []

    def interrupt(self, outputs, targets):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return outputs.sum(1)

    monkeypatch.setattr(ClassificationTask, "loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :12], np.where(y == "above", "left", "right"))
    assert model.classes_.tolist() == ["above", "below"]
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_changing_a_parameter_after_fit_does_not_change_the_fitted_model(two_kinds):
    X, y = two_kinds
    model = classifier(freeze_depth=0.5).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(backbone="bundled:tiny-photo", weights="random", freeze_depth=0.0, pooling="max")
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_no_live_torch_object_sits_in_a_fitted_estimator(two_kinds):
    model = classifier(freeze_depth=0.5).fit(*two_kinds)
    model.predict(two_kinds[0])
    assert b"torch" not in pickle.dumps(model)


def test_two_threads_fit_and_predict_as_one_does(two_kinds):
    from joblib import Parallel, delayed

    X, y = two_kinds
    models = [classifier(freeze_depth=0.5, random_state=seed) for seed in range(4)]
    alone = [clone(m).fit(X, y).predict_proba(X) for m in models]
    together = Parallel(n_jobs=4, backend="threading")(
        delayed(lambda m: m.fit(X, y).predict_proba(X))(m) for m in models
    )
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"max_epochs": "3"}, "'max_epochs' parameter"),
        ({"learning_rate": float("nan")}, "'learning_rate' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"freeze_depth": 3}, r"freeze_depth must be a number in \[0, 1\]"),
        ({"freeze_depth": "block99"}, "name of the last frozen stage, one of"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"head": "tree"}, "'head' parameter"),
        ({"C": -1}, "'C' parameter"),
        ({"backbone": "toy:imagse"}, "Did you mean 'toy:images'"),
        (
            {"backbone": PretrainedFeatureExtractor()},
            "got an object of type PretrainedFeatureExtractor.*That is an estimator",
        ),
    ],
)
def test_a_parameter_out_of_range_is_refused_at_fit_by_name(two_kinds, parameters, message):
    model = classifier(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(*two_kinds)


def test_weights_and_targets_are_checked(two_kinds):
    X, y = two_kinds
    with pytest.raises(ValueError, match="zero"):
        classifier().fit(X, y, sample_weight=np.zeros(40))
    with pytest.raises(ValueError, match="[Nn]egative"):
        classifier().fit(X, y, sample_weight=-np.ones(40))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[40, 39\]"):
        classifier().fit(X, y[:39])
    with pytest.raises(ValueError, match="got one class: 'above'"):
        classifier().fit(X, y, sample_weight=(y == "above").astype(float))
    with pytest.raises(ValueError, match="requires y to be passed"):
        classifier().fit(X, None)


def test_a_batch_of_one_left_over_joins_its_neighbour(two_kinds):
    X, y = two_kinds
    model = classifier(freeze_depth=0.0, batch_size=13, norm_policy="train").fit(X, y)  # 40 = 3 * 13 + 1
    assert np.isfinite(model.predict_proba(X)).all()


def test_features_are_scaled_as_training_sees_them_where_statistics_live(two_kinds):
    """Statistics of random weights are far from those of any batch: the first loss was 79 where chance has 0.7."""
    X, y = two_kinds
    network = load_backbone("bundled:tiny-photo", weights="random", input_size=16)
    options = {"freeze_depth": 0.0, "norm_policy": "train", "head_init": "random", "max_epochs": 1, "random_state": 0}
    model = FineTunedClassifier(network, dtype="float32", **options).fit(X, y)
    assert model.history_["loss"][0] < 2


@pytest.mark.slow
def test_maps_that_end_in_channels_are_pooled_over_their_places_below_the_top_too(rng):
    """A network whose stages give (n, h, w, c): what is tuned sees the features that the frozen network gives."""
    X, name = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), "timm:swin_tiny_patch4_window7_224"
    shared = {"weights": "random", "dtype": "float32", "cache": None}
    model = FineTunedClassifier(name, freeze_depth=-1, max_epochs=1, learning_rate=1e-12, **shared)
    features = model.fit(X, [0, 1, 0, 1]).transform(X)
    expected = PretrainedFeatureExtractor(name, **shared).transform(X)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
