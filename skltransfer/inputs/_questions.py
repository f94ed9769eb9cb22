"""Questions and the texts that answer them: pairs of texts, whose second one has places.

What is settled here: a place is a token of the second text, with the letters that it stands for.
"""

from typing import Any

import numpy as np

from skltransfer.exceptions import BadSampleError
from skltransfer.inputs._pairs import PairSamples


class QuestionSamples(PairSamples):
    """Tuples of a question and a context."""

    def context(self, position: int) -> str | None:
        """The context of a sample; None if it cannot be read."""
        try:
            return self.read(position)[1]
        except BadSampleError:
            return None

    def tokens(self, position: int) -> np.ndarray:
        """Places and letters of the tokens of a context, (tokens, 3)."""
        return self._geometry(int(self.rows[position]), self._preprocessing)

    def _geometry(self, row: int, preprocessing: Any) -> np.ndarray:
        return self._preprocessing.pairs.context(self._read(row))
