"""Batches of stage 2: samples, qualities and shares, each a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.tasks.photos import Replacing
from mpa_core.tasks.samples import PathBatch, Sample, collate
from mpa_core.tasks.seeds import Stream, generator
from mpa_core.training.data.loader import Source
from mpa_core.training.data.places import Places
from mpa_core.training.settings.path import PathDataSettings, PathLossSettings


@dataclass(frozen=True)
class PathStep:
    """The input of one step."""

    pictures: list[NDArray[np.uint8]]
    """B of [H, W, 3]."""
    batch: PathBatch
    q_task: Tensor
    """[B] float32, from 1 (all main) to the number of levels (all side), counted as quality is."""
    main_share: Tensor
    """[B] float64: rho = 1 - (q_task - 1) / (levels - 1), SPEC section 2."""


class SampleBatches(Source[PathStep]):
    """Batches of a recipe's data set, by step.

    Args:
        dataset: the recipe's data set; every sample is seen once per epoch, in an order of its own.
            A sample that raises :class:`ImageError` is replaced.
        data, loss: settings.
        levels: number of quality levels of the base.
        seed: seed that fixes order, qualities and shares.
    """

    def __init__(
        self,
        dataset: Sequence[Sample],
        data: PathDataSettings,
        loss: PathLossSettings,
        *,
        levels: int,
        seed: int,
    ) -> None:
        self.samples = Replacing(dataset)
        self.loss = loss
        self.levels = levels
        self.seed = seed
        self.places = Places(len(dataset), data.batch, loss, levels=levels, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every sample is seen about once."""
        return self.places.steps_per_epoch

    def batch(self, step: int, rows: Sequence[int] | None = None) -> PathStep:
        """Collate the samples of ``step`` (counted from 0), or only these ``rows`` of it."""
        places = self.places.of(step)
        chosen = list(range(len(places)) if rows is None else rows)
        samples = [self.samples[self.places.item(places[row])] for row in chosen]
        q_task = self.places.draw(step, self._q_task)[chosen]
        return PathStep(
            pictures=[sample.image for sample in samples],
            batch=collate(samples, self.places.quality(step)[chosen]),
            q_task=q_task,
            main_share=1 - (q_task.double() - 1) / (self.levels - 1),
        )

    def _q_task(self, number: int) -> float:
        random = generator(self.seed, Stream.SHARE, number)
        if random.uniform() < self.loss.full_share:
            return float(self.levels)
        return self.places.level(random)
