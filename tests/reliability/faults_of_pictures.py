"""Rows 1 to 30 of the catalogue."""

import os
import warnings

import numpy as np
from catalogue import Bench, Fault, classifier, encoded, features, pixels
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from skltransfer.exceptions import BadSampleError, MissingSampleError

REPLACE = "Fix: replace it or drop the row"
RAMP = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)


def _jpeg(bench: Bench) -> bytes:
    return encoded(bench.rng.integers(0, 256, (60, 60, 3), dtype=np.uint8), "JPEG")


def _bad(item):
    """Use of a picture that cannot be read, as ``X[2]``; ``item`` may need the bench."""
    return lambda bench: features(bench.behind(item(bench) if callable(item) else item))


def _pipe(bench: Bench) -> str:
    path = bench.place / "pipe.png"
    os.mkfifo(path)
    return str(path)


def _relative(bench: Bench) -> str:
    bench.patch.chdir(bench.place)
    return "gone.png"


def _bomb(side: int) -> bytes:
    return encoded(Image.new("1", (side, side)))


def _bomb_of_text() -> bytes:
    text = PngInfo()
    text.add_text("comment", "x" * 100_000_000, zip=True)
    return encoded(Image.new("L", (20, 20)), pnginfo=text)


def _red(mode: str, alpha: int) -> Image.Image:
    return Image.new("RGBA", (8, 8), (200, 0, 0, alpha)).convert(mode)


def _palette() -> Image.Image:
    image = Image.new("P", (8, 8), 0)
    image.info["transparency"] = 0
    return image


def _animation(form: str) -> bytes:
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def _turned() -> tuple[np.ndarray, np.ndarray]:
    upright = np.zeros((10, 20, 3), np.uint8)
    upright[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rightly after a quarter turn clockwise
    return pixels(encoded(np.rot90(upright).copy(), exif=exif)), upright


def _corrupt_exif(bench: Bench) -> tuple[list, list]:
    """Warnings on ten pictures, as Python shows them by default."""
    content = encoded(Image.new("L", (20, 20), 90), "JPEG", exif=b"Exif\0\0II*\0garbage-garbage")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        means = [pixels(content).mean() for _ in range(10)]
    return [*means, len(told)], [90.0] * 10 + [1]


def _mixed(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    X = [bench.rng.integers(0, 256, (side, 2 * side, 3), dtype=np.uint8) for side in (10, 40, 17)]
    return features(X), np.vstack([features([x]) for x in X])


def _ragged(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    X = np.empty(2, dtype=object)
    X[:] = [bench.photos(1)[0], np.zeros((9, 30, 3), np.uint8)]
    return features(X), features(list(X))


def _channels_first(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    X = np.stack(bench.photos())
    return features(np.moveaxis(X, -1, 1)), features(X)


def _changed_file(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    old, new = bench.photos()
    path = bench.file(encoded(old), "photo.png")
    features([path], cache="memory")
    path.write_bytes(encoded(new))
    return features([path], cache="memory"), features([new])


def _duplicates(bench: Bench) -> tuple[list, list]:
    a, b = bench.photos()
    again = bench.file(encoded(a), "copy.png")
    model = classifier("toy:images", freeze_depth=1.0).fit([a, b, again, a], [0, 1, 0, 1])
    return model.duplicates_, [[0, 2, 3]]


FAULTS = [
    Fault(1, "an empty file", _bad(lambda b: b.file(b"")), BadSampleError, r"X\[2\]", "it is empty", REPLACE),
    Fault(1, "no bytes", _bad(b""), BadSampleError, r"X\[2\]", "it is empty", REPLACE),
    Fault(
        2,
        "a page called .jpg",
        _bad(lambda b: b.file(b"<html><body>404</body></html>")),
        BadSampleError,
        r"X\[2\] \('.*photo\.jpg'\)",
        "not an image .starts with '<html>",
        "Fix: pass one of JPEG, PNG",
    ),
    Fault(3, "half a JPEG", _bad(lambda b: _jpeg(b)[:1500]), BadSampleError, r"X\[2\]", "damaged .*truncated", REPLACE),
    Fault(
        4,
        "a file that is gone",
        _bad(_relative),
        BadSampleError,
        r"X\[2\] \('gone.png'\)",
        "no such file",
        "Fix: check the path; relative paths start at '.*test_",
    ),
    Fault(
        4,
        "a file that is gone, by its whole path",
        _bad(lambda b: str(b.place / "gone.png")),
        BadSampleError,
        r"X\[2\]",
        "no such file",
        r"Fix: check the path\.$",
    ),
    Fault(
        5, "a folder", _bad(lambda b: b.place), BadSampleError, r"X\[2\]", ": a folder", "Fix: pass the paths of the"
    ),
    *(
        Fault(5, what, _bad(item), BadSampleError, r"X\[2\]", "not a regular file", "Fix: pass the path of a file")
        for what, item in {
            "a device": os.devnull,
            "a pipe": _pipe,
        }.items()
    ),
    Fault(
        6, "a NUL in a path", _bad("a\0b.jpg"), BadSampleError, r"X\[2\]", "unreadable .*null", "Fix: check the path"
    ),
    Fault(
        6,
        "a URL",
        _bad("https://example.com/../a.jpg"),
        BadSampleError,
        r"X\[2\] \('https://example.com/../a.jpg'\)",
        "an address, and nothing is fetched",
        "Fix: download it, and pass the path of the file",
    ),
    *(
        Fault(7, repr(item), _bad(item), MissingSampleError, r"X\[2\]", "missing value", "Fix: drop the row, fill it")
        for item in (None, np.nan, np.datetime64("NaT"))
    ),
    Fault(8, "16-bit grey", lambda b: (pixels(encoded(RAMP.astype(np.uint16) * 257))[..., 0], RAMP)),
    Fault(9, "a float TIFF in [0, 1]", lambda b: (pixels(encoded(RAMP / np.float32(255), "TIFF"))[..., 0], RAMP)),
    Fault(
        9,
        "a float TIFF beyond 1",
        _bad(encoded(RAMP.astype(np.float32), "TIFF")),
        BadSampleError,
        r"X\[2\]",
        "floats between 0 and 255",
        r"Fix: scale them to \[0, 1\]",
    ),
    Fault(
        10,
        "floats to 255",
        _bad(RAMP.astype(float)),
        BadSampleError,
        r"X\[2\]",
        "floats between 0 and 255",
        r"Fix: scale them to \[0, 1\], or pass uint8 for 0 ... 255",
    ),
    *(
        Fault(
            11,
            f"integers of {value}",
            _bad(np.full((8, 8), value)),
            BadSampleError,
            r"X\[2\]",
            f"integers between {value} and {value}",
            "Fix: scale them to 0 ... 255",
        )
        for value in (-1, 256)
    ),
    Fault(12, "a hidden colour", lambda b: (np.unique(pixels(encoded(_red("RGBA", 0)))), [255])),
    Fault(12, "half of a colour", lambda b: (pixels(encoded(_red("RGBA", 128)))[0, 0], [227, 127, 127])),
    Fault(13, "a transparent palette", lambda b: (np.unique(pixels(encoded(_palette()))), [255])),
    Fault(14, "LA", lambda b: (np.unique(pixels(encoded(_red("LA", 0)))), [255])),
    Fault(14, "1 bit", lambda b: (pixels(encoded(Image.fromarray(RAMP > 99)))[..., 2], (RAMP > 99) * 255)),
    Fault(14, "grey", lambda b: (pixels(encoded(RAMP))[..., 1], RAMP)),
    Fault(15, "a CMYK JPEG", lambda b: (pixels(encoded(Image.new("CMYK", (8, 9)), "JPEG")).shape, (9, 8, 3))),
    *(
        Fault(
            16,
            f"an animated {form}",
            lambda b, form=form: (pixels(_animation(form)).max(), 10),
            says="images of several pages; the first one is taken",
        )
        for form in ("GIF", "TIFF")
    ),
    Fault(17, "EXIF rotation", lambda b: _turned()),
    Fault(18, "one pixel", lambda b: (pixels(encoded(RAMP[:1, :1])).shape, (1, 1, 3)), says="less than 8 px"),
    Fault(
        19,
        "6000 x 9",
        lambda b: (features([np.zeros((9, 6000), np.uint8)]).shape, (1, 32)),
        says="more than 20 times as long as wide; only their middle is seen",
    ),
    *(
        Fault(
            row,
            f"a bomb of {side} x {side} pixels",
            _bad(lambda b, side=side: _bomb(side)),
            BadSampleError,
            r"X\[2\]",
            "more than max_pixels",
            r"Fix: resize it, or allow it with load_backbone\(name, max_pixels=...\)",
        )
        for row, side in ((20, 12_000), (21, 20_000))
    ),
    Fault(
        22, "a bomb of text", _bad(lambda b: _bomb_of_text()), BadSampleError, r"X\[2\]", "damaged .*too large", REPLACE
    ),
    Fault(23, "corrupt EXIF", _corrupt_exif),
    Fault(24, "mixed sizes", _mixed),
    Fault(25, "a ragged object array", _ragged),
    Fault(26, "channels first", _channels_first),
    Fault(
        26,
        "channels first or last",
        _bad(np.zeros((3, 8, 3), np.uint8)),
        BadSampleError,
        r"X\[2\]",
        "may have its channels first or last",
        "Fix: say which with .*channels='first'",
    ),
    *(
        Fault(
            27,
            f"{n} channels",
            _bad(np.zeros((8, 9, n), np.uint8)),
            BadSampleError,
            r"X\[2\]",
            f"{n} channels",
            r"Fix: pass .*or say how many: backbone=load_backbone\(name, bands=",
        )
        for n in (2, 5)
    ),
    Fault(28, "a table for pictures", lambda b: (features(b.table()[0]).shape, (24, 32))),
    Fault(
        28,
        "a table that image_shape does not fit",
        lambda b: features(b.table()[0], image_shape=(3, 3)),
        ValueError,
        says=r"image_shape=\(3, 3\) needs 9 features per row, but X has 4",
    ),
    Fault(29, "a file that changes", _changed_file),
    Fault(30, "the same picture in several rows", _duplicates),
]
