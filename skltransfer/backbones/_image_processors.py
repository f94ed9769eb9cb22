"""From the settings of an image processor of transformers to a preprocessing, which is compared with it on an image.

Knows processors by their settings and by what they do. What cannot be reproduced is refused.
"""

from collections.abc import Mapping

import numpy as np

from skltransfer.backbones._preprocessing import ImagePreprocessing
from skltransfer.exceptions import UnsupportedBackboneError

INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
TOLERANCE = 0.02  # mean difference, as a share of the range of values; resizing differs in its rounding
WARPED_FROM = 384  # px: the side from which ConvNeXt's processor crops nothing away


def image_preprocessing(processor, where: str) -> ImagePreprocessing:
    """The steps of an image processor, as a value.

    Parameters
    ----------
    processor : image processor of transformers
        Image processor that is converted.
    where : str
        Name of the backbone, for error messages.

    Raises
    ------
    UnsupportedBackboneError
        If the processor does what :class:`ImagePreprocessing` does not.
    """
    settings, kind = processor.to_dict(), type(processor).__name__
    try:
        resize, crop, squash = _sizes(settings, kind)
        mean, std = _normalisation(settings)
        interpolation = INTERPOLATIONS[int(settings["resample"])]
    except (KeyError, TypeError, ValueError) as error:
        raise _refusal(where, kind, f"its settings are not those of a square, normalised image ({error!r})") from error
    ours = ImagePreprocessing(resize, crop, mean, std, interpolation, squash)
    _refuse_unless_alike(ours, processor, where, kind)
    return ours


def _sizes(settings: Mapping[str, object], kind: str) -> tuple[int, int, bool]:
    """The side after resizing, the side of the crop, and whether resizing makes a square."""
    if not settings.get("do_resize", True):
        raise ValueError("do_resize=False: images of any size would reach the network")
    size, crop = _sides(settings["size"]), _sides(settings.get("crop_size")) if settings.get("do_center_crop") else {}
    squash = "height" in size
    resize = size["height"] if squash else size["shortest_edge"]
    side = crop["height"] if crop else resize
    if size.get("width", resize) != resize or crop.get("width", side) != side:
        raise ValueError(f"size={size}, crop_size={crop}: not square")
    if kind.startswith("ConvNext") and not squash:
        return (resize, side, True) if resize >= WARPED_FROM else (int(resize / settings["crop_pct"]), side, False)
    if kind.startswith("PoolFormer") and settings.get("crop_pct"):
        return int(resize / settings["crop_pct"]), side, False
    if kind.startswith("Levit") and not squash:
        return int(256 / 224 * resize), side, False
    return resize, side, squash


def _sides(size: object) -> dict[str, int]:
    """A size as a mapping; one number is both sides."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in dict(size or {}).items() if value is not None}


def _normalisation(settings: Mapping[str, object]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of photos in [0, 1] that give what the processor makes of photos in [0, 255]."""
    scale = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
    scale, offset = round(float(scale), 9), 1.0 if settings.get("rescale_offset") else 0.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if settings.get("do_normalize", True):
        mean, std = _per_channel(settings["image_mean"]), _per_channel(settings["image_std"])
    if scale == 1 and not offset and not settings.get("include_top"):
        return mean, std
    twice = _per_channel(settings["image_std"]) if settings.get("include_top") else (1.0,) * 3
    return (
        tuple((m + offset) / scale for m in mean),
        tuple(s * again / scale for s, again in zip(std, twice, strict=True)),
    )


def _per_channel(values: object) -> tuple[float, ...]:
    """Three values; one number holds for each channel."""
    values = (values,) * 3 if isinstance(values, int | float) else tuple(values)
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels, not 3")
    return values


def _refuse_unless_alike(ours: ImagePreprocessing, processor, where: str, kind: str) -> None:
    """Compare with what the processor makes of a square photo that is smooth, and different in each channel."""
    side = round(1.5 * ours.resize)
    y, x = np.mgrid[:side, :side] / (side - 1)
    photo = np.stack([255 * x, 255 * y, 127 * (2 - x - y)], axis=-1).astype(np.uint8)
    given = processor(images=photo, return_tensors="np")
    theirs = np.asarray(given["pixel_values"])[0]
    mine = ours(photo).numpy()
    if mine.shape != theirs.shape:
        raise _refusal(where, kind, f"it makes images of shape {theirs.shape}, its settings say {mine.shape}")
    difference = float(np.abs(mine - theirs).mean() / max(np.ptp(theirs), 1e-9))
    if not difference <= TOLERANCE:
        raise _refusal(where, kind, f"its images differ by {difference:.0%} of their range from what it says")


def _refusal(where: str, kind: str, reason: str) -> UnsupportedBackboneError:
    return UnsupportedBackboneError(
        f"The preprocessing of {where!r} cannot be reproduced: {reason}, {kind}. Save another image processor beside "
        "the weights, such as ViTImageProcessor with the network's size, mean and std."
    )
