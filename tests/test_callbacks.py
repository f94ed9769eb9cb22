"""scikit-learn's own callbacks, on a fit and nested under a search."""

import numpy as np
import pytest

pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")

from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.callback._callback_context import get_context_path
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import FineTunedClassifier, FineTunedRegressor


class Recorder:
    """Keeps what it is told; may end the fit after some epochs."""

    def __init__(self, epochs=None):
        self.told, self.epochs, self.models = [], epochs, []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        self.told.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.told.append(f"{context.task_name} ends")
        self.models.append((fitted_estimator, metadata, len(X)))
        return context.task_name == "epoch" and context.task_id + 1 == self.epochs


@pytest.fixture
def classifier():
    return FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=3, random_state=0, dtype="float32")


def test_a_fit_and_its_epochs_are_told_in_order(two_kinds, classifier):
    recorder = Recorder()
    classifier.set_callbacks(recorder).fit(*two_kinds)
    assert recorder.told == ["setup", "fit begins", *["epoch begins", "epoch ends"] * 3, "fit ends", "teardown"]


def test_a_callback_changes_nothing(two_kinds, classifier):
    X, y = two_kinds
    plain = clone(classifier).fit(X, y)
    watched = classifier.set_callbacks(Recorder(), ScoringMonitor(scoring="accuracy")).fit(X, y)
    np.testing.assert_array_equal(watched.predict_proba(X), plain.predict_proba(X))
    assert vars(watched).keys() - vars(plain).keys() == {"_skl_callbacks"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unfreeze_schedule": "gradual", "freeze_depth": -2, "max_epochs": 4},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"calibrate": "temperature", "validation_fraction": 0.3},
    ],
    ids=str,
)
def test_the_model_of_an_epoch_is_the_one_that_a_fit_ended_there_returns(two_kinds, classifier, options):
    X, y = two_kinds
    recorder = Recorder()
    classifier.set_params(**options).set_callbacks(recorder).fit(X, y)
    epochs = [model for model, _, _ in recorder.models[:-1]]
    assert [model.n_iter_ for model in epochs] == list(range(1, classifier.n_iter_ + 1))
    for model in (epochs[-1], recorder.models[-1][0]):
        np.testing.assert_array_equal(model.predict_proba(X), classifier.predict_proba(X))
    ended = clone(classifier).set_callbacks(Recorder(epochs=2)).fit(X, y)
    assert ended.n_iter_ >= 2
    assert len(ended.history_["loss"]) == ended.n_iter_
    np.testing.assert_array_equal(ended.predict_proba(X), epochs[ended.n_iter_ - 1].predict_proba(X))


def test_a_callback_ends_the_fit(two_kinds, classifier):
    classifier.set_params(max_epochs=20).set_callbacks(Recorder(epochs=2)).fit(*two_kinds)
    assert classifier.n_iter_ == 2
    gradual = {"unfreeze_schedule": "gradual", "freeze_depth": 0.0}
    assert classifier.set_params(**gradual).set_callbacks(Recorder(epochs=1)).fit(*two_kinds).n_iter_ == 1


def test_a_probe_has_no_epochs(two_kinds, classifier):
    recorder = Recorder()
    classifier.set_params(freeze_depth=1.0).set_callbacks(recorder).fit(*two_kinds, sample_weight=np.full(40, 2.0))
    assert recorder.told == ["setup", "fit begins", "fit ends", "teardown"]
    model, metadata, n = recorder.models[0]
    assert (model.score(*two_kinds), n) == (1.0, 40)
    np.testing.assert_array_equal(metadata["sample_weight"], 2.0)


def test_a_fit_that_fails_tears_its_callbacks_down(two_kinds, classifier):
    recorder = Recorder()
    classifier.set_callbacks(recorder)
    with pytest.raises(ValueError, match="freeze_depth"):
        classifier.set_params(freeze_depth="attic").fit(*two_kinds)
    assert recorder.told == ["setup", "fit begins", "teardown"]
    assert "_callback_fit_ctx" not in vars(classifier)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_metric_is_monitored_in_each_epoch_of_a_search(two_kinds, classifier, n_jobs):
    monitor = ScoringMonitor(scoring="neg_log_loss")
    classifier.set_callbacks(monitor)
    GridSearchCV(classifier, {"freeze_depth": [0.5, 0.0]}, cv=2, n_jobs=n_jobs, error_score="raise").fit(*two_kinds)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == (2 * 2 + 1) * 3
    assert all(np.isfinite(row["neg_log_loss"]) for row in rows)
    falls = [row["neg_log_loss"] for row in rows if row["parent_task_id_path"] == rows[0]["parent_task_id_path"]]
    assert len(falls) == 3


def test_progress_nests_under_a_search_and_a_pipeline(rng, capfd):
    X = rng.standard_normal((30, 4))
    pytest.importorskip("rich")
    model = make_pipeline(StandardScaler(), FineTunedRegressor("toy:rows", freeze_depth=0.5, max_epochs=2))
    search = GridSearchCV(model, {"finetunedregressor__freeze_depth": [0.5, 0.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, X[:, 0])
    shown = capfd.readouterr().out
    assert "FineTunedRegressor - fit" in shown
    assert "epoch" not in shown  # leaves have no bar of their own


def test_an_epoch_knows_its_place_in_the_search(two_kinds, classifier):
    paths = []

    class Place(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
            paths.append([step.task_name for step in get_context_path(context)])

    GridSearchCV(classifier.set_callbacks(Place()), {"C": [0.1]}, cv=2).fit(*two_kinds)
    assert max(paths, key=len)[-1] == "epoch"
    assert len(max(paths, key=len)) > 2
