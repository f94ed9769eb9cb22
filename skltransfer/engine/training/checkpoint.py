"""Where an interrupted training goes on: one file per training, named by all that decides its result.

Promises that a file is whole or not there, and that one that cannot be read costs time alone. Must not know what is
trained.
"""

import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from skltransfer._system.files import replacing

logger = logging.getLogger("skltransfer")


@dataclass(frozen=True)
class Checkpoint:
    """A file of training state.

    Attributes
    ----------
    folder : Path
        Made if it is not there.
    key : str
        Names the training: another key is another file.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.key[:40]}.pt"

    def read(self) -> dict | None:
        """The last state that was written, or None. Nothing in the file is run."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            warnings.warn(f"{self.path} is damaged, so training starts over ({error}).", stacklevel=2)
            return None
        logger.info("training goes on from %s", self.path)
        return state

    def write(self, state: Mapping) -> None:
        """Replace what was there; a disk that fails costs the checkpoint, not the training."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as draft:
                torch.save(dict(state), draft)
        except OSError as error:
            warnings.warn(f"No checkpoint could be written to {self.folder} ({error}); training goes on.", stacklevel=2)
