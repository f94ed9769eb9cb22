"""The frozen network as a transformer."""

import numpy as np
import pandas as pd
import pytest
import torch
from networks import tiny_photo

from skltransfer import ActivationStore, PretrainedFeatureExtractor, load_backbone
from skltransfer.exceptions import BadSampleError


def extractor(**parameters):
    return PretrainedFeatureExtractor(parameters.pop("backbone", "toy:images"), dtype="float32", **parameters)


def test_a_row_does_not_depend_on_its_neighbours(photos):
    whole = extractor(cache=None).transform(photos)
    for rows in ([3], [5, 2], range(11, -1, -1)):
        np.testing.assert_array_equal(extractor(cache=None).transform(photos[list(rows)]), whole[list(rows)])


@pytest.mark.parametrize("cache", ["memory", None, ActivationStore(max_bytes=10_000)])
def test_with_the_store_is_without_it(photos, cache):
    expected = extractor(cache=None).transform(photos)
    for _ in range(2):
        np.testing.assert_array_equal(extractor(cache=cache).transform(photos), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("modality", ["text", "audio", "rows"])
def test_with_the_store_is_without_it_whatever_the_samples_and_the_dtype(rng, modality, dtype):
    samples = {
        "text": [f"{'very ' * n}good" for n in range(20)],
        "audio": [rng.random(n) for n in rng.integers(2000, 8000, 20)],
        "rows": rng.random((20, 5)),
    }[modality]
    options = {"sampling_rate": 16000} if modality == "audio" else {}
    expected, found = (
        PretrainedFeatureExtractor(f"toy:{modality}", dtype=dtype, cache=cache, **options).transform(samples)
        for cache in (None, ActivationStore())
    )
    np.testing.assert_array_equal(found, expected)


def test_transform_leaves_the_backbone_as_it_was(photos):
    network = load_backbone("toy:images").library_network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    extractor(cache=None).transform(photos)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_layers_are_read_by_name_by_fraction_and_several_at_once(photos):
    names = load_backbone("toy:images").stage_names
    single = [extractor(layer=name).transform(photos) for name in names]
    assert [f.shape[1] for f in single] == [8, 16, 32, 32]
    np.testing.assert_array_equal(extractor(layer=0.5).transform(photos), single[1])
    np.testing.assert_array_equal(extractor(layer=0.0).transform(photos), single[0])
    np.testing.assert_array_equal(extractor(layer=1).transform(photos), single[3])
    np.testing.assert_array_equal(extractor(layer=list(names), cache=None).transform(photos), np.hstack(single))
    assert len(extractor(layer=list(names)).get_feature_names_out()) == 88


def test_several_layers_take_one_pass(photos):
    store = ActivationStore()
    extractor(layer=["stem", "block1", "penultimate"], cache=store).transform(photos)
    assert store.info()["misses"] == len(photos)


def test_pooling_is_searchable(photos):
    mean, highest, flat = (extractor(pooling=how).transform(photos) for how in ("mean", "max", "flatten"))
    assert (highest >= mean).all()
    np.testing.assert_allclose(flat.reshape(12, 32, 16).mean(2), mean, rtol=1e-5)
    with pytest.raises(ValueError, match="pooling='cls' needs tokens"):
        extractor(pooling="cls").transform(photos)


def test_another_backbone_is_another_model_after_set_params(photos):
    model = extractor()
    first = model.transform(photos)
    assert model.set_params(backbone=tiny_photo()).transform(photos).shape == (12, 256)
    assert not np.array_equal(model.set_params(backbone="toy:images", weights="random").transform(photos), first)
    np.testing.assert_array_equal(model.set_params(backbone=load_backbone("toy:images")).transform(photos), first)


def test_equal_samples_are_computed_once(photos):
    store = ActivationStore()
    found = extractor(cache=store).transform(np.concatenate([photos, photos[::-1]]))
    assert store.info()["misses"] == 12
    np.testing.assert_array_equal(found[:12], found[:11:-1])


@pytest.mark.parametrize(("missing", "filled"), [("zero", 0.0), ("nan", np.nan)])
def test_missing_samples_are_filled_as_asked(photos, missing, filled):
    model = extractor(missing=missing)
    found = model.transform([None, *photos, np.nan])
    assert model.bad_samples_ == [0, 13]
    np.testing.assert_array_equal(found[[0, 13]], filled)
    np.testing.assert_array_equal(found[1:13], extractor().transform(photos))


def test_unreadable_samples_become_nan_only_if_asked(photos):
    with pytest.raises(BadSampleError, match=r"X\[1\] \(3 bytes\)"):
        extractor().transform([photos[0], b"bad", photos[1]])
    model = extractor(on_bad_sample="nan")
    found = model.transform([photos[0], b"bad", photos[1]])
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()
    assert model.bad_samples_ == [1]


def test_names_are_padded_and_carry_the_columns_name(photos):
    frame = pd.DataFrame({"photo": list(photos)})
    model = extractor().set_output(transform="pandas").fit(frame)
    assert model.transform(frame).columns[:2].tolist() == ["photo_00", "photo_01"]
    assert extractor().get_feature_names_out()[-1] == "pretrainedfeatureextractor31"
    polars = extractor().set_output(transform="polars").fit_transform(frame)
    assert polars.columns[-1] == "photo_31"


def test_a_second_fit_forgets_the_columns_of_the_first(photos):
    model = extractor().fit(pd.DataFrame({"photo": list(photos)})).fit(list(photos))
    assert not hasattr(model, "feature_names_in_")
    assert model.get_feature_names_out()[0] == "pretrainedfeatureextractor00"


def test_bfloat16_points_where_float32_does(photos):
    half = PretrainedFeatureExtractor(tiny_photo(), dtype="bfloat16").transform(photos)
    full = PretrainedFeatureExtractor(tiny_photo(), dtype="float32").transform(photos)
    assert half.dtype == full.dtype == np.float32
    cosine = (half * full).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(full, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"device": "cuda:7"}, "device='cuda:7' is not available here"),
        ({"device": "meta"}, "device='meta' is not available here"),
        ({"device": "abacus"}, "device='abacus' is not available here"),
        ({"layer": "block9"}, "layer takes names of stages"),
        ({"dtype": "float16"}, "'dtype' parameter"),
        ({"batch_size": 32}, "'batch_size' parameter"),
        ({"cache": 5}, "'cache' parameter"),
        ({"weights": "imagenet"}, "weights must be 'pretrained'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(photos, parameters, message):
    with pytest.raises(ValueError if "weights" not in parameters else OSError, match=message):
        PretrainedFeatureExtractor("toy:images", **parameters).transform(photos)


def test_progress_is_shown_only_at_verbose_1(photos, capfd):
    extractor(cache=None).transform(photos)
    assert capfd.readouterr().err == ""
    extractor(cache=None, verbose=1).transform(photos)
    assert "12/12" in capfd.readouterr().err


@pytest.mark.parametrize("layer", ["penultimat", "block9", 1.5, -9, None, ["stem", "blok1"], [[0.5]]])
def test_a_layer_that_is_none_is_told_as_layer(layer):
    texts = ["good", "bad"]
    with pytest.raises(ValueError, match=r"(?i)\blayer\b") as caught:
        PretrainedFeatureExtractor("toy:text", layer=layer).fit(texts)
    assert "freeze_depth" not in str(caught.value)
    if layer == "penultimat":
        assert "Pass one of ['penultimate'" in str(caught.value)


def test_a_fit_that_fails_leaves_what_an_earlier_one_learnt():
    extractor = PretrainedFeatureExtractor("toy:rows").fit(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="0 sample"):
        extractor.fit(np.zeros((0, 5)))
    assert (extractor.n_features_in_, extractor.input_kind_) == (4, "table")


@pytest.mark.parametrize(
    ("layer", "message"), [(-1, "layer takes names of stages, or numbers in"), ([], "must name at least one stage")]
)
def test_layers_that_count_from_the_top_or_name_none_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        PretrainedFeatureExtractor("toy:rows", layer=layer).transform(np.zeros((3, 4)))
