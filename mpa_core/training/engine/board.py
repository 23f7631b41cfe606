"""Output of a run's metrics and sample pictures for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpa_core.requirements import missing

BOARD = "tensorboard"
"""Name of the folder of event files in a run's folder."""


class Board:
    """Writes event files below ``folder``; those of an earlier attempt after ``step`` are void.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            what, otherwise = "run.tensorboard=true needs", "set run.tensorboard=false"
            raise missing(what, "tensorboard", "train", error, otherwise) from error
        self._writer = SummaryWriter(str(folder / BOARD), purge_step=step + 1 if step else None)

    def line(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line of training metrics: numbers by name, or mappings of them by name."""
        self._add("train", values, step)

    def validation(
        self, step: int, levels: Sequence[Mapping[str, float]], samples: Path | None
    ) -> None:
        """Write validation figures by quality, and the PNG pictures in ``samples`` if it exists."""
        for row in levels:
            figures = {name: value for name, value in row.items() if name != "quality"}
            self._add(f"validation/quality {row['quality']:g}", figures, step)
        for picture in sorted(samples.glob("*.png")) if samples is not None else ():
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"samples/{picture.stem}", pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write all that is still in memory."""
        self._writer.close()

    def _add(self, prefix: str, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                self._add(f"{prefix}/{name}", value, step)
            elif name not in ("step", "elapsed"):
                self._writer.add_scalar(f"{prefix}/{name}", value, step)
