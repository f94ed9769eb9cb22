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
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._layer_cut import LayerCut
from skltransfer.backbones._pooling import Pooling
from skltransfer.backbones._preprocessing import Preprocessing
from skltransfer.backbones._refusals import refusing
from skltransfer.backbones._weights import AdaptedWeights, fingerprint, fit_state
from skltransfer.exceptions import UnsupportedBackboneError

TOLERANCE = 1e-5
CPU = torch.device("cpu")
ORIGINAL = (torch.float32, CPU)


class Backbone(Value):
    """A pretrained network, cut into stages. Made by :func:`load_backbone`; an immutable value.

    Parameters
    ----------
    cut : GraphCut or LayerCut
        The library's network and where its stages end. Its parameters stop requiring gradients.
    name : str
    weights : str or AdaptedWeights
        Arguments that :func:`load_backbone` was called with.
    preprocessing : ImagePreprocessing or RowPreprocessing
        From a decoded sample to an input tensor.
    pooling : {"mean", "cls"}
        Pooling that ``pooling="auto"`` stands for.
    head_names : collection of str
        Entries of the state dict that belong to the source head, not to a stage.
    classes : sequence of str, optional
        Classes of the source head.
    source_accuracy : tuple of (str, float), optional
        The data set on which the weights, with their source head, were evaluated, and their top-1 accuracy there, in
        [0, 1].
    options : mapping, optional
        Further arguments of :func:`load_backbone`.
    maps_end_in_channels : collection of int, optional
        Boundaries at which maps are (n, h, w, c).
    unit_length : bool, default=False
        Whether pooled features of the last stage are scaled to length 1.
    licence, source : str, optional
        Licence and source of the weights; None where they are not known.

    Attributes
    ----------
    stage_names : tuple of str
        From the input on.
    n_stages : int
    n_features : int
        Width of the pooled output of the last stage.
    fingerprint : str
        sha256 of the stages' weights, the preprocessing and the stages' names; hexadecimal.

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
        cut: GraphCut | LayerCut,
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
        self.name, self.weights, self.preprocessing, self.pooling = name, weights, preprocessing, pooling
        self.classes = None if classes is None else tuple(classes)
        self.source_accuracy = source_accuracy
        self.licence, self.source = licence, source
        self.options = dict(options or {})
        self._maps_end_in_channels, self._unit_length = frozenset(maps_end_in_channels), unit_length
        self._head_names = frozenset(head_names)
        self.stage_names: tuple[str, ...] = cut.stage_names
        stages = {k: v for k, v in cut.network.state_dict().items() if k not in self._head_names}
        reading = (self.preprocessing, "windows") if self.is_windowed else (self.preprocessing,)
        self.fingerprint = fingerprint(stages, *reading, self.stage_names, type(cut.network).__name__)

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, weights={self.weights!r}, {self.n_stages} stages, {self.n_features} features)"

    @property
    def modality(self) -> str:
        """``"image"``, ``"text"``, ``"audio"`` or ``"rows"``: what one sample is."""
        return self.preprocessing.modality

    @property
    def reading(self) -> dict[str, object]:
        """How samples are read: parameters of the class of ``inputs`` that reads this modality."""
        if self.modality == "audio":
            return {"rate": self.preprocessing.rate, "shortest": self.preprocessing.shortest}
        if self.modality != "image":
            return {}
        return {
            "max_pixels": self.options.get("max_pixels", 64_000_000),
            "channels": self.options.get("channels", "auto"),
            "draft": self.preprocessing.draft,
            "white": self.options.get("white"),
        }

    @property
    def is_ragged(self) -> bool:
        """Whether samples have different numbers of tokens."""
        return self.preprocessing.is_ragged

    @property
    def is_windowed(self) -> bool:
        """Whether one long sample becomes several inputs, whose outputs are averaged."""
        return self.preprocessing.is_windowed

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return len(self.stage_names)

    def inference_batch(self, device: torch.device = CPU) -> int:
        """Rows in every inference call: a constant, so that no result depends on its neighbours.

        Small on a processor, where one row costs as much as a batch: 4 for pictures of at least 128 px, 8 for smaller
        ones, 16 texts, 32 rows of numbers; 64 elsewhere. Sounds run one by one: what a network makes of them may depend
        on their padding.
        """
        if self.modality == "audio":
            return 1
        if device.type != "cpu":
            return 64
        if self.modality == "image":
            return 4 if self.preprocessing.input_shape[-1] >= 128 else 8
        return 32 if self.modality == "rows" else 16

    @property
    def activation_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample's activation at each boundary, from the input (boundary 0) on."""
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
        """Width of the pooled output of the last stage."""
        return self.pooled_width(self.n_stages, self.pooling)

    def pooled_width(self, boundary: int, pooling: str) -> int:
        """Width of the activation at ``boundary``, pooled."""
        return self.pooling_at(boundary, pooling)(torch.zeros(1, *self.activation_shapes[boundary])).shape[1]

    def pooling_at(self, boundary: int, how: str) -> Pooling:
        """How activations at ``boundary`` become vectors.

        Raises
        ------
        ValueError
            If vectors would have as many lengths as samples.
        """
        if how == "flatten" and self.is_ragged:
            raise ValueError("pooling='flatten' needs samples of one length; use 'mean', 'max', 'cls' or 'last'.")
        unit_length = self._unit_length and boundary == self.n_stages
        return Pooling(how, ends_in_channels=boundary in self._maps_end_in_channels, unit_length=unit_length)

    def prefix(
        self, start: int, stop: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> nn.Module:
        """The shared, frozen stages between two boundaries, in eval mode. Never train it: take :meth:`suffix`."""
        self.verify()
        return self._piece(start, stop, (dtype, device))

    def suffix(self, boundary: int, taps: Sequence[int] = ()) -> nn.Module:
        """A private, trainable float32 copy of what comes after ``boundary``, under the library's names.

        Parameters
        ----------
        boundary : int
        taps : sequence of int, optional
            Later boundaries, in rising order: the copy ends at the last one, and returns a tuple of the activations at
            all of them.
        """
        self.verify()
        if not taps:
            return copy.deepcopy(self._piece(boundary, self.n_stages, ORIGINAL)).requires_grad_(True)
        with self._lock:
            piece = self._cuts[ORIGINAL].tapped(boundary, tuple(taps))
        return copy.deepcopy(piece).requires_grad_(True)

    @property
    def library_network(self) -> nn.Module:
        """The library's own network, its source head included: shared, in eval mode, and not to be changed."""
        return self._cuts[ORIGINAL].network

    def library_activations(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Activations of a batch at the end of each stage in the library's own ``forward``, and its output."""
        return self._cuts[ORIGINAL].library_activations(inputs)

    def stage_parameters(self, stage: int) -> tuple[str, ...]:
        """Names of the parameters of one stage, as in the library's state dict."""
        return self._cuts[ORIGINAL].parameter_names(stage)

    def stage_size(self, stage: int) -> int:
        """Number of parameters of one stage."""
        network = self.library_network
        return sum(network.get_parameter(name).numel() for name in self.stage_parameters(stage))

    def library_state(self) -> dict[str, torch.Tensor]:
        """The state dict of the library's own network, its source head included."""
        return {key: value.detach().contiguous() for key, value in self.library_network.state_dict().items()}

    def adapted(self, weights: AdaptedWeights) -> "Backbone":
        """Another value: the same network with ``weights``, and so with another fingerprint.

        Raises
        ------
        WeightsError
            If an entry has no place in this network.
        """
        cut = self._cuts[ORIGINAL]
        network = copy.deepcopy(cut.network)
        fit_state(network, network.state_dict() | weights.tensors(), optional=(), where=f"weights={weights!r}")
        return Backbone(
            cut.of(network),
            name=self.name,
            weights=weights,
            preprocessing=self.preprocessing,
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
        """The library's own model of texts: the shared one, or that inside of a suffix which begins at the input."""
        return self.library_network if suffix is None else suffix.model

    def source_outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs of the library's own network, its source head included: logits (n, classes)."""
        with torch.inference_mode():
            return self.library_activations(inputs)[-1]

    def _piece(self, start: int, stop: int, place: tuple[torch.dtype, torch.device]) -> nn.Module:
        with self._lock:
            if place not in self._cuts:
                dtype, device = place
                self._cuts[place] = self._cuts[ORIGINAL].on(device, dtype)
            return self._cuts[place].piece(start, stop)

    def verify(self) -> None:
        """Compare the stages, one after the other, with the library's forward, at each boundary; once.

        Raises
        ------
        UnsupportedBackboneError
            If they differ by more than 1e-5, relative to the largest value, or if the library's forward fails.
        """
        with self._lock:
            if not self._is_verified:
                self._compare_with_library()
                self._is_verified = True

    def runs_at(self, side: int) -> bool:
        """Whether the library's own network runs on pictures of this side, in pixels."""
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
        """Random inputs of the right shape, the same each time."""
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
