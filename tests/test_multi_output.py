"""Targets with several columns: labels that do not exclude each other, and several numbers at once."""

import numpy as np
import pytest
import scipy.sparse
from scaling import ClippedScaler
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline

from skltransfer import FineTunedClassifier, FineTunedRegressor, PretrainedFeatureExtractor


@pytest.fixture
def labelled(rng):
    """Grey pictures of which three parts may be lit, each a label of its own."""
    Y = rng.integers(0, 2, (60, 3))
    X = rng.uniform(0, 0.3, (60, 16, 16))
    for column, part in enumerate((np.s_[:, :5], np.s_[:, 6:10], np.s_[:, 11:])):
        X[(slice(None), *part)] += 0.6 * Y[:, column].reshape(-1, 1, 1)
    return X, Y


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_labels_that_do_not_exclude_each_other_are_learnt(labelled, freeze_depth, head):
    X, Y = labelled
    model = FineTunedClassifier(
        "toy:images", pooling="flatten", freeze_depth=freeze_depth, head=head, C=1.0, max_epochs=20, random_state=0
    ).fit(X, Y)
    assert model.classes_.tolist() == [0, 1, 2]
    predicted, probability = model.predict(X), model.predict_proba(X)
    assert predicted.shape == probability.shape == model.decision_function(X).shape == Y.shape
    assert f1_score(Y, predicted, average="macro") > 0.9
    np.testing.assert_array_equal(predicted, probability > 0.5)
    np.testing.assert_array_equal(model.fit(X, scipy.sparse.csr_matrix(Y)).predict_proba(X), probability)


def test_the_probe_of_many_labels_is_a_logistic_regression_each(labelled):
    X, Y = labelled
    model = FineTunedClassifier("toy:images", freeze_depth=1.0, C=0.3, dtype="float32").fit(X, Y)
    extractor = PretrainedFeatureExtractor("toy:images", dtype="float32")
    theirs = make_pipeline(extractor, ClippedScaler(), MultiOutputClassifier(LogisticRegression(C=0.3, tol=1e-10)))
    expected = np.column_stack([p[:, 1] for p in theirs.fit(X, Y).predict_proba(X)])
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-3)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_repeated_rows_of_many_labels_equal_weights_in_any_order(labelled, freeze_depth, rng):
    X, Y = labelled
    weights = rng.integers(0, 3, len(X))
    model = FineTunedClassifier("toy:images", freeze_depth=freeze_depth, max_epochs=2, random_state=0)
    weighted = model.fit(X, Y, sample_weight=weights).predict_proba(X)
    rows = rng.permutation(np.repeat(np.arange(len(X)), weights))
    np.testing.assert_array_equal(model.fit(X[rows], Y[rows]).predict_proba(X), weighted)


def test_early_stopping_partial_fit_and_cross_validation_take_many_labels(labelled):
    X, Y = labelled
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, early_stopping=True, max_epochs=4, random_state=0)
    assert len(model.fit(X, Y).history_["validation_loss"]) == model.n_iter_
    scores = cross_val_score(model.set_params(freeze_depth=1.0, C=1.0), X, Y, cv=3, scoring="f1_macro")
    assert scores.mean() > 0.7
    model = FineTunedClassifier("toy:images", random_state=0)
    for part in (slice(0, 30), slice(30, 60)):
        model.partial_fit(X[part], Y[part], classes=[0, 1, 2])
    assert model.predict(X).shape == Y.shape
    with pytest.raises(ValueError, match="y has 2 columns of labels, but there are 3 labels"):
        model.partial_fit(X, Y[:, :2])


def test_what_does_not_go_with_many_labels_is_refused(labelled):
    X, Y = labelled
    with pytest.raises(ValueError, match="class_weight='balanced' is for labels that exclude each other"):
        FineTunedClassifier("toy:images", class_weight="balanced").fit(X, Y)
    with pytest.raises(ValueError, match="multiclass-multioutput"):
        FineTunedClassifier("toy:images").fit(X, Y + Y[:, ::-1])


def test_many_labels_on_rows():
    X, Y = make_multilabel_classification(80, n_features=8, n_classes=4, random_state=0)
    model = FineTunedClassifier("toy:rows", freeze_depth=0.5, C=10.0, random_state=0).fit(X, Y)
    assert f1_score(Y, model.predict(X), average="micro") > 0.8


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5])
def test_several_numbers_are_learnt_each_in_its_own_unit(rng, freeze_depth):
    X = rng.standard_normal((80, 5))
    y = np.column_stack([1000 + 100 * X[:, 0], 0.01 * X[:, 1], X[:, 0] - X[:, 2]])
    model = FineTunedRegressor("toy:rows", freeze_depth=freeze_depth, max_epochs=20, random_state=0).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.8
    alone = FineTunedRegressor("toy:rows", freeze_depth=freeze_depth, random_state=0).fit(X, y[:, 0])
    assert alone.predict(X).shape == (80,)
    assert FineTunedRegressor("toy:rows", freeze_depth=1.0).fit(X, y[:, :1]).predict(X).shape == (80, 1)


def test_the_probe_of_several_numbers_is_ridge(rng):
    X = rng.standard_normal((40, 6))
    y = X @ rng.standard_normal((6, 2)) + 7
    model = FineTunedRegressor("toy:rows", freeze_depth=1.0, alpha=2.0, dtype="float32").fit(X, y)
    extractor = PretrainedFeatureExtractor("toy:rows", dtype="float32")
    # each target is standardised inside, which a penalty on raw targets does not see
    scaled = (y - y.mean(0)) / y.std(0)
    theirs = make_pipeline(extractor, ClippedScaler(), Ridge(alpha=2.0)).fit(X, scaled).predict(X)
    np.testing.assert_allclose(model.predict(X), theirs * y.std(0) + y.mean(0), rtol=1e-3)
