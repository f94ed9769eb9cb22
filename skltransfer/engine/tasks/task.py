"""What every task promises: whoever trains, predicts, saves or exports asks it, and knows no kind of target."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from skltransfer.engine.tasks.probe import LEAST_SCALE, Probe, Scaling, Strength, standardisation


class Head(Protocol):
    """What a network's outputs mean: whoever trains, predicts, saves or exports asks it, and knows no kind of target.

    Those of one target have ``scores`` too, by which fits are compared, and those of labels ``calibrated``.

    Attributes
    ----------
    n_outputs : int
    n_constants : int
        Trained outputs after those, the same for all samples.
    """

    n_outputs: int
    n_constants: int

    def strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Groups that keep their shares when a part is held out; None where there are none."""

    def solve_probe(
        self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, scaling: Scaling, strength: Any
    ) -> Probe:
        """The linear head on features that stay as they are, (n, d)."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of each sample, (n,), so that weights mean what they mean."""

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> (n_outputs,)."""

    def decode(self, outputs: np.ndarray) -> Any:
        """Outputs (n, n_outputs) -> what ``predict`` returns."""

    def answers(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs -> what a client of an exported network is told, by name; without a branch on values."""

    def expected_answers(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Those of the answers that an estimator gives as numbers, in float64."""

    def described_answers(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """What a client needs to know of each answer; ``names`` are those of several tasks."""


def solved_probe(head: Head, features: np.ndarray, targets: np.ndarray, strength: Strength) -> Probe:
    """The probe on features that stay as they are.

    Parameters
    ----------
    head : Head
    features : ndarray of shape (n, d)
    targets : ndarray of shape (n,) or (n, outputs)
        In the head's terms.
    strength : float or "auto"
    """
    features, weights = np.asarray(features, dtype=np.float64), np.ones(len(features))
    scaling = standardisation(features, weights, LEAST_SCALE)
    return head.solve_probe(features, targets, weights, scaling, strength)
