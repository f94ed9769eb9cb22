"""freeze_depth is read by value, never by type."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skltransfer import FineTunedClassifier, load_backbone
from skltransfer.backbones import freeze_boundary

FIVE = ("stem", "layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (0, 0),
        (0.0, 0),
        (1, 5),
        (1.0, 5),
        (np.float64(1), 5),
        (np.int64(0), 0),
        (0.5, 3),
        (0.75, 4),
        (0.01, 1),
        (0.99, 4),
        (-1, 4),
        (-4, 1),
        (-2.0, 3),
        (np.float32(-2), 3),
        ("stem", 1),
        ("layer4", 5),
        (np.str_("layer2"), 3),
    ],
)
def test_a_value_names_a_boundary(value, boundary):
    assert freeze_boundary(value, FIVE) == boundary


@pytest.mark.parametrize(
    "value",
    [2, 1.5, -5, -5.0, -0.5, True, False, np.bool_(True), float("nan"), float("inf"), "0.5", "layer9", None, [0.5]],
)
def test_other_values_are_refused_with_the_forms_that_exist(value):
    with pytest.raises(ValueError, match=r"number in \[0, 1\].*-k.*name of the last frozen stage") as caught:
        freeze_boundary(value, FIVE)
    assert repr(value) in str(caught.value)


def test_the_nearest_stage_comes_first():
    with pytest.raises(ValueError, match=r"one of \['layer3'"):
        freeze_boundary("layer33", FIVE)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13])
def test_fractions_are_monotone_and_only_zero_and_one_mean_all_and_nothing(n):
    stages = [f"s{i}" for i in range(n)]
    found = [freeze_boundary(f, stages) for f in np.linspace(0, 1, 201)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, n)
    if n > 1:
        assert set(found[1:-1]) == set(range(1, n))


def test_a_mixed_grid_means_what_it_says_after_scikit_learn_made_it_floats(two_kinds):
    X, y = two_kinds
    classifier = FineTunedClassifier("toy:images", max_epochs=1, random_state=0)
    search = GridSearchCV(classifier, {"freeze_depth": [1, 0.5, -1]}, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fitted_estimators_say_which_boundary_a_fraction_meant(two_kinds):
    fitted = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1).fit(*two_kinds)
    assert fitted.freeze_boundary_ == "block1"
    assert (fitted.n_frozen_stages_, fitted.n_stages_) == (2, 4)
    suffix = load_backbone("toy:images").suffix(2)
    assert fitted.n_trainable_params_ == sum(p.numel() for p in suffix.parameters()) + 33


def test_the_html_repr_shows_the_boundary_after_fit(two_kinds):
    model = FineTunedClassifier("toy:images", freeze_depth=0.5, max_epochs=1)
    if not hasattr(model, "_get_fitted_attr_html"):
        pytest.skip("the HTML repr of scikit-learn before 1.9 shows parameters alone")
    assert "freeze_boundary_" not in model._repr_html_()
    assert "freeze_boundary_" in model.fit(*two_kinds)._repr_html_()
