"""scikit-learn's checks, whole: none excused, none skipped, and as many as scikit-learn generates."""

from inspect import signature
from unittest import SkipTest

import pytest
import sklearn
from networks import small_default
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.fixes import parse_version
from views import (
    PngClassifier,
    PngExtractor,
    PngFewShotClassifier,
    PngRegressor,
    TextClassifier,
    TextExtractor,
    TextRegressor,
    WavClassifier,
    WavExtractor,
    WavRegressor,
)

from skltransfer import (
    AdaptedBackbone,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
)

pytestmark = pytest.mark.filterwarnings("ignore:No row is a target row")  # scikit-learn's rows all have labels

EXTRACTORS = [PretrainedFeatureExtractor("toy:rows"), PretrainedFeatureExtractor("toy:images"), PngExtractor()]
EXTRACTORS += [TextExtractor(), WavExtractor()]
CLASSIFIERS = [FineTunedClassifier("toy:rows"), FineTunedClassifier("toy:images", freeze_depth=0.5), PngClassifier()]
SLOW = [TextClassifier(), WavClassifier(), TextRegressor(), WavRegressor()]  # fit small transformers, checks read files
CLASSIFIERS += SLOW[:2]
OF_THE_CHECKS = [-1, 0, 1, 2, 3, "one", "two", "three"]  # labels
ORDERED = [FineTunedClassifier("toy:rows", freeze_depth=1.0, class_order=OF_THE_CHECKS)]
REGRESSORS = [FineTunedRegressor("toy:rows"), FineTunedRegressor("toy:images", freeze_depth=0.5), PngRegressor()]
REGRESSORS += SLOW[2:]
FEW_SHOT = [FewShotClassifier("toy:rows"), FewShotClassifier("toy:images", pooling="flatten")]
FEW_SHOT += [FewShotClassifier("toy:rows", method="contrastive"), PngFewShotClassifier()]
TOGETHER = [MultiTaskFineTuner("toy:rows"), MultiTaskFineTuner("toy:images")]
ADAPTED = [DomainAdaptedClassifier("toy:rows"), DomainAdaptedClassifier("toy:rows", method=None)]
UNSUPERVISED = [AdaptedBackbone("toy:rows"), AdaptedBackbone("toy:images")]
ESTIMATORS = [*EXTRACTORS, *CLASSIFIERS, *ORDERED, *FEW_SHOT, *REGRESSORS, *TOGETHER, *ADAPTED, *UNSUPERVISED]
# Counts of scikit-learn 1.9: a change of tags that hides checks would show here.
COUNTED = [(e, 46) for e in EXTRACTORS] + [(e, 74) for e in CLASSIFIERS] + [(e, 66) for e in REGRESSORS]
COUNTED += (
    [(e, 69) for e in ORDERED]
    + [(e, 68 if e.method == "contrastive" else 73) for e in FEW_SHOT]
    + [(e, 55) for e in TOGETHER]
)
COUNTED += [(e, 68) for e in ADAPTED] + [(e, 47) for e in UNSUPERVISED]
IS_1_9 = parse_version("1.9") <= parse_version(sklearn.__version__) < parse_version("1.10")


@parametrize_with_checks([estimator for estimator in ESTIMATORS if estimator not in SLOW])
def test_scikit_learn_check(estimator, check):
    passes(estimator, check)


@pytest.mark.slow
@parametrize_with_checks(SLOW)
def test_scikit_learn_check_of_texts_and_sounds(estimator, check):
    passes(estimator, check)


def passes(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"a check that was not made has not passed: {reason}")


VIEWS = [PngExtractor, PngClassifier, PngFewShotClassifier, PngRegressor]
OF_VIEWS = [(view, check) for view in VIEWS for _, check in estimator_checks_generator(view())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "check"), OF_VIEWS, ids=[f"{view.__name__}-{check.func.__name__}" for view, check in OF_VIEWS]
)
def test_scikit_learn_check_on_the_default_network(view, check):
    shallow = {"freeze_depth": -1} if "freeze_depth" in signature(view).parameters else {}
    try:
        check(view(small_default(), **shallow))
    except SkipTest as reason:
        pytest.fail(f"a check that was not made has not passed: {reason}")


def in_words(estimator):
    return f"{type(estimator).__name__}-{estimator.backbone}"


@pytest.mark.parametrize(("estimator", "expected"), COUNTED, ids=lambda value: getattr(value, "backbone", value))
def test_so_many_checks_are_generated_which_all_have_to_pass(estimator, expected):
    generated = len(list(estimator_checks_generator(estimator)))
    if IS_1_9:
        assert generated == expected
    assert generated >= 40


BESIDES = [
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
]


@pytest.mark.parametrize("check", BESIDES)
@pytest.mark.parametrize(
    "estimator",
    [group[0] for group in (EXTRACTORS, CLASSIFIERS, FEW_SHOT, REGRESSORS, TOGETHER, ADAPTED, UNSUPERVISED)],
    ids=in_words,
)
def test_checks_that_scikit_learn_leaves_to_its_own_estimators(estimator, check):
    if check == "check_get_feature_names_out_error" and not estimator.__sklearn_tags__().requires_fit:
        estimator.get_feature_names_out()  # a stateless transformer knows its names before fit
        return
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)
