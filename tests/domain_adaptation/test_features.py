"""Another domain: how rows are told apart, what each map does, when it warns, scikit-learn's checks whole."""

import importlib.util
import pathlib
import subprocess
import sys
import warnings
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_moons
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler, normalize
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.fixes import parse_version

from skltransfer import FeatureAdaptedClassifier, PretrainedFeatureExtractor, importance_weighted_accuracy
from skltransfer.domain_adaptation._alignment import METHODS, Alignment
from skltransfer.domain_adaptation._domains import proxy_a_distance
from skltransfer.exceptions import AdaptationWarning

WAYS = [*METHODS, None]
ESTIMATORS = [FeatureAdaptedClassifier(align=way) for way in WAYS] + [FeatureAdaptedClassifier(self_training=2)]
IS_1_9 = parse_version("1.9") <= parse_version(sklearn.__version__) < parse_version("1.10")
pytestmark = pytest.mark.filterwarnings("ignore::skltransfer.exceptions.AdaptationWarning")


class Mute(ClassifierMixin, BaseEstimator):
    """A classifier that does not tell how sure it is."""

    def fit(self, X, y):
        self.tree_ = DecisionTreeClassifier(random_state=0).fit(X, y)
        return self

    def predict(self, X):
        return self.tree_.predict(X)


@pytest.fixture
def domains(rng):
    """Sixty labelled rows, fifty without labels whose columns are moved and stretched, and these rows' labels."""
    labels, hidden = np.arange(60) % 2, np.arange(50) % 2
    source = rng.standard_normal((60, 4)) + 3 * labels[:, None]
    target = (rng.standard_normal((50, 4)) + 3 * hidden[:, None]) * [5, 1, 1, 0.2] + [40, 0, -3, 1]
    return source, labels, target, hidden


@pytest.fixture
def stacked(domains):
    """Both domains in one X, and y with -1 for target rows."""
    source, labels, target, _ = domains
    return np.concatenate([source, target]), np.concatenate([labels, np.full(50, -1)])


def sides(y):
    return np.where(y == -1, -1, 1)


def told(model, X, y):
    """Beginnings of the package's warnings in fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    return [str(w.message).split()[0] for w in caught if w.category is AdaptationWarning]


def moons(angle, seed=0):
    """Two moons with labels and two turned ones without, and the labels of these; each three hundred rows."""
    (X, y), (X_turned, y_turned) = (make_moons(300, noise=0.05, random_state=s) for s in (seed, seed + 1000))
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    X, X_turned = 2 * (X - [0.5, 0.25]), 2 * (X_turned - [0.5, 0.25]) @ np.array([[cosine, sine], [-sine, cosine]])
    return np.concatenate([X, X_turned]), np.concatenate([y, np.full(300, -1)]), y_turned


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS[::4], ids=str)
def test_as_many_checks_pass_as_are_generated(estimator):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert {r["check_name"]: r["status"] for r in results if r["status"] != "passed"} == {}
    if IS_1_9:
        assert len(results) == 55
    assert len(results) >= 50


@pytest.mark.parametrize("check", ["check_dataframe_column_names_consistency", "check_param_validation"])
def test_checks_that_scikit_learn_leaves_to_its_own_estimators(check):
    getattr(estimator_checks, check)("FeatureAdaptedClassifier", FeatureAdaptedClassifier())


def test_torch_is_not_needed():
    code = "import sys, skltransfer; skltransfer.FeatureAdaptedClassifier; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


MASKS = {
    "whole numbers": lambda y: y,
    "numbers": lambda y: np.where(y == -1, np.nan, y),
    "numbers beside None": lambda y: np.array([0, 1, None], dtype=object)[y],
    "strings": lambda y: np.array(["no", "yes", None], dtype=object)[y],
    "a Series of strings": lambda y: pd.Series(["no", "yes", None], dtype="str").iloc[y].reset_index(drop=True),
    "a Series of Int64": lambda y: pd.Series([0, 1, pd.NA], dtype="Int64").iloc[y].reset_index(drop=True),
}


@pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("self_training", [0, 2])
def test_every_mask_says_what_sample_domain_says(stacked, masked, self_training):
    X, y = stacked
    expected = FeatureAdaptedClassifier(self_training=self_training).fit(X, y, sample_domain=sides(y))
    model = FeatureAdaptedClassifier(self_training=self_training).fit(X, masked(y))
    assert model.domain_report_["n_target"] == 50
    assert len(model.classes_) == 2
    np.testing.assert_array_equal(model.predict(X) == model.classes_[1], expected.predict(X) == 1)


def test_minus_one_and_plus_one_are_labels_where_sample_domain_tells_the_domains(stacked):
    X, y = stacked
    signs = np.where(y == 1, 1, -1)
    model = FeatureAdaptedClassifier().fit(X, signs, sample_domain=sides(y))
    assert model.classes_.tolist() == [-1, 1]
    assert model.domain_report_["n_target"] == 50
    np.testing.assert_array_equal(model.predict(X) == 1, FeatureAdaptedClassifier().fit(X, y).predict(X) == 1)


def test_beside_a_single_other_label_minus_one_is_a_label(stacked):
    X, y = stacked
    with pytest.warns(AdaptationWarning, match="No row is a target row.*a single other label, -1 is a label"):
        model = FeatureAdaptedClassifier().fit(X[:60], 2 * y[:60] - 1)
    assert model.classes_.tolist() == [-1, 1]


@pytest.mark.parametrize("align", WAYS)
def test_labels_of_target_rows_are_not_looked_at(stacked, rng, align):
    X, y = stacked
    whatever = np.where(y == -1, rng.integers(0, 9, len(y)), y)
    models = [FeatureAdaptedClassifier(align=align, self_training=2).fit(X, v, sides(y)) for v in (y, whatever)]
    np.testing.assert_array_equal(models[0].predict_proba(X), models[1].predict_proba(X))


@pytest.mark.parametrize("masked", MASKS.values(), ids=MASKS)
def test_the_y_of_the_caller_is_not_touched(stacked, masked):
    X, y = stacked
    y = masked(y)
    before = y.copy()
    FeatureAdaptedClassifier(self_training=1).fit(X, y, sample_domain=sides(stacked[1])).score(X, y)
    pd.testing.assert_series_equal(pd.Series(y), pd.Series(before))


@pytest.mark.parametrize("align", WAYS)
def test_predictions_depend_neither_on_the_order_of_rows_nor_on_neighbours(stacked, rng, align):
    X, y = stacked
    model = FeatureAdaptedClassifier(align=align).fit(X, y)
    whole, order = model.predict_proba(X), rng.permutation(len(X))
    np.testing.assert_allclose(model.predict_proba(X[order]), whole[order], rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(9)]), whole[:9])


@pytest.mark.parametrize("align", WAYS)
def test_rows_are_target_rows_in_predict_unless_told_otherwise(stacked, align):
    X, y = stacked
    model = FeatureAdaptedClassifier(align=align).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X, np.full(len(X), -7)))
    differ = ~np.isclose(model.predict_proba(X), model.predict_proba(X, sides(y))).all(axis=1)
    assert not differ[60:].any()
    assert differ[:60].any() == (align in ("per_domain", "coral", "monge"))
    assert model.score(X[:60], y[:60], sample_domain=np.ones(60, dtype=int)) > 0.85


@pytest.mark.parametrize("align", ["per_domain", "coral", "monge"])
def test_alignment_finds_labels_that_a_model_of_the_source_misses(domains, stacked, align):
    _, _, target, hidden = domains
    assert FeatureAdaptedClassifier(align=align).fit(*stacked).score(target, hidden) > 0.9
    assert FeatureAdaptedClassifier(align=None).fit(*stacked).score(target, hidden) < 0.8


def test_one_scaling_serves_both_domains_by_default_and_takes_the_largest_spread(rng):
    source, target = rng.standard_normal((90, 3)) * [1, 4, 1], rng.standard_normal((30, 3)) * [5, 1, 1] + [0, 0, 9]
    maps, both = Alignment.fitted("pooled", source, target), np.concatenate([source, target])
    spreads = [target[:, 0].std(), source[:, 1].std(), both[:, 2].std()]
    for side in maps:
        np.testing.assert_allclose(side(both), (both - both.mean(axis=0)) / spreads)


def test_each_domain_may_be_scaled_by_its_own_rows(domains):
    source, _, target, _ = domains
    maps = Alignment.fitted("per_domain", source, target)
    np.testing.assert_allclose(maps.source(source), StandardScaler().fit_transform(source))
    np.testing.assert_allclose(maps.target(target), StandardScaler().fit_transform(target))


@pytest.mark.parametrize("method", ["coral", "monge"])
def test_source_rows_get_mean_and_covariance_of_target_rows(rng, method):
    mixing = rng.standard_normal((2, 3, 3))
    source, target = (rng.standard_normal((20_000, 3)) @ matrix + 5 * i for i, matrix in enumerate(mixing))
    maps = Alignment.fitted(method, source, target)
    moved, aim = maps.source(source), maps.target(target)
    np.testing.assert_allclose(moved.mean(axis=0), aim.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(aim.T), atol=0.01)


def test_the_monge_map_is_the_least_movement(rng):
    source, target = rng.standard_normal((500, 3)) * [1, 2, 3], rng.standard_normal((500, 3)) @ rng.random((3, 3))
    pooled = Alignment.fitted("pooled", source, target).source(source)
    moved = {m: np.square(Alignment.fitted(m, source, target).source(source) - pooled).mean() for m in METHODS[2:]}
    matrix = Alignment.fitted("monge", source, target).source.matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    assert np.linalg.eigvalsh(matrix).min() > 0
    assert moved["monge"] < moved["coral"]


@pytest.mark.parametrize("align", METHODS)
@pytest.mark.parametrize("shape", [(12, 9, 50), (40, 30, 5)], ids=["more columns than rows", "more rows than columns"])
def test_constant_columns_and_many_columns_leave_everything_finite(rng, align, shape):
    n_source, n_target, d = shape
    source, target = rng.random((n_source, d)), rng.random((n_target, d))
    source[:, 0] = target[:, 1] = source[:, 2] = target[:, 2] = 7.0
    X, y = np.concatenate([source, target]), np.concatenate([np.arange(n_source) % 2, np.full(n_target, -1)])
    model = FeatureAdaptedClassifier(align=align).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.isfinite(model.predict_proba(X, sides(y))).all()


@pytest.mark.parametrize("align", METHODS)
@pytest.mark.parametrize("where", ["source", "target", "both"])
def test_a_domain_of_equal_rows_leaves_everything_finite(stacked, align, where):
    X, y = stacked
    X[:60] = 3.0 if where != "target" else X[:60]
    X[60:] = 3.0 if where != "source" else X[60:]
    assert np.isfinite(FeatureAdaptedClassifier(align=align).fit(X, y).predict_proba(X, sides(y))).all()


@pytest.mark.parametrize("align", METHODS)
def test_a_single_target_row_leaves_everything_finite(stacked, align):
    X, y = stacked
    model = FeatureAdaptedClassifier(align=align, self_training=2).fit(X[:61], y[:61])
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.isnan(model.domain_report_["proxy_a_distance"])


def test_columns_that_hardly_vary_in_the_source_do_not_explode(rng):
    source, target = rng.random((60, 2)), rng.random((60, 2))
    source[:, 1] *= 1e-9
    maps = Alignment.fitted("pooled", source, target)
    assert np.abs(maps.target(target)).max() < 5
    assert np.abs(StandardScaler().fit(source).transform(target)).max() > 1e8


def test_a_plain_pipeline_and_search_work_without_metadata_routing(two_kinds):
    photos, kinds = two_kinds
    y = np.where(np.arange(40) < 24, kinds == "above", -1).astype(int)
    model = make_pipeline(PretrainedFeatureExtractor("toy:images"), FeatureAdaptedClassifier())
    grid = {"featureadaptedclassifier__align": ["pooled", "per_domain"]}
    for scoring in (None, importance_weighted_accuracy):
        search = GridSearchCV(model, grid, scoring=scoring, cv=2, error_score="raise").fit(photos, y)
        assert search.best_score_ > 0.8
        assert (search.predict(photos[24:]) == (kinds[24:] == "above")).mean() > 0.8


def test_a_search_with_strings_needs_a_splitter_that_does_not_stratify(stacked):
    X, y = stacked
    cv = KFold(3, shuffle=True, random_state=0)
    for masked in MASKS["strings"], MASKS["numbers"]:
        search = GridSearchCV(FeatureAdaptedClassifier(), {"align": WAYS}, cv=cv, error_score="raise")
        assert search.fit(X, masked(y)).best_score_ > 0.9


def test_sample_domain_is_routed_through_pipeline_and_search(stacked):
    X, y = stacked
    signs = np.where(y == 1, 1, -1)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FeatureAdaptedClassifier().set_fit_request(sample_domain=True).set_score_request(sample_domain=True)
        pipeline = make_pipeline(FunctionTransformer(), model)
        grid = {"featureadaptedclassifier__align": ["pooled", "per_domain"]}
        cv = KFold(3, shuffle=True, random_state=0)
        search = GridSearchCV(pipeline, grid, cv=cv, error_score="raise").fit(X, signs, sample_domain=sides(y))
    if parse_version(sklearn.__version__) >= parse_version("1.8"):  # before, a search's own score got no metadata
        assert search.best_score_ > 0.9  # on held-out source rows: target rows are all called -1 here
    assert search.best_estimator_[-1].domain_report_["n_target"] == 50


def test_the_score_is_that_of_source_rows_where_target_rows_are_masked(domains, stacked):
    _, _, target, hidden = domains
    X, y = stacked
    model = FeatureAdaptedClassifier(align="per_domain").fit(X, y)
    assert model.score(X, y) == (model.predict(X[:60], np.ones(60, dtype=int)) == y[:60]).mean()
    for masked in MASKS.values():
        assert FeatureAdaptedClassifier(align="per_domain").fit(X, masked(y)).score(X, masked(y)) == model.score(X, y)
    assert model.score(target, hidden) == (model.predict(target) == hidden).mean()
    weights = np.arange(110) == 3
    assert model.score(X, y, sample_weight=weights) == float(model.predict(X[3:4], [1])[0] == y[3])


def test_the_report_says_how_far_the_domains_are_and_what_is_predicted(domains, stacked):
    report = FeatureAdaptedClassifier(align="per_domain").fit(*stacked).domain_report_
    assert (report["n_source"], report["n_target"]) == (60, 50)
    assert report["proxy_a_distance"] > 1.9
    assert report["source_score"] > 0.95
    np.testing.assert_allclose(report["source_mix"], 0.5, atol=0.05)
    np.testing.assert_allclose(report["target_mix"], 0.5, atol=0.05)
    assert np.isnan(report["reverse_loss"])


def test_domains_of_one_kind_are_at_no_distance(rng):
    assert proxy_a_distance(rng.standard_normal((400, 3)), np.arange(400) < 200) < 0.2


def test_a_fit_without_target_rows_says_so_and_reports_the_source(domains):
    source, labels, *_ = domains
    with pytest.warns(
        AdaptationWarning, match="No row is a target row, so that the fit is to the source alone"
    ) as caught:
        model = FeatureAdaptedClassifier(self_training=2).fit(source, labels)
    assert caught[0].filename == __file__
    report = model.domain_report_
    assert report["source_score"] > 0.95
    assert np.isnan([report["proxy_a_distance"], report["label_shift"], *report["target_mix"]]).all()


@pytest.mark.parametrize("align", WAYS)
def test_other_shares_of_the_classes_in_the_target_are_told(rng, align):
    y = np.arange(600) % 2
    y[300:] = rng.random(300) < 0.1
    X = rng.standard_normal((600, 3)) + 2 * y[:, None] + 0.1 * (np.arange(600) >= 300)[:, None]
    y[300:] = -1
    with pytest.warns(
        AdaptationWarning,
        match=r"in other shares for target rows .*\(they differ by \d\d% of the rows; .*keep to align='pooled'",
    ):
        model = FeatureAdaptedClassifier(align=align).fit(X, y)
    assert model.domain_report_["label_shift"] > 0.3


@pytest.mark.parametrize("align", WAYS)
@pytest.mark.parametrize("n_target", [6, 300])
def test_equal_shares_of_the_classes_are_not_worth_a_word(rng, align, n_target):
    y = np.arange(300 + n_target) % 2
    X = rng.standard_normal((len(y), 3)) + 2 * y[:, None] + 0.1 * (np.arange(len(y)) >= 300)[:, None]
    y[300:] = -1
    assert told(FeatureAdaptedClassifier(align=align, self_training=2), X, y) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("align", ["pooled", None])
def test_self_training_on_moons_turned_by_50_degrees_warns(align, seed):
    X, y, _ = moons(50, seed)
    model = FeatureAdaptedClassifier(SVC(C=10, gamma=1), align=align, self_training=5)
    assert "Self-training" in told(model, X, y)
    assert model.domain_report_["reverse_loss"] > 0.3


@pytest.mark.parametrize("align", ["pooled", None])
def test_self_training_on_moons_turned_by_20_degrees_helps_and_is_silent(align):
    X, y, hidden = moons(20, seed=1)
    models = [FeatureAdaptedClassifier(SVC(C=10, gamma=1), align=align, self_training=n) for n in (0, 5)]
    assert [told(model, X, y) for model in models] == [[], []]
    assert models[1].score(X[300:], hidden) > models[0].score(X[300:], hidden)


def test_self_training_learns_all_target_rows_in_its_last_round_and_the_surest_before(stacked):
    X, y = stacked
    seen = []

    class Watched(LogisticRegression):
        def fit(self, X, y):
            seen.append(len(X))
            return super().fit(X, y)

    FeatureAdaptedClassifier(Watched(), align="per_domain", self_training=2).fit(X, y)
    assert seen[0] == 60
    assert 60 + 25 <= seen[1] <= 60 + 26
    assert seen[2] == 110


def test_self_training_works_by_decision_values_of_more_than_two_classes(rng):
    y = np.arange(120) % 3
    X = rng.standard_normal((120, 2)) + 6 * np.column_stack([y == 1, y == 2])
    hidden, y[60:] = y[60:].copy(), -1
    assert FeatureAdaptedClassifier(SVC(), self_training=3).fit(X, y).score(X[60:], hidden) > 0.95


def test_self_training_needs_a_classifier_that_tells_how_sure_it_is(stacked):
    with pytest.raises(
        ValueError, match=r"predict_proba or decision_function, for its confidence; got Mute\(\)\. Take another"
    ):
        FeatureAdaptedClassifier(Mute(), self_training=1).fit(*stacked)
    assert not hasattr(FeatureAdaptedClassifier(Mute()).fit(*stacked), "predict_proba")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.full(110, np.nan)}, r"fit needs source rows, which have labels; got 110 rows, all of them target"),
        ({"y": np.where(np.arange(110) < 60, 1.0, np.nan)}, r"at least 2 classes; got one class: .*1\.0"),
        ({"sample_domain": np.full(110, 0.5)}, r"sample_domain must be whole numbers, at least 0 .* got array\(\[0\.5"),
        ({"sample_domain": [1, 1, -1]}, "inconsistent numbers of samples"),
        (
            {"y": np.where(np.arange(110) == 3, np.nan, np.arange(110) % 2), "sample_domain": np.ones(110, dtype=int)},
            r"y\[3\] is .*nan.*, but sample_domain says that this is a source row.*Give the row a label",
        ),
    ],
)
def test_a_wrong_y_or_sample_domain_is_named(stacked, changes, message):
    with pytest.raises(ValueError, match=message):
        FeatureAdaptedClassifier().fit(stacked[0], **{"y": stacked[1], **changes})


@pytest.mark.parametrize("smallest", [1, 2])
def test_small_classes_do_not_stop_the_report(stacked, smallest):
    X, y = stacked
    y[:smallest] = 2
    model = FeatureAdaptedClassifier().fit(X, y)
    assert np.isnan(model.domain_report_["source_score"]) == (smallest == 1)


def test_small_classes_are_not_taken_for_a_shift_of_shares(rng):
    y = np.r_[0, np.ones(29, dtype=int), np.full(30, -1)]
    model = FeatureAdaptedClassifier(Mute(), align=None)
    assert told(model, rng.standard_normal((60, 2)) + 4 * (np.arange(60) % 2)[:, None], y) == []
    assert np.isnan(model.domain_report_["expected_error"])


def test_importance_weights_favour_rows_that_look_like_target_rows(rng):
    place = np.concatenate([rng.uniform(-1, 1, 400), rng.uniform(0, 1, 400)])
    X, kinds = np.column_stack([place, rng.standard_normal(800)]), (rng.random(800) < 0.5).astype(int)
    X[place > 0, 1] += 6 * kinds[place > 0]  # only there labels can be told
    y = np.where(np.arange(800) < 400, kinds, -1)
    model = FeatureAdaptedClassifier(DecisionTreeClassifier(max_depth=4, random_state=0)).fit(X, y)
    fresh = FeatureAdaptedClassifier(DecisionTreeClassifier(max_depth=4, random_state=0)).fit(X[::2], y[::2])
    plain, weighted = fresh.score(X[1::2], y[1::2]), importance_weighted_accuracy(fresh, X[1::2], y[1::2])
    hidden = fresh.score(X[401::2], kinds[401::2])
    assert model.domain_report_["proxy_a_distance"] < 1.5
    assert abs(weighted - hidden) < abs(plain - hidden) - 0.05


def test_importance_weights_leave_target_rows_of_any_classifier_out(stacked):
    X, y = stacked
    foreign = LogisticRegression().fit(X[:60], y[:60])
    assert importance_weighted_accuracy(foreign, X, y) == 1.0


def test_importance_weights_need_rows_of_both_domains(stacked):
    X, y = stacked
    model = FeatureAdaptedClassifier().fit(X, y)
    with pytest.raises(ValueError, match="at least 2 rows of each; got 60 source rows and 1 target rows"):
        importance_weighted_accuracy(model, X[:61], y[:61])


WITH_SKADA = """
import numpy as np
from skada import CORALAdapter, make_da_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from skltransfer import FeatureAdaptedClassifier, PretrainedFeatureExtractor

kinds = np.arange(120) % 2
X = np.random.default_rng(0).standard_normal((120, 4)) + 3 * kinds[:, None]
X[60:] += 0.5
sample_domain = np.where(np.arange(120) < 60, 1, -2)
y = np.where(sample_domain > 0, kinds, -1)
ours = FeatureAdaptedClassifier().set_fit_request(sample_domain=True).set_predict_request(sample_domain=True)
for steps in ([StandardScaler(), ours], [PretrainedFeatureExtractor("toy:rows"), CORALAdapter(), LogisticRegression()]):
    pipeline = make_da_pipeline(*steps).fit(X, y.copy(), sample_domain=sample_domain)
    print((pipeline.predict(X[60:], sample_domain=sample_domain[60:]) == kinds[60:]).mean() > 0.9)
"""


@pytest.mark.skipif(importlib.util.find_spec("skada") is None, reason="skada is not installed")
def test_skada_takes_our_estimators():  # in a process of its own, since skada switches metadata routing on at import
    done = subprocess.run([sys.executable, "-c", WITH_SKADA], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def surf_pairs(folder: pathlib.Path):
    arrays = np.load(folder / "office_caltech_surf.npz")
    for source, target in permutations(("caltech", "amazon", "dslr"), 2):
        X, y = (np.concatenate([arrays[f"{d}_{part}"] for d in (source, target)]) for part in "Xy")
        is_target = np.arange(len(y)) >= len(arrays[f"{source}_y"])
        yield f"{source[0]}{target[0]}", X.astype(float), y.astype(int), is_target


def review_pairs(folder: pathlib.Path):
    frame = pd.read_csv(folder / "amazon_sentiment_books_dvd_electronics.csv.gz")
    for source, target in permutations(("books", "dvd", "electronics"), 2):
        rows = frame[frame.domain.isin([source, target])]
        X = TfidfVectorizer(max_features=1000, sublinear_tf=True).fit_transform(rows.text).toarray()
        yield f"{source} to {target}", X, rows.label.to_numpy(), (rows.domain == target).to_numpy()


def test_nearest_neighbours_after_scaling_per_domain_are_as_good_as_published(data_folder):
    published = {"ca": 23.7, "cd": 25.5, "ac": 26.0, "ad": 25.5, "dc": 26.3, "da": 28.5}
    found = {}
    for pair, X, y, is_target in surf_pairs(data_folder):
        nearest = FeatureAdaptedClassifier(KNeighborsClassifier(1), align="per_domain")
        model = make_pipeline(Normalizer("l1"), nearest).fit(X, np.where(is_target, -1, y))
        found[pair] = 100 * model.score(X[is_target], y[is_target])
    assert found == pytest.approx(published, abs=0.06)


def gain_of_the_default(X, y, is_target, score):
    """Points over the same classifier after scaling by source rows alone, and the warnings."""
    alone = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(X[~is_target], y[~is_target])
    model = FeatureAdaptedClassifier()
    words = told(model, X, np.where(is_target, -1, y))
    X, y = X[is_target], y[is_target]
    return 100 * (score(y, model.predict(X)) - score(y, alone.predict(X))), words


@pytest.mark.slow
def test_the_default_is_hardly_ever_worse_than_the_source_alone(data_folder):
    pairs = [(normalize(X, "l1"), y, is_target) for _, X, y, is_target in surf_pairs(data_folder)]
    pairs += [case for _, *case in review_pairs(data_folder)]
    gains = [gain_of_the_default(*case, sklearn.metrics.accuracy_score)[0] for case in pairs]
    assert np.mean(np.array(gains) >= -0.5) >= 0.8
    assert min(gains) >= -2
    assert np.mean(gains) > 0


@pytest.mark.slow
def test_label_shift_in_reviews_is_told_and_costs_the_default_less_than_two_points(data_folder, rng):
    outcomes = []
    for _, X, y, is_target in review_pairs(data_folder):
        kept = ~is_target | (y == 0)
        kept[rng.choice(np.flatnonzero(is_target & (y == 1)), 55, replace=False)] = True
        case = X[kept], y[kept], is_target[kept]
        outcomes.append(gain_of_the_default(*case, sklearn.metrics.balanced_accuracy_score))
    assert np.mean([gain for gain, _ in outcomes]) > -2
    assert sum("Before" in words for _, words in outcomes) >= 5
