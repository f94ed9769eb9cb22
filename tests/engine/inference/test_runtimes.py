"""The frozen stages in other runtimes: the same numbers, the same promises."""

import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from skltransfer import (
    ActivationStore,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    load,
    load_backbone,
)
from skltransfer.engine import FrozenStages, recall, resolve_runtime
from skltransfer.engine.inference import compiled
from skltransfer.engine.inference.dtypes import is_native
from skltransfer.engine.inference.runtime import EAGER, FOLDED
from skltransfer.exceptions import MissingDependencyError, UnsupportedBackboneError
from skltransfer.inputs import samples_from_collection

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not compiled.is_installed(), reason="the extra fast is not installed")
NATIVE = [torch.float32, *([torch.bfloat16] if is_native(torch.bfloat16, CPU) else [])]
COMPILED = ["torchvision:resnet18", "timm:vit_tiny_patch16_224", "bundled:efficientnet-lite0", "bundled:minilm"]
WORDS = ["good", "bad", "film", "long", "short", "light", "dark", "quiet", "loud", "old", "new", "story"]


def texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 1 + 3 * (i % 8))) for i in range(n)]


def pictures(n, side=40):
    return list(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def small(name):
    """A network of a family at a small input size."""
    return load_backbone(name, weights="random", **({"input_size": 64} if "vit" not in name else {}))


def slow_to_compile(name, dtype):
    """Quick are the convolutions of ResNet in each dtype, and the attention of MiniLM in float32."""
    is_slow = name != "torchvision:resnet18" and (name, dtype) != ("bundled:minilm", torch.float32)
    return pytest.param(name, dtype, marks=[pytest.mark.slow] if is_slow else [], id=f"{name}-{dtype}")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "COMPILED", compiled.CompiledRuntime())
    monkeypatch.setattr("skltransfer.engine.inference.runtime_choice._refused", {})
    return tmp_path / "cache" / "compiled"


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "timm:tf_efficientnet_lite0", "torchvision:mobilenet_v3_small"]
)
def test_folded_stages_agree_with_the_library(name):
    backbone = small(name)
    assert backbone.is_foldable
    X = pictures(3, 80)
    eager, folded = (
        PretrainedFeatureExtractor(backbone, runtime=runtime, dtype="float32", cache=None).transform(X)
        for runtime in ("eager", "folded")
    )
    np.testing.assert_allclose(folded, eager, rtol=1e-4, atol=1e-5 * np.abs(eager).max())
    assert (folded != eager).any()


def test_a_network_without_batch_norms_has_nothing_to_fold():
    assert resolve_runtime("folded", load_backbone("toy:text"), torch.float32, CPU) is EAGER


def test_a_small_network_is_not_compiled():
    assert resolve_runtime("auto", load_backbone("toy:text"), torch.float32, CPU) is EAGER


@needs_openvino
@pytest.mark.parametrize(("name", "dtype"), [slow_to_compile(name, dtype) for name in COMPILED for dtype in NATIVE])
def test_a_compiled_network_agrees_with_torch_and_treats_rows_alike(name, dtype):
    backbone = load_backbone(name) if name.startswith("bundled") else small(name)
    X = texts(20) if backbone.modality == "text" else pictures(6)
    options = {"dtype": str(dtype).removeprefix("torch."), "cache": None}
    eager = PretrainedFeatureExtractor(backbone, runtime="eager", dtype="float32", cache=None).transform(X)
    extractor = PretrainedFeatureExtractor(backbone, runtime="compiled", **options)
    found = extractor.transform(X)
    cosine = (found * eager).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(eager, axis=1)
    if dtype == torch.float32:
        np.testing.assert_allclose(found, eager, atol=1e-4 * np.abs(eager).max())
    assert cosine.min() > 0.999
    for rows in ([0], [3], [4, 1], [5, 4, 3, 2, 1]):
        np.testing.assert_array_equal(extractor.transform([X[row] for row in rows]), found[rows])


@needs_openvino
@pytest.mark.slow
def test_a_text_of_any_length_has_the_same_embedding_alone_and_among_others():
    X = [" ".join(WORDS[i % len(WORDS)] for i in range(n)) for n in range(1, 150, 3)]
    extractor = PretrainedFeatureExtractor("bundled:minilm", runtime="compiled", cache=None)
    whole = extractor.transform(X * 2)
    for i, text in enumerate(X):
        np.testing.assert_array_equal(extractor.transform([text])[0], whole[i])


@needs_openvino
@pytest.mark.parametrize("dtype", NATIVE, ids=str)
@pytest.mark.parametrize("held", [[], [1], [2], [3], [4], [1, 3], [2, 4, 5]])
@pytest.mark.slow
def test_bits_do_not_depend_on_what_the_store_holds(dtype, held):
    backbone = load_backbone("bundled:efficientnet-lite0")
    samples = samples_from_collection(pictures(5), "image", **backbone.reading)

    def found(boundary, store, *, fits):
        stages = FrozenStages(backbone, dtype=dtype, device=CPU, store=store, fits=fits, runtime=compiled.COMPILED)
        return recall(stages, samples, [stages.address(boundary, None)]).tensors[0]

    expected = [found(boundary, None, fits=False) for boundary in range(1, backbone.n_stages + 1)]
    store = ActivationStore()
    for boundary in held:
        found(boundary, store, fits=boundary % 2 == 0)
    for boundary in (3, 5, 6, 8, 7):
        assert torch.equal(found(boundary, store, fits=boundary % 2 == 1), expected[boundary - 1]), boundary


@needs_openvino
def test_a_search_over_the_usual_depths_computes_each_stage_once():
    backbone, calls = load_backbone("bundled:efficientnet-lite0"), []

    class Counting(compiled.CompiledRuntime):
        def between(self, backbone, start, stop, dtype, device):
            run = super().between(backbone, start, stop, dtype, device)
            return lambda batch: calls.append((start, stop, len(batch))) or run(batch)

    runtime, store = Counting(), ActivationStore()
    runtime.prepare(backbone, torch.float32)
    samples = samples_from_collection(pictures(16), "image", **backbone.reading)
    for boundary in (4, 8, 2, 6):
        stages = FrozenStages(backbone, dtype=torch.float32, device=CPU, store=store, fits=True, runtime=runtime)
        recall(stages, samples, [stages.address(boundary, None)])
    assert sorted({(start, stop) for start, stop, _ in calls}) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert sum(n for _, _, n in calls) == 4 * 16


@needs_openvino
def test_several_threads_share_a_compiled_network():
    X = texts(40)
    extractor = PretrainedFeatureExtractor("bundled:minilm", runtime="compiled", dtype="float32", cache=None)
    expected = extractor.transform(X)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: extractor.transform(X[start : start + 10]), (0, 10, 20, 30)))
    np.testing.assert_array_equal(np.vstack(found), expected)


@needs_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_computes_the_same_and_openvino_reports_to_nobody(tmp_path):
    code = """if True:
        import os, sys, numpy as np
        from skltransfer import PretrainedFeatureExtractor
        X = list(np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8))
        extractor = PretrainedFeatureExtractor("toy:images", runtime="compiled", dtype="float32", cache=None)
        expected = extractor.transform(X)
        assert "openvino" in sys.modules
        pid = os.fork()
        if not pid:
            os._exit(not np.array_equal(extractor.transform(X), expected))
        print(os.waitpid(pid, 0)[1])
    """
    environment = os.environ | {"HOME": str(tmp_path), compiled.VARIABLE: str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "0"
    assert list((tmp_path / "cache" / "compiled").glob("*.openvino"))
    assert not (tmp_path / "intel").exists()


@needs_openvino
def test_what_was_compiled_is_read_by_the_next_process(own_cache, monkeypatch):
    backbone, X = load_backbone("toy:images"), pictures(3)
    expected = PretrainedFeatureExtractor(backbone, runtime="compiled", cache=None).transform(X)
    assert list(own_cache.glob("*.openvino"))
    assert len(list(own_cache.glob("*.verdict"))) == 1
    later = compiled.CompiledRuntime()
    monkeypatch.setattr(later, "_converted", None)  # nothing is compiled again
    monkeypatch.setattr(compiled, "COMPILED", later)
    np.testing.assert_array_equal(
        PretrainedFeatureExtractor(backbone, runtime="compiled", cache=None).transform(X), expected
    )


@needs_openvino
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_made_again(own_cache, monkeypatch, damage):
    backbone, X = load_backbone("toy:images"), pictures(2)
    expected = PretrainedFeatureExtractor(backbone, runtime="compiled", cache=None).transform(X)
    whole = {path: path.read_bytes() for path in own_cache.iterdir()}
    for path, content in whole.items():
        middle = len(content) // 2
        harmed = {
            "truncated": content[:middle],
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
        }
        path.write_bytes(harmed[damage])
    monkeypatch.setattr(compiled, "COMPILED", compiled.CompiledRuntime())
    np.testing.assert_array_equal(
        PretrainedFeatureExtractor(backbone, runtime="compiled", cache=None).transform(X), expected
    )
    assert any(compiled._read(path) is not None for path in whole)


@needs_openvino
@pytest.mark.slow
def test_the_cache_folder_is_bounded_and_need_not_be_writable(own_cache, monkeypatch, tmp_path):
    X = pictures(2)
    monkeypatch.setattr(compiled, "MAX_BYTES", 20_000_000)
    expected = PretrainedFeatureExtractor(runtime="compiled", cache=None).transform(X)
    for seed in range(2):
        backbone = load_backbone("timm:tf_efficientnet_lite0", weights=f"random:{seed}", input_size=64)
        PretrainedFeatureExtractor(backbone, runtime="compiled", cache=None).transform(X)
    assert sum(path.stat().st_size for path in own_cache.iterdir()) <= 20_000_000
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(compiled.VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(compiled, "COMPILED", compiled.CompiledRuntime())
    np.testing.assert_array_equal(PretrainedFeatureExtractor(runtime="compiled", cache=None).transform(X), expected)


def test_without_openvino_it_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"skltransfer\[fast\]"):
        PretrainedFeatureExtractor(runtime="compiled").transform(pictures(1))
    assert resolve_runtime("auto", load_backbone("bundled:efficientnet-lite0"), torch.float32, CPU) is FOLDED


@needs_openvino
def test_a_fitted_model_keeps_its_runtime_and_falls_back_with_one_warning(tmp_path, monkeypatch):
    X, y = pictures(8), np.arange(8) % 2
    model = FineTunedClassifier(freeze_depth=1.0, dtype="float32", cache=None).fit(X, y)
    assert model.runtime_ == "compiled"
    model.save(tmp_path / "model")
    eager = FineTunedClassifier(freeze_depth=1.0, dtype="float32", runtime="eager", cache=None).fit(X, y)
    assert eager.runtime_ == "eager"
    expected = model.predict_proba(X)
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model)), model.set_params(runtime="eager")):
        np.testing.assert_array_equal(again.predict_proba(X), expected)
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    with pytest.warns(UserWarning, match="Fitted with runtime='compiled', but OpenVINO is not installed") as told:
        found = load(tmp_path / "model").predict_proba(X)
    assert len(told) == 1
    np.testing.assert_allclose(found, expected, atol=1e-3)


@needs_openvino
def test_a_network_that_differs_is_refused_by_name(own_cache, monkeypatch, caplog):
    monkeypatch.setattr(compiled, "_difference", lambda *_, **__: "they differ by 3.0e-01 relative, more than 1e-04")
    extractor = PretrainedFeatureExtractor(dtype="float32", runtime="compiled", cache=None)
    caplog.set_level(logging.INFO, "skltransfer")
    with pytest.warns(UserWarning, match="'bundled:efficientnet-lite0', stages 'stem' to .*differ by 3.0e-01"):
        found = extractor.transform(pictures(2))
    np.testing.assert_array_equal(found, extractor.set_params(runtime="folded").transform(pictures(2)))
    np.testing.assert_array_equal(found, extractor.set_params(runtime="auto").transform(pictures(2)))
    assert "OpenVINO" in caplog.text
    assert [path.suffix for path in own_cache.iterdir()] == [".verdict"]  # so that the next process need not try


@needs_openvino
@pytest.mark.filterwarnings("error")
def test_another_thread_count_compiles_anew_and_gives_the_same_bits():
    X, n = pictures(3), torch.get_num_threads()
    extractor = PretrainedFeatureExtractor("toy:images", runtime="compiled", dtype="float32", cache=None)
    expected = extractor.transform(X)
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(extractor.transform(X), expected)
    finally:
        torch.set_num_threads(n)


@needs_openvino
def test_partial_fit_keeps_the_runtime():
    X, y = pictures(8), np.arange(8) % 2
    model = FineTunedClassifier(freeze_depth=-1, dtype="float32", runtime="eager", max_epochs=1, cache=None).fit(X, y)
    assert model.set_params(runtime="auto").partial_fit(X, y).runtime_ == "eager"
    assert model.fit(X, y).runtime_ == "compiled"


@needs_openvino
@pytest.mark.slow
def test_the_first_use_may_be_in_several_threads_at_once():
    code = """if True:
        import numpy as np
        from concurrent.futures import ThreadPoolExecutor
        from skltransfer import PretrainedFeatureExtractor
        X = list(np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8))
        with ThreadPoolExecutor(4) as pool:
            make = lambda _: PretrainedFeatureExtractor(dtype="float32", cache=None).transform(X)
            first, *others = pool.map(make, range(4))
        assert all(np.array_equal(first, other) for other in others)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    "error", [ImportError("no shared library"), AttributeError("get_version"), RuntimeError("home")]
)
def test_an_installation_that_is_broken_is_not_used(own_cache, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr(compiled, "is_installed", lambda: True)
    monkeypatch.setattr(compiled, "_openvino", broken)
    extractor = PretrainedFeatureExtractor(dtype="float32", cache=None)
    found = extractor.transform(pictures(2))
    np.testing.assert_array_equal(found, extractor.set_params(runtime="folded").transform(pictures(2)))
    with pytest.warns(UserWarning, match=f"OpenVINO cannot be used: {error}"):
        extractor.set_params(runtime="compiled").transform(pictures(2))


@needs_openvino
def test_a_cache_folder_that_may_only_be_read_is_read(own_cache, monkeypatch):
    extractor = PretrainedFeatureExtractor("toy:images", runtime="compiled", cache=None)
    expected = extractor.transform(pictures(2))
    later = compiled.CompiledRuntime()
    monkeypatch.setattr(compiled, "COMPILED", later)
    monkeypatch.setattr(later, "_converted", None)  # nothing is compiled again

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    np.testing.assert_array_equal(extractor.transform(pictures(2)), expected)


@needs_openvino
def test_a_refusal_is_remembered_and_an_error_of_the_library_is_not(own_cache, monkeypatch):
    backbone, tried = load_backbone("bundled:efficientnet-lite0"), []
    monkeypatch.setattr(compiled, "_difference", lambda *_, **__: tried.append(1) or "they differ")
    for _ in range(2):
        with pytest.raises(UnsupportedBackboneError, match="they differ"):
            compiled.CompiledRuntime().prepare(backbone, torch.float32)
    assert len(tried) == 1
    next(own_cache.glob("*.verdict")).unlink()
    monkeypatch.setattr(compiled.CompiledRuntime, "_converted", lambda *_: 1 / 0)
    with pytest.raises(UnsupportedBackboneError, match="division by zero"):
        compiled.CompiledRuntime().prepare(backbone, torch.float32)
    assert not list(own_cache.iterdir())


@needs_openvino
@pytest.mark.parametrize("dtype", NATIVE, ids=str)
def test_a_layer_has_the_same_bits_alone_and_among_others(dtype):
    backbone, options = small("torchvision:resnet18"), {"runtime": "compiled", "cache": None}
    options["dtype"] = str(dtype).removeprefix("torch.")
    X, names = pictures(5), list(backbone.stage_names)
    whole = PretrainedFeatureExtractor(backbone, layer=names, **options).transform(X)
    alone = [PretrainedFeatureExtractor(backbone, layer=name, **options).transform(X) for name in names]
    np.testing.assert_array_equal(whole, np.hstack(alone))


@needs_openvino
@pytest.mark.skipif(os.name != "posix", reason="this system has other permissions")
@pytest.mark.parametrize("owner", ["anyone", "another user"])
def test_a_cache_folder_of_others_is_not_used(own_cache, monkeypatch, caplog, owner):
    caplog.set_level(logging.INFO, "skltransfer")
    own_cache.mkdir(parents=True)
    if owner == "anyone":
        own_cache.chmod(0o777)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        if os.getuid() == 0:  # whose folders are trusted
            os.chown(own_cache, 1234, -1)
    PretrainedFeatureExtractor("toy:images", runtime="compiled", cache=None).transform(pictures(2))
    assert not list(own_cache.iterdir())
    assert "is not used: it is another user's, or anyone may write into it" in caplog.text
