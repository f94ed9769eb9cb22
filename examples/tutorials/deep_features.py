"""
Deep features in a table
========================

This tutorial adds a column of images to a table of numbers, so that any scikit-learn model can use both. It also
measures whether the column of images improves the predictions.

It needs ``pip install "skltransfer[examples]"``. The data are handwritten digits from scikit-learn, and nothing is
downloaded.

Build a table with an image column
----------------------------------

Three columns measure each digit: the amount of ink, the width and the height. The fourth column holds the image
itself.
"""

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skltransfer import PretrainedFeatureExtractor, load_backbone

images, y = load_digits(return_X_y=True)
images, y = images[:300].reshape(-1, 8, 8), y[:300]
frame = pd.DataFrame(
    {
        "ink": images.mean((1, 2)).round(2),
        "width": [(image.max(0) > 4).sum() for image in images],
        "height": [(image.max(1) > 4).sum() for image in images],
        "image": list(images / 16),
    }
)
print(frame.drop(columns="image").head(3))

# %%
# Compare the table with and without images
# -----------------------------------------
#
# ``PretrainedFeatureExtractor`` is a transformer like any other in a ``ColumnTransformer``. It does not use ``y``, so
# each image passes the network once, and all folds share the result.

numbers = ("numbers", StandardScaler(), ["ink", "width", "height"])
network = load_backbone("bundled:efficientnet-lite0", input_size=64)  # digits are small; 64 pixels are enough
deep = ("deep", PretrainedFeatureExtractor(network), "image")
scores = {}
for name, columns in {"table alone": [numbers], "images alone": [deep], "both": [numbers, deep]}.items():
    model = make_pipeline(ColumnTransformer(columns), StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    scores[name] = cross_val_score(model, frame, y, cv=5)
print(pd.DataFrame(scores).agg(["mean", "std"]).T.round(2))

# %%
# The images gain 69 points over the table. The table adds nothing to the images that five folds could show.
#
# Mistakes to avoid
# -----------------
#
# - **Do not forget to scale the joined columns.** The network adds 1,280 columns with other scales. So put a
#   ``StandardScaler`` after the ``ColumnTransformer``.
# - **Do not keep the regularization of the small table.** With many more columns, try a smaller ``C``.
# - **Do not add deep features unmeasured.** Compare with the table alone, on the same folds.
#
# What to read next
# -----------------
#
# - :doc:`Add image and text features to a table </how_to/tables>` covers text, missing values and results on three
#   tables.
# - :doc:`Does transfer help? </tutorials/does_transfer_help>` tests such a difference for significance.
# - :doc:`How deep to freeze </tutorials/how_deep>` explains which layer to read.
