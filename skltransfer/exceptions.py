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
    """Base class of all exceptions that this package raises itself."""


class BackboneNotFoundError(SkltransferError, ValueError):
    """Error that no backbone has the requested name; the message suggests the nearest names."""


class UnsupportedBackboneError(SkltransferError, ValueError):
    """Error that a network cannot be divided into stages, or cannot be used for the requested purpose."""


class WeightsError(SkltransferError, OSError):
    """Error that weights or a saved file are missing, cannot be downloaded or read, or do not match the network."""


class MissingDependencyError(SkltransferError, ImportError):
    """Error that an optional library is not installed; the message names the extra that installs it."""


class BadSampleError(SkltransferError, ValueError):
    """Error that one row of X cannot be read.

    The message names the row, the cause and the remedy.

    Parameters
    ----------
    row : int
        Position of the sample in X.
    shown : str
        Short description of the sample, such as its path.
    cause, remedy : str
        Cause of the error, and how to correct it.
    others : tuple of BadSampleError, default=()
        Errors of further rows that were found in the same pass.
    name : str, default="X"
        Name of the argument that the row is of.
    """

    def __init__(
        self,
        row: int,
        shown: str,
        cause: str,
        remedy: str,
        others: "tuple[BadSampleError, ...]" = (),
        name: str = "X",
    ) -> None:
        lines = [f"{name}[{row}] ({shown}): {cause}. Fix: {remedy}.", *map(str, others)]
        super().__init__("\n".join(lines))
        self.row, self.shown, self.cause, self.remedy, self.others = row, shown, cause, remedy, others
        self.name = name

    def __reduce__(self):
        notes = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None
        return type(self), (self.row, self.shown, self.cause, self.remedy, self.others, self.name), notes

    def along_with(self, others: "Sequence[BadSampleError]") -> "BadSampleError":
        """Make the same error with further rows in its message.

        Parameters
        ----------
        others : sequence of BadSampleError
            Errors of further rows.

        Returns
        -------
        BadSampleError
            The new error.
        """
        return type(self)(self.row, self.shown, self.cause, self.remedy, tuple(others), self.name)

    def of(self, name: str) -> "BadSampleError":
        """Make the same error about a row of another argument than X.

        Parameters
        ----------
        name : str
            Name of the argument.

        Returns
        -------
        BadSampleError
            The new error.
        """
        return type(self)(self.row, self.shown, self.cause, self.remedy, self.others, name)


class MissingSampleError(BadSampleError):
    """Error that one row of X is missing (None or NaN)."""


class TrainingDivergedError(SkltransferError, ArithmeticError):
    """Error that the training loss became NaN or infinite; the estimator keeps the state it had before ``fit``."""


class AdaptationWarning(UserWarning):
    """Warning that adapting a model to a target domain may reduce its accuracy."""
