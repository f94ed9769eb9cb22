"""
Learn from few labels
=====================

This tutorial trains a classifier from two to sixteen labelled images per class. It then plots how much each further
label improves the accuracy. It is for anyone whose labels are expensive.

It needs ``pip install "skltransfer[examples]"``. The data are handwritten digits from scikit-learn, and nothing is
downloaded.

Train with five labels per class
--------------------------------

Each image is a page of 20 × 20 pixels with one digit of 8 × 8 pixels anywhere on it. The class does not depend on
the position of the digit. A network for photos has already learned to ignore the position. A model of the pixels
would have to learn it from labels.
"""

import numpy as np
from sklearn.datasets import load_digits

from skltransfer import FewShotClassifier, load_backbone

rng = np.random.default_rng(0)
chosen = rng.permutation(1797)[:700]
digits, y = (part[chosen] for part in load_digits(return_X_y=True))
pages = np.zeros((700, 20, 20))
for page, digit, (top, left) in zip(pages, digits.reshape(-1, 8, 8) / 16, rng.integers(13, size=(700, 2)), strict=True):
    page[top : top + 8, left : left + 8] = digit

network = load_backbone("bundled:efficientnet-lite0", input_size=64)  # pages are small; 64 pixels are enough
model = FewShotClassifier(network).fit(pages[:50], y[:50])
print(f"50 labels: accuracy {model.score(pages[400:], y[400:]):.2f}")

# %%
# With so few labels you cannot tune parameters or hold out a validation set. ``FewShotClassifier`` needs neither. It
# computes the mean of each class in the features of the network and assigns an image to the nearest mean.
#
# Compare several draws and baselines
# -----------------------------------
#
# The accuracy also depends on which images happen to be labelled. So repeat the draw, and compare with two baselines:
# the same network with random weights, and logistic regression on pixels.

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

models = {
    "pretrained": model,
    "random weights": FewShotClassifier(load_backbone("bundled:efficientnet-lite0", input_size=64, weights="random")),
    "pixels": make_pipeline(FunctionTransformer(lambda X: X.reshape(len(X), -1)), LogisticRegression()),
}
rows = []
for n in (2, 4, 8, 16):
    for draw in range(5):
        X_train, _, y_train, _ = train_test_split(
            pages[:400], y[:400], train_size=10 * n, stratify=y[:400], random_state=draw
        )
        for name, one in models.items():
            rows.append((n, name, one.fit(X_train, y_train).score(pages[400:], y[400:])))
table = pd.DataFrame(rows, columns=["per class", "model", "accuracy"]).groupby(["model", "per class"]).accuracy
means, spreads = table.mean().unstack("model"), table.std().unstack("model")
print(means.round(2))

# %%
# Chance is 0.10, and both baselines stay close to it. Every page passed each network only once, because the features
# are :doc:`cached </how_to/cache>`.
#
# Plot the learning curve
# -----------------------

axes = means.plot(yerr=spreads, marker="o", capsize=4, logx=True, ylim=(0, 1))
axes.set(xlabel="labelled pages per class", ylabel="accuracy on 300 other pages")
axes.axhline(0.1, color="grey", linestyle=":")  # chance
axes.set_xticks(means.index, means.index)
axes.minorticks_off()
axes.grid(alpha=0.3)
axes

# %%
# Mistakes to avoid
# -----------------
#
# - **Do not trust one draw.** The error bars show how much the accuracy depends on which pages are labelled.
# - **Do not tune on the test set.** With two labels per class there is no other set to tune on, so keep the defaults.
# - **Do not leave out the baselines.** On centred digits, pixels do well: see :doc:`does transfer help?
#   </tutorials/does_transfer_help>`
#
# What to read next
# -----------------
#
# - :doc:`Few-shot classification </how_to/few_shot>` covers text, contrastive training and results on other data.
# - :doc:`Does transfer help? </tutorials/does_transfer_help>` tests such differences for significance.
# - :doc:`How deep to freeze </tutorials/how_deep>` is the next step with more labels.
