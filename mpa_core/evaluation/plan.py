"""The options of one run of ``mpa eval``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpa_core.evaluation.learned import Sweep
from mpa_core.evaluation.protocols import WHOLE, Protocol
from mpa_core.mix import Mix

ShowProgress = Callable[[str, int, int], None]
"""A function of the label of the work, the number of groups done, and the number of all groups."""


@dataclass(frozen=True)
class Plan:
    """The pictures, codecs and metrics to measure."""

    dataset: Path
    out: Path
    qualities: Sequence[float] = (1.0, 2.5, 4.0, 6.0, 8.0)
    mixes: Sequence[Mix] = (Mix(),)
    sweep: Sweep | None = None
    sweep_quality: float | None = None
    """Quality of the sweep; None for the middle one of ``qualities``."""
    codecs: Sequence[str] = ()
    """Classic codecs that get a curve of their own on the photos."""
    match: Sequence[str] = ()
    """Classic codecs to measure at the size of each of our files, on every set."""
    tasks: Sequence[str] = ()
    """Paths whose recipe judges, as :func:`mpa_core.evaluation.sets.collect` takes them."""
    task_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of each task's recipe, by task."""
    perceptual: Sequence[str] = ("efficientnet-lite0", "haarpsi")
    limit: int | None = None
    """Largest number of pictures, as :func:`mpa_core.evaluation.sets.collect` takes it."""
    strip_picture: int = 0
    """Index of the picture that the strip along the sweep shows."""
    resume: bool = False
    protocol: Protocol = WHOLE
    """What is coded of each photo."""
