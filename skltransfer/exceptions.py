"""What can go wrong, as one family. Each member has a builtin parent too, so old ``except`` clauses keep working.

SkltransferError
├── BackboneNotFoundError   (ValueError)       no backbone has this name
├── UnsupportedBackboneError (ValueError)      a network that cannot be cut into stages
├── WeightsError            (OSError)          weights that are absent, unreachable or do not fit
├── MissingDependencyError  (ImportError)      an optional library is not installed
├── BadSampleError          (ValueError)       one row of X cannot be read
│   └── MissingSampleError                     one row of X is None or NaN
└── TrainingDivergedError   (ArithmeticError)  the loss is no longer a number

Beside it, a warning: AdaptationWarning (UserWarning), adapting to this target may do harm.
"""

from collections.abc import Sequence


class SkltransferError(Exception):
    """Parent of every exception that this package raises on its own account."""


class BackboneNotFoundError(SkltransferError, ValueError):
    """No backbone has this name."""


class UnsupportedBackboneError(SkltransferError, ValueError):
    """The network cannot be cut into stages, or the cut network does not compute what the library's does."""


class WeightsError(SkltransferError, OSError):
    """Weights are absent, cannot be reached, or do not fit the network."""


class MissingDependencyError(SkltransferError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class BadSampleError(SkltransferError, ValueError):
    """One row of X cannot be read.

    Parameters
    ----------
    row : int
        Position in the X that the user passed.
    shown : str
        How the sample is shown, e.g. its path.
    cause, remedy : str
        The fault and its remedy.
    others : tuple of BadSampleError, default=()
        Further rows that cannot be read, where they were found in the same pass.
    """

    def __init__(
        self, row: int, shown: str, cause: str, remedy: str, others: "tuple[BadSampleError, ...]" = ()
    ) -> None:
        lines = [f"X[{row}] ({shown}): {cause}. Fix: {remedy}.", *map(str, others)]
        super().__init__("\n".join(lines))
        self.row, self.shown, self.cause, self.remedy, self.others = row, shown, cause, remedy, others

    def __reduce__(self):
        notes = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None
        return type(self), (self.row, self.shown, self.cause, self.remedy, self.others), notes

    def along_with(self, others: "Sequence[BadSampleError]") -> "BadSampleError":
        """The same complaint, which names other rows too."""
        return type(self)(self.row, self.shown, self.cause, self.remedy, tuple(others))


class MissingSampleError(BadSampleError):
    """One row of X is None or NaN."""


class TrainingDivergedError(SkltransferError, ArithmeticError):
    """The training loss became NaN or infinite; the estimator keeps the state it had before ``fit``."""


class AdaptationWarning(UserWarning):
    """Warning that adapting to these domains may do harm."""
