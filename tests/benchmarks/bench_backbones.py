"""Milliseconds per sample of each recommended network, into docs/reference/recommended_backbones.md.

    python tests/benchmarks/bench_backbones.py [name ...]

Run it alone on the machine; about half an hour for all. Weights are random, which changes no time; networks of the hub
are built by their published proportions. ``--page`` writes the page from what is known, and measures nothing.
"""

import json
import pathlib
import platform
import re
import sys
import tempfile

import hub_networks
import numpy as np
import torch
from report import DOCS, machine
from timing import timed

from skltransfer import Backbone, PretrainedFeatureExtractor, load_backbone
from skltransfer._catalogue import RECOMMENDED, Recommended

PAGE, RESULTS = (DOCS / "reference" / f"recommended_backbones.{kind}" for kind in ("md", "json"))
BEGIN, END = "<!-- begin: written by tests/benchmarks/bench_backbones.py -->", "<!-- end -->"
SAMPLES = {"photo": 16, "medical": 4, "satellite": 8, "speech": 4, "text": 64, "multilingual text": 64, "protein": 16}
TITLES = {
    "photo": "Photos",
    "medical": "Medical images",
    "satellite": "Satellite and aerial images",
    "text": "English texts",
    "multilingual text": "Texts in other languages",
    "speech": "Speech",
    "protein": "Proteins",
}
ACCURACY = {  # of frozen features and the default probe, from the model cards; others: no weights where this ran
    "bundled:efficientnet-lite0": "ants and bees 0.939, satellite 0.839, CIFAR-10 (500 labels) 0.698",
    "bundled:efficientnet-lite2": "ants and bees 0.976, satellite 0.824, CIFAR-10 (500 labels) 0.705",
    "bundled:minilm": "SST-2 (800 labels) 0.791, AG News (200 labels) 0.826",
}


def samples(use: str, rng: np.random.Generator) -> list:
    """As many as are timed at once: images of 256 x 256 px, texts of 32 words, 5 s of sound, 200 amino acids."""
    n = SAMPLES[use]
    if use == "speech":
        return [(rng.normal(0, 0.1, 5 * 16_000).astype(np.float32), 16_000) for _ in range(n)]
    if use == "protein":
        return ["".join(rng.choice(list(hub_networks.AMINO_ACIDS), 200)) for _ in range(n)]
    if "text" in use:
        return [" ".join(rng.choice(hub_networks.WORDS, 32)) for _ in range(n)]
    return list(rng.integers(0, 256, (n, 256, 256, 3), dtype=np.uint8))


def built(name: str, folder: pathlib.Path) -> Backbone:
    known_here = name if not name.startswith("hf:") else hub_networks.save(name, folder)
    return load_backbone(known_here, weights="random")


def measured(network: Recommended) -> dict[str, object]:
    """Milliseconds per sample in float32 and in the default dtype, which is named too."""
    X = samples(network.use, np.random.default_rng(0))
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        backbone = built(network.name, pathlib.Path(folder))
        for dtype in ("float32", "auto"):
            extractor = PretrainedFeatureExtractor(backbone, cache=None, dtype=dtype)
            found[dtype] = timed(lambda e=extractor: e.transform(X), 3).median / len(X) * 1e3
    return found


def processor() -> str:
    """What the processor calls itself."""
    about = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", about.read_text()) if about.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def write_page(results: dict) -> None:
    """Replace what stands between the marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{_tables(results)}\n{END}{after}", encoding="utf-8")


def _tables(results: dict) -> str:
    ran_on = f"Measured on: {results['machine']}." if results["ms"] else "The times are not measured yet."
    return "\n".join([ran_on, "", *(_section(use, title, results["ms"]) for use, title in TITLES.items())])


def _section(use: str, title: str, times: dict) -> str:
    networks = [network for network in RECOMMENDED.values() if network.use == use]
    times_in = "ms per sample, float32 | ms per sample, default dtype"
    head = f"| `backbone=` | parameters | {times_in} | accuracy on our sets | licence of the weights |"
    rows = [_row(network, times.get(network.name, {})) for network in networks]
    reasons = [f'- `"{network.name}"`: {network.choose}' for network in networks]
    return "\n".join([f"## {title}", "", head, "|---|---|---|---|---|---|", *rows, "", *reasons, ""])


def _row(network: Recommended, times: dict) -> str:
    licence = network.licence
    if network.page and not network.name.startswith("bundled:"):
        licence = f"[{licence}](https://huggingface.co/{network.page})"
    cells = [
        f'`"{network.name}"`',
        f"{network.n_parameters / 1e6:.1f} M",
        *(f"{times[dtype]:.3g}" if dtype in times else "not measured" for dtype in ("float32", "auto")),
        ACCURACY.get(network.name, "—"),
        licence,
    ]
    return f"| {' | '.join(cells)} |"


def main(*names: str) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": "", "ms": {}}
    for name in names:
        known["ms"][name] = measured(RECOMMENDED[name])
        known["machine"] = f"{processor()}, {torch.get_num_threads()} threads; {machine()}"
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        print(name, known["ms"][name], flush=True)
    write_page(known)


if __name__ == "__main__":
    main(*([] if sys.argv[1:] == ["--page"] else sys.argv[1:] or RECOMMENDED))
