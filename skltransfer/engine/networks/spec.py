"""What a network consists of, from its frozen stages to its outputs, in plain values.

Goes whole into whoever builds, keeps, saves or describes a network. Must not know torch, weights or targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class NetworkSpec:
    """The parts of a network that follow a backbone's frozen stages.

    Attributes
    ----------
    boundary : int
        Number of frozen stages.
    pooling : str or None
        How maps or tokens of the last stage become a vector; None leaves them as they are.
    head : {"linear", "mlp"} or another name
        Whether the head has a hidden layer; a task whose readout is no head on one vector has a name of its own.
    adapter : {"lora"} or None
        Whether low-rank adapters are trained in the unfrozen stages, or all of their weights.
    normalizes : bool
        Whether the head sees features scaled to length 1, not standardised ones.
    n_outputs : int
        Outputs of the head.
    n_constants : int
        Trained outputs after those, the same for all samples.
    taps : tuple of int
        Boundaries whose activations the readout takes, in rising order; empty for the last one alone.
    """

    boundary: int
    pooling: str | None
    head: str = "linear"
    adapter: str | None = None
    normalizes: bool = False
    n_outputs: int = 1
    n_constants: int = 0
    taps: tuple[int, ...] = ()

    @property
    def held(self) -> tuple[int, ...]:
        """Boundaries whose activations are known once the frozen stages have run: the last, and taps before it."""
        if not self.taps:
            return (self.boundary,)
        before = {tap for tap in self.taps if tap <= self.boundary}
        return tuple(sorted(before | ({self.boundary} if self.boundary < max(self.taps) else set())))

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
