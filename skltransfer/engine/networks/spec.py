"""What a network consists of, from its frozen stages to its outputs, in plain values.

Goes whole into whoever builds, keeps, saves or describes a network. Must not know torch, weights or targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

WINDOW_POOLINGS = ("mean", "max", "vote")


@dataclass(frozen=True)
class NetworkSpec:
    """The parts of a network that follow a backbone's frozen stages.

    Attributes
    ----------
    boundary : int
        Number of frozen stages.
    pooling : str or None
        Pooling of the last stage's output; None keeps it unpooled.
    head : {"linear", "mlp"} or another name
        Type of the head; ``"mlp"`` has a hidden layer. A task with another readout has its own name.
    adapter : {"lora"} or None
        If ``"lora"``, low-rank adapters are trained instead of the weights of the unfrozen stages.
    normalizes : bool
        If True, the head receives features scaled to length 1 instead of standardized ones.
    n_outputs : int
        Number of outputs of the head.
    n_constants : int
        Number of further trained outputs that are the same for all samples.
    taps : tuple of int
        Boundaries whose activations the readout uses, in increasing order; empty for the last one alone.
    n_numbers : int
        Number of numbers beside each sample that the head receives after the pooled features.
    window_pooling : {"mean", "max", "vote"}
        How the windows of a long sample become one answer. ``"mean"`` averages features after the last frozen stage if
        that is the network's last, else outputs in the loss and answers in inference. ``"max"`` takes the maximum of
        each feature. ``"vote"`` gives each window a loss, and averages answers.
    projected : int
        Width of the space, shared by images and texts, to which pooled features are projected; 0 if they stay.
    """

    boundary: int
    pooling: str | None
    head: str = "linear"
    adapter: str | None = None
    normalizes: bool = False
    n_outputs: int = 1
    n_constants: int = 0
    taps: tuple[int, ...] = ()
    n_numbers: int = 0
    window_pooling: str = "mean"
    projected: int = 0

    @property
    def held(self) -> tuple[int, ...]:
        """Boundaries whose activations are known once the frozen stages have run: the last, and taps before it."""
        if not self.taps:
            return (self.boundary,)
        before = {tap for tap in self.taps if tap <= self.boundary}
        return tuple(sorted(before | ({self.boundary} if self.boundary < max(self.taps) else set())))

    def last(self, n_stages: int) -> int:
        """Number of stages that the network uses, of those that the backbone has."""
        return max(self.taps, default=n_stages)

    @property
    def architecture(self) -> dict[str, Any]:
        """All but the outputs, which the targets decide: what a fit that goes on must have in common with the last."""
        outputs = ("n_outputs", "n_constants")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in outputs}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "NetworkSpec":
        """The spec in a file's header, also in one that was written before there were specs."""
        found: Mapping[str, Any] | Sequence[Any] = header["network"]
        if isinstance(found, Mapping):
            return cls(**{**found, "taps": tuple(found.get("taps", ()))})
        names = ("boundary", "pooling", "n_outputs", "hidden")
        return cls.from_scalars({**header, **dict(zip(names, found, strict=True))})

    @classmethod
    def from_scalars(cls, values: Mapping[str, Any]) -> "NetworkSpec":
        """The spec of a network that was kept as single values, as versions before 0.1.0 did."""
        return cls(
            values["boundary"],
            values["pooling"],
            "mlp" if values["hidden"] else "linear",
            values["adapter"],
            values.get("sphere", False),
            values["n_outputs"],
            values.get("n_constants", 0),
        )
