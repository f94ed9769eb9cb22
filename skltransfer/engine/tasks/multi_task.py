"""A head for several tasks at once, each with its own outputs, its own loss, and labels of its own that may be missing.

Must not know where features come from.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from skltransfer.engine.tasks.classification import ClassificationTask
from skltransfer.engine.tasks.probe import Penalty, Probe, Scaling
from skltransfer.engine.tasks.regression import RegressionTask
from skltransfer.engine.tasks.task import VectorTask


class MultiTask(VectorTask):
    """One head per task, side by side.

    Targets are (n, 2 tasks): the value of each task (a class's position, or a standardized number), then 1 or 0 for
    whether it was observed.

    Parameters
    ----------
    parts : sequence of (str, dict)
        Kind of each task, ``"classification"`` or ``"regression"``, and the attributes of its head.
    factors : ndarray of shape (tasks,)
        Weight of each task's loss, multiplied by the ratio of rows to its labels.
    learns_weights : bool
        If True, the last outputs, one per task and the same for all rows, are logarithms of the tasks' variances.
    """

    def __init__(self, parts: Sequence[tuple[str, dict]], factors: np.ndarray, learns_weights: bool = False) -> None:
        self.parts, self.factors, self.learns_weights = list(parts), factors, learns_weights

    @property
    def heads(self) -> list[ClassificationTask | RegressionTask]:
        """A head per task."""
        kinds = {"classification": ClassificationTask, "regression": RegressionTask}
        made = [object.__new__(kinds[kind]) for kind, _ in self.parts]
        for head, (_, attributes) in zip(made, self.parts, strict=True):
            vars(head).update(attributes)
        return made

    @property
    def n_outputs(self) -> int:
        return sum(head.n_outputs for head in self.heads)

    @property
    def n_constants(self) -> int:
        """Outputs that are the same for all rows."""
        return len(self.parts) if self.learns_weights else 0

    def places(self) -> Iterator[tuple[int, ClassificationTask | RegressionTask, slice]]:
        """Each task's number, head and outputs."""
        start = 0
        for task, head in enumerate(self.heads):
            yield task, head, slice(start, start + head.n_outputs)
            start += head.n_outputs

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum over tasks of the loss on observed labels, (n,); its mean is each task's mean on its own labels."""
        n_tasks, losses = len(self.parts), []
        for task, head, columns in self.places():
            value = targets[:, task]
            value = value.long() if self.parts[task][0] == "classification" else value[:, None]
            own = head.loss(outputs[:, columns], value) * targets[:, n_tasks + task].to(outputs.dtype)
            losses.append(own * float(self.factors[task]))
        losses = torch.stack(losses, dim=1)  # (n, tasks)
        if not self.learns_weights:
            return losses.sum(1)
        log_variance = outputs[:, -n_tasks:]
        return 0.5 * (torch.exp(-log_variance) * losses + log_variance).sum(1)

    def solve_probe(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        scaling: Scaling,
        penalty: tuple[Penalty, Penalty],
    ) -> Probe:
        """A probe per task on the rows whose label it has; ``penalty`` is ``(C, alpha)``."""
        n_tasks, probes = len(self.parts), []
        for task, head, _ in self.places():
            seen = targets[:, n_tasks + task] > 0
            value = targets[seen, task]
            classifies = self.parts[task][0] == "classification"
            value = value.astype(int) if classifies else value[:, None]
            own = penalty[0] if classifies else penalty[1]
            probes.append(head.solve_probe(features[seen], value, weights[seen], scaling, own))
        return Probe.side_by_side(probes)

    def of_windows(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (windows, n_outputs) of one sample -> (n_outputs,), as each task's head has them."""
        whole = outputs.mean(0)
        for _, head, columns in self.places():
            whole[columns] = head.of_windows(outputs[:, columns])
        return whole

    def decode(self, outputs: np.ndarray) -> list[np.ndarray]:
        """Outputs -> labels or numbers, an array (n,) per task."""
        return [head.decode(outputs[:, columns]) for _, head, columns in self.places()]

    def probabilities(self, outputs: np.ndarray) -> list[np.ndarray | None]:
        """Outputs -> (n, classes) per task; None for numbers."""
        return [head.probabilities(outputs[:, columns]) for _, head, columns in self.places()]

    def exported(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Those of each task, with its number after the name."""
        return self._of_tasks(lambda head, columns: head.exported(outputs[:, columns]))

    def expected(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Likewise."""
        return self._of_tasks(lambda head, columns: head.expected(outputs[:, columns]))

    def described(self, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Likewise, with the task's name."""
        return {
            f"{answer}_{task}": {"task": names[task], **text}
            for task, head, _ in self.places()
            for answer, text in head.described().items()
        }

    def _of_tasks(self, what: Callable[[Any, slice], dict]) -> dict:
        return {
            f"{name}_{task}": value
            for task, head, columns in self.places()
            for name, value in what(head, columns).items()
        }
