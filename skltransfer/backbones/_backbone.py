"""A pretrained network as a value: ordered named stages, preprocessing, pooling, fingerprint.

It promises: always eval; ``prefix`` is shared and frozen, ``suffix`` is a private copy; one after the other equals the
library's own forward, checked before the first cut is handed out; a pickle holds a name and a hash, never weights.
It must not know: y, losses, scikit-learn, files of data.
"""

import copy
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from skltransfer._system.forks import Lock
from skltransfer._system.values import Value
from skltransfer.backbones._bands import read_bands, refusal, refuse_unless_mixed
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._keras_cut import KerasCut
from skltransfer.backbones._layer_cut import LayerCut
from skltransfer.backbones._pooling import Pooling
from skltransfer.backbones._preprocessing import Preprocessing
from skltransfer.backbones._refusals import refusing, summary
from skltransfer.backbones._weights import AdaptedWeights, fingerprint, fit_state
from skltransfer.exceptions import UnsupportedBackboneError

TOLERANCE = 1e-5
CPU = torch.device("cpu")
ORIGINAL = (torch.float32, CPU)
TOLD = ("bands", "input_size", "max_length", "resize", "white")  # options that a repr shows, where they were set


class Backbone(Value):
    """A pretrained network that is divided into stages, as an immutable value.

    :func:`load_backbone` makes it; pass it as ``backbone`` to estimators instead of a name. It reads images, texts,
    audio or rows of numbers, as ``modality`` says. Estimators share its frozen weights, and a pickle holds the name and
    a hash of the weights rather than the weights.

    Parameters
    ----------
    cut : GraphCut, LayerCut or KerasCut
        The library's network and the ends of its stages. Its parameters stop requiring gradients.
    name : str
        Name that :func:`load_backbone` was called with.
    weights : str or AdaptedWeights
        Weights that :func:`load_backbone` was called with.
    preprocessing : ImagePreprocessing or RowPreprocessing
        Conversion of a decoded sample to an input tensor.
    pooling : {"mean", "cls"}
        Pooling that ``pooling="auto"`` of an estimator stands for.
    head_names : collection of str
        Entries of the state dict that belong to the original classification head, not to a stage.
    classes : sequence of str, optional
        Classes of the original classification head.
    source_accuracy : tuple of (str, float), optional
        Data set on which the weights were evaluated with their original head, and their top-1 accuracy on it, in [0,
        1].
    options : mapping, optional
        Further arguments that :func:`load_backbone` was called with.
    maps_end_in_channels : collection of int, optional
        Numbers of stages after which activations have the shape (n, height, width, channels).
    unit_length : bool, default=False
        If True, pooled features of the last stage are scaled to length 1.
    licence, source : str, optional
        License and source of the weights; None if they are not known.

    Attributes
    ----------
    stage_names : tuple of str
        Names of the stages, from the input to the output.
    n_stages : int
        Number of stages.
    n_features : int
        Number of features of the pooled output of the last stage.
    fingerprint : str
        SHA-256 hash of the weights of the stages, the preprocessing and the names of the stages, in hexadecimal.

    See Also
    --------
    describe_backbone : Describe the stages of a backbone.
    load_backbone : Load a backbone by name.

    Examples
    --------
    >>> from skltransfer import load_backbone
    >>> backbone = load_backbone("toy:images")
    >>> backbone
    Backbone('toy:images', weights='pretrained', 4 stages, 32 features)
    >>> backbone.stage_names
    ('stem', 'block1', 'block2', 'block3')
    >>> suffix = backbone.suffix(2)  # a private copy of what comes after two frozen stages
    >>> sorted({name.split(".")[0] for name in suffix.state_dict()})
    ['block2', 'block3']
    """

    def __init__(
        self,
        cut: GraphCut | LayerCut | KerasCut,
        *,
        name: str,
        weights: str | AdaptedWeights,
        preprocessing: Preprocessing,
        pooling: str,
        head_names: Collection[str],
        classes: Collection[str] | None = None,
        source_accuracy: tuple[str, float] | None = None,
        options: Mapping[str, object] | None = None,
        maps_end_in_channels: Collection[int] = (),
        unit_length: bool = False,
        licence: str | None = None,
        source: str | None = None,
    ) -> None:
        cut.network.eval().requires_grad_(False)
        self._cuts = {ORIGINAL: cut}
        self._lock = Lock()
        self._is_verified = False
        self._activation_shapes: tuple[tuple[int, ...], ...] | None = None
        self._pooled_widths: dict[tuple[int, str], int] = {}
        self.name, self.weights, self.preprocessing, self.pooling = name, weights, preprocessing, pooling
        self.classes = None if classes is None else tuple(classes)
        self.source_accuracy = source_accuracy
        self.licence, self.source = licence, source
        self.options = dict(options or {})
        self._maps_end_in_channels, self._unit_length = frozenset(maps_end_in_channels), unit_length
        self._head_names = frozenset(head_names)
        self.stage_names: tuple[str, ...] = cut.stage_names
        stages = {k: v for k, v in cut.network.state_dict().items() if k not in self._head_names}
        key = self.preprocessing.long_samples_key
        reading = (self.preprocessing,) if key is None else (self.preprocessing, key)
        about = (self.stage_names, type(cut.network).__name__, *getattr(cut, "identity", ()))
        self.fingerprint = fingerprint(stages, *reading, *about)

    def __repr__(self) -> str:
        reads = "".join(f"{key}={self.options[key]!r}, " for key in TOLD if self.options.get(key))
        return (
            f"Backbone({self.name!r}, weights={self.weights!r}, {reads}{self.n_stages} stages, "
            f"{self.n_features} features)"
        )

    @property
    def modality(self) -> str:
        """Kind of samples that the network reads: ``"image"``, ``"text"``, ``"audio"`` or ``"rows"``."""
        return self.preprocessing.modality

    @property
    def reading(self) -> dict[str, object]:
        """Parameters of the class of ``inputs`` that reads samples of this modality."""
        if self.modality == "audio":
            return {"rate": self.preprocessing.rate, "shortest": self.preprocessing.shortest}
        if self.modality != "image":
            return {}
        return {
            "max_pixels": self.options.get("max_pixels", 64_000_000),
            "channels": self.options.get("channels", "auto"),
            "draft": self.preprocessing.draft,
            "white": self.options.get("white"),
            **({"bands": self.preprocessing.n_channels} if self.options.get("bands") else {}),
        }

    @property
    def is_ragged(self) -> bool:
        """True if samples have different numbers of tokens."""
        return self.preprocessing.is_ragged

    @property
    def is_windowed(self) -> bool:
        """True if one long sample becomes several inputs, which together give one output."""
        return self.preprocessing.is_windowed

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return len(self.stage_names)

    def inference_batch(self, device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> int:
        """Get the number of rows per inference call, which is constant so that no result depends on other rows.

        On a CPU, where a batch is little faster than single rows, it is 1 for images of at least 128 pixels in float32
        and 4 in bfloat16, 8 for smaller ones, 16 for texts and 32 for rows of numbers; on other devices it is 64. Audio
        clips are processed one by one, because the padding of a batch may change their features.

        Parameters
        ----------
        device : torch.device, default=torch.device("cpu")
            Device on which the network runs.
        dtype : torch.dtype, default=torch.float32
            Data type in which the network computes.

        Returns
        -------
        int
            Number of rows.
        """
        if self.modality == "audio":
            return 1
        if device.type != "cpu":
            return 64
        if self.modality == "image":
            if self.preprocessing.input_shape[-1] < 128:
                return 8
            return 1 if dtype == torch.float32 else 4
        return 32 if self.modality == "rows" else 16

    @property
    def is_foldable(self) -> bool:
        """True if a BatchNorm can be computed within the convolution before it."""
        return self._cuts[ORIGINAL].is_foldable

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all stages."""
        return sum(map(self.stage_size, range(self.n_stages)))

    @property
    def activation_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample's activation at the input and after each stage."""
        if self._activation_shapes is None:  # cached_property takes a lock, which a forked child may find closed
            self._activation_shapes = self._shapes_of_activations()
        return self._activation_shapes

    def _shapes_of_activations(self) -> tuple[tuple[int, ...], ...]:
        self.verify()
        with torch.inference_mode():
            x = torch.zeros_like(self.example(1))
            shapes = [tuple(x.shape[1:])]
            for start in range(self.n_stages):
                x = self._piece(start, start + 1, ORIGINAL)(x)
                shapes.append(tuple(x.shape[1:]))
        return tuple(shapes)

    @property
    def n_features(self) -> int:
        """Number of features of the pooled output of the last stage."""
        return self.pooled_width(self.n_stages, self.pooling)

    def pooled_width(self, boundary: int, pooling: str) -> int:
        """Get the number of features after pooling.

        Parameters
        ----------
        boundary : int
            Number of stages up to the activation, from 0 (the input) to ``n_stages``.
        pooling : {"cls", "mean", "max", "last", "flatten"}
            Pooling method.

        Returns
        -------
        int
            Number of features.

        Raises
        ------
        ValueError
            If the pooling method does not suit the activation.
        """
        key = (boundary, pooling)
        if key not in self._pooled_widths:
            example = torch.zeros(1, *self.activation_shapes[boundary])
            self._pooled_widths[key] = self.pooling_at(boundary, pooling)(example).shape[1]
        return self._pooled_widths[key]

    def pooling_at(self, boundary: int, how: str) -> Pooling:
        """Get the function that pools activations to vectors.

        Parameters
        ----------
        boundary : int
            Number of stages up to the activation, from 0 (the input) to ``n_stages``.
        how : {"cls", "mean", "max", "last", "flatten"}
            Pooling method.

        Returns
        -------
        Pooling
            Function from activations to vectors.

        Raises
        ------
        ValueError
            If ``how="flatten"`` and samples have different numbers of tokens.
        """
        if how == "flatten" and self.is_ragged:
            raise ValueError("pooling='flatten' needs samples of one length; use 'mean', 'max', 'cls' or 'last'.")
        unit_length = self._unit_length and boundary == self.n_stages
        return Pooling(how, ends_in_channels=boundary in self._maps_end_in_channels, unit_length=unit_length)

    def ends_in_channels(self, boundary: int) -> bool:
        """Check if the maps at a boundary are (height, width, channels).

        Parameters
        ----------
        boundary : int
            Number of stages before it, from 1 to ``n_stages``.

        Returns
        -------
        bool
            True if channels come last.
        """
        return boundary in self._maps_end_in_channels

    def prefix(
        self,
        start: int,
        stop: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
        *,
        folded: bool = False,
    ) -> nn.Module:
        """Get frozen stages in evaluation mode. They are shared: never train them, but use :meth:`suffix`.

        Parameters
        ----------
        start, stop : int
            First stage, and the number after the last stage, from 0 to ``n_stages``.
        dtype : torch.dtype, default=torch.float32
            Data type of the weights.
        device : torch.device, default=torch.device("cpu")
            Device of the weights.
        folded : bool, default=False
            If True, each BatchNorm is computed within the convolution before it, where there is one. In another data
            type than float32 it always is.

        Returns
        -------
        nn.Module
            The stages, one after the other.

        Raises
        ------
        UnsupportedBackboneError
            If the stages do not reproduce the library's output; see :meth:`verify`.
        """
        self.verify()
        return self._piece(start, stop, (dtype, device), folded=folded)

    def suffix(self, boundary: int, taps: Sequence[int] = ()) -> nn.Module:
        """Get a private, trainable float32 copy of the stages after the first ``boundary`` ones.

        Its parameters have the library's names.

        Parameters
        ----------
        boundary : int
            Number of frozen stages before the copy, from 0 to ``n_stages``.
        taps : sequence of int, optional
            Later boundaries in increasing order. The copy then ends at the last of them and returns a tuple of the
            activations at all of them.

        Returns
        -------
        nn.Module
            The copy.

        Raises
        ------
        UnsupportedBackboneError
            If the stages do not reproduce the library's output; see :meth:`verify`.
        """
        self.verify()
        if not taps:
            return copy.deepcopy(self._piece(boundary, self.n_stages, ORIGINAL)).requires_grad_(True)
        with self._lock:
            piece = self._cuts[ORIGINAL].tapped(boundary, tuple(taps))
        return copy.deepcopy(piece).requires_grad_(True)

    @property
    def library_network(self) -> nn.Module:
        """The library's own network with its original head, shared and in evaluation mode. It must not be changed."""
        return self._cuts[ORIGINAL].network

    @property
    def frame_convolutions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Kernel sizes and strides of the convolutions that make frames of a waveform; empty for other networks."""
        entry = self._cuts[ORIGINAL].entry
        return getattr(entry, "kernels", ()), getattr(entry, "strides", ())

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Run the library's own ``forward`` method and record its activations.

        Parameters
        ----------
        inputs : Tensor
            Preprocessed samples.

        Returns
        -------
        list of Tensor
            Activations at the end of each stage, followed by the output.
        """
        return self._cuts[ORIGINAL].library_activations(inputs)

    def stage_parameters(self, stage: int) -> tuple[str, ...]:
        """Get the names of the parameters of one stage.

        Parameters
        ----------
        stage : int
            Number of the stage, from 0.

        Returns
        -------
        tuple of str
            Names in the library's state dict.
        """
        return self._cuts[ORIGINAL].parameter_names(stage)

    def stage_size(self, stage: int) -> int:
        """Get the number of parameters of one stage.

        Parameters
        ----------
        stage : int
            Number of the stage, from 0.

        Returns
        -------
        int
            Number of parameters.
        """
        network = self.library_network
        return sum(network.get_parameter(name).numel() for name in self.stage_parameters(stage))

    def library_state(self) -> dict[str, torch.Tensor]:
        """Get the state dict of the library's own network, with its original head.

        Returns
        -------
        dict of str to Tensor
            Detached tensors, which share memory with the network.
        """
        return {key: value.detach().contiguous() for key, value in self.library_network.state_dict().items()}

    def adapted(self, weights: AdaptedWeights) -> "Backbone":
        """Make a backbone with the same network and other weights, which therefore has another fingerprint.

        Parameters
        ----------
        weights : AdaptedWeights
            Weights that differ from this network's.

        Returns
        -------
        Backbone
            The new backbone.

        Raises
        ------
        WeightsError
            If an entry does not exist in this network.
        """
        cut = self._cuts[ORIGINAL]
        network = copy.deepcopy(cut.network)
        fit_state(network, network.state_dict() | weights.tensors(), optional=(), where=f"weights={weights!r}")
        return self._with(cut.of(network), weights=weights)

    def resizing(self, how: str) -> "Backbone":
        """Make a backbone with the same network that resizes images in another way, with another fingerprint.

        Parameters
        ----------
        how : {"crop", "letterbox", "squash"}
            How an image that is not square becomes the square input, as in :func:`load_backbone`.

        Returns
        -------
        Backbone
            The new backbone.

        Raises
        ------
        UnsupportedBackboneError
            If the network does not read images.
        """
        if self.modality != "image":
            raise UnsupportedBackboneError(
                f"resize={how!r} is for images, and {self.name!r} reads samples of kind {self.modality!r}. "
                "Choose a backbone that reads images, such as 'bundled:efficientnet-lite0'."
            )
        return self._with(self._cuts[ORIGINAL], preprocessing=self.preprocessing.resizing(how))

    def reading_bands(self, bands: Sequence[str]) -> "Backbone":
        """Make a backbone that reads images of other channels than red, green and blue.

        Parameters
        ----------
        bands : sequence of str
            Names of the channels. ``"red"``, ``"green"`` and ``"blue"`` keep their pretrained filters in the first
            layer, and others get the mean of these, with less weight if the three colors are there.

        Returns
        -------
        Backbone
            The new backbone, which has another fingerprint.

        Raises
        ------
        UnsupportedBackboneError
            If the network does not read images, or its first layer is not one convolution.
        """
        if self.modality != "image":
            raise refusal(self.name, f"it reads samples of kind {self.modality!r}")
        cut, preprocessing = self._cuts[ORIGINAL], self.preprocessing.reading(bands)
        network = copy.deepcopy(cut.network)
        begin = cut.of(network).piece(0, min(2, self.n_stages))  # the first layer is in the stem, or else after it
        name = read_bands(network, bands, begin, self.example(1), self.name)
        stop = next(stage for stage in range(self.n_stages) if name in self.stage_parameters(stage)) + 1
        inputs = preprocessing.example(1, torch.Generator().manual_seed(0))
        try:
            changed = cut.of(network, preprocessing.input_shape)
        except Exception as error:
            raise refusal(self.name, f"its library raises {summary(error)}") from None
        refuse_unless_mixed(changed.piece(0, stop), cut.piece(0, stop), bands, inputs, self.name)
        return self._with(changed, preprocessing=preprocessing)

    def _with(
        self,
        cut: GraphCut | LayerCut | KerasCut,
        *,
        weights: str | AdaptedWeights | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> "Backbone":
        """The same with other weights, or another preprocessing."""
        return Backbone(
            cut,
            name=self.name,
            weights=self.weights if weights is None else weights,
            preprocessing=self.preprocessing if preprocessing is None else preprocessing,
            pooling=self.pooling,
            head_names=self._head_names,
            classes=self.classes,
            options=self.options,
            maps_end_in_channels=self._maps_end_in_channels,
            unit_length=self._unit_length,
            licence=self.licence,
            source=self.source,
        )

    def text_model(self, suffix: nn.Module | None = None) -> nn.Module:
        """Get the library's own text model.

        Parameters
        ----------
        suffix : nn.Module, optional
            A copy that :meth:`suffix` made from the input on. If None, the shared model is returned.

        Returns
        -------
        nn.Module
            The text model, which is part of ``suffix`` if that is passed.
        """
        return self.library_network if suffix is None else suffix.model

    def source_outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of the library's own network with its original head.

        Parameters
        ----------
        inputs : Tensor
            Preprocessed samples.

        Returns
        -------
        Tensor of shape (n_samples, n_source_classes)
            Logits of the classes of the pretraining.
        """
        with torch.inference_mode():
            return self.library_activations(inputs)[-1]

    def _piece(
        self, start: int, stop: int, place: tuple[torch.dtype, torch.device], *, folded: bool = False
    ) -> nn.Module:
        dtype, device = place
        folds = self.is_foldable and (folded or dtype != torch.float32)
        key = (*place, "folded") if folds else place
        with self._lock:
            if key not in self._cuts:
                self._cuts[key] = self._cuts[ORIGINAL].on(device, dtype, folded=folds)
            return self._cuts[key].piece(start, stop)

    def verify(self) -> None:
        """Check once that the stages, one after the other, compute what the library's ``forward`` method computes.

        Raises
        ------
        UnsupportedBackboneError
            If the activations of a stage differ by more than 1e-5, relative to the largest value, or if the library's
            ``forward`` method fails.
        """
        with self._lock:
            if not self._is_verified:
                self._compare_with_library()
                self._is_verified = True

    def runs_at(self, side: int) -> bool:
        """Check if the library's own network accepts images of a given size.

        Parameters
        ----------
        side : int
            Side of square images, in pixels.

        Returns
        -------
        bool
            True if the network runs.
        """
        return self._cuts[ORIGINAL].runs_on((*self.preprocessing.input_shape[:-2], side, side))

    def _compare_with_library(self) -> None:
        x = inputs = self.example(2)
        with refusing(self.name), torch.inference_mode():
            theirs = self.library_activations(inputs)
            for stage, name in enumerate(self.stage_names):
                x = self._piece(stage, stage + 1, ORIGINAL)(x)
                self._refuse_if_unequal(x, theirs[stage], f"at the end of stage {name!r}")
            output = self._cuts[ORIGINAL].piece(self.n_stages)(x)
            self._refuse_if_unequal(output, theirs[-1], "at its output")

    def example(self, n: int) -> torch.Tensor:
        """Make random inputs of the right shape, the same in each call.

        Parameters
        ----------
        n : int
            Number of inputs.

        Returns
        -------
        Tensor
            Inputs of the network.
        """
        return self.preprocessing.example(n, torch.Generator().manual_seed(0))

    def _refuse_if_unequal(self, ours: torch.Tensor, theirs: torch.Tensor, where: str) -> None:
        if torch.equal(ours.isnan(), theirs.isnan()) and ours.ndim == 3:  # where tokens are padding
            ours, theirs = ours.nan_to_num(), theirs.nan_to_num()
        scale = theirs.abs().max().clamp_min(1e-12)
        error = (ours - theirs).abs().max() / scale if ours.shape == theirs.shape else torch.inf
        if not error <= TOLERANCE:
            raise UnsupportedBackboneError(
                f"{self.name!r} cannot be cut: {where} its stages differ from the library's forward by {error:.1e} "
                f"relative, more than {TOLERANCE:.0e}. Choose another backbone; list_backbones() names some."
            )
