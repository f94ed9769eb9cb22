"""The backbone that ships in the package: ``bundled:tiny-photo``, trained on Tiny-ImageNet, 64 x 64 px, no network."""

from collections.abc import Mapping
from pathlib import Path

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._tiny_photo_network import INPUT_SIDE, MEAN, STD, WIDTHS, TinyPhotoNetwork
from skltransfer.backbones._weights import fit_state, random_seed, read_metadata, read_state
from skltransfer.exceptions import BackboneNotFoundError, WeightsError

WEIGHTS = Path(__file__).parent / "weights" / "tiny-photo.safetensors"
STAGES = ("stem", *(f"block{i}" for i in range(1, len(WIDTHS) + 1)))
HEAD = {"head.weight", "head.bias"}


def load_bundled(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    """The adapter behind ``bundled:tiny-photo``."""
    if name != "tiny-photo":
        raise BackboneNotFoundError(f"No bundled backbone {name!r}. Available: ['bundled:tiny-photo'].")
    seed = random_seed(weights)
    with seeded(seed or 0):
        network = TinyPhotoNetwork()
    card: dict = {}
    if seed is None:
        path = _shipped_weights() if weights == "pretrained" else Path(weights)
        state = read_state(path)
        fit_state(network, {k: v.float() for k, v in state.items()}, optional=HEAD, where=str(path))
        card = read_metadata(path) if path.suffix == ".safetensors" else {}
    return Backbone(
        GraphCut(network.eval(), [(stage, stage) for stage in STAGES]),
        name=f"bundled:{name}",
        weights=weights,
        preprocessing=ImagePreprocessing(resize=INPUT_SIDE, crop=INPUT_SIDE, mean=MEAN, std=STD).at(
            options.get("input_size")
        ),
        pooling="mean",
        head_names=HEAD,
        classes=card.get("classes"),
        source_accuracy=("Tiny-ImageNet", card["top1"]) if weights == "pretrained" and "top1" in card else None,
        options=options,
    )


def _shipped_weights() -> Path:
    if not WEIGHTS.exists():
        raise WeightsError(
            f"This build of skltransfer was made without the weights of 'bundled:tiny-photo' ({WEIGHTS.name}). "
            "Install the full wheel, or name another backbone, e.g. backbone='torchvision:resnet18'."
        )
    return WEIGHTS
