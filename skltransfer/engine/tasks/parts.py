"""One of several labels for each part of a sample: the words of a text, the pixels of an image.

Must not know what parts are.
"""

import numpy as np

from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.tasks.classification import ClassificationTask
from skltransfer.engine.tasks.task import VECTOR_HEADS, Task


class PartsTask(Task):
    """Parent of the tasks that label each part of a sample.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted labels, at least two.
    factors : ndarray of shape (k,)
        Weight of a part in the loss, by its label.
    smoothing : float, default=0.0
        Label smoothing of the loss.
    """

    heads: tuple[str, ...] = VECTOR_HEADS

    def __init__(self, classes: np.ndarray, factors: np.ndarray, smoothing: float = 0.0) -> None:
        self.classes, self.factors, self.smoothing = classes, factors, smoothing
        self.n_outputs = self.of_part.n_outputs

    @property
    def of_part(self) -> ClassificationTask:
        """The same labels for single parts."""
        return ClassificationTask(self.classes, self.smoothing)

    def refuse_unless_it_reads(self, spec: NetworkSpec) -> None:
        """Raise if the network has another number of outputs, or labels and their weights do not go together."""
        expected = vars(type(self)(np.arange(2), np.ones(2))).keys()
        if vars(self).keys() != expected or np.ndim(self.classes) != 1 or len(self.classes) < 2:
            raise ValueError(f"a {type(self).__name__} of {sorted(vars(self))}")
        if not spec.taps or spec.head not in self.heads:
            raise ValueError(f"taps={spec.taps!r}, head={spec.head!r}")
        if not {self.n_outputs, self.of_part.n_outputs} == {spec.n_outputs}:
            raise ValueError(f"{len(self.classes)} labels, but {spec.n_outputs} outputs")
        others = [float(vars(self)[name]) for name in expected - {"classes", "factors", "n_outputs", "smoothing"}]
        numbers = np.array([*np.asarray(self.factors, dtype=float), *others, 1 - self.smoothing])
        if len(self.factors) != len(self.classes) or not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise ValueError(f"weights {self.factors!r}, smoothing={self.smoothing!r}, others {others}")
