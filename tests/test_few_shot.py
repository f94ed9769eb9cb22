"""Few labels per class: prototypes, contrasted pairs, and the formulas behind them."""

import pickle

import numpy as np
import pytest
import torch
from conftest import png
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline

from skltransfer import FewShotClassifier, FineTunedClassifier, PretrainedFeatureExtractor, load
from skltransfer.engine import MultilabelPrototypeTask, PrototypeTask


@pytest.fixture
def features(rng):
    """Forty vectors of length 1 around three directions, and their classes."""
    y = np.repeat([0, 1, 2], [20, 12, 8])
    F = rng.standard_normal((40, 6)) + 1.5 * np.eye(6)[y]
    return F / np.linalg.norm(F, axis=1, keepdims=True), y


def solved(F, y, shrinkage, weights=None):
    head = PrototypeTask(np.unique(y))
    weights = np.ones(len(y)) if weights is None else weights
    return head.solve_probe(F, np.unique(y, return_inverse=True)[1], weights, (None, None), shrinkage)


def test_whole_shrinkage_is_the_nearest_mean(features):
    F, y = features
    probe = solved(F, y, 1.0)
    ours = (F @ probe.weight.T + probe.bias).argmax(1)
    np.testing.assert_array_equal(ours, NearestCentroid().fit(F, y).predict(F))


@pytest.mark.parametrize("shrinkage", [0.2, 0.7])
def test_some_shrinkage_is_a_linear_discriminant_with_equal_priors(features, shrinkage):
    """scikit-learn shrinks towards the same multiple of the identity."""
    F, y = features
    F = F[np.r_[:8, 20:28, 32:40]]  # as many of each class: its covariance is the mean over classes
    y = np.repeat([0, 1, 2], 8)
    probe = solved(F, y, shrinkage)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(F, y)
    ours, expected = F @ probe.weight.T + probe.bias, theirs.decision_function(F)
    ours, expected = (values - values.mean(1, keepdims=True) for values in (ours, expected))
    np.testing.assert_allclose(ours / np.abs(ours).max(), expected / np.abs(expected).max(), atol=1e-8)


def test_two_classes_are_told_apart_by_one_output(features):
    F, y = features
    F, y = F[y < 2], y[y < 2]
    probe = solved(F, y, 0.5)
    assert probe.weight.shape == (1, 6)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5, priors=[0.5, 0.5]).fit(F, y)
    assert ((F @ probe.weight[0] + probe.bias[0] > 0) == (theirs.predict(F) == 1)).mean() > 0.95


def test_the_scale_of_outputs_is_the_one_that_leaving_out_prefers(features):
    """Against prototypes that are made anew without each sample."""
    F, y = features
    probe = solved(F, y, 1.0)
    level = ((F - np.stack([F[y == c].mean(0) for c in range(3)])[y]) ** 2).sum() / 40 / 6

    def loss(temperature):
        total = 0.0
        for i in range(40):
            kept = np.arange(40) != i
            means = np.stack([F[kept & (y == c)].mean(0) for c in range(3)])
            outputs = -0.5 * ((F[i] - means) ** 2).sum(1) / level / temperature
            log_p = outputs - np.log(np.exp(outputs).sum())
            total -= (1 - 1 / 42) * log_p[y[i]] + log_p.mean() / 42
        return total / 40

    temperature = 1 / np.linalg.norm(probe.weight[0]) * np.linalg.norm(F[y == 0].mean(0)) / level
    assert probe.loss == pytest.approx(loss(temperature), abs=1e-9)
    assert loss(temperature) <= min(loss(0.9 * temperature), loss(1.1 * temperature))


def test_weights_are_repeated_samples(features, rng):
    F, y = features
    counts = rng.integers(1, 4, 40)
    weighted = solved(F, y, 0.6, counts.astype(float))
    repeated = solved(np.repeat(F, counts, axis=0), np.repeat(y, counts), 0.6)
    scale = np.linalg.norm(weighted.weight) / np.linalg.norm(repeated.weight)
    np.testing.assert_allclose(weighted.weight, repeated.weight * scale, rtol=1e-8)


def test_one_sample_per_class_is_enough(features):
    F, y = features
    probe = solved(F[[0, 20, 32]], y[[0, 20, 32]], 0.95)
    np.testing.assert_allclose(probe.weight, F[[0, 20, 32]])
    assert np.isfinite(probe.bias).all()


def test_pairs_of_a_batch_are_drawn_together_and_apart(features):
    F, y = features
    losses = PrototypeTask(np.arange(3)).loss(torch.tensor(F), torch.tensor(y)).numpy()
    cosines = F @ F.T
    for i in (0, 25, 39):
        own = (y == y[i]) & (np.arange(40) != i)
        expected = ((1 - cosines[i, own]) ** 2).mean() + (cosines[i, y != y[i]] ** 2).mean()
        assert losses[i] == pytest.approx(expected, rel=1e-6)
    perfect = torch.eye(3)[torch.tensor([0, 0, 1, 2])]
    assert PrototypeTask(np.arange(3)).loss(perfect, torch.tensor([0, 0, 1, 2])).sum() == 0


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_prototypes_are_those_of_extracted_features(two_kinds):
    X, y = two_kinds
    F = PretrainedFeatureExtractor("toy:images", dtype="float32").transform(X)
    F /= np.linalg.norm(F, axis=1, keepdims=True)
    model = FewShotClassifier("toy:images", shrinkage=1.0, dtype="float32").fit(X[:10], y[:10])
    theirs = NearestCentroid().fit(F[:10], y[:10])
    np.testing.assert_array_equal(model.predict(X), theirs.predict(F))
    assert (model.n_frozen_stages_, model.n_iter_) == (4, 1)


def test_contrasting_pairs_part_the_classes(two_kinds):
    X, y = two_kinds
    options = {"method": "contrastive", "freeze_depth": 0.5, "learning_rate": 3e-3, "random_state": 0}
    model = FewShotClassifier("toy:images", **options).fit(X[:16], y[:16])
    before = PretrainedFeatureExtractor("toy:images").transform(X[16:])

    def closeness(F):
        F = F / np.linalg.norm(F, axis=1, keepdims=True)
        same = y[16:, None] == y[16:]
        return (F @ F.T)[same].mean() - (F @ F.T)[~same].mean()

    assert closeness(model.transform(X[16:])) > 2 * closeness(before)
    assert model.history_["loss"][-1] < 0.7 * model.history_["loss"][0]
    assert model.score(X[16:], y[16:]) == 1
    assert model.n_frozen_stages_ == 2


@pytest.mark.parametrize("method", ["prototype", "contrastive"])
def test_it_is_saved_and_sent_like_the_others(two_kinds, tmp_path, method):
    X, y = two_kinds
    options = {"method": method, "freeze_depth": -1, "max_epochs": 2, "random_state": 0}
    model = FewShotClassifier("toy:images", **options).fit(X, y)
    model.save(tmp_path / "model.skl")
    for copy in (load(tmp_path / "model.skl"), pickle.loads(pickle.dumps(model))):
        assert isinstance(copy, FewShotClassifier)
        np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_texts_and_a_search_over_methods(two_kinds):
    texts = [f"{'good' if i % 2 else 'bad'} film number {i}" for i in range(16)]
    grid = {"method": ["prototype", "contrastive"], "shrinkage": [0.5, 1.0]}
    model = FewShotClassifier("toy:text", max_epochs=2, random_state=0)
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(texts, np.arange(16) % 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_what_it_cannot_fit_is_refused(two_kinds):
    X, y = two_kinds
    with pytest.raises(ValueError, match=r"FewShotClassifier needs samples of at least 2 classes.*'above'"):
        FewShotClassifier("toy:images").fit(X[::2], y[::2])
    with pytest.raises(ValueError, match="'shrinkage' parameter of FewShotClassifier must be a float"):
        FewShotClassifier("toy:images", shrinkage=0).fit(X, y)


def test_probabilities_of_few_samples_leave_room_for_doubt(two_kinds):
    X, y = two_kinds
    few = FewShotClassifier("toy:images").fit(X[:6], y[:6]).predict_proba(X)
    assert 0.6 < few.max(1).mean() < 0.99
    assert FineTunedClassifier("toy:images", freeze_depth=1.0, C=100).fit(X[:6], y[:6]).score(X, y) == 1


@pytest.fixture
def lit(rng):
    """Photos whose upper and lower halves may be bright, each a label of its own: as PNG files, and their labels."""
    Y = rng.integers(0, 2, (40, 2))
    pixels = rng.integers(0, 100, (40, 16, 16))
    pixels[:, :8] += 150 * Y[:, :1, None]
    pixels[:, 8:] += 150 * Y[:, 1:, None]
    return [png(photo.astype(np.uint8)) for photo in pixels], Y


def test_each_of_many_labels_has_its_own_prototypes(lit):
    X, Y = lit
    model = FewShotClassifier("toy:images", pooling="flatten").fit(X[:12], Y[:12])
    each = [FewShotClassifier("toy:images", pooling="flatten").fit(X[:12], column) for column in Y[:12].T]
    expected = np.column_stack([one.predict_proba(X)[:, 1] for one in each])
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X) > 0.5)
    assert model.decision_function(X).shape == (40, 2)
    assert model.classes_.tolist() == [0, 1]
    assert (model.predict(X[12:]) == Y[12:]).mean() > 0.9


def test_many_labels_go_through_pipeline_search_and_file(lit, tmp_path):
    X, Y = lit
    pipeline = Pipeline([("network", FewShotClassifier("toy:images", pooling="flatten"))])
    grid = {"network__shrinkage": [0.5, 0.95]}
    search = GridSearchCV(pipeline, grid, cv=3, scoring="f1_macro", error_score="raise").fit(X, Y)
    assert search.best_score_ > 0.8
    found = search.best_estimator_["network"]
    found.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    assert isinstance(copy._task_, MultilabelPrototypeTask)
    np.testing.assert_array_equal(copy.predict_proba(X), found.predict_proba(X))
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))


def test_labels_that_all_samples_or_none_have_are_told_and_predicted_as_in_one_versus_rest(lit):
    X, Y = lit
    Y = np.column_stack([Y[:, 0], np.zeros(40, dtype=int), np.ones(40, dtype=int)])
    with pytest.warns(UserWarning, match="so they will") as told:
        model = FewShotClassifier("toy:images", pooling="flatten").fit(X[:12], Y[:12])
    assert [str(one.message) for one in told] == [
        "The labels of columns [1] of y are in no sample, so they will never be predicted.",
        "The labels of columns [2] of y are in all samples, so they will always be predicted.",
    ]
    F = PretrainedFeatureExtractor("toy:images", pooling="flatten").transform(X)
    with pytest.warns(UserWarning, match="Label"):
        theirs = OneVsRestClassifier(NearestCentroid()).fit(F[:12], Y[:12])
    np.testing.assert_array_equal(model.predict(X)[:, 1:], theirs.predict(F)[:, 1:])
    np.testing.assert_allclose(model.predict_proba(X)[:, 1:], [[1 / 14, 13 / 14]] * 40)


@pytest.mark.parametrize("counts", [1, 2])
def test_weights_of_samples_of_many_labels_are_repeated_rows(lit, counts, rng):
    X, Y = lit
    weights = rng.integers(0, 3, 40) * counts
    rows = np.repeat(np.arange(40), weights)
    model = FewShotClassifier("toy:images", pooling="flatten")
    weighted = model.fit(X, Y, sample_weight=weights).predict_proba(X)
    np.testing.assert_array_equal(model.fit([X[row] for row in rows], Y[rows]).predict_proba(X), weighted)


def test_pairs_are_not_contrasted_by_many_labels(lit):
    X, Y = lit
    with pytest.raises(ValueError, match=r"method='contrastive' moves samples of one class.*y has 2 columns of labels"):
        FewShotClassifier("toy:images", method="contrastive").fit(X, Y)
    with pytest.raises(ValueError, match="multiclass-multioutput"):
        FewShotClassifier("toy:images").fit(X, 2 * Y + Y[:, ::-1])
