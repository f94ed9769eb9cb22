"""Models of Keras on its torch backend: the cut model is Keras' own, and what cannot be cut is refused by name.

Keras is imported within tests alone: ``conftest.py`` chose its backend before.
"""

import copy
import inspect
import json
import os
import pathlib
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skltransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    describe_backbone,
    export_onnx,
    list_backbones,
    load_backbone,
)
from skltransfer.backbones import seeded
from skltransfer.backbones._keras import _of_mode
from skltransfer.backbones._keras_cut import Entry
from skltransfer.engine.training.batch_norm import average_norms, train_mode
from skltransfer.exceptions import (
    BackboneNotFoundError,
    MissingDependencyError,
    UnsupportedBackboneError,
    WeightsError,
)
from skltransfer.persistence import load

pytest.importorskip("keras")
ROOT = pathlib.Path(__file__).parent.parent.parent
SIDE = 16


def residual_network(*, dropout=0.3, channels=3, scale=1 / 127.5, offset=-1.0, data_format="channels_last"):
    """A small network with BatchNorm, a residual connection and dropout, whose statistics are not zero and one."""
    import keras
    from keras import layers

    axis = -1 if data_format == "channels_last" else 1
    conv = {"padding": "same", "data_format": data_format}
    image = x = keras.Input((SIDE, SIDE, channels) if axis == -1 else (channels, SIDE, SIDE))
    if scale is not None:
        x = layers.Rescaling(scale, offset)(x)
    x = layers.Conv2D(8, 3, use_bias=False, name="conv1", **conv)(x)
    x = layers.BatchNormalization(axis=axis, name="norm1")(x)
    x = layers.MaxPooling2D(data_format=data_format, name="pool1")(layers.ReLU()(x))
    y = layers.Conv2D(8, 3, activation="relu", name="conv2", **conv)(x)
    y = layers.Dropout(dropout)(layers.BatchNormalization(axis=axis, name="norm2")(y))
    x = layers.Activation("relu", name="block")(layers.Add()([x, layers.Conv2D(8, 3, name="conv3", **conv)(y)]))
    x = layers.Conv2D(12, 3, strides=2, name="conv4", **conv)(x)
    x = layers.LeakyReLU(name="last")(layers.BatchNormalization(axis=axis, scale=False, name="norm4")(x))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D(data_format=data_format)(x))
    model = keras.Model(image, layers.Dense(5, activation="softmax", name="labels")(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def saved(model, folder, name="model.keras"):
    """The name of a backbone that is saved by Keras."""
    path = folder / name
    model.save(path)
    return f"keras:{path}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def residual(folder):
    return saved(residual_network(), folder, "residual.keras")


@pytest.fixture(scope="module")
def transfer(folder):
    """A network as tutorials of TensorFlow have it: augmentation, scaling, a model of its own, and a new head."""
    import keras
    from keras import layers

    base = residual_network(scale=None)
    trunk = keras.Model(base.input, base.get_layer("last").output, name="trunk.v1")
    trunk.trainable = False
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augmentation")(image)
    x = layers.GlobalAveragePooling2D()(trunk(keras.applications.mobilenet_v2.preprocess_input(x), training=False))
    return saved(keras.Model(image, layers.Dense(2)(layers.Dropout(0.2)(x))), folder, "transfer.keras")


APPLICATIONS = [
    ("MobileNetV2", 64),
    ("MobileNetV3Small", 64),
    pytest.param(("InceptionV3", 96), marks=pytest.mark.slow),
    pytest.param(("ResNet50", 64), marks=pytest.mark.slow),
    pytest.param(("EfficientNetB0", 64), marks=pytest.mark.slow),
    pytest.param(("ConvNeXtTiny", 64), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=["residual", "transfer", *APPLICATIONS], ids=str)
def backbone(request):
    if isinstance(request.param, str):
        return load_backbone(request.getfixturevalue(request.param))
    name, side = request.param
    return load_backbone(f"keras:{name}", weights="random", input_size=side)


def keras_model(name):
    import keras

    return keras.saving.load_model(name.removeprefix("keras:"), compile=False)


def test_prefix_then_suffix_is_keras_own_forward_at_each_boundary(backbone):
    x = backbone.example(2)
    with torch.inference_mode():
        theirs = backbone.library_activations(x)[-2]
        for boundary in range(backbone.n_stages + 1):
            x = x if boundary == 0 else backbone.prefix(boundary - 1, boundary)(x)
            before = x.clone()
            ours = backbone.suffix(boundary).eval()(x)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
            assert torch.equal(x, before), "a suffix must not write into what the store remembers"


def test_outputs_are_those_of_the_model_that_keras_loads(residual, transfer):
    for name in (residual, transfer):
        backbone = load_backbone(name)
        x = 255 * torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            theirs = keras_model(name)(x.permute(0, 2, 3, 1), training=False)
        torch.testing.assert_close(backbone.source_outputs(x), theirs, rtol=1e-5, atol=1e-6)


def test_features_are_what_the_dense_layer_reads(residual, rng):
    """The head is left out, and images are resized and scaled as the model was trained on them."""
    import keras

    model = keras_model(residual)
    photos = rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    theirs = keras.Model(model.input, model.layers[-2].output)(photos.astype(np.float32), training=False)
    ours = PretrainedFeatureExtractor(residual, dtype="float32", cache=None).fit_transform(photos)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_loss_and_gradients_are_keras_own(residual, boundary):
    import keras

    backbone, model = load_backbone(residual), keras_model(residual)
    x = backbone.example(4)
    wanted = torch.randn(4, 8, 8, 12, generator=torch.Generator().manual_seed(1))[:, :4, :4]
    suffix = backbone.suffix(boundary).eval()
    ours = ((suffix(backbone.prefix(0, boundary)(x)) - wanted) ** 2).mean()
    ours.backward()
    features = keras.Model(model.input, model.get_layer("last").output)
    theirs = ((features(x.permute(0, 2, 3, 1), training=False) - wanted) ** 2).mean()
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    gradients = {variable.path.replace("/", "."): variable.value.grad for variable in model.trainable_variables}
    found = {name: parameter.grad for name, parameter in suffix.named_parameters()}
    assert found.keys() <= gradients.keys()
    assert len(found) == [12, 9, 3][boundary]
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_training_moves_statistics_as_keras_does(folder, data_format):
    import keras

    name = saved(residual_network(dropout=0.0, data_format=data_format), folder, f"still-{data_format}.keras")
    backbone, model = load_backbone(name), keras_model(name)
    suffix, x = backbone.suffix(0).train(), backbone.example(4)
    image = x.permute(0, 2, 3, 1) if data_format == "channels_last" else x
    features = keras.Model(model.input, model.get_layer("last").output)
    for _ in range(3):
        ours, theirs = suffix(x), features(image, training=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5 * float(theirs.abs().max()))
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            now = suffix.state_dict()[variable.path.replace("/", ".")]
            torch.testing.assert_close(now, variable.value.detach(), rtol=1e-5, atol=1e-6, msg=variable.path)


def test_frozen_norms_stay_and_averaged_norms_are_the_means_over_batches(residual):
    backbone = load_backbone(residual)
    suffix, x = backbone.suffix(0), backbone.example(8)
    before = copy.deepcopy(suffix.state_dict())
    train_mode(suffix, "frozen")
    suffix(x)
    assert all(torch.equal(value, before[key]) for key, value in suffix.state_dict().items())
    average_norms(suffix, [x[:4], x[4:]])
    with torch.inference_mode():
        maps = suffix.get_submodule("conv1")(suffix.entry(x) / 127.5 - 1)
    mean = torch.stack([half.mean((0, 1, 2)) for half in (maps[:4], maps[4:])]).mean(0)
    torch.testing.assert_close(suffix.state_dict()["norm1.moving_mean"], mean, rtol=1e-4, atol=1e-5)


def test_dropout_is_alive_in_train_mode_drawn_from_torchs_generator_and_still_in_eval_mode(residual):
    backbone = load_backbone(residual)
    suffix, x = backbone.suffix(1), backbone.prefix(0, 1)(backbone.example(4))
    train_mode(suffix, "frozen")

    def drawn(seed):
        with seeded(seed), torch.no_grad():
            return suffix(x)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    with torch.no_grad():
        assert torch.equal(suffix.eval()(x), suffix(x))


def test_state_dict_names_are_those_of_keras(residual, transfer):
    names = load_backbone(residual).suffix(1).state_dict()
    assert {"conv2.kernel", "conv2.bias", "norm2.gamma", "norm2.moving_mean", "norm4.beta"} <= names.keys()
    assert "trunk_v1/conv1.kernel" in load_backbone(transfer).library_state()
    assert load_backbone(transfer).stage_names == ("trunk.v1/pool1", "trunk.v1/block", "trunk.v1/last")


def test_stages_share_out_all_parameters_but_the_heads(backbone):
    named = [n for stage in range(backbone.n_stages) for n in backbone.stage_parameters(stage)]
    assert len(named) == len(set(named))
    assert set(named) == {n for n, _ in backbone.suffix(0).named_parameters()}
    assert backbone.suffix(0).state_dict().keys() <= backbone.library_state().keys()


def test_it_is_always_in_eval_mode_and_training_a_suffix_leaves_it_alone(backbone):
    before = {key: value.clone() for key, value in backbone.library_state().items()}
    suffix = backbone.suffix(backbone.n_stages - 1).train()
    activation = backbone.prefix(0, backbone.n_stages - 1)(backbone.example(2)).clone()
    suffix(activation).sum().backward()
    torch.optim.SGD(suffix.parameters(), lr=1.0).step()
    assert not any(module.training for module in backbone.library_network.modules())
    assert all(torch.equal(value, before[key]) for key, value in backbone.library_state().items())
    assert all(p.grad is None and not p.requires_grad for p in backbone.library_network.parameters())


def test_it_pickles_as_a_name_and_a_hash(backbone):
    dumped = pickle.dumps(backbone)
    assert len(dumped) < 1000
    assert pickle.loads(dumped) is backbone


def test_taps_are_the_activations_at_their_stages(residual):
    backbone = load_backbone(residual)
    x = backbone.example(2)
    with torch.inference_mode():
        first, second = backbone.suffix(0, [1, 3]).eval()(x)
        torch.testing.assert_close(first, backbone.prefix(0, 1)(x))
        torch.testing.assert_close(second, backbone.prefix(0, 3)(x))


def test_a_row_does_not_depend_on_the_thread_that_computes_it(residual):
    backbone = load_backbone(residual)
    inputs = [backbone.example(2) + i for i in range(8)]
    alone = [backbone.prefix(0, 3)(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(backbone.prefix(0, 3), inputs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_bfloat16_gives_nearly_the_same_features(residual):
    backbone = load_backbone(residual)
    x = backbone.example(4)
    with torch.inference_mode():
        exact = backbone.prefix(0, 3)(x).flatten(1)
        rounded = backbone.prefix(0, 3, torch.bfloat16)(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(exact, rounded.float().flatten(1)).min() > 0.999


@pytest.mark.slow
def test_it_is_compiled_and_exported(residual, rng, tmp_path):
    pytest.importorskip("openvino", reason="the extra fast is not installed")
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    photos = rng.integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="runtime='compiled' is not possible")
        compiled = PretrainedFeatureExtractor(residual, dtype="float32", runtime="compiled", cache=None)
        ours = compiled.fit_transform(photos)
    eager = PretrainedFeatureExtractor(residual, dtype="float32", runtime="eager", cache=None)
    np.testing.assert_allclose(ours, eager.fit_transform(photos), rtol=1e-3, atol=1e-4)
    assert export_onnx(eager, tmp_path / "features.onnx", photos)["largest_difference"] < 1e-4


@pytest.mark.parametrize("module", ["mobilenet_v2", "densenet", "resnet"])
def test_inputs_of_applications_are_those_of_preprocess_input(module, rng):
    import keras

    mode = {"mobilenet_v2": "tf", "densenet": "torch", "resnet": "caffe"}[module]
    photo = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    ours = Entry("bgr" if mode == "caffe" else "rgb", comes_last=True)(_of_mode(mode, SIDE)(photo)[None])[0]
    theirs = getattr(keras.applications, module).preprocess_input(photo.astype(np.float32))
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scaling", "value_range"),
    [({"scale": 1 / 127.5}, (0, 255)), ({"scale": 1 / 255, "offset": 0.0}, (0, 255)), ({"scale": 2.0}, (0, 1))],
)
def test_the_range_of_values_follows_from_layers_that_scale_the_input(folder, scaling, value_range):
    name = saved(residual_network(**scaling), folder, f"scale-{scaling['scale']:.4f}.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        backbone = load_backbone(name)
    black, white = (backbone.preprocessing(np.full((4, 4, 3), level, np.uint8)) for level in (0, 255))
    assert (black.unique().item(), white.unique().item()) == pytest.approx(value_range)


def test_a_model_that_does_not_scale_its_input_is_remarked_on_unless_its_range_is_named(folder):
    name = saved(residual_network(scale=None), folder, "plain.keras")
    with pytest.warns(UserWarning, match=r"images are scaled to 0 \.\.\. 1\. Pass load_backbone\(\.\.\., value_range"):
        plain = load_backbone(name)
    assert plain.preprocessing(np.full((4, 4, 3), 255, np.uint8)).max() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        named = load_backbone(name, value_range=(-1, 1))
    assert named.preprocessing(np.zeros((4, 4, 3), np.uint8)).min() == -1
    assert named.fingerprint != plain.fingerprint
    assert pickle.loads(pickle.dumps(named)) is named
    X = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    model = FineTunedClassifier(named, freeze_depth=1.0, random_state=0).fit(X, [0, 1] * 4)
    model.save(folder / "named.skt")
    np.testing.assert_allclose(load(folder / "named.skt").predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), 255, "01", (0, 1, 2), (0, float("nan")), (None, 1)])
def test_an_impossible_range_of_values_is_refused(residual, value_range):
    with pytest.raises(ValueError, match="value_range must be None or two numbers in increasing order.*got "):
        load_backbone(residual, value_range=value_range)


def test_the_range_of_values_is_for_files_of_keras_alone():
    with pytest.raises(UnsupportedBackboneError, match="'toy:images' does not take value_range"):
        load_backbone("toy:images", value_range=(0, 1))
    with pytest.raises(UnsupportedBackboneError, match="'keras:MobileNetV2' knows the range of its inputs"):
        load_backbone("keras:MobileNetV2", weights="random", value_range=(0, 1))


def test_a_network_of_gray_images_sees_their_brightness(folder, rng):
    backbone = load_backbone(saved(residual_network(channels=1), folder, "gray.keras"))
    backbone.verify()
    digits = rng.integers(0, 256, (2, SIDE, SIDE), dtype=np.uint8)
    model = keras_model(backbone.name)
    theirs = model(digits[..., None].astype(np.float32), training=False)
    inputs = torch.stack([backbone.preprocessing(np.repeat(digit[..., None], 3, 2)) for digit in digits])
    torch.testing.assert_close(backbone.source_outputs(inputs), theirs, rtol=1e-4, atol=1e-5)


def test_a_model_of_any_size_needs_one_to_be_named(folder):
    import keras
    from keras import layers

    chain = [keras.Input((None, None, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.Conv2D(6, 3)]
    name = saved(keras.Sequential([*chain, layers.GlobalMaxPooling2D(), layers.Dense(3)]), folder, "any.keras")
    with pytest.raises(UnsupportedBackboneError, match=r"any size.*Choose one: load_backbone\(.*input_size=224\)"):
        load_backbone(name)
    backbone = load_backbone(name, input_size=20)
    backbone.verify()
    assert backbone.activation_shapes == ((3, 20, 20), (18, 18, 4), (6,))


def test_a_model_of_one_size_takes_another_one_unless_its_layers_forbid_it(residual, tmp_path):
    import keras
    from keras import layers

    larger = load_backbone(residual, input_size=24)
    larger.verify()
    assert larger.activation_shapes[-1] == (6, 6, 12)
    chain = [keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.Conv2D(4, 3)]
    flat = saved(keras.Sequential([*chain, layers.Flatten(), layers.Dense(3)]), tmp_path)
    assert load_backbone(flat).activation_shapes == ((3, 8, 8), (6, 6, 4), (64,))
    with pytest.raises(UnsupportedBackboneError, match="it does not take input_size=12: Keras raises ValueError"):
        load_backbone(flat, input_size=12)


def test_a_model_that_was_trained_in_mixed_precision_is_cut_in_float32(folder):
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        name = saved(residual_network(), folder, "mixed.keras")
    finally:
        keras.config.set_dtype_policy(before)
    backbone = load_backbone(name)
    assert backbone.prefix(0, 3)(backbone.example(2)).dtype == torch.float32


def test_random_weights_are_set_by_their_seed_and_leave_all_generators_alone(residual):
    states = random.getstate(), torch.get_rng_state()
    found = [load_backbone(residual, weights=f"random:{seed}").fingerprint for seed in (1, 2)]
    again = load_backbone(residual, weights="random:1", letterbox=True)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    kernels = [load_backbone(residual, weights="random:1"), again]
    assert torch.equal(*(backbone.library_state()["conv4.kernel"] for backbone in kernels))
    assert len({*found, load_backbone(residual).fingerprint}) == 3


def test_names_and_fingerprint_do_not_depend_on_what_was_built_before():
    import keras

    first = load_backbone("keras:MobileNetV3Small", weights="random:5", input_size=32)
    keras.layers.Activation("relu"), keras.layers.Add()
    again = load_backbone("keras:MobileNetV3Small", weights="random:5", input_size=32, local_files_only=True)
    assert first is not again
    assert first.stage_names == again.stage_names
    assert first.stage_names[-1] == "activation_17"
    assert first.fingerprint == again.fingerprint


def test_equal_weights_in_another_graph_have_another_fingerprint(folder):
    import keras
    from keras import layers

    def network(activation):
        chain = [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation=activation, name="a"),
        ]
        model = keras.Sequential([*chain, layers.Conv2D(4, 3, name="b"), layers.Flatten(name="c")])
        model.set_weights([np.ones(weight.shape) for weight in model.get_weights()])
        return load_backbone(saved(model, folder, f"{activation}.keras"))

    relu, tanh = network("relu"), network("tanh")
    assert relu.stage_names == tanh.stage_names
    assert relu.fingerprint != tanh.fingerprint


def test_weights_come_from_files_of_keras_and_of_this_package(residual, folder, tmp_path):
    backbone = load_backbone(residual)
    other = load_backbone(residual, weights="random:9")
    model = keras_model(residual)
    model.save_weights(tmp_path / "w.weights.h5")
    torch.save(backbone.library_state(), tmp_path / "w.pt")
    for file in (residual.removeprefix("keras:"), str(tmp_path / "w.weights.h5"), str(tmp_path / "w.pt")):
        assert load_backbone(residual, weights=file).fingerprint == backbone.fingerprint != other.fingerprint
    gray = saved(residual_network(channels=1), folder, "one-channel.keras").removeprefix("keras:")
    with pytest.raises(WeightsError, match="do not fit the model"):
        load_backbone(residual, weights=gray)
    with pytest.raises(WeightsError, match="do not fit the model"):
        load_backbone("keras:MobileNetV3Small", weights=gray, input_size=32)


def test_augmentation_is_no_scaling(tmp_path):
    import keras
    from keras import layers

    chain = [keras.Input((8, 8, 3)), layers.RandomFlip(), layers.Conv2D(4, 3), layers.Conv2D(4, 3)]
    with pytest.warns(UserWarning, match="has no layer that scales its input"):
        load_backbone(saved(keras.Sequential(chain), tmp_path))


def test_a_convolution_of_one_place_may_be_the_head(tmp_path):
    import keras
    from keras import layers

    chain = [keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, name="a")]
    chain += [layers.Conv2D(6, 3, name="b"), layers.GlobalAveragePooling2D(keepdims=True), layers.Dropout(0.1)]
    chain += [layers.Conv2D(5, 1, name="labels"), layers.Flatten(), layers.Softmax()]
    backbone = load_backbone(saved(keras.Sequential(chain), tmp_path))
    backbone.verify()
    assert backbone.stage_names == ("a", "b")
    assert "labels.kernel" not in backbone.suffix(0).state_dict()


def test_stages_that_a_shared_activation_ends_have_names_of_their_own(tmp_path):
    import keras
    from keras import layers

    relu, drop = layers.ReLU(name="relu"), layers.Dropout(0.5, name="shared_dropout")
    x = image = keras.Input((8, 8, 3))
    for i in range(3):
        x = drop(relu(layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(x)))
    backbone = load_backbone(saved(keras.Model(image, relu(x)), tmp_path), value_range=(0, 1))
    backbone.verify()
    assert backbone.stage_names == ("shared_dropout", "shared_dropout:1", "relu")


def test_normalization_uses_the_statistics_of_the_weights_that_are_read(tmp_path, rng):
    import keras
    from keras import layers

    names = []
    for level in (255, 128):
        norm = layers.Normalization(name="norm")
        norm.adapt(rng.uniform(0, level, (8, 8, 8, 3)))
        chain = [keras.Input((8, 8, 3)), norm, layers.Conv2D(4, 3, name="a"), layers.Conv2D(4, 3, name="b")]
        names.append(saved(keras.Sequential(chain), tmp_path, f"{level}.keras"))
    first, second = map(load_backbone, names)
    torch.save(second.library_state(), tmp_path / "w.pt")
    x = first.example(2)
    for weights in (names[1].removeprefix("keras:"), str(tmp_path / "w.pt")):
        read = load_backbone(names[0], weights=weights)
        torch.testing.assert_close(read.prefix(0, 2)(x), second.prefix(0, 2)(x))
    assert not torch.allclose(first.prefix(0, 2)(x), second.prefix(0, 2)(x))


def whole_numbers():
    import keras

    chain = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)]
    return keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), *chain])


def lambda_model():
    import keras

    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x / 255), keras.layers.Conv2D(4, 3)])


def two_inputs():
    import keras

    images = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    return keras.Model(images, keras.layers.Conv2D(4, 3)(keras.layers.Add()(images)))


def two_outputs():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    return keras.Model(image, [x, keras.layers.Conv2D(4, 3)(x)])


def rows_of_numbers():
    import keras

    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])


def wide_images():
    import keras

    return keras.Sequential([keras.Input((8, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)])


def skips_all():
    """The image itself is needed up to the end."""
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(3, 3, padding="same")(keras.layers.Conv2D(4, 3, padding="same")(image))
    return keras.Model(image, keras.layers.Concatenate()([image, x]))


def renormalized():
    import keras

    if "renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters:
        pytest.skip("this version of Keras has no batch renormalization")
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(renorm=True), keras.layers.Conv2D(4, 3)]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


def one_layer_for_all():
    """A convolution that is called three times is no part of two stages."""
    import keras

    image, shared = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same")
    return keras.Model(image, shared(shared(shared(image))))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda_model, "holds a Lambda layer, which would run code"),
        (two_inputs, "has 2 inputs and 1 outputs; expected one of each"),
        (two_outputs, "has 1 inputs and 2 outputs; expected one of each"),
        (rows_of_numbers, r"reads inputs of shape \(8,\); expected square images"),
        (whole_numbers, "reads images of dtype uint8; expected floats"),
        (wide_images, r"reads inputs of shape \(8, 16, 3\); expected square images"),
        (skips_all, "cannot be cut into stages: its graph has 1 stages"),
        (renormalized, "BatchNormalization with renorm=True"),
        (one_layer_for_all, "cannot be cut into stages: its graph has 1 stages"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_by_name(build, message, tmp_path):
    name = saved(build(), tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=message) as caught:
        load_backbone(name, value_range=(0, 1))
    assert name in str(caught.value)


def test_a_layer_that_is_shared_is_within_one_stage(tmp_path):
    import keras

    image, shared = keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same", name="shared")
    x = shared(shared(keras.layers.Conv2D(4, 3, name="a")(keras.layers.Rescaling(1 / 255)(image))))
    backbone = load_backbone(saved(keras.Model(image, keras.layers.Conv2D(4, 3, name="b")(x)), tmp_path))
    backbone.verify()
    assert backbone.stage_names == ("a", "shared", "b")
    assert backbone.stage_parameters(1) == ("shared.kernel", "shared.bias")


def test_code_of_others_is_refused_before_keras_reads_the_file(residual, tmp_path):
    """The file's description is changed as an attacker would: no class or function outside of Keras is looked up."""
    source = residual.removeprefix("keras:")
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    foreign = {"module": "os", "class_name": "system", "config": {}, "registered_name": "system"}
    harm = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    disguised = {"module": "keras.layers", "class_name": "Conv2D", "config": {}, "registered_name": "mine>Doubled"}
    fetch = {"module": "keras.utils", "class_name": "get_file", "config": {}, "registered_name": None}
    changes = [
        ("inner", {"class_name": "Dense", "config": {}, "compile_config": {"loss": harm}}),
        ("activation", harm),
        ("activation", fetch),
        ("kernel_initializer", foreign),
    ]
    for i, (key, value) in enumerate([*changes, ("kernel_initializer", disguised)]):
        changed = copy.deepcopy(config)
        (layer,) = (layer for layer in changed["config"]["layers"] if layer["config"]["name"] == "conv4")
        layer["config"][key] = value
        path = tmp_path / f"{i}.keras"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (parts | {"config.json": json.dumps(changed).encode()}).items():
                archive.writestr(name, content)
        with pytest.raises(UnsupportedBackboneError, match="holds the custom object .*, which would run code"):
            load_backbone(f"keras:{path}")


def test_a_custom_layer_is_refused_by_name(tmp_path):
    import keras

    @keras.saving.register_keras_serializable("mine")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    name = saved(keras.Sequential([keras.Input((8, 8, 3)), Doubled(), keras.layers.Conv2D(4, 3)]), tmp_path)
    with pytest.raises(UnsupportedBackboneError, match="holds the custom object 'mine>Doubled'"):
        load_backbone(name)


def test_files_that_are_no_models_are_refused_by_name(residual, tmp_path):
    with pytest.raises(BackboneNotFoundError, match=r"There is no file '.*absent\.keras'"):
        load_backbone(f"keras:{tmp_path / 'absent.keras'}")
    for name, content in {"old.h5": b"\x89HDF\r\n", "text.keras": b"no model", "empty.keras": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name}.*(is not a \.keras file|cannot be read as a model)"):
            load_backbone(f"keras:{tmp_path / name}")
    (tmp_path / "saved_model").mkdir()
    with pytest.raises(WeightsError, match=r"saved_model' is not a \.keras file"):
        load_backbone(f"keras:{tmp_path / 'saved_model'}")
    content = pathlib.Path(residual.removeprefix("keras:")).read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"cut\.keras cannot be read as a model of Keras"):
        load_backbone(f"keras:{tmp_path / 'cut.keras'}")
    with zipfile.ZipFile(residual.removeprefix("keras:")) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(tmp_path / "damaged.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.10.0"}))
        archive.writestr("model.weights.h5", b"no weights")
    with pytest.raises(WeightsError, match=r"weights in .*damaged\.keras cannot be read"):
        load_backbone(f"keras:{tmp_path / 'damaged.keras'}")


def test_official_weights_that_cannot_be_fetched_are_an_error_that_says_what_to_do():
    with pytest.raises(WeightsError, match=r"'keras:MobileNetV2' could not be fetched .*copy the folder .*models"):
        load_backbone("keras:MobileNetV2", input_size=96)
    with pytest.raises(WeightsError, match="cannot be loaded with local_files_only=True"):
        load_backbone("keras:MobileNetV2", input_size=96, local_files_only=True)
    assert describe_backbone("keras:MobileNetV2").stages[0].name == "Conv1_relu"


def test_an_application_without_stages_or_of_another_name_is_refused():
    with pytest.raises(UnsupportedBackboneError, match="'keras:NASNetMobile' cannot be cut into stages: each of its"):
        load_backbone("keras:NASNetMobile", weights="random")
    with pytest.raises(BackboneNotFoundError, match="no network 'MobilNetV2'.*Did you mean 'keras:MobileNetV2'"):
        load_backbone("keras:MobilNetV2", weights="random")
    with pytest.raises(UnsupportedBackboneError, match="'keras:MobileNetV2' does not take input_size=8: ValueError"):
        load_backbone("keras:MobileNetV2", weights="random", input_size=8)


def test_applications_are_listed_where_keras_is_installed(monkeypatch):
    assert {"keras:MobileNetV2", "keras:InceptionV3"} <= set(list_backbones("image"))
    monkeypatch.setitem(sys.modules, "keras", None)
    assert not list_backbones(pattern="keras:*")


def test_the_reference_lists_it():
    page = (ROOT / "docs" / "reference" / "backbones.md").read_text(encoding="utf-8")
    for name in ("MobileNetV2", "MobileNetV3Small"):
        backbone = load_backbone(f"keras:{name}", weights="random", input_size=64)
        shown = f"`{backbone.stage_names[0]}` … `{backbone.stage_names[-1]}`"
        row = f"| `{backbone.name}` | {backbone.n_stages} | {shown} | {backbone.n_features} |"
        assert row in page.splitlines(), f"write this row into docs/reference/backbones.md: {row}"


def test_an_absent_library_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingDependencyError, match=r"need Keras\. Install it with: .*'skltransfer\[keras\]'"):
        load_backbone("keras:MobileNetV2", weights="random:7")


@pytest.fixture
def not_imported(monkeypatch, tmp_path):
    """A process that has not imported Keras yet, and settings of its own."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND")
    return tmp_path / "keras.json"


def test_another_backend_is_refused_with_what_to_do_before_keras_is_imported(not_imported, monkeypatch):
    expected = "but its backend is {!r}. Set the environment variable KERAS_BACKEND=torch before Python starts, or "
    for backend, settings, variable in [
        ("tensorflow", None, None),
        ("jax", '{"backend": "jax"}', None),
        ("tensorflow", "damaged", None),
        ("jax", '{"backend": "torch"}', "jax"),
    ]:
        if settings is not None:
            not_imported.write_text(settings)
        if variable is not None:
            monkeypatch.setenv("KERAS_BACKEND", variable)
        with pytest.raises(MissingDependencyError) as caught:
            load_backbone("keras:MobileNetV2", weights="random:7")
        assert expected.format(backend) in str(caught.value)
        assert f'"backend": "torch" in {not_imported}' in str(caught.value)
        assert "keras" not in sys.modules


@pytest.mark.slow
def test_keras_that_was_imported_with_another_backend_is_refused(tmp_path):
    code = """
import keras, skltransfer
try:
    skltransfer.load_backbone("keras:MobileNetV2", weights="random")
except skltransfer.exceptions.MissingDependencyError as error:
    print(error)
"""
    environment = os.environ | {"KERAS_BACKEND": "openvino", "KERAS_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "but its backend is 'openvino'. Set the environment variable KERAS_BACKEND=torch" in run.stdout


def test_weights_in_another_dtype_are_refused():
    import keras

    keras.config.set_floatx("float16")
    try:
        with pytest.raises(UnsupportedBackboneError, match="need weights in float32, but Keras is set to 'float16'"):
            load_backbone("keras:MobileNetV2", weights="random:7")
    finally:
        keras.config.set_floatx("float32")


def test_a_search_over_freeze_depth_saved_and_loaded_in_another_process(residual, two_kinds, tmp_path):
    X, y = two_kinds
    X = np.repeat((255 * X[..., None]).astype(np.uint8), 3, axis=3)  # 16 x 16 pixels
    model = Pipeline(
        [
            ("pictures", FunctionTransformer()),
            ("network", FineTunedClassifier(residual, max_epochs=3, random_state=0, dtype="float32", runtime="eager")),
        ]
    )
    search = GridSearchCV(model, {"network__freeze_depth": [0.4, 1.0]}, cv=2).fit(X, y)
    tuned = search.best_estimator_.named_steps["network"]
    tuned.save(tmp_path / "tuned.skt")
    np.save(tmp_path / "X.npy", X)
    code = f"""
import numpy as np
from skltransfer import load
print(load({str(tmp_path / "tuned.skt")!r}).predict_proba(np.load({str(tmp_path / "X.npy")!r})).tolist())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = search.best_estimator_.predict_proba(X)
    np.testing.assert_allclose(json.loads(run.stdout), ours, atol=1e-5)
    assert search.best_score_ > 0.8


def test_a_saved_estimator_may_hold_an_applications_weights(two_kinds, tmp_path):
    X, y = (part[:10] for part in two_kinds)
    backbone = load_backbone("keras:MobileNetV3Small", weights="random", input_size=32)
    model = FineTunedClassifier(backbone, freeze_depth=1.0, random_state=0).fit(X, y)
    model.save(tmp_path / "whole.skt", include_backbone=True)
    np.testing.assert_allclose(load(tmp_path / "whole.skt").predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_a_model_in_a_file_is_not_put_into_another(residual, two_kinds, tmp_path):
    X, y = two_kinds
    model = FineTunedClassifier(residual, freeze_depth=1.0, random_state=0).fit(X, y)
    with pytest.raises(UnsupportedBackboneError, match="takes more than weights to build it again"):
        model.save(tmp_path / "whole.skt", include_backbone=True)
