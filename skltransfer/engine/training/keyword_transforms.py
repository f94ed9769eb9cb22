"""Transforms that take and return NumPy arrays by keyword, as those of albumentations do, called like torchvision's.

Promises that torch's own generator decides all random numbers, and that the user's object is left as it is. Must not
know tasks or samples, and imports no library of transforms.
"""

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

WITH_BOXES = "Compose([...], bbox_params=BboxParams('pascal_voc', label_fields=['labels']))"


def takes_keywords(augment: Any) -> bool:
    """True for transforms and compositions of albumentations."""
    return hasattr(augment, "available_keys")


class KeywordTransform:
    """A random change of an image, or of an image and its mask or boxes.

    Parameters
    ----------
    transform : callable
        Transform of albumentations, which is copied.

    Raises
    ------
    ValueError
        If nothing but the transform itself decides on its random numbers.
    """

    def __init__(self, transform: Any) -> None:
        if not hasattr(transform, "set_random_state"):
            raise ValueError(
                f"augment={transform!r:.100} cannot be seeded, so that random_state would not decide the result. "
                "Install albumentations>=2.0."
            )
        self._transform = copy.deepcopy(transform)

    def __call__(self, image: torch.Tensor, target: Mapping[str, Any] | None = None) -> Any:
        """The changed image, (3, h, w), and the changed target if there is one."""
        seed = int(torch.randint(2**31 - 1, ()))
        # one generator for all parts: set_random_seed would give each part the same numbers
        self._transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        pixels = np.ascontiguousarray(image.as_subclass(torch.Tensor).permute(1, 2, 0).numpy())  # (h, w, 3)
        if target is not None and "boxes" in target:
            return self._with_boxes(pixels, target)
        if getattr(self._transform, "processors", None):
            raise ValueError("augment has bbox_params or keypoint_params, but y holds no boxes. Leave them out.")
        return _as_image(self._transform(image=pixels)) if target is None else self._with_mask(pixels, target)

    def _with_mask(self, pixels: np.ndarray, target: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = target["mask"].as_subclass(torch.Tensor).numpy().astype(np.int16)  # which OpenCV can move
        found = self._transform(image=pixels, mask=mask)
        moved = np.asarray(found["mask"])
        unknown = np.setdiff1d(moved, np.append(mask, 0))  # 0 is filled in
        if unknown.size:
            raise ValueError("it mixes labels or fills in others; leave mask_interpolation and fill_mask at 0")
        return _as_image(found), {"mask": torch.tensor(moved.astype(np.int64))}

    def _with_boxes(self, pixels: np.ndarray, target: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        params = getattr(getattr(self._transform, "processors", {}).get("bboxes"), "params", None)  # None where absent
        fields = getattr(params, "label_fields", None) or []
        if getattr(params, "format", None) != "pascal_voc" or len(fields) != 1:
            raise ValueError(f"boxes need {WITH_BOXES}")
        height, width = pixels.shape[:2]
        boxes = target["boxes"].as_subclass(torch.Tensor).numpy().astype(np.float64).reshape(-1, 4)
        boxes = np.clip(boxes, 0, [width, height, width, height])  # of rounding
        found = self._transform(image=pixels, bboxes=boxes, **{fields[0]: target["labels"].numpy()})
        moved = torch.tensor(np.asarray(found["bboxes"], dtype=np.float32).reshape(-1, 4))
        labels = torch.tensor(np.asarray(found[fields[0]], dtype=np.int64))
        return _as_image(found), {"boxes": moved, "labels": labels}


def _as_image(found: Any) -> Any:
    """The image of a result as a tensor, (3, h, w), where it is an array (h, w, 3); anything else as it is."""
    image = found["image"] if isinstance(found, Mapping) and "image" in found else found
    if not isinstance(image, np.ndarray):
        return image
    values = torch.tensor(image)
    return values.permute(2, 0, 1) if values.ndim == 3 else values
