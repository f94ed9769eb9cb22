"""Networks inside pipelines, columns, unions and searches: found, exchanged, dropped, and refused by name."""

import numpy as np
import pandas as pd
import pytest
from joblib import hash as hash_of
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skltransfer import AdaptedBackbone, FineTunedClassifier, PretrainedFeatureExtractor
from skltransfer.model_selection._baselines import built, unable
from skltransfer.model_selection._composed import checked_networks, networks_in, without_networks


def reader(**options):
    return PretrainedFeatureExtractor("toy:text", **options)


def columns(**options):
    entries = [("price", StandardScaler(), ["price"]), ("review", make_pipeline(reader(), PCA(2)), "review")]
    return ColumnTransformer(entries, **options)


def table_model(**options):
    return Pipeline([("columns", columns(**options)), ("model", LogisticRegression())])


def baseline(name, estimator, X=None):
    return built(name, estimator, y=np.array([0, 1]), seed=3, scoring=None, X=X)


FRAME = pd.DataFrame({"price": [1.0, 2.0], "review": ["good", "bad"]})
PURE = {
    "pipeline": make_pipeline(reader(), StandardScaler(), LogisticRegression()),
    "column": make_pipeline(make_column_transformer((reader(), "review")), LogisticRegression()),
    "nested": make_pipeline(make_pipeline(reader(), PCA(2)), make_pipeline(StandardScaler(), LogisticRegression())),
    "union of two": make_pipeline(make_union(reader(), reader(layer=0.5)), LogisticRegression()),
    "calibrated": CalibratedClassifierCV(make_pipeline(reader(), LogisticRegression())),
    "searched": GridSearchCV(make_pipeline(reader(), LogisticRegression()), [{"logisticregression__C": [1, 2]}]),
    "numbers": TransformedTargetRegressor(make_pipeline(reader(), Ridge())),
}
MIXED = {
    "columns": table_model(),
    "remainder": make_pipeline(make_column_transformer((reader(), "review"), remainder="passthrough"), Ridge()),
    "network as remainder": make_pipeline(
        make_column_transformer(("passthrough", ["price"]), remainder=reader()), Ridge()
    ),
    "union": make_pipeline(FeatureUnion([("network", reader()), ("words", TfidfVectorizer())]), Ridge()),
    "nested": make_pipeline(make_pipeline(columns(), StandardScaler()), Ridge()),
    "searched": GridSearchCV(table_model(), [{"columns__review__pca__n_components": [1, 2], "model__C": [1, 2]}]),
}


@pytest.mark.parametrize("kind", [*PURE, *MIXED])
def test_each_network_gets_random_weights_and_all_else_stays(kind):
    estimator = (PURE | MIXED)[kind]
    before, found = hash_of(estimator), baseline("random", estimator)
    for place, network in networks_in(found).items():
        assert network.weights == "random:3"
        found.set_params(**{f"{place}weights": "pretrained"})
    assert hash_of(found) == before
    assert hash_of(estimator) == before


@pytest.mark.parametrize("kind", PURE)
def test_where_a_network_reads_everything_models_without_one_read_its_samples(kind):
    estimator = PURE[kind]
    before = hash_of(estimator)
    assert set(unable(estimator, FRAME)) == {"scratch", "without"}
    for name in ("linear", "elm"):
        assert networks_in(baseline(name, estimator)) == {}
    assert hash_of(estimator) == before


@pytest.mark.parametrize("kind", MIXED)
def test_where_there_are_other_columns_they_are_judged_alone(kind):
    estimator = MIXED[kind]
    before = hash_of(estimator)
    assert set(unable(estimator, FRAME)) == {"scratch", "linear", "elm"}
    found = baseline("without", estimator, FRAME)
    assert networks_in(found) == {}
    assert type(found) is type(estimator)
    assert hash_of(estimator) == before


def test_what_is_dropped_is_searched_no_longer():
    assert baseline("without", MIXED["searched"]).param_grid == [{"model__C": [1, 2]}]
    dropped = GridSearchCV(table_model(), {"columns__review__pca__n_components": [1, 2]})
    assert isinstance(baseline("without", dropped), Pipeline)


@pytest.mark.parametrize("selects", ["review", ["review"], [1], make_column_selector(dtype_exclude="number")])
def test_columns_that_a_network_reads_are_no_remainder(selects):
    model = make_pipeline(make_column_transformer((reader(), selects), remainder="passthrough"), Ridge())
    assert without_networks(model, FRAME).fit(FRAME, [0, 1]).n_features_in_ == 2
    only = FRAME[["review"]]
    selects = [0] if selects == [1] else selects
    alone = make_pipeline(make_column_transformer((reader(), selects), remainder="passthrough"), Ridge())
    assert without_networks(alone, only) is None
    assert set(unable(alone, only)) == {"scratch", "without"}


def test_a_transformer_that_selects_no_column_leaves_nothing():
    numbers = (StandardScaler(), make_column_selector(dtype_include="number"))
    model = make_pipeline(make_column_transformer(numbers, (reader(), "review")), Ridge())
    assert without_networks(model, FRAME[["review"]]) is None
    assert without_networks(model, FRAME) is not None


def test_a_fine_tuner_after_columns_of_an_extractor_has_random_counterparts_alone():
    estimator = make_pipeline(columns(), FineTunedClassifier("toy:rows"))
    assert set(unable(estimator, FRAME)) == {"linear", "elm", "without"}
    found = baseline("scratch", estimator)
    assert [network.weights for network in networks_in(found).values()] == ["random:3"] * 2
    assert found[-1].freeze_depth == 0.0


def test_a_fine_tuner_that_gives_features_is_a_network_like_others():
    estimator = make_pipeline(FineTunedClassifier("toy:text", freeze_depth=0.5), LogisticRegression())
    assert set(unable(estimator)) == {"without"}
    assert baseline("random", estimator)[0].freeze_depth == 1.0


@pytest.mark.parametrize("grid", [{"columns__review": ["drop", reader()]}, {"columns": ["passthrough"]}])
def test_a_search_that_replaces_what_holds_the_network_is_refused(grid):
    with pytest.raises(ValueError, match=rf"The search replaces '{next(iter(grid))}' as a whole"):
        checked_networks(GridSearchCV(table_model(), grid))
    inside = make_pipeline(FunctionTransformer(), GridSearchCV(table_model(), grid))
    with pytest.raises(ValueError, match="The search replaces"):
        checked_networks(inside)


class OtherSearch(BaseSearchCV):
    def __init__(self, estimator, spaces=None):
        super().__init__(estimator)
        self.spaces = spaces

    def _run_search(self, evaluate_candidates):
        evaluate_candidates(self.spaces)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (OtherSearch(table_model()), "cannot exchange the network in a OtherSearch, which has neither param_grid"),
        (LogisticRegression(), "transfer_report needs a pretrained network: estimator must be a FineTunedClassifier"),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "needs a pretrained network"),
        (
            StackingClassifier([("net", make_pipeline(reader(), LogisticRegression()))]),
            "cannot exchange the network 'net__pretrainedfeatureextractor'",
        ),
        (Pipeline([("net", FrozenEstimator(reader())), ("model", Ridge())]), "'net' is a FrozenEstimator"),
        (make_pipeline(AdaptedBackbone("toy:images"), Ridge()), "'adaptedbackbone' is an AdaptedBackbone"),
    ],
)
def test_a_network_that_is_missing_or_cannot_be_exchanged_is_named(estimator, message):
    with pytest.raises(ValueError, match=message):
        checked_networks(estimator)


@pytest.mark.filterwarnings("ignore:The number of components is higher")  # few words in few texts
def test_data_frames_may_be_asked_of_every_step():
    estimator = make_pipeline(make_column_transformer((reader(), "review")), StandardScaler(), LogisticRegression())
    X = pd.DataFrame({"review": ["good", "bad", "very good", "very bad"] * 3})
    estimator.set_output(transform="pandas")
    for name in ("random", "linear", "elm"):
        model = baseline(name, estimator).fit(X, [1, 0] * 6)
        assert model.predict(X).shape == (12,)
    assert not hasattr(estimator[-1], "classes_")


def test_samples_that_the_extractor_fills_are_no_obstacle_to_simple_features(photos):
    y = np.arange(12) % 2
    for X, options in (
        ([None, *photos[1:]], {"missing": "nan"}),
        (["a", b"", *"bcdefghijk"], {"on_bad_sample": "nan"}),
    ):
        backbone = "toy:images" if options == {"missing": "nan"} else "toy:text"
        extractor = PretrainedFeatureExtractor(backbone, **options)
        estimator = make_pipeline(extractor, HistGradientBoostingClassifier())
        assert baseline("linear", estimator).fit(X, y).predict(X).shape == (12,)
    strict = clone(estimator).set_params(pretrainedfeatureextractor__on_bad_sample="raise")
    with pytest.raises(ValueError, match=r"X\[1\]"):
        baseline("linear", strict).fit(X, y)
