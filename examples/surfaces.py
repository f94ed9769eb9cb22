"""Which surface is this? 500 labelled squares, cut from ten free photographs that come with pip.

``load_surfaces()`` gives 200 squares of 64 x 64 pixels for training, from the left halves of the photographs, and 300
for testing, from their right halves: 20 and 30 of each photograph, those with the most contrast. No two squares
overlap. They are grey and have the same mean and contrast, so that neither colour nor brightness gives a surface away.

Nine photographs are read from the installed scikit-image, one from scikit-learn. Their authors and licences, as these
packages state them:

========  =========================================  ===================================================
label     photograph                                 author and licence
========  =========================================  ===================================================
brick     ``skimage.data.brick``                     CC0Textures (Bricks25), CC0
cat       ``skimage.data.chelsea``                   Stefan van der Walt, CC0
coffee    ``skimage.data.coffee``                    Rachel Michetti, Pikolo Espresso Bar, CC0
coins     ``skimage.data.coins``                     Brooklyn Museum, no known copyright restrictions
flower    ``flower.jpg`` of scikit-learn             vultilion (Flickr), CC BY 2.0
galaxies  ``skimage.data.hubble_deep_field``         NASA, public domain
grass     ``skimage.data.grass``                     linolafett (DeviantArt), CC0
gravel    ``skimage.data.gravel``                    CC0Textures (Gravel04), CC0
retina    ``skimage.data.retina``                    Mikael Häggström, CC0
tissue    ``skimage.data.immunohistochemistry``      CMMI, no known copyright restrictions
========  =========================================  ===================================================
"""

import numpy as np
from PIL import Image, ImageOps
from skimage import data
from sklearn.datasets import load_sample_image

PHOTOS = {
    "brick": data.brick,
    "cat": data.chelsea,
    "coffee": data.coffee,
    "coins": data.coins,
    "flower": lambda: load_sample_image("flower.jpg"),
    "galaxies": data.hubble_deep_field,
    "grass": data.grass,
    "gravel": data.gravel,
    "retina": data.retina,
    "tissue": data.immunohistochemistry,
}


def cut(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photograph -> the grey squares of its left half and of its right half, 32 each."""
    grey = np.asarray(ImageOps.fit(Image.fromarray(photo).convert("L"), (512, 512)), dtype=np.float32)
    squares = grey.reshape(8, 64, 8, 64).swapaxes(1, 2)  # (row, column, 64, 64)
    return squares[:, :4].reshape(-1, 64, 64), squares[:, 4:].reshape(-1, 64, 64)


def clearest(squares: np.ndarray, n: int) -> np.ndarray:
    """The n squares with the most contrast, all brought to the same mean and contrast, between 0 and 1."""
    contrast = squares.std((1, 2))
    chosen = np.argsort(contrast)[-n:]
    mean = squares.mean((1, 2), keepdims=True)
    return (0.5 + 0.2 * (squares - mean)[chosen] / contrast[chosen, None, None]).clip(0, 1)


def load_surfaces() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``X_train, X_test, y_train, y_test``: squares as floats of shape (n, 64, 64), and the names of the surfaces."""
    halves = [cut(photo()) for photo in PHOTOS.values()]
    names = np.array(list(PHOTOS))
    X_train = np.concatenate([clearest(left, 20) for left, _ in halves])
    X_test = np.concatenate([clearest(right, 30) for _, right in halves])
    return X_train, X_test, names.repeat(20), names.repeat(30)
