"""How far transfer is ahead of each baseline: all at once, or against the number of labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skltransfer.inspection._drawing import BLUE, COLOURS, GREY, MARKERS, ORANGE, axes_for

OF_VERDICT = {"HELPS": BLUE, "HURTS": ORANGE}
KINDS = ("differences", "curve")


class TransferReportDisplay:
    """Plot of a :class:`TransferReport`: differences between transfer and each baseline, with confidence intervals.

    Create it with :meth:`from_report` or with the report's ``plot`` method; parameters are stored as attributes.

    Parameters
    ----------
    table : sequence of mapping
        One record per baseline: ``name``, ``description``, ``difference``, ``low``, ``high``, ``verdict``.
    curve : sequence of mapping
        One record per size of the training set and baseline: ``n_train``, ``name``, ``difference``, ``low``, ``high``.
    rope : float
        Half the width of the region of practical equivalence, in the unit of the score.
    verdict : str
        Overall verdict of the report.
    score_name : str
        Name of the score. Differences in accuracy are shown in percentage points.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot. Only defined after ``plot``.
    figure_ : matplotlib Figure
        Figure that contains the axes. Only defined after ``plot``.
    errorbars_ : list of matplotlib ErrorbarContainer
        Differences with their confidence intervals. Only defined after ``plot``.

    See Also
    --------
    transfer_report : Make the report.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import FineTunedClassifier, TransferReportDisplay, transfer_report
    >>> X = np.random.default_rng(0).normal(size=(40, 8))
    >>> model = FineTunedClassifier("toy:rows", freeze_depth=1.0, random_state=0)
    >>> report = transfer_report(model, X, X[:, 0] > 0, cv=2, baselines=["random", "linear"], random_state=0)
    >>> display = TransferReportDisplay.from_report(report).plot()
    >>> display.ax_.get_xlabel()
    'transfer is ahead by (points of accuracy, 95 % interval; grey: no difference, ± 1)'
    """

    def __init__(
        self,
        *,
        table: Sequence[Mapping[str, Any]],
        curve: Sequence[Mapping[str, Any]] = (),
        rope: float,
        verdict: str,
        score_name: str = "accuracy",
    ) -> None:
        self.table = table
        self.curve = curve
        self.rope = rope
        self.verdict = verdict
        self.score_name = score_name

    @classmethod
    def from_report(cls, report: Any) -> Self:
        """Create the display from the result of :func:`transfer_report`.

        Parameters
        ----------
        report : TransferReport
            Report to show.

        Returns
        -------
        TransferReportDisplay
            Display to be plotted with :meth:`plot`.
        """
        return cls(
            table=report.table_[1:],
            curve=report.curve_,
            rope=report.rope,
            verdict=report.verdict,
            score_name=report.scoring_name,
        )

    def plot(self, ax: Any = None, *, kind: str = "differences") -> Self:
        """Plot the differences between transfer and each baseline.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.
        kind : {"differences", "curve"}, default="differences"
            ``"differences"`` draws one row per baseline; ``"curve"`` draws one line per baseline against the number of
            labels.

        Returns
        -------
        self : object
            The display, which holds the axes and the figure.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If ``kind`` is not one of the choices, or ``kind="curve"`` and the report has no curve.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
        if kind == "curve" and not self.curve:
            raise ValueError("kind='curve' needs several numbers of labels: transfer_report(..., target_sizes=[...]).")
        size = (8.0, 1.2 + 0.6 * len(self.table)) if kind == "differences" else None
        self.ax_ = axes_for(ax, "TransferReportDisplay.plot", size)
        self.figure_, self.errorbars_ = self.ax_.figure, []
        self._scale = 100 if self.score_name == "accuracy" else 1
        (self._draw_differences if kind == "differences" else self._draw_curve)()
        return self

    def _draw_differences(self) -> None:
        ax, rope, n = self.ax_, self._scale * self.rope, len(self.table)
        for place, record in enumerate(reversed(self.table)):
            colour = OF_VERDICT.get(record["verdict"], GREY)
            x, reach = self._interval([record])
            bar = ax.errorbar(x, [place], xerr=reach, color=colour, marker="o", capsize=4, linestyle="")
            ax.text(1.02, place, record["verdict"], transform=ax.get_yaxis_transform(), va="center", color=colour)
            self.errorbars_.append(bar)
        ax.axvspan(-rope, rope, color=GREY, alpha=0.2, linewidth=0)
        ax.axvline(0, color=GREY, linewidth=1)
        ax.set_yticks(range(n), [record["description"].replace(": ", "\n") for record in reversed(self.table)])
        ax.set_ylim(-0.6, n - 0.4)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"transfer is ahead by ({self._unit}, 95 % interval; grey: no difference, ± {rope:g})")
        ax.set_title(f"transfer: {self.verdict}", loc="left")

    def _draw_curve(self) -> None:
        ax, rope = self.ax_, self._scale * self.rope
        names = [record["name"] for record in self.table]
        for place, name in enumerate(names):
            records = [record for record in self.curve if record["name"] == name]
            y, reach = self._interval(records)
            apart = 1 + 0.02 * (place - (len(names) - 1) / 2)  # so that no interval hides another
            x = [record["n_train"] * apart for record in records]
            style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "capsize": 3}
            self.errorbars_.append(ax.errorbar(x, y, reach, label=name, **style))
        ax.axhspan(-rope, rope, color=GREY, alpha=0.2, linewidth=0, label=f"no difference: ± {rope:g}")
        ax.axhline(0, color=GREY, linewidth=1)
        sizes = sorted({record["n_train"] for record in self.curve})
        ax.set_xscale("log")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.set_xlabel("labels in the training part")
        ax.set_ylabel(f"transfer is ahead by\n({self._unit}, 95 % interval)")
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)

    @property
    def _unit(self) -> str:
        return "points of accuracy" if self.score_name == "accuracy" else self.score_name

    def _interval(self, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Differences, and how far their intervals reach below and above them: (m,), (2, m)."""
        middle, low, high = (self._scale * np.array([r[k] for r in records]) for k in ("difference", "low", "high"))
        return middle, np.maximum(0, np.stack([middle - low, high - middle]))
