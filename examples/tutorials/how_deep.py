"""
How deep to freeze
==================

This tutorial searches how much of a pretrained network to freeze, and plots the result. It is for anyone who
fine-tunes a network and wonders which layers to train. Read :doc:`the first tutorial
</tutorials/first_transfer>` before it.

It needs ``pip install "skltransfer[examples]"``. The data are 100 handwritten digits from scikit-learn, and nothing
is downloaded.

Look at the stages of the network
---------------------------------

A network is a sequence of `stages <../glossary.html#stage>`__. Early stages detect edges, later ones detect
objects. Features of early stages are useful for many tasks, while the last ones serve the task of the pretraining.
``freeze_depth`` sets how many stages keep their pretrained weights: ``1.0`` trains only a classifier on top,
``0.0`` trains everything.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from skltransfer import (
    FineTunedClassifier,
    FreezeDepthDisplay,
    LayerProbeDisplay,
    describe_backbone,
    freeze_depth_grid,
    load_backbone,
)

digits = load_digits()
X, X_test, y, y_test = train_test_split(
    digits.images / 16, digits.target, train_size=100, test_size=300, stratify=digits.target, random_state=0
)
backbone = load_backbone("bundled:efficientnet-lite0", input_size=64)  # digits are small; 64 pixels are enough
print(describe_backbone(backbone))

# %%
# Measure each stage before training
# ----------------------------------
#
# A linear `probe <../glossary.html#probe>`__ shows how well logistic regression predicts the digit from the
# features of each stage. All probes together need one pass of the images through the network.

model = FineTunedClassifier(backbone, max_epochs=3, random_state=0)
LayerProbeDisplay.from_estimator(model, X, y, random_state=0).plot()

# %%
# The probes are best in the middle of the network. Digits differ from photos, and the last stages are specialized on
# photos.
#
# Search the freeze depth
# -----------------------
#
# The probe does not show what training the later stages would gain. A grid search does. ``freeze_depth_grid`` returns
# values of ``freeze_depth`` that freeze different numbers of stages.

grid = freeze_depth_grid(backbone, 4)
search = GridSearchCV(model, {"freeze_depth": grid}, cv=3).fit(X, y)
results = search.cv_results_
for depth, mean, std in zip(grid, results["mean_test_score"], results["std_test_score"], strict=True):
    print(f"freeze_depth={depth}: {mean:.2f} ± {std:.2f}")
print(f"best: {search.best_params_}, test accuracy {search.score(X_test, y_test):.2f}")
FreezeDepthDisplay.from_search(search).plot()

# %%
# The four accuracies differ by less than their spread over the folds. In this case take the depth that freezes most.
# It is also the fastest: one fit took 0.5 s at depth 1.0 and 4.8 s at depth 0.0. On :doc:`squares of photos
# </gallery>`, too, training only a classifier does about as well as training everything.
#
# The search computes the frozen stages once per image. All folds, candidates and epochs :doc:`share the result
# </how_to/cache>`.
#
# Use an earlier stage
# --------------------
#
# - ``PretrainedFeatureExtractor(layer="blocks.3")`` returns the features of the stage with the best probe.
# - ``freeze_depth="blocks.3"`` freezes the network up to and including this stage and trains the stages after it.
#
# Mistakes to avoid
# -----------------
#
# - **Do not read a winner from overlapping error bars.** With 100 images, small differences are chance.
# - **Do not choose the depth by the probe alone.** It measures frozen features, not what training adds.
# - **Do not report the best cross-validated score.** It is the best of several and therefore slightly too good. Score
#   a test set that took no part in the search.
#
# What to read next
# -----------------
#
# - :doc:`Fine-tune a pretrained network </how_to/fine_tune>` covers learning rates, early stopping and class
#   imbalance.
# - :doc:`Does transfer help? </tutorials/does_transfer_help>` compares the network with random weights and
#   with pixels.
# - :doc:`Deep features in a table </tutorials/deep_features>` combines images with other columns.
