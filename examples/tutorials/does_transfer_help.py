"""
Does transfer help?
===================

This tutorial tests whether a pretrained network is better than simpler models on your data. It is for anyone who
has a good score from a network and wants to know whether the pretraining is the reason.

It needs ``pip install "skltransfer[examples]"``. The data are handwritten digits from scikit-learn, and nothing is
downloaded.

Prepare an easy and a hard task
-------------------------------

The same digits appear twice: centred, as they were scanned, and anywhere on a larger page.
"""

import numpy as np
from sklearn.datasets import load_digits

from skltransfer import FineTunedClassifier, load_backbone, transfer_report

rng = np.random.default_rng(0)
chosen = rng.permutation(1797)[:150]
digits, y = (part[chosen] for part in load_digits(return_X_y=True))
digits = digits.reshape(-1, 8, 8) / 16
pages = np.zeros((150, 20, 20))
for page, digit, (top, left) in zip(pages, digits, rng.integers(13, size=(150, 2)), strict=True):
    page[top : top + 8, left : left + 8] = digit

# %%
# Guess before you read on: for which of the two does a network that was pretrained on photos help?
#
# Test the centred digits
# -----------------------
#
# ``transfer_report`` fits the pretrained model and the baselines on the same folds. The baselines here are the same
# network with random weights, a linear model on pixels, and a random hidden layer on pixels.

network = load_backbone("bundled:efficientnet-lite0", input_size=64)  # digits are small; 64 pixels are enough
model = FineTunedClassifier(network, freeze_depth=1.0)  # a classifier on frozen features
baselines = ["random", "linear", "elm"]
report = transfer_report(model, digits, y, baselines=baselines, random_state=0)
print(report.verdict)
print(report.to_frame()["score"].round(2))

# %%
# ``print(report)`` shows the whole table:
#
# .. code:: text
#
#    Does transfer help?  n=150, 10 classes; 5 folds, the same for all, chance 12.0 %
#
#                                          accuracy, %  transfer ahead by [95 %]  right alone  p     fit s
#    transfer: bundled:efficientnet-lite0  86.0 ± 6.4                                                3.65
#    random: random weights, frozen        82.7 ± 8.6   +3.3 [-4.8, +11.4]        22 : 17      .522  7.84
#    linear: linear model, no network      93.3 ± 7.8   -7.3 [-13.4, -1.0]        6 : 17       .104  6.48
#    elm: random hidden layer, no network  90.7 ± 7.2   -4.7 [-11.1, +1.9]        9 : 16       .459  0.346
#
#    CANNOT TELL  against 'random', 'linear' and 'elm' the data do not decide.
#    next         About 1,827 labels would be needed, if the differences are what they seem.
#    frozen       up to blocks.6 (5 of 5 folds)
#    test         exact McNemar on pooled out-of-fold predictions; p is Holm-adjusted, intervals are not
#
# The linear model is 7 points ahead of the network. With 150 labels this difference is not significant (p = 0.10),
# but there is no reason to keep the network. Centred digits can be told apart by their pixels.
#
# Test the digits anywhere on the page
# ------------------------------------

report = transfer_report(model, pages, y, baselines=baselines, random_state=0)
print(report.verdict)
print(report.to_frame()["score"].round(2))
report.plot()

# %%
# .. code:: text
#
#    Does transfer help?  n=150, 10 classes; 5 folds, the same for all, chance 12.0 %
#
#                                          accuracy, %  transfer ahead by [95 %]  right alone  p      fit s
#    transfer: bundled:efficientnet-lite0  61.3 ± 13.2                                                3.35
#    random: random weights, frozen        10.7 ± 4.3   +50.7 [+41.0, +59.0]      81 : 5       <.001  6.6
#    linear: linear model, no network      15.3 ± 3.0   +46.0 [+36.0, +54.8]      76 : 7       <.001  6.4
#    elm: random hidden layer, no network  10.7 ± 3.7   +50.7 [+40.6, +59.4]      83 : 7       <.001  0.447
#
#    HELPS   ahead of every baseline by more than 1 point (p < .05 each, Holm-adjusted).
#    next    Keep transfer. This was one freeze depth; let a search choose it: GridSearchCV(estimator,
#    {'freeze_depth': [1.0, 0.75, 0.5]}).
#    frozen  up to blocks.6 (5 of 5 folds)
#    test    exact McNemar on pooled out-of-fold predictions; p is Holm-adjusted, intervals are not
#
# Only the pretrained network recognizes a digit anywhere on the page. The baselines are close to chance. (The fitting
# times were measured on a busy machine.)
#
# Mistakes to avoid
# -----------------
#
# - **Do not judge by the score of the network alone.** The network scores 0.86 on the first task and 0.61 on the
#   second. Yet it is only worth using on the second.
# - **Do not compare with training from scratch only.** Without ``baselines=``, the report also includes
#   ``"scratch"``, the same network trained from random weights. It takes longer. Few labels never suffice for it, so
#   almost anything beats it.
# - **Do not read "CANNOT TELL" as "no difference".** It means that more labels are needed.
#
# What to read next
# -----------------
#
# - :doc:`Check whether transfer learning helps </how_to/does_transfer_help>` explains the verdicts and their
#   reliability.
# - :doc:`Negative transfer </explanation/negative_transfer>` explains what to do when transfer hurts.
# - :doc:`Adapt to a new camera </tutorials/new_camera>` is the next tutorial.
