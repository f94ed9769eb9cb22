"""Files that mean harm: each is refused by name, and nothing runs, nothing is written, little memory is taken."""

import contextlib
import functools
import io
import json
import os
import pathlib
import pickle
import re
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from catalogue import Bench, classifier, encoded, features
from faults_of_texts_and_sounds import folder, heard, tone, wav
from phones import TABLES, changed, heic, m4a
from PIL import Image
from safetensors.numpy import load_file, save_file
from stores import forget

from skltransfer import ActivationStore, load, load_backbone, load_image_folder
from skltransfer.exceptions import BackboneNotFoundError, BadSampleError, SkltransferError, WeightsError

MIB, ALLOWED = 2**20, 400  # MiB of address space beyond what is in use: less than what a bomb would fill


@pytest.fixture
def bench(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, monkeypatch, rng)


@contextlib.contextmanager
def harmless(place):
    """Nothing appears in the folder, and memory stays bounded."""
    before = {path: path.lstat().st_size for path in place.rglob("*")}
    with _little_memory():
        yield
    assert {path: path.lstat().st_size for path in place.rglob("*")} == before
    assert not (place / "ran").exists()


@contextlib.contextmanager
def _little_memory():
    if sys.platform != "linux":
        yield
        return
    import resource

    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (old, hard))


class Payload:
    """Unpickling it leaves a file."""

    def __reduce__(self):
        return open, ("ran", "w")


@functools.cache
def bomb(n: int) -> bytes:
    """What torch.save makes of n zeros, packed to a thousandth."""
    buffer = io.BytesIO()
    content = of_torch({"w": torch.zeros(n)})
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    return buffer.getvalue()


def of_torch(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def of_safetensors(header, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def one_tensor(shape, offsets=(0, 4), dtype="F32") -> bytes:
    return of_safetensors({"stem.0.weight": {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}}, bytes(4))


WEIGHTS = {
    "code in a state dict": lambda: of_torch({"stem.0.weight": Payload()}),
    **{f"a pickle of protocol {p}": lambda p=p: pickle.dumps({"w": Payload()}, protocol=p) for p in (0, 2, 4, 5)},
    "a bomb in a state dict": lambda: bomb(120_000_000),
    "a damaged zip": lambda: of_torch({})[:-30] + bytes(30),
    "a header that claims 2**63 bytes": lambda: (2**63).to_bytes(8, "little") + b"{}",
    "a header of 50 MB": lambda: of_safetensors(b"{" + b" " * 50_000_000 + b"}"),
    "a header of 90,000 brackets": lambda: of_safetensors(b"[" * 90_000),
    "a shape of 10**18": lambda: one_tensor([10**9, 10**9]),
    "a negative shape": lambda: one_tensor([-1]),
    "offsets beyond the file": lambda: one_tensor([10**6], (0, 4 * 10**6)),
    "a tensor without bytes": lambda: one_tensor([0, 10**15], (0, 0)),
    "a page": lambda: b"<html>" * 99,
}


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin"])
@pytest.mark.parametrize("attack", WEIGHTS)
def test_a_file_of_weights_is_data_or_refused(bench, attack, suffix):
    path = bench.file(WEIGHTS[attack](), f"w.{suffix}")
    load_backbone("toy:rows")
    with harmless(bench.place), pytest.raises(WeightsError, match=rf"w\.{suffix}"):
        load_backbone("toy:rows", weights=path)


def _as_bin(content):
    def change(place):
        (place / "model.safetensors").unlink()
        (place / "pytorch_model.bin").write_bytes(content())

    return change


def _with_settings(file, **settings):
    def change(place):
        path = place / file
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def _with_code(model_type):
    def change(place):
        (place / "evil.py").write_text("open('ran', 'w')")
        _with_settings("config.json", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"}, model_type=model_type)(
            place
        )

    return change


def _without_a_tensor(place):
    state = load_file(place / "model.safetensors")
    del state["h.0.attn.c_proj.weight"]
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})


def _writing(file, content):
    return lambda place: (place / file).write_bytes(content)


MODELS = {
    "code in .bin": (_as_bin(lambda: of_torch({"wte.weight": Payload()})), "nothing is ever unpickled"),
    "a bomb in .bin": (_as_bin(lambda: bomb(120_000_000)), "no model that"),
    "a configuration with code": (_with_code("evil"), "contains custom code"),
    "a page for a configuration": (_writing("config.json", b"<html>"), "not a valid JSON file"),
    "a page for weights": (_writing("model.safetensors", b"<html>" * 99), "no model that .*(?i:header ?too ?large)"),
    "weights for a small part": (_without_a_tensor, r"lacks the weights \['h.0.attn.c_proj.weight'\]"),
    "a network of 10**14 weights": (_with_settings("config.json", n_embd=10**7, n_head=10**6), "no model that"),
    "a layer count in words": (_with_settings("config.json", n_layer="many"), "no model that"),
    "brackets for a configuration": (_writing("config.json", b"[" * 90_000), "no model that"),
    "brackets for a tokenizer": (_writing("tokenizer.json", b"[" * 90_000), "no model that"),
    "a module of its own": (_writing("modules.json", b'[{"type": "evil.System", "path": ""}]'), "kind 'System'"),
    "a module outside": (
        _writing("modules.json", b'[{"type": "st.Pooling", "path": "../secret"}]'),
        "asks for a file outside of it: '../secret'",
    ),
}


@pytest.mark.parametrize("attack", MODELS)
def test_a_folder_of_transformers_is_data_or_refused(bench, attack):
    change, says = MODELS[attack]
    (bench.place / "secret").mkdir()
    (bench.place / "secret" / "config.json").write_text('{"password": "sesame"}')
    (bench.place / "model").mkdir()
    name = folder(Bench(bench.place / "model", bench.patch, bench.rng))
    change(bench.place / "model")
    with harmless(bench.place), pytest.raises(SkltransferError, match=says) as caught:
        load_backbone(name)
    assert "sesame" not in str(caught.value)


def test_a_known_network_is_loaded_without_the_code_beside_it(bench):
    name = folder(bench)
    _with_code("gpt2")(bench.place)
    with harmless(bench.place):
        assert load_backbone(name).n_stages == 3


@pytest.fixture
def saved(bench):
    """A fitted classifier in a file, its header and its arrays."""
    X, y = bench.table()
    path = bench.place / "model.skl"
    classifier().fit(X, y).save(path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8:end])["__metadata__"]["skltransfer"])
    return path, header, load_file(path)


SAVED = {
    "an array of gigabytes by its dtype": lambda h: h["fitted"]["classes_"].update(dtype="<U500000000"),
    "a subarray dtype": lambda h: h["fitted"]["classes_"].update(dtype="(99999,99999)f8"),
    "a billion outputs": lambda h: h["network"].update(n_outputs=10**9),
    "fewer outputs than none": lambda h: h["network"].update(n_outputs=-1),
    "ten billion constants": lambda h: h["network"].update(n_constants=10**10),
    "a deeper boundary": lambda h: h["network"].update(boundary=10**9),
    "a hidden layer that is not there": lambda h: h["network"].update(head="mlp"),
    "another pooling": lambda h: h["network"].update(pooling="os.system"),
    "taps beyond the network": lambda h: h["network"].update(taps=[10**9]),
    "a head of another kind": lambda h: h["network"].update(head="os.system"),
    "a part that no network has": lambda h: h["network"].update(evil=1),
    "a network as earlier versions wrote it, too short": lambda h: h.update(network=[1, "mean"]),
    "a network as earlier versions wrote it, of a billion outputs": lambda h: h.update(
        network=[1, "mean", 10**9, False], adapter=None
    ),
    "a class that is none of ours": lambda h: h.update({"class": "subprocess.Popen"}),
    "a class that is a list": lambda h: h.update({"class": ["Popen"]}),
    "a method of the task": lambda h: h["task"][1]["pairs"].append(["decode", "evil"]),
    "another task": lambda h: h.update(task=["RegressionTask", {"pairs": []}]),
    "a task with fewer classes": lambda h: h["task"][1]["pairs"].append(["classes", [0]]),
    "an attribute of the class": lambda h: h["fitted"].update(__class__="evil"),
    "a method of the estimator": lambda h: h["fitted"].update(predict="evil"),
    "another dtype": lambda h: h["fitted"].update(dtype_="evil"),
    "another runtime": lambda h: h["fitted"].update(runtime_="evil"),
    "a parameter that is not there": lambda h: h["parameters"].update(shell=True),
    "a parameter of another kind": lambda h: h["parameters"].update(image_shape="evil"),
    "weights that are a device": lambda h: h["origin"]["tuple"].__setitem__(1, "/dev/zero"),
    "another backbone": lambda h: h["origin"]["tuple"].__setitem__(0, "toy:images"),
    "an origin that is a number": lambda h: h.update(origin=5),
    "options in words": lambda h: h["origin"]["tuple"].__setitem__(2, {"pairs": [["max_pixels", "many"]]}),
}
RAW = {
    "a list": "[1]",
    "nothing": "null",
    "brackets": "[" * 500_000,
    "a version to come": '{"format": 99}',
}


@pytest.mark.parametrize("attack", [*SAVED, *RAW])
def test_a_saved_estimator_is_data_or_refused(bench, saved, attack):
    path, header, arrays = saved
    if attack in SAVED:
        SAVED[attack](header)
    save_file(arrays, path, metadata={"skltransfer": RAW.get(attack, json.dumps(header))})
    with harmless(bench.place), pytest.raises(WeightsError):
        load(path)


ARRAYS = {
    "a name that climbs": lambda arrays: arrays.update({"changed.../../evil": np.zeros(2, np.float32)}),
    "another shape": lambda arrays: arrays.update({"changed.readout.head.0.weight": np.zeros((2, 2), np.float32)}),
    "another dtype": lambda arrays: arrays.update({"changed.readout.mean": np.zeros(32, np.int64)}),
    "no head": lambda arrays: arrays.pop("changed.readout.head.0.weight"),
}


@pytest.mark.parametrize("attack", ARRAYS)
def test_a_saved_estimator_with_arrays_that_do_not_fit_is_refused(bench, saved, attack):
    path, header, arrays = saved
    ARRAYS[attack](arrays)
    save_file(arrays, path, metadata={"skltransfer": json.dumps(header)})
    with harmless(bench.place), pytest.raises(WeightsError, match=r"does not fit 'toy:rows'"):
        load(path)


def test_an_array_under_an_old_and_a_new_name_is_refused(bench, saved):
    path, header, arrays = saved
    arrays["changed.mean"] = arrays["changed.readout.mean"]
    save_file(arrays, path, metadata={"skltransfer": json.dumps(header)})
    with harmless(bench.place), pytest.raises(WeightsError):
        load(path)


@pytest.mark.parametrize("content", [(2**40).to_bytes(8, "little"), b"<html>" * 9, of_torch({"w": torch.zeros(1)})])
def test_what_is_no_saved_estimator_is_refused(bench, content):
    path = bench.file(content, "model.skl")
    with harmless(bench.place), pytest.raises(WeightsError, match=r"no file that save\(\) wrote"):
        load(path)


def test_a_saved_estimator_names_no_folder_to_write_to(bench, saved):
    path, header, arrays = saved
    header["parameters"] |= {"cache": str(bench.place / "evil"), "checkpoint": {"path": str(bench.place / "evil")}}
    save_file(arrays, path, metadata={"skltransfer": json.dumps(header)})
    X, y = bench.table()
    with harmless(bench.place):
        assert load(path).fit(X, y).predict(X).shape == (24,)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", 0)


def _png_of(width: int, height: int) -> bytes:
    """A header without a picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IEND", b"")


def _gif_of(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0;"


def _bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _heic_of(width: int, height: int) -> bytes:
    content = heic(np.zeros((64, 64, 3), np.uint8))
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]


def _tiff_with_a_frame_of_nothing() -> bytes:
    content = bytearray(encoded(np.arange(480, dtype=np.uint8).reshape(24, 20), "TIFF"))
    directory = int.from_bytes(content[4:8], "little")
    n_tags = int.from_bytes(content[directory : directory + 2], "little")
    link = directory + 2 + 12 * n_tags
    content[link : link + 4] = len(content).to_bytes(4, "little")
    return bytes(content) + bytes(100)


PICTURES = {
    "a page": b"<html><script>alert(1)</script></html>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n(ran) (w) file closefile\nshowpage",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "a PSD": b"8BPS\0\x01" + bytes(20),
    "a PNG of 2**62 pixels": _png_of(2**31 - 1, 2**31 - 1),
    "a PNG of nothing": _png_of(0, 0),
    "a GIF of 2**32 pixels": _gif_of(65535, 65535),
    "a BMP of 2**60 pixels": _bmp_of(2**30, 2**30),
    "a TIFF whose second frame is nothing": _tiff_with_a_frame_of_nothing(),
    "a BMP of a negative width": _bmp_of(-(2**31), 5),
    "a HEIC of 2**62 pixels": _heic_of(2**31 - 1, 2**31 - 1),
    "a pickle": pickle.dumps(Payload()),
}


@pytest.mark.parametrize("attack", PICTURES)
def test_what_is_no_picture_is_refused(bench, attack):
    path = bench.file(PICTURES[attack])
    with harmless(bench.place), pytest.raises(BadSampleError, match=r"X\[2\] \('.*photo.jpg'\): .*Fix: "):
        features(bench.behind(path))


def _forged(at: int, value: bytes) -> bytes:
    content = bytearray(wav(tone()))
    content[at : at + len(value)] = value
    return bytes(content)


def _flac_of(frames: int, rate: int = 655_350) -> bytes:
    info = (
        struct.pack(">HH", 4096, 4096) + bytes(6) + ((rate << 44) | (7 << 41) | (15 << 36) | frames).to_bytes(8, "big")
    )
    return b"fLaC\x80\0\0\x22" + info + bytes(16)


SOUNDS = {
    "a page": b"<html>",
    "65,535 channels": _forged(22, b"\xff\xff"),
    "a rate of 0": _forged(24, bytes(4)),
    "no bits": _forged(34, bytes(2)),
    "a FLAC of nine minutes of eight channels": _flac_of(frames=655_350 * 590),
    "a FLAC of days": _flac_of(frames=2**36 - 1),
    "an M4A of a hundred million packets": changed(m4a(tone()), (*TABLES, b"stsz"), 4, 1, 10**8),
    "a pickle": pickle.dumps(Payload()),
}


@pytest.mark.parametrize("attack", SOUNDS)
def test_what_is_no_sound_is_refused(bench, attack):
    path = bench.file(SOUNDS[attack], "a.wav")
    with harmless(bench.place), pytest.raises(BadSampleError, match=r"X\[1\] \('.*a.wav'\): .*Fix: "):
        heard([tone(), path])


def _link(target):
    def make(place):
        (place / "photo.jpg").symlink_to(target)

    return make


def _sparse(place):
    with (place / "photo.jpg").open("wb") as file:
        file.truncate(2**36)


PATHS = {
    "a link to a device": (_link("/dev/zero"), "not a regular file"),
    "a link to itself": (_link("photo.jpg"), "unreadable"),
    "a link to a page": (_link("page.html"), "not an image"),
    "a pipe": (lambda place: os.mkfifo(place / "photo.jpg"), "not a regular file"),
    "a folder": (lambda place: (place / "photo.jpg").mkdir(), "a folder"),
    "64 GiB of nothing": (_sparse, "68,719,476,736 bytes, more than 1,073,741,824"),
}


@pytest.mark.parametrize("attack", PATHS)
def test_what_is_no_file_of_a_picture_is_refused(bench, attack):
    make, says = PATHS[attack]
    bench.file(b"<html>", "page.html")
    make(bench.place)
    with harmless(bench.place), pytest.raises(BadSampleError, match=rf"X\[2\] .*{says}"):
        features(bench.behind("photo.jpg"))


NAMES = ["hf:../../etc/passwd", "hf:a\\..\\b", "hf:a b", "hf:\0", "torchvision:../../x", "timm:../x", "toy:/etc"]
NAMES += ["bundled:../x", "os:system", "toy:rows:../../x", "file:///etc", "C:\\x", "", "hf:" + "a" * 5000]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_a_name_that_climbs_out_is_refused(bench, name):
    with harmless(bench.place), pytest.raises((BackboneNotFoundError, WeightsError)) as caught:
        load_backbone(name, local_files_only=True)
    assert re.search(
        "must be 'source:model'|could not be loaded|neither 'pretrained'|holds no model", str(caught.value)
    )


def test_a_folder_of_pictures_is_listed_and_nothing_in_it_is_opened(bench):
    root = bench.place / "photos"
    (root / "..." / "a").mkdir(parents=True)
    (root / "ants").mkdir()
    (root / "ants" / "1.png").write_bytes(encoded(Image.new("RGB", (9, 9))))
    os.mkfifo(root / "ants" / "2.png")
    (root / "ants" / "3.png").symlink_to("/dev/zero")
    (root / "bees").symlink_to("/etc")
    with harmless(bench.place), pytest.raises(OSError, match="bees"):
        load_image_folder(root)
    (root / "bees").unlink()
    with harmless(bench.place):
        paths, labels = load_image_folder(root)
        assert [pathlib.Path(path).name for path in paths] == ["1.png", "2.png", "3.png"]
        with pytest.raises(BadSampleError, match=r"(?s)X\[1\] .*not a regular file.*X\[2\] .*not a regular file"):
            features(paths)
    assert set(labels) == {"ants"}


def test_a_store_reads_nothing_that_its_headers_do_not_describe(bench):
    X, place = bench.table()[0], bench.place / "store"
    expected = features(X, "toy:rows", cache=place)
    (file,) = place.rglob("*.safetensors")
    for number, content in enumerate(
        (of_safetensors(b"[" * 900_000), of_safetensors(b" " * 3_000_000), (2**62).to_bytes(8, "little"), b"")
    ):
        file.with_name(f"{number}.safetensors").write_bytes(content)
    (file.parent / "..safetensors").write_bytes(pickle.dumps(Payload()))
    with _little_memory():
        store = ActivationStore(place, max_bytes=10**9)
        forget(store)
        np.testing.assert_array_equal(features(X, "toy:rows", cache=store), expected)
        assert store.info()["samples"] == 24
    assert not (bench.place / "ran").exists()
