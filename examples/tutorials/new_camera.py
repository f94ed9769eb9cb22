"""
Adapt to a new camera
=====================

This tutorial trains a classifier for images of a new camera. Only images of the old camera have labels. It is for
anyone whose data has changed since it was labelled: another camera, scanner, site or season.

It needs ``pip install "skltransfer[examples]"``. The images are handwritten digits from scikit-learn, and nothing
is downloaded.

Load images of two cameras
--------------------------

The old camera gives good contrast, and 200 of its images are labelled. The new one gives pale images without
labels. We imitate it by lower contrast on a grey background. The labels of its test images are used only to measure
the accuracy.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

rng = np.random.default_rng(0)
order = rng.permutation(1797)
images, digits = (part[order] for part in load_digits(return_X_y=True))
images = images.reshape(-1, 8, 8) / 16


def new_camera(images):
    return 0.5 + 0.35 * images


old, y_old = images[:200], digits[:200]
new = new_camera(images[200:400])
X_test, y_test = new_camera(images[400:800]), digits[400:800]

figure, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for ax, image in zip(axes.flat, [*old[:8], *new[:8]], strict=True):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.axis("off")

# %%
# Train on the old camera alone
# -----------------------------

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import FeatureAdaptedClassifier, PretrainedFeatureExtractor, load_backbone

network = load_backbone("bundled:efficientnet-lite0", input_size=64)  # digits are small; 64 pixels are enough
naive = make_pipeline(PretrainedFeatureExtractor(network), StandardScaler(), LogisticRegression(C=0.01))
print(f"trained on the old camera: {naive.fit(old, y_old).score(X_test, y_test):.2f}")

# %%
# This is the usual mistake. The features of the new images have other values, and a scaling that was fitted to the
# old camera does not suit them.
#
# Adapt with unlabelled images
# ----------------------------
#
# Stack the images of both cameras in one ``fit``, and set the label of the new ones to -1.
# ``FeatureAdaptedClassifier`` then aligns the features of both cameras before it trains a classifier. ``"pooled"``,
# the default, scales both cameras alike. ``"per_domain"`` scales each camera by its own images. ``"coral"`` also
# aligns correlations between features.

X = np.concatenate([old, new])
y = np.concatenate([y_old, np.full(200, -1)])
for align in ("pooled", "per_domain", "coral"):
    model = make_pipeline(PretrainedFeatureExtractor(network), FeatureAdaptedClassifier(align=align))
    print(f"adapted, {align}: {model.fit(X, y).score(X_test, y_test):.2f}")

# %%
# How far is this from a model that was trained with labels of the new camera?

labelled = naive.fit(new, digits[200:400])
print(f"200 labels of the new camera: {labelled.score(X_test, y_test):.2f}")

# %%
# Adaptation closes most of the gap without a single new label.
#
# Check that the class proportions agree
# --------------------------------------
#
# ``"per_domain"`` and ``"coral"`` assume that both cameras see the classes in the same proportions. This holds above,
# because the images were drawn at random. The next camera sees only zeros and ones:

import warnings

seen = 200 + np.flatnonzero(digits[200:] < 2)
new, X_test, y_test = new_camera(images[seen[:200]]), new_camera(images[seen[200:]]), digits[seen[200:]]
print(f"trained on the old camera: {naive.fit(old, y_old).score(X_test, y_test):.2f}")

X = np.concatenate([old, new])
for align in ("pooled", "per_domain", "coral"):
    model = make_pipeline(PretrainedFeatureExtractor(network), FeatureAdaptedClassifier(align=align))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = model.fit(X, y).score(X_test, y_test)
    print(f"adapted, {align}: {score:.2f}", {warning.category.__name__ for warning in caught})

# %%
# Now ``"per_domain"`` and ``"coral"`` are worse than no adaptation, because alignment mixes the classes up. The
# default ``"pooled"`` still gains. All three raise an ``AdaptationWarning``: the predicted class proportions differ
# between the cameras. ``domain_report_`` contains the details. No program can know whether the true proportions
# differ. You have to decide this from what you know about the images.
#
# Mistakes to avoid
# -----------------
#
# - **Do not ignore the warning.** If you cannot rule out different class proportions, use ``"pooled"``.
# - **Do not choose ``align`` by the accuracy on the old camera.** It says little about the new one. Check the choice
#   with a few labels of the new camera.
# - **Do not fit a ``StandardScaler`` on the old camera alone.** It inflates features that hardly vary there.
#
# What to read next
# -----------------
#
# - :doc:`Unsupervised domain adaptation </how_to/domain_adaptation>` explains the options and reports gains and
#   losses on 18 pairs of domains.
# - :doc:`Negative transfer </explanation/negative_transfer>` explains when adaptation hurts.
# - :doc:`Learn from few labels </tutorials/few_labels>` shows what a few labels of the new camera would give.
