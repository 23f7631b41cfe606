"""What differs between a run that trains a base and one that trains a path."""

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

    Making one reads nothing but what can be refused before any work. Then come :meth:`require`
    (when a run goes on), :meth:`prepare`, and the rest.

    Attributes:
        trainer: there after :meth:`prepare`.
    """

    trainer: Trainer[Part, Module]

    @abstractmethod
    def prepare(self) -> None:
        """Read the data and build the networks."""

    @abstractmethod
    def data(self) -> dict[str, str]:
        """What the data are, for the record: a name, and a text with a digest."""

    @abstractmethod
    def weights_of(self, source: str) -> Module:
        """The weights that ``--from source`` names, as a module like the one that trains.

        Raises :class:`CheckpointError` or :class:`TrainingError` where it names none that fit.
        """

    @abstractmethod
    def validator(self, folder: Path) -> Validator | None:
        """What measures the averaged weights, and writes pictures below ``folder``; or None."""

    def facts(self) -> dict[str, Any]:
        """What is recorded beside the settings and the data; JSON-able."""
        return {}

    def require(self, folder: Path, state: SavedState) -> None:
        """Raise if the run in ``folder``, at ``state``, cannot go on with what is given."""

    def begin(self) -> None:
        """Set up weights that a new run begins with and that are not random."""

    def try_out(self, validate: Validator | None) -> None:
        """Call what is foreign once, before the first step; nothing that trains changes."""

    def check_end(self) -> None:
        """Raise if what was to stay as it was has changed."""

    def close(self) -> None:
        """Let go of files and processes; also after an error."""
        if hasattr(self, "trainer"):
            self.trainer.close()
