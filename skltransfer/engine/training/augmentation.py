"""Training images that are changed at random each time they are seen; nothing of that is remembered.

Randomness is torch's own generator's, which :func:`train` seeds. Must not know y, losses or scikit-learn.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.beside import Batch
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.packing import Packing
from skltransfer.engine.inference.reading import in_threads
from skltransfer.engine.storing.key import Address
from skltransfer.engine.tasks.targets import RecordTargets
from skltransfer.engine.tasks.task import Task
from skltransfer.engine.training.keyword_transforms import KeywordTransform, takes_keywords
from skltransfer.inputs import Samples

Augment = Callable[..., Any]


class AugmentedActivations:
    """The training set as ``train`` sees it: :class:`Activations` for looking, changed images for training.

    Parameters
    ----------
    activations : Activations
        Activations of the unchanged images.
    stages : FrozenStages
        Frozen stages that compute activations.
    samples : Samples
        Samples.
    addresses : sequence of Address
        Stages in increasing order; several are packed.
    augment : callable
        Transform of ``torchvision.transforms.v2`` from a uint8 image (channels, h, w) to another one, or from an image
        and its target; or a transform of albumentations.
    task : Task
        The task, which knows whether a transform changes targets.
    unplaced : mapping of int to object
        The target of each row of the training set before it was placed in the network's input; empty where transforms
        change images alone.
    """

    def __init__(
        self,
        activations: Activations,
        stages: FrozenStages,
        samples: Samples,
        addresses: Sequence[Address],
        augment: Augment,
        task: Task,
        unplaced: Mapping[int, Any],
    ) -> None:
        self.take, self.exact_batches, self.lengths = activations.take, activations.exact_batches, activations.lengths
        self._with_numbers = activations.with_numbers
        self._stages, self._samples, self._addresses = stages, samples, addresses
        self._augment = KeywordTransform(augment) if takes_keywords(augment) else augment
        self._task, self._unplaced = task, unplaced

    def take_to_train(self, rows: np.ndarray, batch: Any = None) -> tuple[Batch, Any]:
        """Activations of these rows' images, changed at random, on the stages' device; and the targets that go with
        them."""
        pictures = in_threads(self._samples.read, list(rows), torch.get_num_threads(), ahead=len(rows), overlap=False)
        changed = [self._changed(int(row), picture) for row, picture in zip(rows, pictures, strict=True)]
        inputs, size = torch.stack([one for one, _ in changed]), self._stages.batch
        activations = [self._activation(inputs[start : start + size]) for start in range(0, len(rows), size)]
        if self._unplaced:
            batch = [target for _, target in changed]
        return self._with_numbers(torch.cat(activations).clone(), rows).to(self._stages.device), batch

    def _changed(self, row: int, picture: np.ndarray) -> tuple[torch.Tensor, Any]:
        """The network's input, and the target in it."""
        if picture.ndim != 3:
            raise ValueError(f"augment is for images; X holds rows of {len(picture)} numbers. Set image_shape.")
        image = torch.tensor(picture).permute(2, 0, 1)
        target = self._unplaced.get(row)
        width, height = picture.shape[1::-1] if target is None else self._samples.size(row)
        factors = (picture.shape[1] / width, picture.shape[0] / height)
        preprocessing, n = self._stages.backbone.preprocessing, len(image)
        with _naming_bands(n):
            changed, target = self._task.changed(self._augment, image, target, factors)
        if not isinstance(changed, torch.Tensor) or changed.dtype != torch.uint8 or changed.shape[:-2] != (n,):
            shown = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, torch.Tensor) else type(changed)
            raise ValueError(
                f"augment must turn a uint8 tensor ({n}, h, w) into another, got {shown}. Leave out ToDtype, ToFloat "
                "and Normalize: the backbone's own preprocessing comes after it."
            )
        if target is not None:
            geometry = preprocessing.geometry(changed.shape[2], changed.shape[1])
            (target,) = self._task.placed(RecordTargets([target]), lambda: [geometry]).take(np.array([0]))
        return preprocessing(np.ascontiguousarray(changed.permute(1, 2, 0).numpy())), target

    @torch.inference_mode()
    def _activation(self, inputs: torch.Tensor) -> torch.Tensor:
        stages, asked = self._stages, {address.boundary for address in self._addresses}
        values = dict(stages.passing(inputs.to(stages.device, stages.dtype), 0, asked))
        found = [
            values[address.boundary]
            if address.pooling is None
            else stages.pooled(values[address.boundary].float(), address)
            for address in self._addresses
        ]
        if len(found) == 1:
            return found[0]
        return Packing.at(stages.backbone, [address.boundary for address in self._addresses]).packed(found)


@contextlib.contextmanager
def _naming_bands(n: int) -> Iterator[None]:
    """Say that a transform may be for colors alone, where it fails on an image of ``n`` other channels."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        if n == 3:
            raise
        raise ValueError(
            f"augment failed on an image of {n} bands ({error}). Leave out transforms of colors, such as ColorJitter "
            "and RandomGrayscale; those that move pixels, such as RandomHorizontalFlip, take any number of bands."
        ) from error
