"""Networks of colors that read other bands: what their first layer then is, and which networks cannot."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from test_hub_families import FAMILIES, save
from torch import nn

from skltransfer import describe_backbone, load_backbone
from skltransfer.backbones import _bands
from skltransfer.backbones._bands import COLOURS, checked_bands, mixing, per_band, read_bands, refuse_unless_mixed
from skltransfer.exceptions import UnsupportedBackboneError, WeightsError

FIVE = (*COLOURS, "nir", "swir")
OF_IMAGES = [name for name in FAMILIES if name not in ("UniSpeech", "WavLM")]


def first_layer(backbone):
    return backbone.library_state()["stem.0.weight"]


def test_colors_keep_their_filters_and_others_get_their_mean():
    plain, five = first_layer(load_backbone("toy:images")), first_layer(load_backbone("toy:images", bands=FIVE))
    torch.testing.assert_close(five[:, :3], 0.95 * plain)
    for band in (3, 4):
        torch.testing.assert_close(five[:, band], 3 * 0.025 * plain.mean(1))
    swapped = first_layer(load_backbone("toy:images", bands=("Blue", "GREEN", "red")))
    torch.testing.assert_close(swapped, plain.flip(1))


@pytest.mark.parametrize("bands", [("nir", "red", "green"), ("a",), ("a", "b"), ("red", "nir"), tuple("abcdefghijkl")])
def test_without_all_colors_bands_have_equal_weight(bands):
    plain, changed = first_layer(load_backbone("toy:images")), first_layer(load_backbone("toy:images", bands=bands))
    for i, name in enumerate(bands):
        expected = plain[:, COLOURS.index(name)] if name in COLOURS else plain.mean(1)
        torch.testing.assert_close(changed[:, i], expected * 3 / len(bands))


@pytest.mark.parametrize("bands", [COLOURS, FIVE, ("blue", "nir", "green", "red"), ("a",), ("a", "b"), tuple("abcdef")])
def test_bands_that_all_agree_give_what_gray_gave(bands):
    """So is the size of the output kept."""
    gray = torch.randn(2, 1, 16, 16)
    plain, changed = (load_backbone("toy:images", bands=names) for names in (None, bands))
    expected = plain.prefix(0, 1)(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(changed.prefix(0, 1)(gray.expand(-1, len(bands), -1, -1)), expected)
    torch.testing.assert_close(mixing(bands).sum(), torch.tensor(3.0))


def test_bands_are_normalized_as_the_color_that_they_are_or_as_colors_on_average():
    mean, std = (0.1, 0.2, 0.6), (1.0, 2.0, 6.0)
    assert per_band(mean, ("nir", "blue", "red")) == pytest.approx((0.3, 0.6, 0.1))
    preprocessing = load_backbone(
        "bundled:efficientnet-lite0", weights="random", bands=FIVE, input_size=64
    ).preprocessing
    usual = load_backbone("bundled:efficientnet-lite0", weights="random", input_size=64).preprocessing
    assert preprocessing.mean == pytest.approx((*usual.mean, *2 * (sum(usual.mean) / 3,)))
    assert per_band(std, COLOURS) == std
    assert preprocessing.input_shape == (5, 64, 64)


def test_a_number_takes_the_first_three_for_colors_and_tells_it_once():
    _bands._told.clear()
    with pytest.warns(
        UserWarning, match=r"bands=4 says how many channels.*first three are taken for red, green and bl"
    ):
        backbone = load_backbone("toy:images", bands=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_backbone("toy:images", bands=np.int64(4)) is backbone
        assert load_backbone("toy:images", bands=(*COLOURS, "band4")) is backbone
        assert load_backbone(backbone.name, **backbone.options) is backbone
        assert load_backbone("toy:images", bands=2).options["bands"] == ("band1", "band2")  # none is taken for a color
    assert repr(backbone).startswith(
        "Backbone('toy:images', weights='pretrained', bands=('red', 'green', 'blue', 'band4')"
    )


def test_a_warning_that_is_an_error_is_told_again():
    _bands._told.clear()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="bands=7"):
                load_backbone("toy:images", bands=7)


@pytest.mark.parametrize(
    "bands", [0, -1, 2.5, True, "nir", b"nir", [], ("red", 3), {"red"}, (x for x in COLOURS), 1001, ("", "nir"), 1j, {}]
)
def test_what_is_neither_a_number_nor_names_is_refused(bands):
    with pytest.raises(ValueError, match="bands must be a number from 1 to 1000, names such as .*, or None; got"):
        load_backbone("toy:images", bands=bands)


def test_names_are_different():
    with pytest.raises(ValueError, match=r"Each of bands needs a name of its own, but \['red'\] are there twice"):
        checked_bands(["RED", "nir", "red"])
    assert checked_bands(np.array(["Red", " NIR "])) == ("red", "NIR")
    assert checked_bands(["b", "g", "r", "nir"]) == ("blue", "green", "red", "nir")
    assert checked_bands(["a", "b", "c"]) == ("a", "b", "c")  # where not all are letters of colors, none is


def test_fingerprints_pickles_and_descriptions_know_bands():
    plain, colours, five = (load_backbone("toy:images", bands=names) for names in (None, COLOURS, FIVE))
    named = load_backbone("toy:images", bands=(*COLOURS, "a", "b"))
    assert plain.fingerprint == colours.fingerprint  # they compute the same
    assert five.fingerprint == named.fingerprint
    assert len({one.fingerprint for one in (plain, five, load_backbone("toy:images", bands=("a", "b", "c")))}) == 3
    copy = pickle.loads(pickle.dumps(five))
    assert copy.options["bands"] == FIVE
    assert torch.equal(first_layer(copy), first_layer(five))
    assert describe_backbone(five).input_shape == (5, 16, 16)
    assert describe_backbone(five).stages[0].n_parameters == 240 + 2 * 8 * 9
    assert torch.equal(first_layer(load_backbone("toy:images")), first_layer(plain))  # not changed in place


@pytest.mark.parametrize(
    "name",
    ["bundled:efficientnet-lite0", "torchvision:resnet18", "torchvision:swin_t", "timm:vit_tiny_patch16_224"]
    + ["timm:convnext_atto", "torchvision:lraspp_mobilenet_v3_large"],
)
def test_networks_of_each_library_read_bands(name):
    size = {} if "vit" in name else {"input_size": 64}
    backbone = load_backbone(name, weights="random", bands=FIVE, **size)
    backbone.verify()
    assert backbone.activation_shapes[0][0] == 5


@pytest.mark.parametrize("family", OF_IMAGES)
def test_networks_of_transformers_read_bands_or_are_refused_by_name(family, tmp_path):
    save(family, FAMILIES[family][0], tmp_path)
    if family == "Bit":  # standardizes the weights of its first layer
        with pytest.raises(
            UnsupportedBackboneError, match=f"'hf:{tmp_path}' cannot read bands: its first layer is not"
        ):
            load_backbone(f"hf:{tmp_path}", bands=FIVE)
        return
    backbone = load_backbone(f"hf:{tmp_path}", bands=FIVE)
    assert backbone.activation_shapes[0][0] == 5
    assert backbone.n_features == FAMILIES[family][2]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("toy:text", "samples of kind 'text'"),
        ("toy:rows", "samples of kind 'rows'"),
        ("torchvision:googlenet", "its library raises RuntimeError"),
    ],
)
def test_networks_that_cannot_read_bands_are_refused_by_name(name, reason):
    weights = "random" if name.startswith("torchvision") else "pretrained"
    with pytest.raises(UnsupportedBackboneError, match=f"'{name}' cannot read bands: .*{reason}.*leave out bands"):
        load_backbone(name, weights=weights, bands=4)


class Twice(nn.Module):
    """Reads its input with two convolutions, as a network with a shortcut from the input would."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.one(x) + self.other(x)


def test_a_network_that_reads_its_input_twice_is_refused():
    network, inputs = Twice(), torch.randn(1, 3, 8, 8)
    with pytest.raises(UnsupportedBackboneError, match="'it' cannot read bands: 2 convolutions read its input"):
        read_bands(network, FIVE, network, inputs, "it")


def test_a_first_layer_that_is_not_linear_in_its_weights_is_noticed():
    plain = nn.Conv2d(3, 4, 1)
    changed = nn.Conv2d(5, 4, 1)
    with pytest.raises(UnsupportedBackboneError, match="'it' cannot read bands: its first layer is not linear"):
        refuse_unless_mixed(changed, plain, FIVE, torch.randn(1, 5, 8, 8), "it")
    with pytest.raises(UnsupportedBackboneError, match="'it' cannot read bands: its library raises RuntimeError"):
        refuse_unless_mixed(plain, plain, FIVE, torch.randn(1, 5, 8, 8), "it")


def test_weights_of_another_number_of_channels_are_refused(tmp_path):
    five = load_backbone("toy:images", bands=FIVE)
    torch.save(five.library_state(), tmp_path / "five.pth")
    torch.save(load_backbone("toy:images").library_state(), tmp_path / "three.pth")
    again = load_backbone("toy:images", weights=str(tmp_path / "three.pth"), bands=FIVE)
    assert again.fingerprint == five.fingerprint
    with pytest.raises(WeightsError, match=r"of another shape \['stem.0.weight'\]"):
        load_backbone("toy:images", weights=str(tmp_path / "five.pth"), bands=FIVE)


@pytest.mark.parametrize("resize", ["crop", "letterbox", "squash"])
def test_each_band_is_resized_alone(resize):
    photo = np.random.default_rng(0).integers(0, 256, (20, 50, 5), dtype=np.uint8)
    five, plain = (load_backbone("toy:images", bands=names, resize=resize).preprocessing for names in (FIVE, None))
    found = five.pixels(photo)
    assert found.shape == (16, 16, 5)
    for i in range(5):
        expected = plain.pixels(np.repeat(photo[..., i : i + 1], 3, axis=-1))
        np.testing.assert_array_equal(found[..., i], expected[..., 0])
    assert five(photo).shape == (5, 16, 16)
    assert five(np.arange(7.0)).shape == (5, 16, 16)  # a row of numbers


def test_an_input_size_too_small_is_refused_with_bands_as_without():
    with pytest.raises(
        UnsupportedBackboneError, match=r"input_size=20 is too small for 'torchvision:alexnet'.*next side"
    ):
        load_backbone("torchvision:alexnet", weights="random", bands=FIVE, input_size=20)
