"""The interface of the two kinds of run: one that trains a base, and one that trains a path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic

from mpa_core.training.engine.checkpoint import SavedState
from mpa_core.training.engine.loop import Validator
from mpa_core.training.engine.objective import Module, Part
from mpa_core.training.engine.trainer import Trainer


class Job(ABC, Generic[Part, Module]):
    """Data, networks and weights of one run.

    Making a job only checks what can be refused before any work. Then :meth:`require` (when a run
    is resumed), :meth:`prepare`, and the other methods are called.

    Attributes:
        trainer: set by :meth:`prepare`.
        validated: what is validated with, to record, in values that JSON can hold; set by
            :meth:`validator`, or None.
    """

    trainer: Trainer[Part, Module]
    validated: dict[str, Any] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Read the data and build the networks."""

    @abstractmethod
    def data(self) -> dict[str, str]:
        """Return a description of the data for the record: a name, and a text with a digest."""

    @abstractmethod
    def weights_of(self, source: str) -> Module:
        """Return the weights that ``--from source`` names, as a module like the one that trains.

        Raises:
            CheckpointError, TrainingError: it names none that fit.
        """

    @abstractmethod
    def validator(self, folder: Path) -> Validator | None:
        """Return a validator of the averaged weights, or None; it writes pictures to ``folder``."""

    def facts(self) -> dict[str, Any]:
        """Return further facts to record beside settings and data, in values that JSON can hold."""
        return {}

    def require(self, folder: Path, state: SavedState) -> None:
        """Raise an error if the run in ``folder``, at ``state``, cannot be resumed by this job."""

    def begin(self) -> None:
        """Set up weights that a new run begins with and that are not random."""

    def try_out(self, validate: Validator | None) -> None:
        """Call what is foreign once, before the first step; nothing that trains changes."""

    def check_end(self) -> None:
        """Raise an error if anything changed that had to stay unchanged."""

    def close(self) -> None:
        """Close files and end processes; also called after an error."""
        if hasattr(self, "trainer"):
            self.trainer.close()
