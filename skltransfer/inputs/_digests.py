"""Digests of decoded content by digests of encoded content, so that a file is decoded once per process.

Images and audio alike. Must not know how either is decoded.
"""

from collections import OrderedDict
from collections.abc import Mapping

from skltransfer._forks import Lock

REMEMBERED = 1_000_000
_digests: "OrderedDict[bytes, bytes]" = OrderedDict()
_lock = Lock()


def learn_digests(of_decoded: Mapping[bytes, bytes]) -> None:
    """Take note of what encoded contents decode to, by their digests."""
    with _lock:
        _digests.update(of_decoded)
        while len(_digests) > REMEMBERED:
            _digests.popitem(last=False)


def forget_digests() -> None:
    """Begin anew, as a new process would."""
    with _lock:
        _digests.clear()


def known_digest(key: bytes) -> bytes | None:
    """What an encoded content decodes to, if that is known."""
    with _lock:
        return _digests.get(key)
