"""A conformance suite for estimators of images, texts or audio clips, also with tags, masks, boxes or texts as y.

scikit-learn's ``check_estimator`` sends 2-D numbers alone, so that what goes wrong with other samples goes unseen:
state that ``transform`` changes, results that depend on neighbours, parameters that have no effect, errors without a
row. Must not know how the estimator works.
"""

import inspect
import pickle
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from skltransfer.testing._samples import MAKERS, STRUCTURED, WRITTEN

N, TOLERANCE = 24, 1e-5


def check_transfer_estimator(estimator: Any, modality: str, *, on_fail: str | None = "raise") -> list[dict[str, Any]]:
    """Check that an estimator of images, texts or audio follows the conventions of scikit-learn.

    Use it to test your own classifiers, regressors and transformers, whether they use this package or not. It
    complements scikit-learn's ``check_estimator``, which passes only tables of numbers.

    Parameters
    ----------
    estimator : estimator object
        Unfitted estimator. Give it a small network and few epochs: it is fitted about thirty times on 24 samples.
    modality : {"image", "text", "audio", "words", "masks", "boxes", "translations", "transcripts", "answers"}
        Kind of samples that it is tested with: uint8 arrays of shape (20, 24, 3) for ``"image"``, strings for
        ``"text"``, and tuples of a float32 waveform and its sampling rate for ``"audio"``, with two labels or numbers
        in y. The others have structured targets: lists of words with a list of tags each for ``"words"``, images of
        several sizes with a mask or a dict of boxes and labels each for ``"masks"`` and ``"boxes"``, strings with a
        string each for ``"translations"``, audio with a string each for ``"transcripts"``, and tuples of a question
        and a text with a part of the text each for ``"answers"``.
    on_fail : {"raise"} or None, default="raise"
        ``"raise"`` raises the error of the first check that fails. None runs all checks and reports the failures in the
        result.

    Returns
    -------
    list of dict
        One record per check: ``check_name``, ``status`` (``"passed"`` or ``"failed"``) and ``exception``.

    Raises
    ------
    ValueError
        If ``modality`` or ``on_fail`` is not one of the choices.
    AssertionError
        If a check fails and ``on_fail="raise"``; the message says what was expected and what was found.

    Examples
    --------
    >>> from skltransfer import FineTunedClassifier
    >>> from skltransfer.testing import check_transfer_estimator
    >>> model = FineTunedClassifier("toy:text", freeze_depth=1.0, dtype="float32", random_state=0)
    >>> {result["status"] for result in check_transfer_estimator(model, "text")}
    {'passed'}
    """
    if modality not in MAKERS:
        raise ValueError(f"modality must be one of {sorted(MAKERS)}, got {modality!r}.")
    if on_fail not in ("raise", None):
        raise ValueError(f"on_fail must be 'raise' or None, got {on_fail!r}.")
    results = []
    for check in transfer_checks(estimator, modality):
        error: Exception | None = None
        try:
            check(estimator, modality)
        except Exception as caught:
            if on_fail == "raise":
                raise AssertionError(f"{check.__name__}: {type(caught).__name__}: {caught}") from caught
            error = caught
        results.append({"check_name": check.__name__, "status": "failed" if error else "passed", "exception": error})
    return results


def transfer_checks(estimator: Any, modality: str | None = None) -> Iterator[Callable[[Any, str], None]]:
    """Yield the checks that apply to an estimator, as functions of the estimator and the modality.

    Parameters
    ----------
    estimator : estimator object
        Estimator to check.
    modality : {"image", "text", "audio", "words", "masks", "boxes", "translations", "transcripts", "answers"} or None
        Kind of samples, None by default. There are further checks for the last six, whose targets are structured.

    Yields
    ------
    callable
        Check with the signature ``check(estimator, modality)``, which raises AssertionError if it fails.

    Examples
    --------
    >>> from skltransfer import PretrainedFeatureExtractor
    >>> from skltransfer.testing import transfer_checks
    >>> checks = list(transfer_checks(PretrainedFeatureExtractor()))
    >>> checks[0].__name__
    'check_parameters_are_taken_as_they_are'
    """
    yield from GENERAL
    if hasattr(estimator, "predict"):
        yield from OF_PREDICTORS
        if "sample_weight" in inspect.signature(estimator.fit).parameters:
            yield check_repeated_samples_equal_weights
    if is_classifier(estimator):
        yield from OF_CLASSIFIERS
    if modality in STRUCTURED:
        yield from OF_STRUCTURES


def _data(estimator: Any, modality: str, seed: int = 0) -> tuple[list, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = np.arange(N) % 2
    if modality in STRUCTURED:
        X = MAKERS[modality](rng, kind)
        return X, STRUCTURED[modality](X)
    y = kind + rng.normal(0, 0.1, N) if is_regressor(estimator) else kind
    return MAKERS[modality](rng, kind), y


def _fresh(estimator: Any) -> Any:
    """A clone whose randomness is fixed."""
    copy = clone(estimator)
    return copy.set_params(random_state=0) if "random_state" in copy.get_params() else copy


def _output(estimator: Any, X: Any) -> np.ndarray:
    """Its outputs, as numbers where possible."""
    for method in ("predict_proba", "decision_function", "predict", "transform"):
        if hasattr(estimator, method):
            found = getattr(estimator, method)(X)
            return found if isinstance(found, np.ndarray) else np.asarray(found)
    raise AssertionError(f"{type(estimator).__name__} has neither predict nor transform.")


def _assert_close(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.dtype == object:
        for row, (one, other) in enumerate(zip(got, expected, strict=True)):
            if isinstance(other, dict):
                assert one.keys() == other.keys(), f"{what}, row {row}: {sorted(one)}, expected {sorted(other)}"
                for key in other:
                    _assert_close(np.asarray(one[key]), np.asarray(other[key]), f"{what}, row {row}, {key!r}")
            else:
                _assert_close(np.asarray(one), np.asarray(other), f"{what}, row {row}")
    elif got.dtype.kind == "f" and got.size:
        scale = max(1e-12, float(np.abs(expected).max()))
        error = float(np.abs(got - expected).max()) / scale
        assert error <= TOLERANCE, f"{what}: results differ by {error:.1e} relative, expected at most {TOLERANCE:.0e}"
    else:
        assert np.array_equal(got, expected), f"{what}: results differ"


def _assert_raises(call: Callable[[], Any], kinds: tuple[type, ...], needed: str, what: str) -> None:
    """``needed``: what the message must say; an empty one is in all of them."""
    try:
        call()
    except kinds as error:
        if needed and not re.search(rf"\b{needed}\b", str(error)):
            raise AssertionError(f"{what}: the message does not say {needed!r}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what}: expected {kinds[0].__name__}, got {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{what}: expected {kinds[0].__name__}, but nothing was raised")


def _global_generators() -> tuple[bytes, str, bytes]:
    return np.random.get_state()[1].tobytes(), str(random.getstate()), torch.get_rng_state().numpy().tobytes()


def check_parameters_are_taken_as_they_are(estimator: Any, modality: str) -> None:
    """``clone`` and ``set_params`` reach what is used: nothing is built in ``__init__``."""
    copy = clone(estimator)
    before = {key: repr(value) for key, value in copy.get_params().items()}
    assert before == {key: repr(value) for key, value in estimator.get_params().items()}, "clone changed a parameter"
    own = set(vars(type(estimator)(**estimator.get_params(deep=False))))
    extra = sorted(own - set(estimator.get_params(deep=False)) - {"_sklearn_output_config"})
    assert not extra, f"__init__ sets {extra} besides its parameters, so set_params would not reach what they hold"
    X, y = _data(estimator, modality)
    copy.fit(X, y)
    after = {key: repr(value) for key, value in copy.get_params().items()}
    changed = sorted(key for key in before if before[key] != after[key])
    assert not changed, f"fit changed the parameters {changed}"


def check_fit_returns_self_and_leaves_x_alone(estimator: Any, modality: str) -> None:
    """``fit`` returns the estimator, and X is what it was."""
    X, y = _data(estimator, modality)
    kept = pickle.dumps(X)
    copy = _fresh(estimator)
    assert copy.fit(X, y) is copy, "fit must return self"
    _output(copy, X)
    assert pickle.dumps(X) == kept, "X was changed in place"


def check_asking_changes_nothing(estimator: Any, modality: str) -> None:
    """A frozen network in train mode would move its statistics with every call."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    first = _output(fitted, X)
    _output(fitted, X[:7])
    _assert_close(_output(fitted, X), first, "asked the same thing twice")


def check_a_sample_does_not_depend_on_its_neighbours(estimator: Any, modality: str) -> None:
    """Padding, batch statistics and per-batch scaling make it do so."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    whole = _output(fitted, X)
    alone = np.concatenate([_output(fitted, X[i : i + 1]) for i in range(5)])
    _assert_close(alone, whole[:5], "one sample at a time")
    _assert_close(_output(fitted, X[::-1]), whole[::-1], "in reverse order")


def check_containers_mean_the_same(estimator: Any, modality: str) -> None:
    """List, object array, and Series where pandas is installed."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    expected = _output(fitted, X)
    array = np.empty(len(X), dtype=object)
    array[:] = X
    _assert_close(_output(fitted, array), expected, "an object array instead of a list")
    try:
        import pandas
    except ImportError:
        return
    _assert_close(_output(fitted, pandas.Series(X, index=range(100, 100 + len(X)))), expected, "a Series")


def check_the_same_seed_gives_the_same(estimator: Any, modality: str) -> None:
    """Two fits give the same result, independently of the global generators, which stay unchanged."""
    X, y = _data(estimator, modality)
    outputs = []
    for seed in (1, 2):
        states = np.random.get_state(), random.getstate(), torch.get_rng_state()
        np.random.seed(seed)
        random.seed(seed)
        torch.manual_seed(seed)
        before = _global_generators()
        try:
            outputs.append(_output(_fresh(estimator).fit(X, y), X))
            assert _global_generators() == before, "fit or predict drew from, or seeded, a global generator"
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
            torch.set_rng_state(states[2])
    _assert_close(*outputs, "two fits with random_state=0")


def check_fitting_again_forgets(estimator: Any, modality: str) -> None:
    """A second ``fit`` is as if there had been no first."""
    X, y = _data(estimator, modality)
    other, other_y = _data(estimator, modality, seed=5)
    other = other[::-1] if modality in STRUCTURED else other  # which cannot take another's tags
    again = _fresh(estimator).fit(other, other_y[::-1]).fit(X, y)
    _assert_close(_output(again, X), _output(_fresh(estimator).fit(X, y), X), "fitted before on other data")


def check_pickles_travel(estimator: Any, modality: str) -> None:
    """A pickled copy says the same in another process."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    (elsewhere,) = Parallel(n_jobs=2)(delayed(_output)(copy, X) for copy in [fitted])
    _assert_close(elsewhere, _output(fitted, X), "a pickled copy in another process")


def check_bad_samples_are_named_with_their_row(estimator: Any, modality: str) -> None:
    """A missing or a wrong sample is a ValueError or TypeError that says which row it is."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    for wrong in (None, float("nan"), {"not": "a sample"}):
        bad = [*X[:3], wrong, *X[4:]]
        kinds = (ValueError, TypeError)
        _assert_raises(lambda bad=bad: _output(fitted, bad), kinds, "3", f"{wrong!r} in row 3")
        if hasattr(estimator, "predict"):
            _assert_raises(lambda bad=bad: _fresh(estimator).fit(bad, y), kinds, "3", f"fit with {wrong!r} in row 3")


def check_no_samples_and_one_bare_sample_are_refused(estimator: Any, modality: str) -> None:
    """An empty X, and a sample that is not in a list, are ValueErrors."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    _assert_raises(lambda: _output(fitted, []), (ValueError,), "", "an empty X")
    if modality in ("text", "words", "translations"):
        _assert_raises(lambda: _output(fitted, X[0]), (ValueError,), "", "a bare text as X")


def check_it_works_in_a_pipeline(estimator: Any, modality: str) -> None:
    """Alone as in a pipeline of one step."""
    X, y = _data(estimator, modality)
    _assert_close(
        _output(make_pipeline(_fresh(estimator)).fit(X, y), X), _output(_fresh(estimator).fit(X, y), X), "in a Pipeline"
    )


def check_predicting_needs_a_fit(estimator: Any, modality: str) -> None:
    """NotFittedError before ``fit``."""
    X, _ = _data(estimator, modality)
    _assert_raises(lambda: _fresh(estimator).predict(X), (NotFittedError,), "", "predict before fit")
    _assert_raises(lambda: check_is_fitted(_fresh(estimator)), (NotFittedError,), "", "check_is_fitted before fit")


def check_lengths_of_x_and_y_are_compared(estimator: Any, modality: str) -> None:
    """A y that is too short, or holds NaN, is a ValueError."""
    X, y = _data(estimator, modality)
    _assert_raises(lambda: _fresh(estimator).fit(X, y[:-1]), (ValueError,), "", "a y that is too short")
    holey = y.copy() if y.dtype == object else y.astype(float)
    missing = None if modality in WRITTEN else [None] * len(y[2]) if y.dtype == object else np.nan
    holey[2] = missing
    _assert_raises(lambda: _fresh(estimator).fit(X, holey), (ValueError,), "", "NaN in y")


def check_cross_validation_scores_each_fold(estimator: Any, modality: str) -> None:
    """In another process, too."""
    X, y = _data(estimator, modality)
    scores = [
        cross_validate(_fresh(estimator), X, y, cv=2, n_jobs=n, error_score="raise")["test_score"] for n in (None, 2)
    ]
    _assert_close(scores[1], scores[0], "cross_validate with n_jobs=2")


def check_repeated_samples_equal_weights(estimator: Any, modality: str) -> None:
    """A sample that comes twice counts as one of weight two; one of weight zero is not there."""
    X, y = _data(estimator, modality)
    weights = np.arange(N) // 2 % 3
    rows = np.repeat(np.arange(N), weights)
    weighted = _fresh(estimator).fit(X, y, sample_weight=weights)
    repeated = _fresh(estimator).fit([X[i] for i in rows], y[rows])
    _assert_close(_output(weighted, X), _output(repeated, X), "weights instead of repeated samples")


def check_any_labels_will_do(estimator: Any, modality: str) -> None:
    """Strings, booleans and distant numbers; ``classes_`` sorted; probabilities that sum to 1."""
    X, y = _data(estimator, modality)
    for labels in (["no", "yes"], [False, True], [-7, 1000]):
        fitted = _fresh(estimator).fit(X, np.array(labels)[y])
        assert list(fitted.classes_) == labels, f"classes_ is {fitted.classes_!r}, expected {labels}"
        predicted = fitted.predict(X)
        assert set(predicted.tolist()) <= set(labels), f"predict gave {set(predicted.tolist())}, expected {labels}"
        if hasattr(fitted, "predict_proba"):
            probability = fitted.predict_proba(X)
            assert np.allclose(probability.sum(1), 1), "rows of predict_proba do not sum to 1"
            assert (np.array(labels)[probability.argmax(1)] == predicted).all(), "predict and predict_proba disagree"


def check_two_kinds_are_told_apart(estimator: Any, modality: str) -> None:
    """Bright from dark, glad from sad, high from low: on the training samples at least."""
    X, y = _data(estimator, modality)
    score = _fresh(estimator).fit(X, y).score(X, y)
    assert score > 0.7, f"accuracy on the training samples is {score:.2f}, expected more than 0.7"


def check_answers_have_the_shape_of_their_samples(estimator: Any, modality: str) -> None:
    """``predict`` returns an array of objects, which ``score`` compares with y: a tag for each word or pixel, a dict of
    boxes, labels and scores for each image, or a string."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    predicted = fitted.predict(X)
    assert predicted.dtype == object, "predict must return an array of objects"
    assert predicted.shape == (N,), f"predict gave shape {predicted.shape}, expected {(N,)}"
    if modality in WRITTEN:
        for row, answer in enumerate(predicted):
            assert isinstance(answer, str), f"predict must give strings, got {answer!r} in row {row}"
    else:
        _assert_labels_are_known(modality, predicted, y)
    score = fitted.score(X, y)
    assert 0.7 < score <= 1, f"the score on the training samples is {score:.2f}, expected more than 0.7"


def _assert_labels_are_known(modality: str, predicted: np.ndarray, y: np.ndarray) -> None:
    if modality == "boxes":
        for row, answer in enumerate(predicted):
            shapes = [np.shape(answer[key]) for key in ("boxes", "labels", "scores")]
            n = len(answer["boxes"])
            assert shapes == [(n, 4), (n,), (n,)], f"boxes, labels and scores of row {row} have the shapes {shapes}"
        found, true = ([np.asarray(one["labels"]) for one in rows] for rows in (predicted, y))
    else:
        shapes = [np.shape(answer) for answer in predicted]
        assert shapes == [np.shape(target) for target in y], f"answers have the shapes {shapes}"
        found, true = predicted, y
    known = np.unique(np.concatenate([np.ravel(target) for target in true]))
    assert all(np.isin(np.ravel(answer), known).all() for answer in found), f"answers hold other labels than {known}"


def check_targets_fit_their_samples(estimator: Any, modality: str) -> None:
    """A target that is shorter than its sample, or that should be a string and is not, is an error with its row."""
    X, y = _data(estimator, modality)
    wrong, kinds = y.copy(), (ValueError,)
    if modality in WRITTEN:
        wrong[3], kinds = 7, (ValueError, TypeError)
    elif modality == "boxes":
        wrong[3] = wrong[3] | {"labels": []}
    else:
        wrong[3] = wrong[3][:-1]
    _assert_raises(lambda: _fresh(estimator).fit(X, wrong), kinds, "3", f"the target {wrong[3]!r} in row 3")


def check_threads_may_share_it(estimator: Any, modality: str) -> None:
    """Several threads that ask at once get what one gets."""
    X, y = _data(estimator, modality)
    fitted = _fresh(estimator).fit(X, y)
    expected = _output(fitted, X)
    for found in Parallel(n_jobs=4, backend="threading")(delayed(_output)(fitted, X) for _ in range(8)):
        _assert_close(found, expected, "asked by several threads")


def check_a_search_works_in_two_processes(estimator: Any, modality: str) -> None:
    """``GridSearchCV`` finds the same in one process and in two."""
    X, y = _data(estimator, modality)
    scores = []
    for n_jobs in (None, 2):
        search = GridSearchCV(_fresh(estimator), {"random_state": [0, 1]}, cv=2, n_jobs=n_jobs, error_score="raise")
        scores.append(search.fit(X, y).cv_results_["mean_test_score"])
        assert len(search.predict(X)) == N, "a search cannot predict"
    _assert_close(scores[1], scores[0], "GridSearchCV with n_jobs=2")


def check_a_cache_changes_nothing(estimator: Any, modality: str) -> None:
    """With ``cache=None`` as with a cache, where there is that parameter."""
    if "cache" not in estimator.get_params():
        return
    X, y = _data(estimator, modality)
    outputs = [_output(_fresh(estimator).set_params(cache=cache).fit(X, y), X) for cache in (None, "memory", "memory")]
    _assert_close(outputs[1], outputs[0], "with a cache")
    _assert_close(outputs[2], outputs[0], "with a cache that is full")


GENERAL = (
    check_parameters_are_taken_as_they_are,
    check_fit_returns_self_and_leaves_x_alone,
    check_asking_changes_nothing,
    check_a_sample_does_not_depend_on_its_neighbours,
    check_containers_mean_the_same,
    check_the_same_seed_gives_the_same,
    check_fitting_again_forgets,
    check_pickles_travel,
    check_bad_samples_are_named_with_their_row,
    check_no_samples_and_one_bare_sample_are_refused,
    check_it_works_in_a_pipeline,
)
OF_PREDICTORS = (
    check_predicting_needs_a_fit,
    check_lengths_of_x_and_y_are_compared,
    check_cross_validation_scores_each_fold,
)
OF_STRUCTURES = (
    check_answers_have_the_shape_of_their_samples,
    check_targets_fit_their_samples,
    check_threads_may_share_it,
    check_a_search_works_in_two_processes,
    check_a_cache_changes_nothing,
)
OF_CLASSIFIERS = (check_any_labels_will_do, check_two_kinds_are_told_apart)
