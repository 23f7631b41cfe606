"""What ``mpa eval`` is asked to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpa_core.evaluation.learned import Sweep
from mpa_core.mix import Mix

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many groups are done, and of how many."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    dataset: Path
    out: Path
    qualities: Sequence[float] = (1.0, 2.5, 4.0, 6.0, 8.0)
    mixes: Sequence[Mix] = (Mix(),)
    sweep: Sweep | None = None
    sweep_quality: float | None = None
    """None: the middle one of ``qualities``."""
    codecs: Sequence[str] = ()
    """Classic codecs with a curve of their own on the photos."""
    match: Sequence[str] = ()
    """Classic codecs at the bytes of each of our files, on every set."""
    tasks: Sequence[str] = ()
    task_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Task -> options of its recipe."""
    perceptual: Sequence[str] = ("efficientnet-lite0", "haarpsi")
    limit: int | None = None
    strip_picture: int = 0
    """Number of the picture that the strip along the sweep shows."""
    resume: bool = False
