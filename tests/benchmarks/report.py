"""What the benchmarks found, kept as JSON, and the page and the picture that show it.

``record`` replaces one section; the page is written anew from all sections that are known.
"""

import json
import os
import pathlib
import platform
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import sklearn
import torch
import torchvision
import transformers

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
RESULTS, PAGE, PICTURE = (
    DOCS / "reference" / "benchmarks.json",
    DOCS / "reference" / "benchmarks.md",
    DOCS / "images" / "benchmarks.png",
)
ORDER = ("search", "depths", "accuracy", "images", "texts", "store", "start", "growth", "dask")
TOP = """# Benchmarks

Each table comes from one run in which all contestants took turns, alone on the machine; `make bench` makes this page
anew. Times are medians with the least and the most, ratios are ratios of medians. Contestants do the same job: their
features agree (cosine above 0.999, asserted), or they take the same number of optimiser steps on the same folds; where
their accuracies differ by two standard errors, the page says so.

![ratios of medians](../images/benchmarks.png)
"""


class Ratio(NamedTuple):
    """How many times faster than something, and the least that was promised."""

    what: str
    value: float
    promised: float


def record(section: str, title: str, text: str, ratios: list[Ratio] = ()) -> None:
    """Put a section into the page; print it too."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[section] = {"title": title, "machine": machine(), "text": text, "ratios": [tuple(r) for r in ratios]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(_page(results))
    _picture([Ratio(*ratio) for key in ORDER for ratio in results.get(key, {}).get("ratios", [])])
    print(f"\n## {title}\n\n{text}\n{_verdicts(ratios)}", flush=True)


def machine() -> str:
    """What ran, in words."""
    capabilities = torch.cpu.get_capabilities()
    native = [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
    return (
        f"{os.cpu_count()} cores {platform.machine()} ({', '.join(native) or 'no native bfloat16'}), "
        f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}, "
        f"torchvision {torchvision.__version__.partition('+')[0]}, transformers {transformers.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )


def _page(results: dict) -> str:
    parts = [TOP]
    for key in ORDER:
        if key in results:
            section = results[key]
            verdicts = _verdicts([Ratio(*ratio) for ratio in section["ratios"]])
            parts.append(f"\n## {section['title']}\n\n{section['text']}\n{verdicts}\n*{section['machine']}*\n")
    return "".join(parts)


def _verdicts(ratios: list[Ratio]) -> str:
    if not ratios:
        return ""
    lines = ["", "| ratio of medians | measured | promised |", "|---|---|---|"]
    lines += [f"| {r.what} | {r.value:.2f} | at least {r.promised:g} |" for r in ratios]
    return "\n".join(lines) + "\n"


def _picture(ratios: list[Ratio]) -> None:
    """Measured over promised: to the right of the line is more than was promised."""
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(ratios) + 1.1), layout="constrained")
    where = range(len(ratios))[::-1]
    kept = [r.value / r.promised for r in ratios]
    colours = ["#4878a8" if value >= 1 else "#c44e52" for value in kept]
    axes.barh(where, [value - 1 for value in kept], left=1, color=colours, height=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(where, [r.what for r in ratios])
    for y, ratio, value in zip(where, ratios, kept, strict=True):
        axes.annotate(
            f"{ratio.value:.3g} (promised {ratio.promised:g})",
            (max(value, 1), y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlabel("ratio of medians, over what was promised")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)
