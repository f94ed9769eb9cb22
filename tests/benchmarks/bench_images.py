"""Features of photos, cold: this package against embetter and against loops in PyTorch and OpenVINO.

    python tests/benchmarks/bench_images.py

Run it alone on the machine; about seven minutes. JPEG files of 500 x 375 px, generated; timm's networks with the same
random weights for all. *embetter*: ``ImageLoader`` and ``TimmEncoder``, its network put into eval mode (it is in train
mode otherwise, and its features are wrong). *By hand*: the same decoder and preprocessing in threads ahead of the
network, channels-last in PyTorch. In float32, and in bfloat16 where the processor computes it natively.
"""

import copy
import pathlib
import tempfile
from functools import partial
from unittest import mock

import numpy as np
import timm
import torch
from by_hand import compiled, eager, features_of_files, least_cosine
from embetter.vision import ImageLoader, TimmEncoder
from PIL import Image
from report import Ratio, record
from sklearn.pipeline import make_pipeline
from timing import in_turn, table

from skltransfer import PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import is_native

N = {"resnet18": 96, "tf_efficientnet_lite0": 96, "resnet50": 24}
SHORT = {"resnet18": "ResNet-18", "tf_efficientnet_lite0": "EfficientNet-Lite0", "resnet50": "ResNet-50"}
DTYPES = [torch.float32, *([torch.bfloat16] if is_native(torch.bfloat16, torch.device("cpu")) else [])]


def photos(folder: pathlib.Path, n: int) -> list[pathlib.Path]:
    """Files that compress as photos do."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:03}.jpg" for i in range(n)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375), 3)
        noisy = np.asarray(coarse) + rng.normal(0, 8, (375, 500, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def encoder(name: str, weights: dict[str, torch.Tensor]) -> TimmEncoder:
    """embetter's, without download."""
    create = timm.create_model
    with mock.patch("timm.create_model", lambda name, pretrained, **kw: create(name, pretrained=False, **kw)):
        made = TimmEncoder(name)
    made.model.load_state_dict(weights, strict=False)
    made.model.eval()
    return made


OURS = {"skltransfer": "OpenVINO", "skltransfer without the extra fast": "PyTorch"}


def extraction(name: str, paths: list[pathlib.Path]) -> tuple[str, list[Ratio], dict[str, float]]:
    """Tables of all contestants in each dtype, the ratios that count, and our seconds per photo."""
    backbone = load_backbone(f"timm:{name}", weights="random")
    theirs = encoder(name, backbone.library_network.state_dict())
    network, names = theirs.model, [str(path) for path in paths]
    pipeline = make_pipeline(ImageLoader(convert="RGB"), theirs)
    reference = np.stack(pipeline.fit_transform(names))
    parts, ratios, rates = [], [], {}
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        mine = PretrainedFeatureExtractor(backbone, dtype=kind, cache=None)
        plain = PretrainedFeatureExtractor(backbone, dtype=kind, runtime="folded", cache=None)
        in_torch, in_openvino = eager(copy.deepcopy(network), dtype), compiled(network, (backbone.example(2),), dtype)
        contestants = {
            "skltransfer": lambda mine=mine: mine.transform(paths),
            "skltransfer without the extra fast": lambda plain=plain: plain.transform(paths),
            "PyTorch loop, batches of 4": partial(features_of_files, in_torch, backbone, paths, 4),
            "PyTorch loop, batches of 16": partial(features_of_files, in_torch, backbone, paths, 16),
            "OpenVINO loop, batches of 8": partial(features_of_files, in_openvino, backbone, paths, 8),
        }
        found = {who: least_cosine(run(), reference) for who, run in contestants.items()}
        assert min(found.values()) > 0.998, found
        contestants["embetter, float32"] = lambda: pipeline.fit_transform(names)
        rows = in_turn(contestants, 3)
        times = {who: row.median / rows["skltransfer"].median for who, row in rows.items()}
        rates |= {f"{SHORT[name]}, {kind}, {OURS[who]}": rows[who].median / len(paths) for who in OURS}
        loop = min(times[who] for who in times if who.startswith("PyTorch"))
        parts.append(
            f"**{SHORT[name]}, {kind}**, {len(paths)} files; least cosine to embetter's features: "
            f"{min(found.values()):.5f}.\n\n{table(rows, 'skltransfer')}"
        )
        print(parts[-1], flush=True)
        what = f"image features, {SHORT[name]}, {kind}"
        ratios.append(Ratio(f"{what}, over an OpenVINO loop", times["OpenVINO loop, batches of 8"]))
        ratios.append(Ratio(f"{what}, over a PyTorch loop", loop))
        ratios.append(Ratio(f"{what}, over embetter in float32", times["embetter, float32"]))
    return "\n\n".join(parts), ratios, rates


def main() -> None:
    parts, ratios, rates = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        paths = photos(pathlib.Path(folder), max(N.values()))
        for name, n in N.items():
            text, found, seconds = extraction(name, paths[:n])
            parts.append(text)
            ratios += found
            rates |= seconds
    record("images", "Features of photos, cold", "\n\n".join(parts), ratios, rates)


if __name__ == "__main__":
    main()
