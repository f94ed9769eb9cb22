"""What the benchmarks share: medians with their spread, ratios, and a Markdown table."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Timing(NamedTuple):
    """Seconds of some repetitions."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{shown(self.median)} ({shown(min(self.seconds))} to {shown(max(self.seconds))})"


def shown(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def timed(
    function: Callable[[], object], repetitions: int = 5, *, before: Callable[[], object] | None = None
) -> Timing:
    """Time a function after one run that does not count; ``before`` is called first, off the clock."""
    seconds = []
    for i in range(repetitions + 1):
        if before is not None:
            before()
        start = time.perf_counter()
        function()
        if i:
            seconds.append(time.perf_counter() - start)
    return Timing(tuple(seconds))


def in_turn(contestants: dict[str, Callable[[], object]], repetitions: int = 5) -> dict[str, Timing]:
    """Time several functions round by round, so that a machine that gets slower does so for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions + 1):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(times[1:])) for name, times in seconds.items()}


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations per second of the fastest of three sizes of matrix product."""
    rates = []
    for n in (1024, 2048, 4096):
        a, b = torch.randn(2, n, n).to(dtype)
        rates.append(2 * n**3 / timed(lambda a=a, b=b: a @ b, 5).median)
    return max(rates)


def table(rows: dict[str, Timing], ours: str) -> str:
    """All timings, and how many times ours each takes."""
    lines = ["| what | median (least to most) | times ours |", "|---|---|---|"]
    lines += [f"| {name} | {timing} | {timing.median / rows[ours].median:.2f} |" for name, timing in rows.items()]
    return "\n".join(lines)
