"""Do tasks help each other? Trained together against each on its own, on the same folds, with a verdict per task.

Promises that no model sees a row of its test part, and that both see the same labels of a task. Must not know how a
network is trained.
"""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval

from skltransfer._system.progress import progress_bar
from skltransfer._system.tables import aligned, frame
from skltransfer._system.validation import checks_arguments
from skltransfer.model_selection._comparison import (
    HELPS,
    HURTS,
    UNKNOWN,
    Comparison,
    corrected_t,
    holm,
    mcnemar,
)
from skltransfer.model_selection._evaluation import Split, checked_splits, each_row_is_tested_once
from skltransfer.model_selection._rendering import p_in_words
from skltransfer.multi_task import MultiTaskFineTuner, missing, table_of

HEADERS = ("task", "labels", "together", "on its own", "together ahead by [95 %]", "p", "sharing")


@dataclass(frozen=True, repr=False)
class TaskReport:
    """Result of :func:`task_report`: scores, differences and a verdict per task. Printing it shows a table.

    Attributes
    ----------
    table_ : list of dict
        One record per task: ``name``, ``kind``, ``n`` (number of labels), ``together`` and ``alone`` (accuracy or R²
        when trained together and separately), ``difference`` with its 95 % confidence interval ``low`` and ``high``,
        ``p_value``, ``p_adjusted`` (Holm), ``verdict``.
    helped, lost : list of str
        Names of the tasks that sharing improves, and of those that it worsens.

    See Also
    --------
    task_report : Make the report.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import MultiTaskFineTuner, task_report
    >>> X = np.random.default_rng(0).normal(size=(40, 4))
    >>> model = MultiTaskFineTuner("toy:rows", freeze_depth=0.5, max_epochs=1, random_state=0)
    >>> report = task_report(model, X, X[:, :2] > 0, cv=2, random_state=0)
    >>> [(record["name"], record["n"]) for record in report.table_]
    [('task0', 40), ('task1', 40)]
    """

    table_: list[dict[str, Any]]

    @property
    def helped(self) -> list[str]:
        return [record["name"] for record in self.table_ if record["verdict"] == HELPS]

    @property
    def lost(self) -> list[str]:
        return [record["name"] for record in self.table_ if record["verdict"] == HURTS]

    def to_frame(self) -> Any:
        """Convert the table to a DataFrame, indexed by the name of the task.

        Returns
        -------
        pandas.DataFrame
            One row per task, with the entries of ``table_`` as columns.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed; ``table_`` holds the same values.
        """
        return frame(self.table_, index="name")

    def __str__(self) -> str:
        rows = [HEADERS, *map(_row, self.table_)]
        return "\n".join([*aligned(rows), "", self._advice()])

    __repr__ = __str__

    def _advice(self) -> str:
        if self.lost:
            return f"Sharing hurts {', '.join(map(repr, self.lost))}: train apart, freeze more, or weigh its loss more."
        if self.helped:
            return f"Sharing helps {', '.join(map(repr, self.helped))} and is not seen to hurt any."
        if any(record["verdict"] == UNKNOWN for record in self.table_):
            return "The data do not decide whether sharing helps: take what is simpler, or label more."
        return "Sharing makes no difference: take what is simpler."


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    ahead = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**record)
    scores = (f"{record[key]:.3f}" for key in ("together", "alone"))
    return (record["name"], str(record["n"]), *scores, ahead, p_in_words(record["p_adjusted"]), record["verdict"])


@checks_arguments(
    {
        "estimator": [MultiTaskFineTuner],
        "cv": ["cv_object"],
        "rope": [Interval(numbers.Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
)
def task_report(
    estimator: MultiTaskFineTuner,
    X: Any,
    y: Any,
    *,
    cv: Any = 5,
    rope: float = 0.01,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> TaskReport:
    """Test whether tasks benefit from being trained together, compared with separate fits on the same folds.

    A separate fit is the same estimator with one column of y, on the rows that have a label for this task. Accuracies
    are compared by McNemar's exact test on pooled predictions [1]_, R² by Nadeau and Bengio's corrected t-test [2]_;
    p-values are adjusted for the number of tasks [3]_.

    Parameters
    ----------
    estimator : MultiTaskFineTuner
        Estimator to evaluate. It is cloned.
    X : sequence of samples, or array-like of shape (n_samples, n_features)
        Samples: images, texts or audio clips as the estimator reads them, or rows of a table.
    y : array-like of shape (n_samples, n_tasks)
        Labels or numbers of at least two tasks, one column per task. Cells may be missing (None or NaN).
    cv : int, splitter or iterable of splits, default=5
        Cross-validation: number of shuffled folds, a splitter, or an iterable of train and test indices. Each row must
        be tested exactly once.
    rope : float, default=0.01
        Region of practical equivalence: a difference within ``±rope`` counts as none.
    random_state : int, RandomState instance or None, default=None
        Controls the folds; estimators keep their own ``random_state``. Pass an int for reproducible results.
    verbose : int, default=0
        If positive, show a progress bar.

    Returns
    -------
    TaskReport
        Report that prints as a table with a verdict per task.

    Raises
    ------
    ValueError
        If there are fewer than two tasks, if folds do not test each row once, or if a task has no label in a fold.

    See Also
    --------
    MultiTaskFineTuner : Fine-tune a network for several targets at once.
    transfer_report : Test whether transfer learning helps.

    References
    ----------
    .. [1] T. Dietterich (1998), "Approximate statistical tests for comparing supervised classification learning
       algorithms", Neural Computation 10.
    .. [2] C. Nadeau, Y. Bengio (2003), "Inference for the generalization error", Machine Learning 52.
    .. [3] S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
       Statistics 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import MultiTaskFineTuner, task_report
    >>> X = np.random.default_rng(0).normal(size=(40, 4))
    >>> model = MultiTaskFineTuner("toy:rows", freeze_depth=1.0, random_state=0)
    >>> task_report(model, X, X[:, :2] > 0, cv=2, random_state=0).lost  # frozen, they share nothing
    []
    """
    names, table = table_of(y)
    check_consistent_length(X, table)
    if len(names) < 2:
        raise ValueError(f"y must have a column per task, at least two; got {names!r}.")
    seed = check_random_state(random_state).randint(2**31 - 1)
    splits = checked_splits(cv, X, table, classifies=False, seed=seed)
    if not each_row_is_tested_once(splits, len(table)):
        raise ValueError(f"cv must test each row once, so that predictions can be pooled; {cv!r} does not.")
    evaluation = _TaskEvaluation(estimator, X, y, names, table)
    with progress_bar(total=len(splits) * (1 + len(names)), desc="task_report", shown=verbose) as progress:
        together, kinds = evaluation.together(splits, progress.update)
        alone = evaluation.alone(splits, kinds, progress.update)
    ratio = float(np.mean([len(test) / len(train) for train, test in splits]))
    judged = [evaluation.judge(task, kind, together, alone, splits, ratio) for task, kind in enumerate(kinds)]
    adjusted = holm([comparison.p_value for _, comparison in judged])
    return TaskReport([_record(*found, p, rope) for found, p in zip(judged, adjusted, strict=True)])


def _record(record: dict[str, Any], comparison: Comparison, p: float, rope: float) -> dict[str, Any]:
    told = {key: getattr(comparison, key) for key in ("difference", "low", "high", "p_value")}
    return record | told | {"p_adjusted": float(p), "verdict": comparison.verdict(p, rope)}


@dataclass(frozen=True)
class _TaskEvaluation:
    """Models, data and folds; the methods fit and compare."""

    estimator: MultiTaskFineTuner
    X: Any
    y: Any
    names: list[str]
    table: np.ndarray  # (n, tasks)

    def together(self, splits: Sequence[Split], advance: Any) -> tuple[np.ndarray, list[str]]:
        """Predictions for rows that the model did not see, and the tasks' kinds."""
        predicted, kinds = np.empty(self.table.shape, dtype=object), None
        asked = self.estimator.tasks
        for train, test in splits:
            model = clone(self.estimator)
            if asked is None:  # what a column looks like must not depend on the fold
                model.set_params(tasks=list(self._kinds()))
            model.fit(_safe_indexing(self.X, train), _safe_indexing(self.y, train))
            predicted[test] = model.predict(_safe_indexing(self.X, test))
            kinds = list(model.tasks_.values())
            advance()
        return predicted, kinds

    def _kinds(self) -> Sequence[str]:
        return self.estimator._kinds(self.names, self.table)

    def alone(self, splits: Sequence[Split], kinds: Sequence[str], advance: Any) -> np.ndarray:
        """The same, each task from a model of its own."""
        predicted = np.empty(self.table.shape, dtype=object)
        for train, test in splits:
            for task, kind in enumerate(kinds):
                own = train[~missing(self.table[train, task])]
                model = clone(self.estimator).set_params(tasks=[kind], loss_weights="equal")
                model.fit(_safe_indexing(self.X, own), self.table[own][:, [task]])
                predicted[test, task] = model.predict(_safe_indexing(self.X, test))
                advance()
        return predicted

    def judge(
        self, task: int, kind: str, together: np.ndarray, alone: np.ndarray, splits: Sequence[Split], ratio: float
    ) -> tuple[dict[str, Any], Comparison]:
        """One task's record, and the comparison on the cells that are there."""
        truth = self.table[:, task]
        seen = ~missing(truth)
        record = {"name": self.names[task], "kind": kind, "n": int(seen.sum())}
        if kind == "classification":
            right = [(predicted[seen, task] == truth[seen]).astype(bool) for predicted in (together, alone)]
            scores = {"together": float(right[0].mean()), "alone": float(right[1].mean())}
            return record | scores, mcnemar(*right)
        parts = [test[seen[test]] for _, test in splits]
        if min(map(len, parts)) < 2:
            raise ValueError(f"Task {self.names[task]!r} has fewer than 2 labels in a test part. Lower cv.")
        r2 = [
            np.array([r2_score(truth[rows].astype(float), predicted[rows, task].astype(float)) for rows in parts])
            for predicted in (together, alone)
        ]
        return record | {"together": float(r2[0].mean()), "alone": float(r2[1].mean())}, corrected_t(*r2, ratio)
