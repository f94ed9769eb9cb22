"""What the benchmarks found, kept as JSON, and the page and the picture that show it.

``record`` replaces one section of one kind of processor and keeps those of the others; the page is written anew from
all that are known.
"""

import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import sklearn
import torch
import torchvision
import transformers
from targets import TARGETS
from timing import matrix_rate

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
RESULTS, PAGE, PICTURE = (
    DOCS / "reference" / "benchmarks.json",
    DOCS / "reference" / "benchmarks.md",
    DOCS / "images" / "benchmarks.png",
)
ORDER = (
    "search",
    "depths",
    "accuracy",
    "images",
    "texts",
    "fine_tuning",
    "requests",
    "store",
    "start",
    "growth",
    "processes",
    "dask",
)
NATIVE = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
TOP = """# Benchmarks

How much faster is skltransfer than skorch, embetter, sentence-transformers, or your own loop in PyTorch? This page
answers for cached features, searches over `freeze_depth`, and single predictions. It also shows where skltransfer is
slower.

The results depend on the kind of processor, so each kind has its own part. In each table, all contestants took turns in
one run, alone on the machine. Times are medians with their minimum and maximum. A speed-up is a ratio of medians. All
contestants do the same job: their features agree (cosine above 0.998), or they take the same number of optimizer steps
on the same folds. `make bench` repeats the measurements. The glossary explains the words
[stage](../glossary.md#stage) and [boundary](../glossary.md#boundary).

![how many times faster skltransfer is than each contestant](../images/benchmarks.png)
"""
NEXT = """
## What to read next

[Cache frozen activations](../how_to/cache.md) explains where the speed-ups come from.
[Cache, parallel jobs and memory](../explanation/store_and_processes.md) says what processes share.
"""


class Ratio(NamedTuple):
    """A ratio of medians: how many times faster than something, or a share of what the machine can do.

    ``most`` is what is possible at all, where that is known. The page and its picture show speed-ups alone.
    """

    what: str
    value: float
    most: float | None = None
    is_speed_up: bool = True


def record(
    section: str, title: str, text: str, ratios: Sequence[Ratio] = (), rates: dict[str, float] | None = None
) -> None:
    """Put a section into the page; print it too, with the ratios that are below their target.

    ``rates`` are seconds per sample, from which the page says what a million samples cost.
    """
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kind = results.setdefault(processor(), {"bound": "", "sections": {}})
    kind["bound"] = bound()
    kind["sections"][section] = {
        "title": title,
        "machine": machine(),
        "text": text,
        "ratios": [tuple(r) for r in ratios],
        "rates": rates or {},
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)
    print(f"\n## {title}\n\n{text}\n{_speed_ups(ratios)}", flush=True)
    for ratio in ratios:
        if ratio.value < TARGETS.get(ratio.what, 0):
            print(f"below the target of {TARGETS[ratio.what]:g}: {ratio.what}, {ratio.value:.2f}", flush=True)


def write_page(results: dict) -> None:
    """The page and its picture, from all sections."""
    PAGE.write_text(_page(results))
    _picture({kind: _ratios_of(known["sections"]) for kind, known in results.items()})


def _ratios_of(sections: dict) -> list[Ratio]:
    return [Ratio(*ratio) for key in ORDER for ratio in sections.get(key, {}).get("ratios", [])]


def processor() -> str:
    """The kind of processor: what decides which runtime and dtype are fast."""
    capabilities, limit = torch.cpu.get_capabilities(), os.environ.get("ONEDNN_MAX_CPU_ISA")
    if limit is not None:
        return f"{platform.machine()} limited to {limit}"
    flags = [shown for name, shown in NATIVE.items() if capabilities.get(name)]
    widest = "AVX512" if capabilities.get("avx512_f") else "AVX2" if capabilities.get("avx2") else "no AVX2"
    return f"{platform.machine()} with {' and '.join(flags) or f'{widest}, without bfloat16'}"


def bound() -> str:
    """What this processor can do at all, from matrix products."""
    rates = {dtype: matrix_rate(dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16)}
    single, half = rates[torch.float32], rates[torch.bfloat16]
    return f"Matrix products run at {single:.0f} GFLOP/s in float32 and at {half:.0f} in bfloat16."


def machine() -> str:
    """What ran, in words."""
    capabilities = torch.cpu.get_capabilities()
    native = [name for name in NATIVE if capabilities.get(name)]
    return (
        f"{os.cpu_count()} cores {platform.machine()} ({', '.join(native) or 'no native bfloat16'}), "
        f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}, "
        f"torchvision {torchvision.__version__.partition('+')[0]}, transformers {transformers.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )


def _page(results: dict) -> str:
    parts = [TOP]
    for kind, known in sorted(results.items()):
        parts.append(f"\n## Results on {kind}\n\n{known['bound']}\n" if known["bound"] else f"\n## Results on {kind}\n")
        for key in [key for key in ORDER if key in known["sections"]]:
            section = known["sections"][key]
            faster = _speed_ups([Ratio(*ratio) for ratio in section["ratios"]])
            parts.append(f"\n### {section['title']}\n\n{section['text']}\n{faster}\n*{section['machine']}*\n")
        parts.append(_of_a_million(known["sections"]))
    return "".join(parts) + NEXT


def _of_a_million(sections: dict) -> str:
    """Core-hours of a million samples at the measured rates."""
    rates = {what: s for key in ORDER for what, s in sections.get(key, {}).get("rates", {}).items()}
    if not rates:
        return ""
    lines = [
        "\n### Features of a million samples\n",
        "From the rates above, on two cores; reading the files is included.\n",
        "| features | core-hours |",
        "|---|---|",
        *(f"| {what} | {2 * seconds * 1e6 / 3600:.1f} |" for what, seconds in rates.items()),
    ]
    return "\n".join(lines) + "\n"


def _speed_ups(ratios: Sequence[Ratio]) -> str:
    shown = [ratio for ratio in ratios if ratio.is_speed_up]
    if not shown:
        return ""
    lines = ["", "| speed-up | measured | the most that is possible |", "|---|---|---|"]
    lines += [f"| {r.what} | {r.value:.2f} times | {'' if r.most is None else f'{r.most:.2f} times'} |" for r in shown]
    return "\n".join(lines) + "\n"


def _picture(ratios_of: dict[str, list[Ratio]]) -> None:
    """How many times faster: to the right of the line skltransfer is ahead; a tick marks what is possible at all."""
    shown = {kind: [r for r in ratios if r.is_speed_up] for kind, ratios in sorted(ratios_of.items())}
    heights = [len(ratios) + 2 for ratios in shown.values()]
    figure, panels = plt.subplots(
        len(shown), figsize=(9, 0.27 * sum(heights)), height_ratios=heights, sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (kind, ratios) in zip(panels[:, 0], shown.items(), strict=True):
        _bars(axes, ratios)
        axes.set_title(kind, loc="left", fontsize=10)
    panels[-1, 0].set_xlabel("times faster (line at 1: equally fast)")
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def _bars(axes: plt.Axes, ratios: Sequence[Ratio]) -> None:
    where = range(len(ratios))[::-1]
    axes.barh(where, [ratio.value - 1 for ratio in ratios], left=1, color="#4878a8", height=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(where, [ratio.what for ratio in ratios], fontsize=8)
    for y, ratio in zip(where, ratios, strict=True):
        bound = "" if ratio.most is None else f" (at most {ratio.most:.3g} is possible)"
        end = max(ratio.value, ratio.most or 1, 1)
        axes.annotate(
            f"{ratio.value:.3g}×{bound}", (end, y), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
        if ratio.most is not None:
            axes.plot([ratio.most] * 2, [y - 0.3, y + 0.3], color="#d1751f", linewidth=2)
    axes.margins(x=0.25, y=0.02)
    axes.spines[["top", "right"]].set_visible(False)
