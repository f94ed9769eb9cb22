"""Grids of freeze depth: values that mean different boundaries."""

import pytest
from networks import TINY_PHOTO, tiny_photo, weights_of

from skltransfer import Backbone, describe_backbone, freeze_depth_grid, load_backbone
from skltransfer.backbones import freeze_boundary


def boundaries(values: list[float], backbone: Backbone) -> list[int]:
    return [freeze_boundary(value, backbone.stage_names) for value in values]


@pytest.mark.parametrize("by", ["stages", "cost"])
@pytest.mark.parametrize("n", [2, 3, 5, 7, 40])
@pytest.mark.parametrize("name", ["toy:images", "toy:rows", "toy:text", TINY_PHOTO])
def test_values_ascend_from_nothing_frozen_to_all_and_mean_different_boundaries(name, n, by):
    backbone = load_backbone(name, weights=weights_of(name))
    values = freeze_depth_grid(backbone, n, by=by)
    found = boundaries(values, backbone)
    assert found == sorted(set(found))
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert found[-1] == backbone.n_stages
    assert len(values) <= n


def test_as_many_values_as_there_are_boundaries_are_all_of_them():
    backbone = tiny_photo()
    assert boundaries(freeze_depth_grid(backbone, 10), backbone) == list(range(10))
    assert boundaries(freeze_depth_grid(backbone, 99, by="cost"), backbone) == list(range(10))


def test_by_stages_spaces_the_number_of_frozen_stages():
    assert boundaries(freeze_depth_grid(tiny_photo(), 4), tiny_photo()) == [0, 3, 6, 9]


def test_by_cost_spaces_the_share_of_multiplications():
    backbone = load_backbone("toy:images")
    shares = [stage.cost_share for stage in describe_backbone(backbone).stages]
    assert shares[-1] > 0.4  # so that half of the cost lies before the last stage
    assert boundaries(freeze_depth_grid("toy:images", 3, by="cost"), backbone) == [0, 3, 4]
    assert boundaries(freeze_depth_grid("toy:images", 3), backbone) == [0, 2, 4]


def test_a_backbone_value_will_do_and_its_weights_have_no_say():
    random = load_backbone(TINY_PHOTO, weights="random:3")
    assert freeze_depth_grid(random, 5, by="cost") == freeze_depth_grid(tiny_photo(), 5, by="cost")
    assert freeze_depth_grid("toy:images", 5) == freeze_depth_grid(load_backbone("toy:images", weights="random"), 5)


def test_wrong_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="The 'n' parameter of freeze_depth_grid must be an int in the range"):
        freeze_depth_grid("toy:images", 1)
    with pytest.raises(ValueError, match="The 'by' parameter of freeze_depth_grid must be a str among"):
        freeze_depth_grid("toy:images", 3, by="width")
