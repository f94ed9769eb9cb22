"""What the pictures show, and what they refuse."""

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    FreezeDepthDisplay,
    LayerProbeDisplay,
    TrainingHistoryDisplay,
    TransferReportDisplay,
    load_backbone,
)
from skltransfer.exceptions import MissingDependencyError

matplotlib.use("Agg")
STAGES = ("stem", "block1", "block2", "block3")
RECORDS = [
    {"name": "scratch", "description": "scratch", "difference": 0.2, "low": 0.1, "high": 0.3, "verdict": "HELPS"},
    {"name": "linear", "description": "linear", "difference": -0.1, "low": -0.2, "high": 0.0, "verdict": "CANNOT TELL"},
]
CURVE = [record | {"n_train": n} for n in (10, 40) for record in RECORDS]


@pytest.fixture(autouse=True)
def _no_open_figures():
    yield
    plt.close("all")


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(48, 8)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def toy(**parameters):
    return FineTunedClassifier("toy:rows", **{"max_epochs": 1, "dtype": "float32", "random_state": 0} | parameters)


def displays():
    return [
        FreezeDepthDisplay(boundaries=np.array([0, 2, 4]), scores=np.eye(3), stage_names=STAGES),
        LayerProbeDisplay(scores=np.eye(4), stage_names=STAGES),
        TrainingHistoryDisplay(history={"loss": [0.5, 0.2]}),
        TransferReportDisplay(table=RECORDS, rope=0.01, verdict="HELPS"),
    ]


@pytest.mark.parametrize("display", displays(), ids=lambda display: type(display).__name__)
def test_plot_makes_a_figure_or_draws_where_it_is_told(display):
    assert display.plot() is display
    assert display.figure_.axes == [display.ax_]
    assert display.ax_.get_xlabel()
    _, ax = plt.subplots()
    display.plot(ax)
    assert display.ax_ is ax
    assert ax.get_ylabel() or ax.get_yticklabels()


@pytest.mark.parametrize("display", displays(), ids=lambda display: type(display).__name__)
def test_without_matplotlib_the_extra_is_named(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"\.plot needs matplotlib.*pip install 'skltransfer\[plot\]'"):
        display.plot()


def test_depths_of_any_form_are_places_and_equal_ones_are_one(rows):
    search = GridSearchCV(toy(), {"freeze_depth": [1.0, -1, 0.75, "block3", "stem"]}, cv=2).fit(*rows)
    display = FreezeDepthDisplay.from_search(search)
    assert display.boundaries.tolist() == [1, 3, 4]
    assert display.stage_names == STAGES
    labels = [tick.get_text() for tick in display.plot().ax_.get_xticklabels()]
    assert labels == list(STAGES)
    assert "accuracy (mean ± standard error, 2 folds)" in display.ax_.get_ylabel()


def test_of_several_candidates_with_one_depth_the_best_is_shown(rows):
    grid = {"network__freeze_depth": [1.0, 0.5], "network__C": [1e-6, 1.0, 1e-5]}
    pipeline = Pipeline([("scaled", FunctionTransformer(np.tanh)), ("network", toy())])
    search = GridSearchCV(pipeline, grid, cv=3).fit(*rows)
    display = FreezeDepthDisplay.from_search(search)
    means = search.cv_results_["mean_test_score"]
    depths = np.array([candidate["network__freeze_depth"] for candidate in search.cv_results_["params"]])
    assert display.scores.shape == (2, 3)
    assert display.scores.mean(axis=1) == pytest.approx([means[depths == 0.5].max(), means[depths == 1.0].max()])


def test_bars_are_standard_errors_over_folds(rows):
    scores = np.array([[0.5, 0.7, 0.9], [0.6, 0.6, 0.6]])
    display = FreezeDepthDisplay(boundaries=np.array([1, 4]), scores=scores, stage_names=STAGES).plot()
    ends = display.errorbar_.lines[2][0].get_segments()
    reach = [(segment[1, 1] - segment[0, 1]) / 2 for segment in ends]
    assert reach == pytest.approx([0.2 / np.sqrt(3), 0])


def test_of_many_stages_those_that_were_tried_are_named():
    names = tuple(f"layer{i}" for i in range(24))
    scores = np.array([[0.5, 0.7], [np.nan, np.nan], [0.6, 0.9]])  # a candidate whose fits failed
    display = FreezeDepthDisplay(boundaries=np.array([0, 12, 24]), scores=scores, stage_names=names).plot()
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["input", "layer11", "layer23"]
    (best,) = [line for line in display.ax_.lines if line.get_label() == "best mean"]
    assert best.get_xdata().tolist() == [24]


def test_random_and_halving_searches_are_read_too(rows):
    random = RandomizedSearchCV(
        toy(), {"freeze_depth": [1.0, 0.5], "C": uniform(0.01, 1)}, n_iter=4, cv=2, random_state=0
    )
    assert len(FreezeDepthDisplay.from_search(random.fit(*rows)).boundaries) <= 2
    halving = HalvingGridSearchCV(
        toy(), {"freeze_depth": [1.0, 0.5, 0.25]}, cv=2, random_state=0, factor=2, min_resources=24
    )
    halving.fit(*rows)
    display = FreezeDepthDisplay.from_search(halving)
    assert display.boundaries.tolist() == [1, 2, 4]
    results = halving.cv_results_
    last = [row for row, i in enumerate(results["iter"]) if i == results["iter"].max()]
    depth = {1.0: 4, 0.5: 2, 0.25: 1}[results["params"][last[0]]["freeze_depth"]]
    at = display.boundaries.tolist().index(depth)
    assert display.scores[at].mean() == pytest.approx(results["mean_test_score"][last[0]])


def test_a_search_among_backbones_shows_the_depths_of_the_best(rows):
    backbones = ["toy:rows", load_backbone("toy:rows", weights="random:3")]
    search = GridSearchCV(toy(), {"backbone": backbones, "freeze_depth": [1.0, 0.5]}, cv=2).fit(*rows)
    display = FreezeDepthDisplay.from_search(search)
    best = [p["backbone"] is search.best_params_["backbone"] for p in search.cv_results_["params"]]
    expected = search.cv_results_["mean_test_score"][best]
    assert sorted(display.scores.mean(axis=1)) == pytest.approx(sorted(expected))


def test_of_several_metrics_one_is_chosen(rows):
    search = GridSearchCV(toy(), {"freeze_depth": [1.0, 0.5]}, cv=2, scoring=["accuracy", "recall"], refit="recall")
    search.fit(*rows)
    assert FreezeDepthDisplay.from_search(search).score_name == "recall"
    assert FreezeDepthDisplay.from_search(search, metric="accuracy").score_name == "accuracy"
    with pytest.raises(ValueError, match=r"metric must be one of \['accuracy', 'recall'\], got 'f1'"):
        FreezeDepthDisplay.from_search(search, metric="f1")


def test_a_depth_that_the_data_choose_has_no_place_on_the_axis(rows):
    search = GridSearchCV(toy(max_epochs=1), {"freeze_depth": ["auto", 1.0, 0.5]}, cv=2).fit(*rows)
    assert FreezeDepthDisplay.from_search(search).boundaries.tolist() == [2, 4]
    search = GridSearchCV(toy(max_epochs=1), {"freeze_depth": ["auto"]}, cv=2).fit(*rows)
    with pytest.raises(ValueError, match="freeze_depth='auto', which chooses a depth of its own in each fold"):
        FreezeDepthDisplay.from_search(search)


def test_a_search_over_something_else_is_refused(rows):
    search = GridSearchCV(toy(), {"C": [0.1, 1.0]}, cv=2).fit(*rows)
    with pytest.raises(ValueError, match=r"Expected a search over 'freeze_depth'; got one over \['C'\]"):
        FreezeDepthDisplay.from_search(search)


def test_a_search_that_was_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        FreezeDepthDisplay.from_search(GridSearchCV(toy(), {"freeze_depth": [1.0, 0.5]}))


def test_each_stage_is_probed_as_a_probe_of_its_own_would_be(rows):
    from scaling import ClippedScaler
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    from skltransfer import PretrainedFeatureExtractor

    X, y = rows
    display = LayerProbeDisplay.from_backbone("toy:rows", X, y, cv=KFold(3), C=0.1)
    for stage, scores in zip(STAGES, display.scores, strict=True):
        features = PretrainedFeatureExtractor("toy:rows", layer=stage).transform(X)
        probe = make_pipeline(ClippedScaler(), LogisticRegression(C=0.1, max_iter=1000))
        assert scores == pytest.approx(cross_val_score(probe, features, y, cv=KFold(3)))


def test_an_estimator_is_probed_as_it_reads_and_pools(photos):
    y = np.arange(12) % 2
    network = FineTunedClassifier("toy:images", weights="random:4", pooling="max", C=0.5)
    found = LayerProbeDisplay.from_estimator(network, list(photos), y, cv=2, random_state=0)
    same = LayerProbeDisplay.from_backbone(
        "toy:images", list(photos), y, cv=2, random_state=0, weights="random:4", pooling="max", C=0.5
    )
    assert (found.scores == same.scores).all()
    search = GridSearchCV(network, {"freeze_depth": [1.0, 0.5]})
    assert LayerProbeDisplay.from_estimator(search, list(photos), y, cv=2).scores.shape == (4, 2)


def test_numbers_are_probed_by_ridge_regression(rows):
    X, _ = rows
    display = LayerProbeDisplay.from_estimator(FineTunedRegressor("toy:rows"), X, X[:, 0], cv=2, random_state=0)
    assert display.score_name == "R²"
    whole = np.rint(3 * X[:, 0])  # numbers, though they look like labels
    assert LayerProbeDisplay.from_estimator(FineTunedRegressor("toy:rows"), X, whole, cv=2).score_name == "R²"


def test_a_pipeline_is_not_probed(rows):
    pipeline = Pipeline([("scaled", FunctionTransformer(np.tanh)), ("network", toy())])
    with pytest.raises(ValueError, match="Pass the network, and X as it comes to it"):
        LayerProbeDisplay.from_estimator(pipeline, *rows)


def test_a_history_is_found_inside_of_a_fitted_search(rows):
    search = GridSearchCV(toy(freeze_depth=0.5, max_epochs=3, early_stopping=True), {"C": [0.1]}, cv=2).fit(*rows)
    display = TrainingHistoryDisplay.from_estimator(search)
    network = search.best_estimator_
    assert display.history == {key: network.history_[key] for key in ("loss", "validation_loss")}
    labels = [text.get_text() for text in display.plot().ax_.get_legend().get_texts()]
    best = int(np.argmin(network.history_["validation_loss"])) + 1
    assert labels == ["training samples", "held-out samples", f"least held-out loss: epoch {best}"]


def test_the_unit_of_a_loss_is_told(rows):
    X, _ = rows
    regressor = FineTunedRegressor("toy:rows", freeze_depth=0.5, max_epochs=2).fit(X, X[:, 0])
    assert "squared error" in TrainingHistoryDisplay.from_estimator(regressor).plot().ax_.get_ylabel()


def test_a_head_that_was_solved_has_no_history_to_draw(rows):
    with pytest.raises(ValueError, match=r"freeze_depth=1\.0 all stages stayed frozen and the head was solved"):
        TrainingHistoryDisplay.from_estimator(toy(freeze_depth=1.0).fit(*rows))


def test_a_history_needs_a_fit():
    with pytest.raises(NotFittedError):
        TrainingHistoryDisplay.from_estimator(toy())


def test_accuracies_are_drawn_in_points_and_verdicts_are_written_beside():
    display = TransferReportDisplay(table=RECORDS, rope=0.01, verdict="CANNOT TELL").plot()
    x = [bar.lines[0].get_xdata()[0] for bar in display.errorbars_]
    assert sorted(x) == pytest.approx([-10, 20])
    assert {text.get_text() for text in display.ax_.texts} == {"HELPS", "CANNOT TELL"}
    assert "points of accuracy" in display.ax_.get_xlabel()
    other = TransferReportDisplay(table=RECORDS, rope=0.01, verdict="HELPS", score_name="roc auc").plot()
    assert sorted(bar.lines[0].get_xdata()[0] for bar in other.errorbars_) == pytest.approx([-0.1, 0.2])


def test_a_curve_has_a_line_per_baseline():
    display = TransferReportDisplay(table=RECORDS, curve=CURVE, rope=0.01, verdict="HELPS").plot(kind="curve")
    assert [bar.get_label() for bar in display.errorbars_] == ["scratch", "linear"]
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["10", "40"]


def test_a_curve_that_was_not_measured_is_not_drawn():
    display = TransferReportDisplay(table=RECORDS, rope=0.01, verdict="HELPS")
    with pytest.raises(ValueError, match=r"kind='curve' needs .*target_sizes"):
        display.plot(kind="curve")
    with pytest.raises(ValueError, match=r"kind must be one of \('differences', 'curve'\), got 'bars'"):
        display.plot(kind="bars")
