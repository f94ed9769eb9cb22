"""Files as phones write them, real ones: photos in HEIC, sound in M4A."""

import io

import av
import numpy as np
from PIL import Image
from pillow_heif import from_pillow

TABLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # boxes of an MP4 file around those that say where its media are


def heic(pixels: np.ndarray, orientation: int | None = None, **how) -> bytes:
    """A photo that decoding gives back within rounding."""
    file = from_pillow(Image.fromarray(pixels))
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        file[0].info["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    file.save(buffer, **{"quality": -1, "chroma": 444, **how})
    return buffer.getvalue()


def m4a(*tracks: np.ndarray, rate: int = 8000, codec: str = "aac", form: str = "mp4", **options) -> bytes:
    """Sound of floats, (n,) or (n, 2), in one track each."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=options) as file:
        for stream, values in [(_stream(file, codec, rate, values), values) for values in tracks]:
            for packet in _packets(stream, np.atleast_2d(np.asarray(values, np.float32).T), rate):
                file.mux(packet)
    return buffer.getvalue()


def _stream(file, codec, rate, values):
    stream = file.add_stream(codec, rate=rate, layout="mono" if values.ndim == 1 else "stereo")
    stream.bit_rate = 128_000
    return stream


def _packets(stream, values, rate):
    context = stream.codec_context
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format="fltp", layout=context.layout.name)
    frame.sample_rate, frame.pts = rate, 0
    cut = av.AudioResampler(context.format, context.layout.name, rate, frame_size=context.frame_size or 4096)
    for part in [*cut.resample(frame), *cut.resample(None), None]:
        yield from stream.encode(part)


def boxes(content: bytes, *path: bytes) -> tuple[int, int]:
    """Beginning and end of the content of a box of an MP4 file, by the names of the boxes around it."""
    start, end = 0, len(content)
    for name in path:
        while content[start + 4 : start + 8] != name:
            start += int.from_bytes(content[start : start + 4], "big")
            assert start < end, name
        end = start + int.from_bytes(content[start : start + 4], "big")
        start += 8
    return start, end


def changed(content: bytes, path: tuple[bytes, ...], at: int, *numbers: int) -> bytes:
    """An MP4 file with other numbers of 32 bits in one of its boxes."""
    content, start = bytearray(content), boxes(content, *path)[0] + at
    for i, number in enumerate(numbers):
        content[start + 4 * i : start + 4 * i + 4] = number.to_bytes(4, "big")
    return bytes(content)


def with_header_first(content: bytes) -> bytes:
    """An MP4 file whose header comes before its media, so that it can be cut off."""
    start, end = boxes(content, b"moov")
    header, media = bytearray(content[start - 8 : end]), content[28 : start - 8]
    first, _ = boxes(bytes(header), *TABLES, b"stco")
    for at in range(first + 8, first + 8 + 4 * int.from_bytes(header[first + 4 : first + 8], "big"), 4):
        place = int.from_bytes(header[at : at + 4], "big") + len(header)
        header[at : at + 4] = place.to_bytes(4, "big")
    return content[:28] + bytes(header) + media
