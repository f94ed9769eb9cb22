"""From one decoded sample to one input tensor of a backbone, as its weights were trained to see it.

Values, hashable and comparable: they are part of a backbone's fingerprint. They know decoded arrays, not containers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from skltransfer.backbones._bands import per_band
from skltransfer.backbones._geometry import Geometry
from skltransfer.backbones._tokens import TextPreprocessing
from skltransfer.backbones._waveforms import AudioPreprocessing

LONGEST_ASPECT = 20
RESIZINGS = ("crop", "letterbox", "squash")  # ways in which an image that is not square becomes one


@dataclass(frozen=True)
class ImagePreprocessing:
    """Resize the shorter side, crop the center, scale to [0, 1], normalize: torchvision's recipe for evaluation.

    Parameters
    ----------
    resize : int
        Shorter side after resizing, in pixels.
    crop : int
        Side of the central crop, in pixels: the side of the backbone's input.
    mean, std : tuple of float
        Mean and standard deviation of each channel of photos in [0, 1]: of red, green and blue, or of other bands.
    interpolation : {"nearest", "bilinear", "bicubic"}
        Interpolation method of the resizing.
    squash : bool
        If True, resize both sides to ``resize`` regardless of the aspect ratio, so that no margin is cropped away.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    squash: bool = False

    modality = "image"
    is_ragged = is_windowed = is_letterbox = False
    long_samples_key = None
    longest_aspect = LONGEST_ASPECT

    @property
    def n_channels(self) -> int:
        """Number of channels: three but where images have other bands."""
        return len(self.mean)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (self.n_channels, self.crop, self.crop)

    def at(self, side: int | None) -> "ImagePreprocessing":
        """The same at another side of the input; the margin that is cropped away keeps its share."""
        return self if side is None else replace(self, resize=round(self.resize * side / self.crop), crop=side)

    def reading(self, bands: Sequence[str]) -> "ImagePreprocessing":
        """The same of other channels; what is no color is normalized by the colors' mean values."""
        return replace(self, mean=per_band(self.mean, bands), std=per_band(self.std, bands))

    def example(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Random inputs, (n, channels, side, side)."""
        return torch.randn(n, *self.input_shape, generator=generator)

    @property
    def draft(self) -> int:
        """Side below which a photo is never decoded: twice what it is resized to."""
        return 2 * self.resize

    def __call__(self, sample: np.ndarray) -> torch.Tensor:
        """A photo (h, w, channels) of uint8, or a row of numbers (f,), read as one line of pixels -> (channels, side,
        side)."""
        return self._from_strip(sample) if sample.ndim == 1 else self._from_photo(sample)

    def parts(self, sample: np.ndarray) -> list[torch.Tensor]:
        """The one input that a sample becomes."""
        return [self(sample)]

    def pixels(self, photo: np.ndarray) -> np.ndarray:
        """A photo (h, w, channels), resized and cropped: (side, side, channels) of uint8."""
        return _stacked([self._seen(image) for image in _images_of(photo)])

    def geometry(self, width: int, height: int) -> Geometry:
        """Position of a photo of this size, in pixels, in the input."""
        left, top, right, bottom = (0, 0, width, height) if self.squash else _middle(width, height)
        new_width, new_height = self._resized_to(right - left, bottom - top)
        scale = (new_width / (right - left), new_height / (bottom - top))
        cut = self._crop_at(new_width, new_height)
        offset = (-cut[0] - left * scale[0], -cut[1] - top * scale[1])
        return Geometry((width, height), scale, offset, self.crop)

    def resizing(self, how: str) -> "ImagePreprocessing":
        """The same input, of which an image that is not square becomes a part as one of ``RESIZINGS`` says."""
        if how == "letterbox":
            return LetterboxPreprocessing(self.crop, self.crop, self.mean, self.std, self.interpolation)
        return replace(self, resize=self.crop, squash=True) if how == "squash" else replace(self, squash=False)

    def _seen(self, image: Image.Image) -> Image.Image:
        return self._central_crop(self._resized(image if self.squash else _shortened(image)))

    def _from_photo(self, photo: np.ndarray) -> torch.Tensor:
        x = self.pixels(photo).astype(np.float32)  # (side, side, 3); numpy, since torch would start threads here
        x /= np.float32(255)
        x -= np.asarray(self.mean, dtype=np.float32)
        x /= np.asarray(self.std, dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))

    def _resized(self, image: Image.Image) -> Image.Image:
        size = self._resized_to(*image.size)
        return image if size == image.size else image.resize(size, Image.Resampling[self.interpolation.upper()])

    def _resized_to(self, width: int, height: int) -> tuple[int, int]:
        short, long = min(width, height), max(width, height)
        long = self.resize if self.squash else int(self.resize * long / short)
        return (self.resize, long) if width <= height else (long, self.resize)

    def _crop_at(self, width: int, height: int) -> tuple[int, int]:
        return round((width - self.crop) / 2), round((height - self.crop) / 2)

    def _central_crop(self, image: Image.Image) -> Image.Image:
        left, top = self._crop_at(*image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))  # a smaller picture is padded with black

    def _from_strip(self, row: np.ndarray) -> torch.Tensor:
        strip = torch.tensor(row, dtype=torch.float32).view(1, 1, 1, -1)
        square = F.interpolate(strip, size=(self.crop, self.crop), mode="bilinear", align_corners=True)
        return square[0].expand(self.n_channels, -1, -1).contiguous()


@dataclass(frozen=True)
class LetterboxPreprocessing(ImagePreprocessing):
    """Resize the longer side to the input's, and fill the rest with the mean color: nothing is cropped away."""

    is_letterbox = True

    def pixels(self, photo: np.ndarray) -> np.ndarray:
        """A photo (h, w, channels), resized, in the middle of a canvas: (side, side, channels) of uint8."""
        image = _stacked([self._resized(image) for image in _images_of(photo)])  # (h', w', channels)
        level = np.rint(255 * np.array(self.mean)).clip(0, 255)  # of a network whose black is above 0, black
        canvas = np.full((self.crop, self.crop, self.n_channels), level, dtype=np.uint8)
        left, top = self._corner(*image.shape[1::-1])
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        return canvas

    def geometry(self, width: int, height: int) -> Geometry:
        """Position of a photo of this size, in pixels, in the input."""
        new_width, new_height = self._resized_to(width, height)
        return Geometry(
            (width, height), (new_width / width, new_height / height), self._corner(new_width, new_height), self.crop
        )

    def _resized_to(self, width: int, height: int) -> tuple[int, int]:
        longer = max(width, height)
        return max(1, round(self.crop * width / longer)), max(1, round(self.crop * height / longer))

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        return (self.crop - width) // 2, (self.crop - height) // 2


def _images_of(photo: np.ndarray) -> list[Image.Image]:
    """Images that Pillow resizes: one of three channels, or one of each band."""
    if photo.shape[-1] == 3:
        return [Image.fromarray(photo)]
    return [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(photo, -1, 0)]


def _stacked(images: Sequence[Image.Image]) -> np.ndarray:
    """The images as one array (h, w, channels)."""
    return np.dstack([np.asarray(image) for image in images])


def _shortened(image: Image.Image) -> Image.Image:
    """The middle of an image longer than 20 times its width: the rest would be resized only to be cropped away."""
    middle = _middle(*image.size)
    return image if middle == (0, 0, *image.size) else image.crop(middle)


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is left of a long image."""
    limit = LONGEST_ASPECT * min(width, height)
    left, top = (width - min(width, limit)) // 2, (height - min(height, limit)) // 2
    return left, top, left + min(width, limit), top + min(height, limit)


@dataclass(frozen=True)
class RowPreprocessing:
    """Resample a row of any number of features to the fixed width of the backbone's input.

    Parameters
    ----------
    width : int
        Number of inputs of the backbone.
    """

    width: int

    modality = "rows"
    is_ragged = is_windowed = False
    long_samples_key = None

    @property
    def input_shape(self) -> tuple[int]:
        return (self.width,)

    def example(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Random inputs, (n, width)."""
        return torch.randn(n, self.width, generator=generator)

    def __call__(self, sample: np.ndarray) -> torch.Tensor:
        """A row of numbers (f,) -> (width,)."""
        row = torch.tensor(sample, dtype=torch.float32).view(1, 1, -1)
        return F.interpolate(row, size=self.width, mode="linear", align_corners=True).view(-1)

    def parts(self, sample: np.ndarray) -> list[torch.Tensor]:
        """The one input that a sample becomes."""
        return [self(sample)]


Preprocessing = ImagePreprocessing | RowPreprocessing | TextPreprocessing | AudioPreprocessing
