"""The report on an extractor that a model of scikit-learn follows, alone or beside other columns."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import hash as hash_of
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skltransfer import FineTunedClassifier, MultiTaskFineTuner, PretrainedFeatureExtractor, transfer_report

pytestmark = pytest.mark.filterwarnings("ignore:The number of components is higher")  # few words in few texts


@pytest.fixture
def shop(rng):
    """Sixty products: a price, a shop, and a review that tells good from bad."""
    good = np.arange(60) % 2
    words = np.array([["awful", "dull", "broken"], ["lovely", "bright", "great"]])
    reviews = [f"{rng.choice(words[k])} and {rng.choice(words[k])}, number {rng.integers(90)}" for k in good]
    frame = pd.DataFrame({"price": rng.normal(size=60), "shop": rng.choice(["a", "b"], 60), "review": reviews})
    return frame, np.where(good, "good", "bad")


def table_model(last, backbone="toy:text"):
    columns = ColumnTransformer(
        [
            ("price", StandardScaler(), ["price"]),
            ("shop", OneHotEncoder(), ["shop"]),
            ("review", make_pipeline(PretrainedFeatureExtractor(backbone), PCA(4, random_state=0)), "review"),
        ]
    )
    return make_pipeline(columns, StandardScaler(with_mean=False), last)


def test_an_extractor_beside_other_columns_is_compared_with_these_columns(shop):
    X, y = shop
    model = table_model(LogisticRegression())
    before = hash_of(model), X.copy()
    report = transfer_report(model, X, y, cv=3, random_state=0)
    assert [record["name"] for record in report.table_] == ["transfer", "random", "without"]
    transfer, _, without = report.table_
    assert transfer["description"] == "transfer: toy:text"
    assert "without: the other columns, no network" in str(report)
    assert transfer["score"] > 0.8 > 0.7 > without["score"]
    assert without["verdict"] == "HELPS"
    assert (report.depths, report.warnings, report.n_classes) == ({}, [], 2)
    assert "\nfrozen" not in str(report)
    assert hash_of(model) == before[0]
    pd.testing.assert_frame_equal(X, before[1])


def test_scores_are_those_of_a_cross_validation(shop):
    X, y = shop
    folds = list(GroupKFold(3).split(X, y, np.arange(60)))
    report = transfer_report(table_model(LogisticRegression()), X, y, cv=folds, random_state=0)
    expected = sklearn.model_selection.cross_val_score(table_model(LogisticRegression()), X, y, cv=folds)
    assert report.fold_scores_["transfer"] == pytest.approx(expected)
    parts = [part for part in table_model(None)[0].transformers if part[0] != "review"]
    alone = make_pipeline(ColumnTransformer(parts), StandardScaler(with_mean=False), LogisticRegression())
    expected = sklearn.model_selection.cross_val_score(alone, X, y, cv=folds)
    assert report.fold_scores_["without"] == pytest.approx(expected)


def test_an_extractor_alone_is_compared_with_simple_features(shop):
    X, y = shop
    model = make_pipeline(PretrainedFeatureExtractor("toy:text"), StandardScaler(), LogisticRegression())
    report = transfer_report(model, list(X["review"]), y, cv=2, random_state=0)
    assert [record["name"] for record in report.table_] == ["transfer", "random", "linear", "elm"]
    assert report.fold_scores_["linear"].mean() > 0.9
    as_column = make_pipeline(make_column_transformer((PretrainedFeatureExtractor("toy:text"), "review")), *model[1:])
    same = transfer_report(as_column, X, y, cv=2, random_state=0)
    for name, scores in report.fold_scores_.items():
        assert same.fold_scores_[name] == pytest.approx(scores)


def test_numbers_groups_and_other_scores_are_reported_as_for_fine_tuners(shop, rng):
    X, _ = shop
    y = X["price"] + 0.1 * rng.normal(size=60)
    report = transfer_report(table_model(Ridge()), X, y, cv=3, groups=np.arange(60) // 2, random_state=0)
    assert (report.scoring, report.n_classes, report.chance) == ("r2", None, None)
    assert report.test.startswith("Nadeau")
    assert report.fold_scores_["without"].mean() > 0.9
    sizes = transfer_report(table_model(Ridge()), X, y, cv=2, scoring="neg_mean_squared_error", target_sizes=[20])
    assert {row["n_train"] for row in sizes.curve_} == {20, 30}


def test_several_networks_are_exchanged_and_dropped_together(shop, rng):
    X, y = shop
    X = X.assign(photo=list(rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)))
    networks = [(PretrainedFeatureExtractor("toy:text"), "review"), (PretrainedFeatureExtractor("toy:images"), "photo")]
    model = make_pipeline(make_column_transformer(*networks, ("passthrough", ["price"])), LogisticRegression())
    report = transfer_report(model, X, y, cv=2, random_state=0)
    assert [record["name"] for record in report.table_[1:]] == ["random", "without"]
    assert report.table_[0]["description"] == "transfer: toy:text, toy:images"
    without_table = make_pipeline(make_column_transformer(*networks), LogisticRegression())
    simple = transfer_report(without_table, X, y, cv=2, baselines=["linear", "elm"], random_state=0)
    assert simple.fold_scores_["linear"].mean() > 0.9


def test_a_search_and_a_memory_around_the_extractor_work_as_without_a_report(shop, tmp_path):
    X, y = shop
    model = table_model(LogisticRegression()).set_params(memory=str(tmp_path)).set_output(transform="pandas")
    model.set_params(columntransformer__shop__sparse_output=False)
    grid = {"columntransformer__review__pca__n_components": [2, 4], "logisticregression__C": [1]}
    search = GridSearchCV(model, grid, cv=2)
    report = transfer_report(search, X, y, cv=2, baselines=["without"], random_state=0)
    assert report.fold_scores_["transfer"].mean() > report.fold_scores_["without"].mean()


def test_with_metadata_routing_groups_go_to_what_requests_them(shop):
    X, y = shop
    groups = np.arange(60) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(table_model(LogisticRegression()), {"logisticregression__C": [1]}, cv=GroupKFold(2))
        report = transfer_report(search, X, y, cv=2, groups=groups, baselines=["without"], random_state=0)
    assert report.n_folds == 2  # GroupKFold in the search would have failed without groups


def test_the_advice_names_the_parameter_of_the_layer(shop):
    X, y = shop
    baselines = {"prior": sklearn.dummy.DummyClassifier()}
    report = transfer_report(table_model(LogisticRegression()), X, y, cv=3, baselines=baselines, random_state=0)
    assert report.verdict == "HELPS"
    name = "columntransformer__review__pretrainedfeatureextractor__layer"
    assert report.advice == [
        "Keep transfer. This was one layer; let a search choose it: "
        f"GridSearchCV(estimator, {{'{name}': ['penultimate', 0.75, 0.5]}})."
    ]
    assert name in table_model(LogisticRegression()).get_params()


def test_a_frozen_network_that_hurts_gets_advice_that_suits_it(rng):
    X = rng.normal(size=(90, 6)).astype(np.float32)
    model = make_pipeline(PretrainedFeatureExtractor("toy:rows"), LogisticRegression())
    report = transfer_report(model, X, X[:, 0] > 0, baselines=["linear"], random_state=0)
    assert report.verdict == "HURTS"
    assert report.advice[0].startswith("Read an earlier stage (layer=0.5), or give the model fewer features")


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ("scratch", "'scratch' trains a network from random weights, and the networks of this estimator stay frozen"),
        (
            "linear",
            r"'linear' reads only what networks read, and .* Choose out of \('random', 'without'\)",
        ),
    ],
)
def test_a_baseline_that_makes_no_sense_is_refused_with_those_that_do(shop, baselines, message):
    with pytest.raises(ValueError, match=message):
        transfer_report(table_model(LogisticRegression()), *shop, baselines=baselines)


def test_without_is_refused_where_nothing_is_left(shop):
    with pytest.raises(ValueError, match="'without' drops the columns that networks give, and this estimator has no"):
        transfer_report(FineTunedClassifier("toy:text"), shop[0]["review"], shop[1], baselines=["without"])


def test_what_has_no_single_target_is_refused(shop):
    with pytest.raises(ValueError, match=r"compares classifiers and regressors, and KMeans\(\) at the end"):
        transfer_report(table_model(KMeans()), *shop)
    with pytest.raises(ValueError, match="several tasks"):
        transfer_report(make_pipeline(PCA(), MultiTaskFineTuner("toy:rows")), *shop)


@pytest.mark.slow
def test_descriptions_of_films_help_beside_the_other_columns(data_folder):
    titles = pd.read_csv(data_folder / "netflix_titles_mixed.csv.gz").dropna(subset=["description"]).head(900)
    columns = make_column_transformer(
        (StandardScaler(), ["release_year"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["show_type"]),
        (make_pipeline(PretrainedFeatureExtractor("bundled:minilm"), PCA(50, random_state=0)), "description"),
    )
    model = make_pipeline(columns, StandardScaler(), LogisticRegression(C=0.01))
    report = transfer_report(model, titles, titles["audience"], cv=5, baselines=["without"], random_state=0)
    assert report.verdict == "HELPS"
    assert report.table_[1]["low"] > 0.01
