"""Rows as Hugging Face data sets keep images and audio: dicts of bytes, a path, or an array and its sampling rate."""

from typing import Any

KEYS = {"array", "bytes", "path", "sampling_rate"}


def content_of(item: Any, modality: str) -> Any:
    """What such a dict holds, as samples are otherwise passed; anything else as it is.

    Parameters
    ----------
    item : object
        Element of X.
    modality : {"audio", "image"} or another name
        Kind of samples that are read; there are no such rows of other kinds.
    """
    if type(item) is not dict or not item.keys() <= KEYS or modality not in ("audio", "image"):
        return item
    if modality == "audio" and item.get("array") is not None and item.get("sampling_rate") is not None:
        return item["array"], item["sampling_rate"]
    known = (item[key] for key in ("bytes", "path") if item.get(key) is not None)
    return next(known, item)
