"""What is wrong with y is said in words that name it, the row and what to do."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skltransfer import (
    DomainAdaptedClassifier,
    ELMClassifier,
    ELMRegressor,
    FeatureAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    task_report,
    transfer_report,
)

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
PROBE = {"backbone": "toy:rows", "freeze_depth": 1.0}
CLASSIFIERS = [FineTunedClassifier(**PROBE), FewShotClassifier(**PROBE), ELMClassifier(n_hidden=3)]
REGRESSORS = [FineTunedRegressor(**PROBE), ELMRegressor(n_hidden=3)]
MASKING = [DomainAdaptedClassifier(**PROBE), FeatureAdaptedClassifier()]


def kind(model):
    return type(model).__name__


def missing_in(container, cell):
    labels = [cell, "a", "b", "a", "b", "a", cell, "b"]
    if container == "series":
        return pytest.importorskip("pandas").Series(labels, dtype=object)
    return labels if container == "list" else np.array(labels, dtype=object)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=kind)
@pytest.mark.parametrize(
    ("container", "cell"), list(itertools.product(["list", "array", "series"], [None, float("nan"), np.nan]))
)
def test_missing_labels_are_named_with_their_rows(model, container, cell):
    name = "NaN" if cell is not None else "None"
    with pytest.raises(ValueError, match=rf"Input y contains {name} in rows \[0, 6\], but .*Drop these rows"):
        model.fit(X, missing_in(container, cell))


@pytest.mark.parametrize("model", [*CLASSIFIERS, *REGRESSORS], ids=kind)
def test_missing_numbers_are_named_with_their_rows(model):
    pandas = pytest.importorskip("pandas")
    for y in (
        [1.0, None, 0.0, 1.0] * 2,
        np.array([1, np.nan, 0, 1] * 2),
        pandas.Series([1, None, 0, 1] * 2, dtype="Int64"),
        [[1, 0], [None, 1], [0, 1], [1, 1]] * 2,
    ):
        with pytest.raises(ValueError, match=r"Input y contains (None|NaN|<NA>) in rows \[1, 5\], but each sample"):
            model.fit(X, y)


def test_many_missing_rows_are_counted():
    with pytest.raises(ValueError, match=r"in rows \[0, 1, 2, 3, 4\] and 2 more"):
        FineTunedRegressor(**PROBE).fit(X, [None] * 7 + [1.0])


@pytest.mark.parametrize("model", [*CLASSIFIERS, *MASKING], ids=kind)
@pytest.mark.parametrize("y", [[["a"], ["a", "b"]] * 4, [{"a"}, {"b"}] * 4, [["a"], []] * 4], ids=repr)
def test_lists_of_labels_are_sent_to_the_binarizer(model, y):
    with pytest.raises(ValueError, match=r"y\[0\] is .*, and y has no columns.*MultiLabelBinarizer"):
        model.fit(X, y)


def test_lists_of_labels_of_one_length_are_sent_there_too():
    with pytest.raises(ValueError, match="MultiLabelBinarizer makes one of lists.*MultiTaskFineTuner"):
        FineTunedClassifier(**PROBE).fit(X, [["a", "b"], ["a", "c"]] * 4)


@pytest.mark.parametrize("model", REGRESSORS, ids=kind)
def test_what_is_no_number_is_named(model):
    with pytest.raises(ValueError, match=r"y\[1\] is 'many', which is no number\. Pass numbers, or use a classifier"):
        model.fit(X, [1.0, "many", 2.0, 3.0] * 2)
    with pytest.raises(ValueError, match=r"y\[0\] is \[1\], and y has no columns of one length. Pass a number"):
        model.fit(X, [[1], [1, 2]] * 4)


@pytest.mark.parametrize("model", [*CLASSIFIERS, *REGRESSORS], ids=kind)
@pytest.mark.parametrize("y", [3, "abababab", {0: 1}, {1, 2}, (i for i in range(8))], ids=lambda y: type(y).__name__)
def test_what_has_no_rows_is_no_target(model, y):
    with pytest.raises(ValueError, match=r"y must be a list or an array with a target for each sample; got .* of type"):
        model.fit(X, y)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=kind)
def test_objects_that_are_no_labels_are_named_by_their_type(model):
    with pytest.raises(ValueError, match=r"Unknown label type: y is an array of objects that holds int\. Convert"):
        model.fit(X, np.array([0, 1] * 4, dtype=object))


def test_strings_of_variable_length_are_labels():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy before 2.0 has none")
    model = FineTunedClassifier(**PROBE).fit(X, np.array(["a", "b"] * 4, dtype=np.dtypes.StringDType()))
    assert model.classes_.tolist() == ["a", "b"]


@pytest.mark.parametrize("model", MASKING, ids=kind)
@pytest.mark.parametrize("mask", [None, float("nan")])
def test_a_mask_among_strings_of_a_list_is_no_label(model, mask):
    model.fit(X, ["a", "b", "a", "b", "a", "b", mask, mask])
    assert model.classes_.tolist() == ["a", "b"]
    assert model.domain_report_["n_target"] == 2


CELLS = st.sampled_from(["a", "b", 0, 1, 1.5, None, float("nan"), True, ["a"], ("a", "b"), {"a"}, b"a", object()])


@settings(max_examples=120, deadline=None)
@given(y=st.lists(CELLS, min_size=8, max_size=8), model=st.sampled_from([*CLASSIFIERS, *REGRESSORS]))
@pytest.mark.filterwarnings("ignore")
def test_whatever_y_holds_the_complaint_is_about_y(y, model):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
    except (TypeError, ValueError) as error:
        told = str(error)
        assert any(word in told for word in ("y[", " y ", "label", "class")), told


@pytest.mark.filterwarnings("error::UserWarning")
def test_whole_numbers_of_many_values_may_be_amounts_and_that_is_told(rng):
    rows, ages = rng.standard_normal((200, 4)), rng.integers(18, 90, 200)
    y = [[age, label] for age, label in zip(ages.tolist(), itertools.cycle("ab"))]
    model = MultiTaskFineTuner(**PROBE)
    with pytest.warns(UserWarning, match=r"'task0' is taken for a class.* 6\d different values.*'regression'"):
        model.fit(rows, y)
    model.set_params(tasks=["regression", "classification"]).fit(rows, y)
    model.set_params(tasks=["classification", "classification"]).fit(rows, y)  # who says so needs no warning
    model.set_params(tasks=None).fit(rows, np.column_stack([np.arange(200) % 10, np.arange(200) % 2]))
    model.fit(rows[:12], np.column_stack([np.arange(12), np.arange(12) % 2]))  # as few as in scikit-learn


def test_tasks_of_one_name_are_refused():
    pandas = pytest.importorskip("pandas")
    y = pandas.DataFrame(np.arange(24).reshape(8, 3) % 2)
    for columns in (["a", "a", "b"], [1, "1", "b"]):
        y.columns = columns
        with pytest.raises(ValueError, match="y has several columns of the name '[a1]'.*Rename the columns; got"):
            MultiTaskFineTuner(**PROBE).fit(X, y)


def test_lists_in_the_cells_of_tasks_are_refused():
    with pytest.raises(ValueError, match=r"y\[0\] is \['a'\], and y has no columns of one length"):
        MultiTaskFineTuner(**PROBE).fit(X, [["a"], ["a", "b"]] * 4)


def test_a_report_of_one_target_sends_several_tasks_elsewhere():
    y = np.array([["x", 1], ["y", 0]] * 4, dtype=object)
    with pytest.raises(ValueError, match=r"a MultiTaskFineTuner has several tasks.*Use task_report.*one column of y"):
        transfer_report(MultiTaskFineTuner(**PROBE), X, y, cv=2)
    assert len(task_report(MultiTaskFineTuner(**PROBE), X, y, cv=2, random_state=0).table_) == 2


@pytest.mark.parametrize("weights", [["heavy", 1.0], [1.0], [None, {}]])
def test_loss_weights_that_are_no_numbers_are_named(weights):
    with pytest.raises(ValueError, match="loss_weights must be"):
        MultiTaskFineTuner(loss_weights=weights, **PROBE).fit(X, np.arange(16).reshape(8, 2) % 4 > 1)
