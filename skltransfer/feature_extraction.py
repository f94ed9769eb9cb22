"""A frozen pretrained network as a scikit-learn transformer."""

import difflib
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions

from skltransfer._estimators.base import BackboneEstimator, n_truncated
from skltransfer._estimators.parameters import ReadsBackbone, ReadsLongSamples, declared, parameter
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.backbones import Backbone, freeze_boundary
from skltransfer.engine import recall


@declared
class PretrainedFeatureExtractor(
    ReadsLongSamples, ReadsBackbone, BackboneEstimator, VersionStamp, TransformerMixin, BaseEstimator
):
    """Turn images, texts, audio or rows into the features of a frozen, pretrained network.

    Stateless: ``transform`` works without ``fit``, and equal samples give equal features whatever batch, fold or
    process they come in. Each sample passes the network once; ``cache`` remembers it.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        The default, a network for photos, comes with the package; :func:`list_backbones` names others.
    weights : str, default="pretrained"
        ``"pretrained"``, ``"random"``, ``"random:<seed>"`` or a local file; only where ``backbone`` is a name.
    layer : str, float in [0, 1] or list of these, default="penultimate"
        Where to read: the pooled output of the last stage; a stage by name; a fraction of the stages; or several of
        these, concatenated in the order given.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How a stage's maps or tokens become a vector; ``"auto"`` is the backbone's own way.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of flattened pictures in a 2-D X. Without it, the rows of
        a 2-D X are laid out as strips.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that comes as arrays.
    max_length : int, default=None
        Number of tokens that are read of a text, special tokens included. None reads as many as the network was
        made for, at most 512.
    long_samples : {"truncate", "windows"} or None, default=None
        How the network reads a text of more than ``max_length`` tokens, or audio longer than its input (30 s for
        Whisper). ``"truncate"`` reads the beginning and warns. ``"windows"`` reads all of it in windows that
        overlap by a quarter at least, and averages their features. None is as ``backbone`` was loaded, by default
        ``"truncate"``.
    missing : {"raise", "zero", "nan"}, default="raise"
        How rows that are None or NaN are treated.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How rows that cannot be read are treated.
    batch_size : {"auto"}, default="auto"
        Rows per call of the network: the backbone's own constant, so that no result depends on it.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        ``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it (cosine
        of at least 0.999), else float32.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations. ``"memory"`` is shared by all estimators of the process,
        up to 1 GiB. A folder is shared with other processes and later runs too, up to 5 GiB.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    input_kind_ : {"samples", "table"}
        Whether ``fit`` saw a collection of samples or a table of numbers; other methods must be given the same.
    n_features_in_ : int
        Number of features, where X has columns.
    feature_names_in_ : ndarray of str
        Names of the columns, where X is a frame.
    bad_samples_ : list of int
        Rows of the last ``transform`` that were filled, where ``missing`` or ``on_bad_sample`` allow it.
    n_truncated_ : int
        Texts, or audio clips, of the last ``fit`` or ``transform`` of which a part was left out because they are longer
        than the network's input; a warning says so too.

    See Also
    --------
    FineTunedClassifier : Trains the network's last stages too.

    References
    ----------
    A. S. Razavian et al. (2014), "CNN features off-the-shelf: an astounding baseline for recognition", CVPR Workshops.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import PretrainedFeatureExtractor
    >>> photos = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    >>> extractor = PretrainedFeatureExtractor("toy:images")
    >>> extractor.transform(photos).shape
    (3, 32)
    >>> extractor.set_params(layer=["block1", "penultimate"]).transform(photos).shape
    (3, 48)
    """

    layer: str | float | list = parameter(default="penultimate", constraint=["array-like", str, float, int])
    missing: str = parameter(default="raise", constraint=[StrOptions({"raise", "zero", "nan"})])
    batch_size: str = parameter(default="auto", constraint=[StrOptions({"auto"})])

    @checks_parameters()
    def fit(self, X: Any, y: Any = None) -> "PretrainedFeatureExtractor":
        """Check the parameters and take note of X's columns; there is nothing to learn.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError, BackboneNotFoundError, WeightsError
            If a parameter is not what it should be.
        """
        backbone, draft = self._loaded_backbone(), self._unfitted_copy()
        self._boundaries(backbone)
        samples = draft._samples(X, backbone, reset=True)
        if backbone.modality in ("audio", "text"):
            draft.n_truncated_ = n_truncated(samples, backbone, tell=False)  # transform will
        self.__dict__ = draft.__dict__  # one step: after an error, all is as it was
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Run the frozen network.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)

        Returns
        -------
        ndarray of float32, shape (n, n_features)

        Raises
        ------
        BadSampleError
            With the row, if a sample cannot be read.
        """
        return self._extract(X, fits=False)

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """The same as ``fit``, then ``transform``; the cache also keeps what other layers of these samples need.

        Parameters
        ----------
        X : collection of n samples, or array-like of shape (n, f)
        y : ignored

        Returns
        -------
        ndarray of float32, shape (n, n_features)

        Raises
        ------
        BadSampleError
            With the row, if a sample cannot be read.
        """
        return self.fit(X)._extract(X, fits=True)

    def _extract(self, X: Any, *, fits: bool) -> np.ndarray:
        self._validate_params()
        backbone = self._loaded_backbone()
        pooling = self._resolved_pooling(backbone)
        stages = self._frozen_stages(backbone, fits=fits)
        addresses = [stages.address(boundary, pooling) for boundary in self._boundaries(backbone)]
        samples = self._samples(X, backbone, reset=False)
        recalled = recall(stages, samples, addresses, self._bad_sample_policy())
        if (self.missing, self.on_bad_sample) != ("raise", "raise"):
            self.bad_samples_ = sorted(recalled.bad)
        if backbone.modality in ("audio", "text"):
            self.n_truncated_ = n_truncated(samples, backbone)
        return np.hstack([tensor.numpy() for tensor in recalled.tensors])

    @property
    def _n_features_out(self) -> int:
        backbone = self._loaded_backbone()
        pooling = self._resolved_pooling(backbone)
        return sum(backbone.pooled_width(boundary, pooling) for boundary in self._boundaries(backbone))

    def _boundaries(self, backbone: Backbone) -> list[int]:
        layers = [self.layer] if np.ndim(self.layer) == 0 else list(self.layer)
        if not layers:
            raise ValueError(
                f"layer must name at least one stage, got {self.layer!r}. Pass 'penultimate' for the last."
            )
        return [layer_boundary(layer, backbone.stage_names, "layer") for layer in layers]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def layer_boundary(layer: str | float, stage_names: Sequence[str], parameter: str) -> int:
    """Number of stages up to the one that is read; ``"penultimate"`` is the last.

    Parameters
    ----------
    layer : str or float
    stage_names : sequence of str
    parameter : str
        By which the user passed it.

    Raises
    ------
    ValueError
        If the value is neither a stage nor a fraction; the message names these, the nearest first.
    """
    if isinstance(layer, str) and layer == "penultimate":
        return len(stage_names)
    try:
        if isinstance(layer, numbers.Real) and layer < 0:
            raise ValueError("freeze_depth=-k counts from the top; layers do not")
        return max(1, freeze_boundary(layer, stage_names))
    except ValueError:
        names = [*stage_names, "penultimate"]
        nearest = difflib.get_close_matches(str(layer), names, n=len(names), cutoff=0.3)
        ordered = [*nearest, *(name for name in names if name not in nearest)]
        raise ValueError(
            f"{parameter} takes names of stages, or numbers in [0, 1] (fractions of the stages), but got {layer!r}. "
            f"Pass one of {ordered}."
        ) from None
