"""Models without a network, on samples as they are: what a pretrained network has to beat.

Promises to read X exactly as the network does. Must not know folds, tests or verdicts.
"""

from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from scipy.signal import spectrogram
from sklearn.base import TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.random_projection import SparseRandomProjection

from skltransfer.elm import ELMClassifier, ELMRegressor
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import JoinedSamples, Samples

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
        Estimator whose parameters determine how samples are read. A sample that it fills is an empty text, or NaN.

    Returns
    -------
    ndarray of float, shape (n, f), or of str, shape (n,)
    """
    backbone = reader._loaded_backbone()
    samples = reader._samples(X, backbone, reset=False)
    read = partial(_content, samples, modality=backbone.modality, policy=reader._bad_sample_policy())
    contents = [read(position) for position in range(len(samples))]
    n = len(samples) // (len(samples.parts) if isinstance(samples, JoinedSamples) else 1)
    if backbone.modality == "text":
        texts = ["" if content is None else _joined(content) for content in contents]
        return np.array([" ".join(texts[row::n]) for row in range(n)], dtype=object)
    width = next((len(content) for content in contents if content is not None), 1)
    numbers = [np.full(width, np.nan) if content is None else content for content in contents]
    return np.stack([np.concatenate(numbers[row::n]) for row in range(n)])


def _content(samples: Samples, position: int, *, modality: str, policy: Any) -> Any:
    """A text, or numbers that stand for a sample, (f,); None if the policy fills its features."""
    try:
        content = samples.read(position)
    except BadSampleError as error:
        policy.value_for(error)
        return None
    if modality == "audio":
        return _loudness(content)
    return _thumbnail(content) if modality != "text" and content.ndim == 3 else content


def _joined(text: str | tuple[str, str]) -> str:
    """A text, or both texts of a pair."""
    return " ".join(text) if isinstance(text, tuple) else text


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(h, w, channels) of uint8 -> 256 numbers in [0, 1] per channel, none of which is taken for opacity."""
    channels = (Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, -1, 0))
    return np.dstack([np.asarray(channel.resize((SIDE, SIDE))) for channel in channels]).ravel() / 255


def _loudness(waveform: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of the logarithmic power in bands of pitch."""
    padded = np.pad(waveform, (0, max(0, WINDOW - len(waveform))))
    _, _, power = spectrogram(padded, nperseg=WINDOW)  # (257, t)
    edges = np.unique(np.geomspace(1, len(power) - 1, BANDS).astype(int))
    bands = np.log(np.add.reduceat(power, edges) + 1e-10)
    return np.r_[bands.mean(axis=1), bands.std(axis=1)]


def numbers_beside(X: Any, *, reader: Any) -> np.ndarray:
    """The numbers beside the samples, (n, c)."""
    return reader._samples(X, reader._loaded_backbone(), reset=False).numbers


def features(reader: Any, *, beside_texts: bool = False) -> Pipeline | FeatureUnion:
    """From X to standardized columns, or to weighted words and runs of letters; with the numbers beside them.

    Parameters
    ----------
    reader : estimator with a backbone
        Estimator whose parameters determine how samples are read.
    beside_texts : bool, default=False
        If True, standardized columns are scaled to rows of length 1, as weighted words have.
    """
    if getattr(reader, "sample_column", None) is None:
        return _features_of_samples(reader, beside_texts=beside_texts)
    numbers = FunctionTransformer(numbers_beside, kw_args={"reader": reader}).set_output(transform="default")
    both = make_union(_features_of_samples(reader, beside_texts=beside_texts), make_pipeline(numbers, StandardScaler()))
    TransformerMixin.set_output(both, transform="default")
    return both


def _features_of_samples(reader: Any, *, beside_texts: bool) -> Pipeline:
    plain = FunctionTransformer(plain_samples, kw_args={"reader": reader}).set_output(transform="default")
    if not reads_texts(reader):
        filled = SimpleImputer(strategy="constant", fill_value=0, keep_empty_features=True)  # 0: the mean
        parts = StandardScaler(), filled, *([Normalizer()] if beside_texts else [])
        return make_pipeline(plain, *(part.set_output(transform="default") for part in parts))
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", sublinear_tf=True)
    letters = TfidfVectorizer(ngram_range=(1, 3), analyzer="char", sublinear_tf=True)
    both = make_union(words, letters)
    TransformerMixin.set_output(both, transform="default")  # of the union alone: its parts know no such thing
    return make_pipeline(plain, both)


def reads_texts(reader: Any) -> bool:
    return reader._loaded_backbone().modality == "text"


def linear_model(*, texts: bool, classifies: bool, y: np.ndarray, seed: int, scoring: Any) -> Any:
    """Logistic or ridge regression on simple features, its strength chosen inside each training part.

    Parameters
    ----------
    texts : bool
        True if weighted words are among the features.
    """
    if not classifies:
        return RidgeCV(np.logspace(-2, 5, 15))
    steeper = 1e3 if texts else 1.0  # rows of unit length, not of length √f
    grid = {"C": [steeper * strength for strength in STRENGTHS]}
    folds = KFold(3, shuffle=True, random_state=seed)
    search = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=folds, scoring=None if y.ndim > 1 else scoring)
    return OneVsRestClassifier(search) if y.ndim > 1 else search


def random_layer(*, texts: bool, classifies: bool, y: np.ndarray, seed: int, scoring: Any) -> Any:
    """An extreme learning machine on simple features, its strength chosen by leave-one-out."""
    model = ELMClassifier(random_state=seed) if classifies else ELMRegressor(random_state=seed)
    model = OneVsRestClassifier(model) if classifies and y.ndim > 1 else model
    if not texts:
        return model
    return make_pipeline(SparseRandomProjection(PROJECTED, dense_output=True, random_state=seed), model)
