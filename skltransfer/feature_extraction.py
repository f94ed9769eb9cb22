"""A frozen pretrained network as a scikit-learn transformer."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import StrOptions

from skltransfer._estimators.base import BackboneEstimator, NamesFeatures, n_truncated
from skltransfer._estimators.parameters import ReadsBackbone, ReadsLongSamples, declared, parameter
from skltransfer._estimators.version_stamp import VersionStamp
from skltransfer._system.validation import checks_parameters
from skltransfer.backbones import Backbone, layer_boundaries
from skltransfer.engine import ENOUGH, INT8, FrozenStages, checked_cosine, is_compared, recall
from skltransfer.inputs import COLUMNS, PAIR, SEPARATE, JoinedSamples, PairSamples, Samples


@declared
class PretrainedFeatureExtractor(
    ReadsLongSamples, ReadsBackbone, NamesFeatures, BackboneEstimator, VersionStamp, TransformerMixin, BaseEstimator
):
    """Turn images, texts, audio or rows of numbers into embeddings of a frozen pretrained network.

    The backbone determines what X holds: images, texts, audio clips or rows of a table. Choose this transformer if you
    want embeddings in a ``Pipeline`` or ``ColumnTransformer``, next to other columns of a table, or for any
    scikit-learn estimator: a classifier, a clustering or a nearest-neighbor search. If accuracy with a frozen network
    is not enough, :class:`FineTunedClassifier` and :class:`FineTunedRegressor` also train the network's last stages;
    with 1 to 16 labels per class :class:`FewShotClassifier` is simpler.

    The transformer is stateless: ``transform`` works without ``fit``, and a sample's embedding depends neither on the
    batch nor on the other samples. Each sample passes the network once; ``cache`` keeps the result.

    Parameters
    ----------
    backbone : str or Backbone, default="bundled:efficientnet-lite0"
        Pretrained network: a name of the form ``"source:model"``, or a :class:`Backbone` that :func:`load_backbone`
        returned. The network determines whether X holds images, texts or audio. The default is an image network that is
        installed with the package; :func:`list_backbones` lists other names.
    weights : str, default="pretrained"
        Weights of the network, used only if ``backbone`` is a name: ``"pretrained"``, ``"random"`` or
        ``"random:<seed>"`` (a baseline without transfer), or the path of a local weight file; see
        :func:`load_backbone`.
    layer : str, float in [0, 1] or list of these, default="penultimate"
        Stage whose output is returned. ``"penultimate"`` is the last stage, whose output the original classification
        head would receive. A string is the name of a stage (see :func:`describe_backbone`), a number in [0, 1] a
        fraction of the stages, counted from the input. The outputs of a list of these are concatenated in the given
        order.
    pooling : {"auto", "cls", "mean", "max", "last", "flatten"}, default="auto"
        How the output of a stage (a feature map or a sequence of tokens) becomes one vector: the first token
        (``"cls"``), the last token (``"last"``), the mean or maximum over positions, or all positions one after the
        other (``"flatten"``). ``"auto"`` uses the pooling that the backbone defines.
    image_shape : tuple of int, default=None
        Shape ``(height, width)`` or ``(height, width, channels)`` of flattened images in the rows of a 2-D X. If None,
        an image backbone reads each row of a 2-D X as a single line of pixels, stretched to the input size.
    input_size : int, default=None
        Side of the square input of an image network, in pixels, if the network accepts several sizes. A smaller one is
        faster and often suits small images. None keeps the setting with which ``backbone`` was loaded, by default the
        size for which the weights were made.
    resize : {"crop", "letterbox", "squash"} or None, default=None
        How an image that is not square becomes the square input. ``"crop"`` resizes its shorter side, and cuts off what
        is left of its longer side. ``"letterbox"`` resizes its longer side, and fills the rest with the mean color.
        ``"squash"`` resizes both sides and changes the aspect ratio. None keeps the setting with which ``backbone`` was
        loaded, by default what was done in the pretraining.
    sampling_rate : int, default=None
        Sampling rate, in Hz, of audio that is passed as arrays without a rate. Audio files and ``(array, rate)`` pairs
        bring their own.
    max_length : int, default=None
        Maximum number of tokens per text, special tokens included. None uses the network's own limit, at most 512. It
        has no effect on images and audio.
    long_samples : {"truncate", "keep_start", "keep_end", "keep_both_ends", "windows"} or None, default=None
        How the network reads texts of more than ``max_length`` tokens and audio longer than its input (30 s for
        Whisper). ``"keep_start"`` reads the beginning, ``"keep_end"`` the end, and ``"keep_both_ends"`` joins the
        beginning (a quarter of what is read) and the end; all of them warn. ``"truncate"`` is ``"keep_start"``, unless
        the tokenizer was saved to truncate on the left. ``"windows"`` reads the whole sample in windows that overlap by
        at least a quarter; see ``window_pooling``. None keeps the setting with which ``backbone`` was loaded, by
        default ``"truncate"``.
    window_pooling : {"mean", "max"}, default="mean"
        How the embeddings of the windows of a long sample become one, with ``long_samples="windows"``: their mean, or
        the maximum of each feature. It has no effect on samples that fit into one window.
    columns : {"separate", "pair"}, default="separate"
        How several columns of samples in X are read. ``"separate"`` embeds each column on its own and puts the
        embeddings side by side. ``"pair"`` reads two columns of texts as pairs that the network sees together, such as
        a question and an answer. Tuples of two strings are always pairs.
    missing : {"raise", "zero", "nan"}, default="raise"
        How missing samples (None or NaN) are treated: raise a :class:`~skltransfer.exceptions.MissingSampleError`, or
        fill their embeddings with zeros or NaN.
    on_bad_sample : {"raise", "nan"}, default="raise"
        How samples that cannot be read are treated. ``"raise"`` raises a
        :class:`~skltransfer.exceptions.BadSampleError` that names the row. ``"nan"`` fills their embeddings with NaN.
    batch_size : {"auto"}, default="auto"
        Number of samples per call of the network. Only the backbone's own constant is available, so that no result
        depends on this setting.
    device : str, default="auto"
        Device on which the network runs, as a torch device such as ``"cpu"`` or ``"cuda:1"``. ``"auto"`` uses CUDA if
        it is available, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Data type in which the network computes. ``"auto"`` uses bfloat16 if the processor supports it natively and the
        embeddings of this backbone stay nearly the same (cosine similarity of at least 0.999), else float32. ``"int8"``
        computes matrix products in 8 bits, by OpenVINO (extra ``fast``) on CPUs with instructions for them; ``fit``, or
        the first ``transform`` without a fit, then compares up to 64 samples with float32. Embeddings are returned as
        float32.
    runtime : {"auto", "eager", "folded", "compiled"}, default="auto"
        Library that runs the frozen stages. ``"eager"`` is PyTorch. ``"folded"`` is PyTorch with each BatchNorm
        computed in the convolution before it. ``"compiled"`` is OpenVINO, which needs the extra ``fast`` and a CPU; the
        first use of a network takes some seconds, later ones read the result from the user's cache folder. ``"auto"``
        is ``"compiled"`` if that is possible, else ``"folded"`` in float32, else ``"eager"``. Features differ by at
        most 1e-4 of the largest value in float32, usually by 1e-5.
    cache : {"memory"}, path-like, ActivationStore or None, default="memory"
        Cache of the frozen stages' activations, so that each sample passes the frozen stages only once. ``"memory"`` is
        shared by all estimators of the process, up to 1 GiB. A folder is also shared with other processes and later
        runs, up to 5 GiB. An :class:`ActivationStore` sets another limit, and None disables the cache.
    verbose : int, default=0
        If positive, show progress bars.

    Attributes
    ----------
    input_kind_ : {"samples", "table", "pairs", "columns"}
        Kind of X that ``fit`` received: a collection of images, texts or audio, a table of numbers, pairs of texts, or
        several columns of samples. Other methods require the same kind.
    n_features_in_ : int
        Number of columns of X. Only defined if X has columns.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the columns of X. Only defined if X is a dataframe with string column names.
    bad_samples_ : list of int
        Rows of the last ``transform`` that were filled. Only defined if ``missing`` or ``on_bad_sample`` allows it.
    int8_agreement_ : dict of str to float
        How near embeddings in 8 bits are to float32: ``"cosine"``, the least cosine similarity of the first 64 samples
        that ``fit`` received. Only defined with ``dtype="int8"``.
    n_truncated_ : int
        Number of texts or audio clips of the last ``fit`` or ``transform`` that were truncated because they are longer
        than the network's input; ``transform`` also warns. Only defined for text and audio.

    See Also
    --------
    FineTunedClassifier : Train the last stages of the network too, for class labels.
    FineTunedRegressor : Train the last stages of the network too, for numbers.
    extract_to_parquet : Write the embeddings of a large data set to Parquet files.

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
    columns: str = parameter(default=SEPARATE, constraint=[StrOptions({PAIR, SEPARATE})])
    missing: str = parameter(default="raise", constraint=[StrOptions({"raise", "zero", "nan"})])
    batch_size: str = parameter(default="auto", constraint=[StrOptions({"auto"})])
    window_pooling: str = parameter(default="mean", constraint=[StrOptions({"mean", "max"})])

    @checks_parameters()
    def fit(self, X: Any, y: Any = None) -> "PretrainedFeatureExtractor":
        """Check the parameters and the columns of X. Nothing is learned from the samples.

        With ``dtype="int8"``, the first 64 samples are embedded in 8 bits and in float32, and compared.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to check: images, texts, audio clips or rows of a table.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : object
            The checked estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        """
        backbone, draft = self._loaded_backbone(), self._unfitted_copy()
        self._boundaries(backbone)
        samples = draft._samples(X, backbone, reset=True)
        if backbone.modality in ("audio", "text"):
            draft.n_truncated_ = n_truncated(samples, backbone, tell=False)  # transform will
        if self.dtype == INT8:
            draft.int8_agreement_ = {"cosine": draft._int8_cosine(samples, draft._frozen_stages(backbone, fits=True))}
        self.__dict__ = draft.__dict__  # one step: after an error, all is as it was
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute the embedding of each sample.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to embed: images, texts or audio clips as the backbone reads them (file paths, bytes, PIL images,
            strings or arrays), or rows of a table.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_features_out)
            One embedding per sample.

        Raises
        ------
        BadSampleError
            If a sample is missing and ``missing="raise"``, or cannot be read and ``on_bad_sample="raise"``; the message
            names its row.
        ValueError
            If a parameter or X is invalid, or X does not match what ``fit`` saw.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        """
        return self._extract(X, fits=False)

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, then compute the embedding of each sample.

        The result is that of ``transform``. The cache also keeps the activations that other layers of the same samples
        need.

        Parameters
        ----------
        X : sequence of samples, or array-like of shape (n_samples, n_features)
            Samples to embed: images, texts or audio clips as the backbone reads them (file paths, bytes, PIL images,
            strings or arrays), or rows of a table.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        ndarray of float32, shape (n_samples, n_features_out)
            One embedding per sample.

        Raises
        ------
        BadSampleError
            If a sample is missing and ``missing="raise"``, or cannot be read and ``on_bad_sample="raise"``; the message
            names its row.
        ValueError
            If a parameter or X is invalid, or X does not match what ``fit`` saw.
        BackboneNotFoundError, WeightsError, UnsupportedBackboneError, MissingDependencyError
            If the backbone cannot be loaded; see :func:`load_backbone`.
        """
        return self.fit(X)._extract(X, fits=True)

    def _extract(self, X: Any, *, fits: bool) -> np.ndarray:
        self._validate_params()
        backbone = self._loaded_backbone()
        pooling = self._resolved_pooling(backbone)
        stages = self._frozen_stages(backbone, fits=fits)
        windows = self._resolved_window_pooling(backbone)
        addresses = [stages.address(boundary, pooling, windows) for boundary in self._boundaries(backbone)]
        samples = self._samples(X, backbone, reset=False)
        if self.dtype == INT8 and not all(is_compared(backbone, one) for one in self._boundaries(backbone)):
            self._int8_cosine(samples, stages)
        recalled = recall(stages, samples, addresses, self._bad_sample_policy())
        n_columns = len(samples.parts) if isinstance(samples, JoinedSamples) else 1
        n = len(samples) // n_columns
        if (self.missing, self.on_bad_sample) != ("raise", "raise"):
            self.bad_samples_ = sorted({position % n for position in recalled.bad})
        if backbone.modality in ("audio", "text"):
            self.n_truncated_ = n_truncated(samples, backbone)
        features = np.hstack([tensor.numpy() for tensor in recalled.tensors])  # (columns * n, d)
        return np.hstack(np.split(features, n_columns))

    @property
    def _reads_columns(self) -> str:
        return self.columns

    def _samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        samples = super()._samples(X, backbone, reset=reset)
        if self.columns == PAIR and not isinstance(samples, PairSamples):
            raise ValueError(
                "columns='pair' reads pairs of texts, but X holds none. Pass two columns of texts or tuples of two "
                "strings, with a backbone that reads texts, or set columns='separate'."
            )
        if isinstance(samples, JoinedSamples) and not reset and not hasattr(self, "input_kind_"):
            raise NotFittedError(
                f"X has {len(samples.parts)} columns of samples, whose number and names fit must see first. Call fit, "
                "or fit_transform."
            )
        return samples

    def _int8_cosine(self, samples: Samples, stages: FrozenStages) -> float:
        """Least cosine between embeddings in 8 bits and in float32, of the first samples."""
        some, policy = samples.take(np.arange(min(ENOUGH, len(samples)))), self._bad_sample_policy()
        return min(checked_cosine(stages, one, some, policy) for one in self._boundaries(stages.backbone))

    @property
    def _n_features_out(self) -> int:
        backbone = self._loaded_backbone()
        pooling = self._resolved_pooling(backbone)
        width = sum(backbone.pooled_width(boundary, pooling) for boundary in self._boundaries(backbone))
        return width * (self.n_features_in_ if getattr(self, "input_kind_", None) == COLUMNS else 1)

    def _boundaries(self, backbone: Backbone) -> list[int]:
        return layer_boundaries(self.layer, backbone.stage_names)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
