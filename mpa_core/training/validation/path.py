"""Validation of a path on whole pictures, beside the main path, at a few qualities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpa_core.base.padding import pad, unpad
from mpa_core.io.images import save_image, to_pil
from mpa_core.paths.path import TaskPath
from mpa_core.tasks.metric import PSNR, Metric, psnr_metric
from mpa_core.tasks.photos import Replacing
from mpa_core.tasks.samples import PathBatch, Sample, collate
from mpa_core.training.data.latents import encode_latents
from mpa_core.training.engine.checkpoint import checkpoint_name
from mpa_core.training.engine.loop import SAMPLES

if TYPE_CHECKING:
    from mpa_core.training.objectives.path import PathObjective


class PathValidator:
    """Measures, at a given step, the path's metrics and the main path's at each quality.

    Latents and the main path's values do not change during a run and are computed once.

    Args:
        averaged: returns a copy of the path with the averaged weights, in eval mode.
        objective: base and recipe.
        dataset: the recipe's data set for validation, of which ``run.validate_images``, evenly
            spaced, are used.
        folder: folder of the run; with ``run.validate_samples`` the first picture's reconstructions
            are written below it.
    """

    def __init__(
        self,
        averaged: Callable[[], TaskPath],
        objective: PathObjective,
        dataset: Sequence[Sample],
        folder: Path,
    ) -> None:
        self.averaged = averaged
        self.objective = objective
        self.folder = folder
        settings = objective.config.run
        count = min(settings.validate_images, len(dataset))
        self.samples = Replacing(dataset).spread(count)
        self.qualities = settings.validate_qualities
        self.metrics: Mapping[str, Metric] = {PSNR: psnr_metric(), **objective.recipe.metrics()}
        self._coded: dict[float, list[tuple[PathBatch, Tensor, float]]] = {}
        self._main: dict[float, dict[str, float]] = {}

    def __call__(self, step: int) -> list[dict[str, float]]:
        """Return for each quality the bits per pixel and the metrics of both paths.

        The keys are ``quality``, ``bpp``, each metric's name, ``main_…`` for the main path, and
        ``pictures``: how many they are of.
        """
        path = self.averaged()
        rows = []
        for quality in self.qualities:
            if quality not in self._coded:
                self._coded[quality] = [self._code(sample, quality) for sample in self.samples]
                self._main[quality] = self._figures(quality, None)
            found = self._figures(quality, path)
            main = {f"main_{name}": value for name, value in self._main[quality].items()}
            bpp = sum(bpp for _, _, bpp in self._coded[quality]) / len(self.samples)
            row = {"quality": quality, "bpp": bpp, **found, **main}
            figures = {name: round(value, 5) for name, value in row.items()}
            rows.append({**figures, "pictures": len(self.samples)})
            if self.objective.config.run.validate_samples:
                self._save(self.folder / SAMPLES / checkpoint_name(step), quality, path)
        return rows

    @torch.no_grad()
    def _code(self, sample: Sample, quality: float) -> tuple[PathBatch, Tensor, float]:
        model = self.objective.model
        batch = collate([sample], torch.tensor([quality])).to(self.objective.device)
        height, width = batch.images.shape[-2:]
        padded = pad(batch.images, model.config.hyper_stride)
        y_hat, bpp = encode_latents(model, padded, batch.quality)
        pixels = padded.shape[-2] * padded.shape[-1] / (height * width)
        return batch, y_hat, float(bpp) * pixels

    def _figures(self, quality: float, path: TaskPath | None) -> dict[str, float]:
        totals: dict[str, list[Tensor]] = defaultdict(list)
        for batch, y_hat, _ in self._coded[quality]:
            x_hat = self._decode(batch, y_hat, path)
            for name, metric in self.metrics.items():
                totals[name].append(metric.per_picture(x_hat, batch))
        return {
            name: self.metrics[name].figure(torch.cat(parts).sum(0))
            for name, parts in totals.items()
        }

    def _save(self, folder: Path, quality: float, path: TaskPath) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        batch, y_hat, _ = self._coded[quality][0]
        for name, which in (("main", None), ("path", path)):
            save_image(
                folder / f"q{quality:g}-{name}.png", to_pil(self._decode(batch, y_hat, which))
            )

    @torch.no_grad()
    def _decode(self, batch: PathBatch, y_hat: Tensor, path: TaskPath | None) -> Tensor:
        """Return the picture [1, 3, H, W] in [0, 1], all by ``path``; None is the main path."""
        model = self.objective.model
        mix, paths = (None, None) if path is None else ("path", {"path": path})
        quality = model.base.quality(batch.quality, y_hat)
        x_hat = model.reconstruct(y_hat, quality, mix, paths=paths)
        height, width = batch.images.shape[-2:]
        return unpad(x_hat, height, width)
