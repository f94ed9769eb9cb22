"""Texts: reviews, titles, code, protein sequences; anything that is a string.

What is settled here: a text is exactly what was passed, no letter changed; what is no text is refused with its row.
"""

import functools
import os

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._samples import Peeked, Samples, beginning_of, digest_of, refuse_missing


class TextSamples(Samples):
    """Strings.

    Parameters
    ----------
    items : sequence of str
        Texts.
    """

    slow_to_read = False

    def _peek(self, row: int) -> Peeked:
        if not self._read(row).strip():
            self.remarks.add("X holds empty texts; their features are those of no words at all.", row)
        return Peeked(digest=self._identify(row)[0])

    def _identify(self, row: int) -> tuple[bytes, str]:
        text = self._read(row)
        return digest_of(b"text", text.encode()), text

    def _read(self, row: int) -> str:
        item = self.items[row]
        refuse_missing(item, row)
        refuse = functools.partial(BadSampleError, row, beginning_of(item))
        if isinstance(item, bytes | bytearray | memoryview):
            raise refuse("bytes, not text", "decode it: value.decode('utf-8')")
        if isinstance(item, list | tuple):
            raise refuse(
                f"a {type(item).__name__}, not text",
                "join its words or parts: ' '.join(words); a pair of texts is a tuple",
            )
        if isinstance(item, os.PathLike):
            raise refuse("a path, not text", "read it: path.read_text()")
        if not isinstance(item, str):
            raise refuse(f"{type(item).__name__}, not text", "pass strings")
        try:
            item.encode()
        except UnicodeEncodeError as error:
            remedy = "clean it: text.encode('utf-8', 'replace').decode()"
            raise refuse(f"no valid Unicode at position {error.start}", remedy) from None
        return str(item)
