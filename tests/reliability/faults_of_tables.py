"""Rows 52 to 69 of the catalogue: numbers, targets, weights."""

import numpy as np
import pandas as pd
from catalogue import Bench, Fault, classifier, features, regressor
from scipy import sparse
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier

TWO_CLASSES = "needs samples of at least 2 classes in y .of positive weight.; got one class: 0"


def _told(X):
    """Use of a table; ``X`` may need the bench's own."""
    return lambda bench: features(X(*bench.table()[:1]) if callable(X) else X, "toy:rows")


def _with_hole(value):
    def holed(X):
        X[[3, 7], 1] = value
        return X

    return _told(holed)


def _like_copies(bench: Bench) -> tuple[list, list]:
    X, _ = bench.table()
    np.save(bench.place / "X.npy", X)
    mapped = np.load(bench.place / "X.npy", mmap_mode="r")
    same = [mapped, np.asfortranarray(X), X[::-1].copy()[::-1], X.T.copy().T, np.repeat(X, 2, axis=0)[::2]]
    return [features(x, "toy:rows") for x in same], [features(X, "toy:rows")] * len(same)


def _other_numbers(bench: Bench) -> tuple[list, list]:
    X = np.rint(bench.table()[0])
    same = [X.astype(kind) for kind in ("float16", ">f4", ">f8", "int8", "int64", "float64")]
    expected = [features(X, "toy:rows")] * len(same)
    return [*(features(x, "toy:rows") for x in same), features(X > 0, "toy:rows")], [
        *expected,
        features((X > 0).astype(np.float32), "toy:rows"),
    ]


def _fit(y, **parameters):
    """Use of a target; ``y`` may need the bench's own. ``sample_weight`` goes to ``fit``."""

    def use(bench: Bench):
        X, labels = bench.table()
        fitting = {k: v(labels) if callable(v) else v for k, v in parameters.items() if k == "sample_weight"}
        shown = {k: v for k, v in parameters.items() if k != "sample_weight"}
        return classifier(**shown).fit(X, y(labels) if callable(y) else y, **fitting)

    return use


def _other_columns(change):
    def use(bench: Bench):
        X, y = bench.table()
        X = pd.DataFrame(X, columns=list("abcd"))
        return classifier().fit(X, y).predict(change(X))

    return use


def _column_of_labels(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    X, y = bench.table()
    return classifier().fit(X, y[:, None]).predict_proba(X), classifier().fit(X, y).predict_proba(X)


def _one_of_a_class(bench: Bench) -> tuple[list, list]:
    X, y = bench.table()
    y[0] = 2
    model = classifier(early_stopping=True, validation_fraction=0.3).fit(X, y)
    return model.classes_, [0, 1, 2]


def _labels(*names):
    """Whether labels of any kind come back, trained as 0 and 1 are."""

    def use(bench: Bench) -> tuple[list, list]:
        X, y = bench.table()
        model, plain = classifier().fit(X, np.array(names)[y]), classifier().fit(X, y)
        return [model.classes_.tolist(), model.predict_proba(X)], [list(names), plain.predict_proba(X)]

    return use


def _unseen_when_scored(bench: Bench) -> tuple[float, float]:
    X, y = bench.table()
    model = classifier().fit(X, y)
    return model.score(X, np.where(y == 1, 7, y)), (model.predict(X)[y == 0] == 0).sum() / len(y)


def _absent_from_a_fold(bench: Bench) -> tuple[list, list]:
    """Sorted labels and no shuffling: no fold is trained on all three."""
    X, _ = bench.table()
    search = GridSearchCV(classifier(), {"freeze_depth": [1.0]}, cv=KFold(3), error_score="raise")
    search.fit(X, np.repeat(["a", "b", "c"], 8))
    return [search.best_estimator_.classes_.tolist(), search.best_score_], [["a", "b", "c"], 0.0]


def _many_labels(bench: Bench) -> tuple[list, list]:
    X, y = bench.table()
    Y = np.column_stack([y, 1 - y, X[:, 0] > 1]).astype(int)
    model = classifier(freeze_depth=1.0, C=10.0).fit(X, Y)
    one = OneVsRestClassifier(classifier(freeze_depth=1.0, C=10.0)).fit(X, Y)
    return [model.predict(X).shape, model.predict_proba(X).round(3)], [(24, 3), one.predict_proba(X).round(3)]


def _many_numbers(bench: Bench) -> tuple[bool, bool]:
    X, y = bench.table()
    Y = np.column_stack([y, X[:, 0]])
    both = regressor().fit(X, Y).predict(X)
    alone = np.column_stack([regressor().fit(X, column).predict(X) for column in Y.T])
    return np.abs(both - alone).max() < 1e-4, True


def _extreme_weights(bench: Bench) -> tuple[bool, bool]:
    X, y = bench.table()
    model = classifier(class_weight={0: 1e3, 1: 1e-4}, learning_rate=0.01, max_epochs=5).fit(X, y)
    return np.isfinite([*model.history_["loss"], *model.predict_proba(X).ravel()]).all(), True


def _rests(bench: Bench) -> tuple[list, list]:
    """Fewer rows than a batch; a batch of one left over; statistics of BatchNorm alive."""
    X, y = bench.table()
    found = []
    for n, size, policy in ((6, 32, "frozen"), (9, 8, "frozen"), (9, 8, "train")):
        model = classifier(batch_size=size, norm_policy=policy, freeze_depth=0.0).fit(X[:n], y[:n])
        found.append(np.isfinite(model.predict_proba(X)).all())
    return found, [True] * 3


FAULTS = [
    *(
        Fault(
            52,
            f"a value of {value}",
            _with_hole(value),
            ValueError,
            r"rows \[3, 7\] of X",
            "Input X contains (NaN|infinity)",
            "drop or fill them",
        )
        for value in (np.nan, np.inf)
    ),
    Fault(53, "read-only maps, Fortran order, negative strides", _like_copies),
    Fault(54, "complex", _told(lambda X: X + 1j), ValueError, says="Complex data not supported"),
    Fault(54, "sparse", _told(sparse.csr_array), TypeError, says="Sparse data was passed", remedy="toarray"),
    Fault(
        54,
        "objects",
        _told(lambda X: np.array([[{}, 1.0]] * 3, dtype=object)),
        TypeError,
        says="argument must be .* string.* number",
    ),
    *(
        Fault(55, what, _told(X), ValueError, says=says)
        for what, X, says in (
            ("no rows", lambda X: X[:0], r"0 sample\(s\) .shape=.0, 4.. while a minimum of 1 is required"),
            ("no columns", lambda X: X[:, :0], r"0 feature\(s\) .shape=.24, 0.. while a minimum of 1 is required"),
            ("one dimension", lambda X: X[0], "Expected 2D array, got 1D array instead"),
        )
    ),
    Fault(
        56,
        "fewer columns",
        _other_columns(lambda X: X.to_numpy()[:, :3]),
        ValueError,
        says="X has 3 features, but FineTunedClassifier is expecting 4 features as input",
    ),
    Fault(
        56,
        "other names",
        _other_columns(lambda X: X.rename(columns={"a": "z"})),
        ValueError,
        says="(?s)feature names should match those that were passed during fit.*z.*a",
    ),
    Fault(57, "other kinds of numbers", _other_numbers),
    Fault(58, "y is None", _fit(None), ValueError, says="requires y to be passed, but the target y is None"),
    Fault(58, "a shorter y", _fit(lambda y: y[1:]), ValueError, says=r"inconsistent numbers of samples: \[24, 23\]"),
    Fault(58, "NaN in y", _fit(lambda y: np.where(y, np.nan, 0.0)), ValueError, says="Input y contains NaN"),
    Fault(58, "numbers", _fit(lambda y: y + 0.5 * np.arange(24)), ValueError, says="Unknown label type: continuous"),
    Fault(
        59, "a column of labels", _column_of_labels, says="A column-vector y was passed when a 1d array was expected"
    ),
    Fault(60, "one class", _fit(lambda y: 0 * y), ValueError, says=TWO_CLASSES),
    Fault(61, "one sample of a class", _one_of_a_class),  # it stays in training; no warning, as in scikit-learn
    Fault(62, "labels of -100", _labels(-100, 3)),
    Fault(62, "labels beyond the number of classes", _labels(0, 999)),
    Fault(63, "words", _labels("no", "yes")),
    Fault(63, "truth values", _labels(False, True)),
    Fault(64, "a label that comes later", _unseen_when_scored),
    Fault(64, "a class that a fold lacks", _absent_from_a_fold),
    Fault(65, "many labels", _many_labels),
    Fault(65, "many numbers", _many_numbers),
    *(
        Fault(66, what, _fit(lambda y: y, sample_weight=weights), ValueError, says=says)
        for what, weights, says in (
            ("a negative weight", lambda y: y - 0.5, "Negative values in data passed to `sample_weight`"),
            ("a weight of NaN", lambda y: np.where(y, np.nan, 1.0), "Input sample_weight contains NaN"),
            (
                "weights without measure",
                lambda y: 1e306 * (y + 1.0),
                r"sums to 3.6e\+307, .* Scale it to about 1",
            ),
            ("weights of next to nothing", lambda y: 1e-320 * (y + 1.0), "sample_weight sums to .*e-31"),
            ("too few weights", lambda y: y[1:] + 1.0, r"sample_weight.shape == \(23,\), expected \(24,\)"),
            (
                "weights of zero",
                lambda y: 0.0 * y,
                "(Sample weights must contain at least one non-zero number|sample_weight is zero for all samples)",
            ),
        )
    ),
    Fault(
        67,
        "weights that leave one class",
        _fit(lambda y: y, sample_weight=lambda y: 1.0 - y),
        ValueError,
        says=TWO_CLASSES,
    ),
    Fault(68, "extreme class weights", _extreme_weights),
    Fault(69, "small and uneven batches", _rests),
]
