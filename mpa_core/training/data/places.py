"""The item and the quality at each place of a run, as functions of the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.tasks.seeds import Stream, generator
from mpa_core.training.settings.base import LossSettings


@dataclass(frozen=True)
class Shard:
    """A part of a step's batch."""

    number: int
    rows: range
    """Its rows of the whole batch."""


class Places:
    """The item and the quality at each place of a run, as functions of the seed.

    A run is a sequence of places, ``batch`` in each step; each epoch has every item once, in an
    order of its own.

    Args:
        count: number of items.
        batch: number of places in a step.
        loss: settings by which qualities are drawn.
        levels: number of quality levels of the base.
        seed: seed that fixes everything.
    """

    def __init__(
        self, count: int, batch: int, loss: LossSettings, *, levels: int, seed: int
    ) -> None:
        self.count = count
        self.size = batch
        self.loss = loss
        self.levels = levels
        self.seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every item is seen about once."""
        return -(-self.count // self.size)

    def of(self, step: int) -> range:
        """Return the places of ``step`` (counted from 0)."""
        return range(step * self.size, (step + 1) * self.size)

    def item(self, place: int) -> int:
        """Return the index of the item at ``place``."""
        epoch, index = divmod(place, self.count)
        if self._order[0] != epoch:
            random = generator(self.seed, Stream.ORDER, epoch)
            self._order = (epoch, random.permutation(self.count))
        return int(self._order[1][index])

    def draw(self, step: int, draw: Callable[[int], float]) -> Tensor:
        """Return [B] values of ``draw(number)``: one for the step, or one per place.

        ``loss.quality_sampling`` decides which; ``number`` is that of the step or of the place.
        """
        if self.loss.quality_sampling == "per_step":
            values = [draw(step)] * self.size
        else:
            values = [draw(place) for place in self.of(step)]
        return torch.tensor(values, dtype=torch.float32)

    def quality(self, step: int) -> Tensor:
        """Return the qualities [B] of ``step``."""
        return self.draw(step, self._quality)

    def level(self, random: np.random.Generator) -> float:
        """Draw a quality between the first and the last level, integer or real as set."""
        if self.loss.quality_values == "real":
            return float(random.uniform(1, self.levels))
        return float(random.integers(1, self.levels, endpoint=True))

    def _quality(self, number: int) -> float:
        return self.level(generator(self.seed, Stream.QUALITY, number))
