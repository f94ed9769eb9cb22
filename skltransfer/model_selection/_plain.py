"""Models without a network, on samples as they are: what a pretrained network has to beat.

Promises to read X exactly as the network does. Must not know folds, tests or verdicts.
"""

from typing import Any

import numpy as np
from PIL import Image
from scipy.signal import spectrogram
from sklearn.base import TransformerMixin, is_classifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.random_projection import SparseRandomProjection

from skltransfer.elm import ELMClassifier, ELMRegressor

SIDE = 16  # px of a thumbnail
WINDOW, BANDS = 512, 32  # of a sound's spectrum
PROJECTED = 512  # numbers that weighted words are projected to, where a dense table is needed
STRENGTHS = [1e-4, 1e-3, 1e-2, 0.1, 1.0]  # C of logistic regression on standardised features


def plain_samples(X: Any, *, reader: Any) -> np.ndarray:
    """X without a network: thumbnails as rows, texts (those of a pair as one), the table itself, or loudness by pitch.

    Parameters
    ----------
    X : collection of n samples, or array-like of shape (n, f)
        Samples.
    reader : estimator with a backbone
        Estimator whose parameters determine how samples are read.

    Returns
    -------
    ndarray of float, shape (n, f), or of str, shape (n,)
    """
    backbone = reader._loaded_backbone()
    samples = reader._samples(X, backbone, reset=False)
    contents = [samples.read(position) for position in range(len(samples))]
    if backbone.modality == "text":
        return np.array([" ".join(text) if isinstance(text, tuple) else text for text in contents], dtype=object)
    if backbone.modality == "audio":
        return np.stack([_loudness(waveform) for waveform in contents])
    return np.stack([_thumbnail(content) if content.ndim == 3 else content for content in contents])


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) of uint8 -> 768 numbers in [0, 1]."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE))).ravel() / 255


def _loudness(waveform: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of the logarithmic power in bands of pitch."""
    padded = np.pad(waveform, (0, max(0, WINDOW - len(waveform))))
    _, _, power = spectrogram(padded, nperseg=WINDOW)  # (257, t)
    edges = np.unique(np.geomspace(1, len(power) - 1, BANDS).astype(int))
    bands = np.log(np.add.reduceat(power, edges) + 1e-10)
    return np.r_[bands.mean(axis=1), bands.std(axis=1)]


def features(reader: Any) -> Pipeline:
    """From X to standardized columns, or to weighted words and runs of letters."""
    plain = FunctionTransformer(plain_samples, kw_args={"reader": reader}).set_output(transform="default")
    if not _reads_texts(reader):
        return make_pipeline(plain, StandardScaler().set_output(transform="default"))
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", sublinear_tf=True)
    letters = TfidfVectorizer(ngram_range=(1, 3), analyzer="char", sublinear_tf=True)
    both = make_union(words, letters)
    TransformerMixin.set_output(both, transform="default")  # of the union alone: its parts know no such thing
    return make_pipeline(plain, both)


def linear_model(reader: Any, *, y: np.ndarray, seed: int, scoring: Any) -> Pipeline:
    """Logistic or ridge regression on samples as they are, its strength chosen inside each training part."""
    if not is_classifier(reader):
        return make_pipeline(features(reader), RidgeCV(np.logspace(-2, 5, 15)))
    steeper = 1e3 if _reads_texts(reader) else 1.0  # rows of unit length, not of length √f
    grid = {"C": [steeper * strength for strength in STRENGTHS]}
    folds = KFold(3, shuffle=True, random_state=seed)
    search = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=folds, scoring=None if y.ndim > 1 else scoring)
    return make_pipeline(features(reader), OneVsRestClassifier(search) if y.ndim > 1 else search)


def random_layer(reader: Any, *, y: np.ndarray, seed: int, scoring: Any) -> Pipeline:
    """An extreme learning machine on samples as they are, its strength chosen by leave-one-out."""
    model = ELMClassifier(random_state=seed) if is_classifier(reader) else ELMRegressor(random_state=seed)
    steps = [features(reader)]
    if _reads_texts(reader):
        steps.append(SparseRandomProjection(PROJECTED, dense_output=True, random_state=seed))
    return make_pipeline(*steps, OneVsRestClassifier(model) if is_classifier(reader) and y.ndim > 1 else model)


def _reads_texts(reader: Any) -> bool:
    return reader._loaded_backbone().modality == "text"
