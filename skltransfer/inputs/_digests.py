"""Digests of decoded content by digests of encoded content, so that a file is decoded once per process.

Images and audio alike. Must not know how either is decoded.
"""

from collections import OrderedDict
from collections.abc import Mapping

from skltransfer._system.forks import Lock

REMEMBERED = 1_000_000
_digests: "OrderedDict[bytes, bytes]" = OrderedDict()
_lengths: "OrderedDict[bytes, int]" = OrderedDict()
_lock = Lock()


def learn_digests(of_decoded: Mapping[bytes, bytes]) -> None:
    """Take note of what encoded contents decode to, by their digests."""
    with _lock:
        _digests.update(of_decoded)
        while len(_digests) > REMEMBERED:
            _digests.popitem(last=False)


def learn_length(decoded: bytes, length: int) -> None:
    """Take note of how long a decoded content is, by its digest."""
    with _lock:
        _lengths[decoded] = length
        while len(_lengths) > REMEMBERED:
            _lengths.popitem(last=False)


def known_length(decoded: bytes) -> int | None:
    """Length of a decoded content, if it is known."""
    with _lock:
        return _lengths.get(decoded)


def forget_digests() -> None:
    """Forget all digests, as a new process would."""
    with _lock:
        _digests.clear()
        _lengths.clear()


def known_digest(key: bytes) -> bytes | None:
    """Digest of the content that an encoded one decodes to, if it is known."""
    with _lock:
        return _digests.get(key)
