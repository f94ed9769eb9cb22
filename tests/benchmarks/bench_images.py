"""Features of photos, cold: this package against embetter and against the best PyTorch loop that we can write.

    python tests/benchmarks/bench_images.py

Run it alone on the machine; about five minutes. JPEG files of 500 x 375 px, generated; timm's networks with the same
random weights for all. *embetter*: ``ImageLoader`` and ``TimmEncoder``, its network put into eval mode (it is in train
mode otherwise, and its features are wrong). *By hand*: bfloat16, channels-last, the same decoder and preprocessing in
threads ahead of the network; the fastest of several batch sizes counts.

Then how near the forward pass alone comes to the machine's matrix rate: operations of the network's convolutions and
matrices per second, against those of one large bfloat16 matrix product.
"""

import copy
import pathlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import timm
import torch
from embetter.vision import ImageLoader, TimmEncoder
from PIL import Image
from report import Ratio, record
from sklearn.pipeline import make_pipeline
from timing import in_turn, shown, table, timed
from torch.utils.flop_counter import FlopCounterMode

from skltransfer import Backbone, PretrainedFeatureExtractor, load_backbone
from skltransfer.engine import run_padded

N = {"timm:resnet18": 200, "timm:vit_base_patch16_224": 60}
SHORT = {"timm:resnet18": "ResNet-18", "timm:vit_base_patch16_224": "ViT-B"}
BATCHES = (4, 8, 16, 32)


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


def by_hand(network: torch.nn.Module, backbone: Backbone, paths: list[pathlib.Path], batch: int) -> np.ndarray:
    side = backbone.preprocessing.draft

    def read(path: pathlib.Path) -> torch.Tensor:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            return backbone.preprocessing(np.asarray(image.convert("RGB")))

    features = []
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        waiting = pool.map(read, paths)
        while rows := [row for _, row in zip(range(batch), waiting, strict=False)]:
            x = torch.stack(rows).bfloat16().contiguous(memory_format=torch.channels_last)
            features.append(network(x).float())
    return torch.cat(features).numpy()


def same(features: np.ndarray, reference: np.ndarray) -> float:
    """The least cosine between rows."""
    cosine = (features * reference).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(reference, axis=1)
    assert cosine.min() > 0.999, cosine.min()
    return float(cosine.min())


def extraction(name: str, folder: pathlib.Path) -> tuple[str, dict[str, float]]:
    """A table of all contestants, and how many times as long as ours two of them take."""
    paths = photos(folder, N[name])
    backbone = load_backbone(name, weights="random")
    network = backbone.library_network
    theirs = encoder(name.removeprefix("timm:"), network.state_dict())
    mine = PretrainedFeatureExtractor(backbone, cache=None)
    pipeline = make_pipeline(ImageLoader(convert="RGB"), theirs)
    in_bfloat16 = copy.deepcopy(theirs.model).bfloat16().to(memory_format=torch.channels_last).eval()
    names = [str(path) for path in paths]
    reference = np.stack(pipeline.fit_transform(names))
    cosines = {
        "skltransfer": same(mine.transform(paths), reference),
        "PyTorch loop": same(by_hand(in_bfloat16, backbone, paths, 16), reference),
    }
    contestants = {"skltransfer": lambda: mine.transform(paths), "embetter": lambda: pipeline.fit_transform(names)}
    for b in BATCHES:
        contestants[f"PyTorch loop, bfloat16, batches of {b}"] = lambda b=b: by_hand(in_bfloat16, backbone, paths, b)
    rows = in_turn(contestants)
    best = min((name for name in rows if name.startswith("PyTorch loop")), key=lambda name: rows[name].median)
    ours, hand, theirs = (rows[name] for name in ("skltransfer", best, "embetter"))
    found = ", ".join(f"{who} {cosine:.5f}" for who, cosine in cosines.items())
    text = f"**{name}**, {N[name]} files; least cosine to embetter's features: {found}.\n\n{table(rows, 'skltransfer')}"
    return text, {"embetter": theirs.median / ours.median, "PyTorch loop": hand.median / ours.median}


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations per second of the fastest of three sizes of matrix product."""
    rates = []
    for n in (1024, 2048, 4096):
        a, b = torch.randn(2, n, n).to(dtype)
        rates.append(2 * n**3 / timed(lambda a=a, b=b: a @ b, 9).median)
    return max(rates)


def forward_rate(name: str) -> tuple[float, float]:
    """Operations per second of the forward pass as an extractor runs it, and milliseconds per photo."""
    backbone = load_backbone(name, weights="random")
    counter, one = FlopCounterMode(display=False), backbone.example(1)
    with counter, torch.inference_mode():
        backbone.suffix(0).eval()(one)
    batch = backbone.inference_batch()
    piece = backbone.prefix(0, backbone.n_stages, torch.bfloat16)
    x = backbone.example(batch).bfloat16()
    with torch.inference_mode():
        seconds = timed(lambda: run_padded(piece, x, batch), 15).median
    return counter.get_total_flops() * batch / seconds, seconds / batch


def main() -> None:
    peak, in_float32 = matrix_rate(torch.bfloat16), matrix_rate(torch.float32)
    ratios: list[Ratio] = []
    parts = [
        f"What the machine allows: {peak / 1e9:.0f} GFLOP/s of bfloat16 matrix products, {in_float32 / 1e9:.0f} of "
        f"float32. So a float32 peer that wastes nothing can be beaten {peak / in_float32:.2f} times in the forward "
        "pass, and a script that runs it at the machine's rate not at all."
    ]
    for name in N:
        with tempfile.TemporaryDirectory() as folder:
            text, times = extraction(name, pathlib.Path(folder))
        parts.append(text)
        print(text, flush=True)
        if name == "timm:resnet18":
            ratios += [
                Ratio("image features, ResNet-18, over embetter", times["embetter"]),
                Ratio("image features, ResNet-18, over a PyTorch loop", times["PyTorch loop"]),
            ]
        rate, seconds = forward_rate(name)
        share_of_peak = f"forward pass, {SHORT[name]}, of a matrix product's rate"
        ratios.append(Ratio(share_of_peak, rate / peak, 1, is_speed_up=False))
        parts.append(
            f"The forward pass alone: {shown(seconds)} a photo, {rate / 1e9:.0f} GFLOP/s, "
            f"{rate / peak:.0%} of the {peak / 1e9:.0f} GFLOP/s of a bfloat16 matrix product."
        )
        print(parts[-1], flush=True)
    record("images", "Features of photos, cold", "\n\n".join(parts), ratios)


if __name__ == "__main__":
    main()
