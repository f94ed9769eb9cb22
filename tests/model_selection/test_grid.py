"""Grids of freeze depth: values that mean different boundaries."""

import pytest

from skltransfer import describe_backbone, freeze_depth_grid, load_backbone
from skltransfer.backbones import freeze_boundary


def boundaries(values: list[float], backbone: str) -> list[int]:
    return [freeze_boundary(value, load_backbone(backbone).stage_names) for value in values]


@pytest.mark.parametrize("by", ["stages", "cost"])
@pytest.mark.parametrize("n", [2, 3, 5, 7, 40])
@pytest.mark.parametrize("backbone", ["toy:images", "toy:rows", "toy:text", "bundled:tiny-photo"])
def test_values_ascend_from_nothing_frozen_to_all_and_mean_different_boundaries(backbone, n, by):
    values = freeze_depth_grid(backbone, n, by=by)
    found = boundaries(values, backbone)
    assert found == sorted(set(found))
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert found[-1] == load_backbone(backbone).n_stages
    assert len(values) <= n


def test_as_many_values_as_there_are_boundaries_are_all_of_them():
    assert boundaries(freeze_depth_grid("bundled:tiny-photo", 10), "bundled:tiny-photo") == list(range(10))
    assert boundaries(freeze_depth_grid("bundled:tiny-photo", 99, by="cost"), "bundled:tiny-photo") == list(range(10))


def test_by_stages_spaces_the_number_of_frozen_stages():
    assert boundaries(freeze_depth_grid("bundled:tiny-photo", 4), "bundled:tiny-photo") == [0, 3, 6, 9]


def test_by_cost_spaces_the_share_of_multiplications():
    shares = [stage.cost_share for stage in describe_backbone("toy:images").stages]
    assert shares[-1] > 0.4  # so that half of the cost lies before the last stage
    assert boundaries(freeze_depth_grid("toy:images", 3, by="cost"), "toy:images") == [0, 3, 4]
    assert boundaries(freeze_depth_grid("toy:images", 3), "toy:images") == [0, 2, 4]


def test_a_backbone_value_will_do_and_its_weights_have_no_say():
    random = load_backbone("bundled:tiny-photo", weights="random:3")
    assert freeze_depth_grid(random, 5, by="cost") == freeze_depth_grid("bundled:tiny-photo", 5, by="cost")


def test_wrong_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="The 'n' parameter of freeze_depth_grid must be an int in the range"):
        freeze_depth_grid("toy:images", 1)
    with pytest.raises(ValueError, match="The 'by' parameter of freeze_depth_grid must be a str among"):
        freeze_depth_grid("toy:images", 3, by="width")
