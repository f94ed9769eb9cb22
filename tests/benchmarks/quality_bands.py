"""What a fourth band costs a network of colors: satellite scenes, with noise or a copy of green beside the colors.

    SKLTRANSFER_DATA=folder python tests/benchmarks/quality_bands.py results.json

Test accuracy of a logistic regression on frozen features, on five draws of half of the scenes; and the mean difference
to colors alone, paired by draw. Bar: at least -1 point. The last row reads colors as if their names were not known.
About two minutes on 2 cores.
"""

import io
import json
import os
import pathlib
import sys

import numpy as np
from PIL import Image
from quality_input_size import drawn, scores
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from bench_transfer import members

from skltransfer import PretrainedFeatureExtractor, load_backbone

NAME, COLOURS = "bundled:efficientnet-lite0", ("red", "green", "blue")
SIDE, BAR = 224, -0.01
CANDIDATES = {
    "colors": None,
    "colors as bands": COLOURS,
    "and noise": (*COLOURS, "noise"),
    "and a copy of green": (*COLOURS, "copy"),
    "and five bands of noise": (*COLOURS, *(f"noise{i}" for i in range(5))),
    "three unnamed bands": ("x", "y", "z"),
}


def with_bands(scenes: np.ndarray, name: str) -> np.ndarray:
    """Scenes (n, h, w, 3) with the further bands of a candidate."""
    noise = np.random.default_rng(0).integers(0, 256, (*scenes.shape[:3], 5), dtype=np.uint8)
    further = {"and noise": noise[..., :1], "and five bands of noise": noise, "and a copy of green": scenes[..., 1:2]}
    return np.concatenate([scenes, further[name]], axis=-1) if name in further else scenes


def main(path: pathlib.Path, data: pathlib.Path) -> None:
    content, names = members(data / "satellite_rsscn7_96.tar.gz")
    scenes = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in content])
    y = np.array([name[0] for name in names])
    splits, results = drawn(y, len(y) // 2, len(y) // 2), {}
    for name, bands in CANDIDATES.items():
        backbone = load_backbone(NAME, input_size=SIDE, bands=bands)
        features = PretrainedFeatureExtractor(backbone, cache=None).transform(with_bands(scenes, name))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        results[name] = scores(model, features, y, splits)
        path.write_text(json.dumps(results))
        differences = np.array(results[name]) - results["colors"]
        verdict = "" if not name.startswith("and") else "reached" if differences.mean() >= BAR else "MISSED"
        print(
            f"{name}: {np.mean(results[name]):.3f} ± {np.std(results[name], ddof=1):.3f}, difference "
            f"{100 * differences.mean():+.1f} ± {100 * differences.std(ddof=1):.1f} points {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SKLTRANSFER_DATA"]))
