"""How the ``ocr`` path is trained: equation (9) with a frozen text recogniser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mpa_core.config import StrictModel
from mpa_core.errors import MissingDependencyError
from mpa_core.tasks import Metric, PathBatch, Recipe, Sample, Split, freeze, psnr_metric
from mpa_plugin_ocr.fonts import find_fonts
from mpa_plugin_ocr.lettering import Lettered
from mpa_plugin_ocr.reader import Reader, ctc, cut_lines, distance

TRAIN_AREA = 96**2
"""Pixels for each line of text on crops: four on a crop of 192."""
WHOLE_AREA = 128**2
"""Pixels for each line on whole pictures: 24 on 768 x 512."""


class OcrRecipe(Recipe):
    """Any folder of photos, with lines of text rendered on them: the strings are exact.

    The test pictures show fonts that no path was trained with, where the system has enough.
    """

    class Settings(StrictModel):
        """Options of the recipe."""

        fonts: Path | None = None
        """Folder of TrueType and OpenType fonts; null for those of the system."""
        feature_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
        """Of the distance between the recogniser's features of a line and of its original, relative
        to the cross-entropy of its characters: what can be read is near what could be read."""
        lines: Annotated[int, Field(gt=0)] = 2
        """Lines of each picture that a step reads, drawn anew each time."""
        judge: Literal["tesseract"] | None = None
        """Unseen in training, for the metrics alone: the program, which has to be installed."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "path": {"hidden_ratio": 2.0},
        "init": {"mlp": "main"},
        "data": {"batch": 4, "crop": 192, "crops_per_photo": 2},
        "loss": {
            # The recogniser's features take its place: what is read is what has to look right.
            "perceptual": None,
            "quality_sampling": "per_image",
            "loss_scale": "sqrt_rate",
            "full_share": 0.5,
            "task_weight": 3.0,
            "distortion_weight": 0.5,
        },
        "optim": {"lr": 1e-3, "ema_decay": 0.995},
        "schedule": {"kind": "cosine", "warmup": 0.03},
        "budget": {"hours": 0.6},
    }

    settings: Settings

    def setup(self, device: torch.device) -> None:
        self.reader = freeze(Reader().to(device))

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Cross-entropy per character plus distance of features, mean over lines of a picture."""
        boxes = some_lines(batch.targets["boxes"], self.settings.lines)
        lines, where, _ = cut_lines(x_hat, boxes)
        if not len(lines):
            return x_hat.new_zeros(len(x_hat))
        features = self.reader.features(lines)
        with torch.no_grad():
            wanted = self.reader.features(cut_lines(batch.images, boxes)[0])
        losses = ctc(self.reader.read(features), batch.targets["texts"][where[:, 0], where[:, 1]])
        losses = losses + self.settings.feature_weight * distance(features, wanted)
        totals = x_hat.new_zeros(len(x_hat)).index_add(0, where[:, 0], losses)
        return totals / where[:, 0].bincount(minlength=len(x_hat)).clamp_min(1)

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Find the lines of text in ``images`` and read them; the loss is how much worse they can
        be read on decoded pictures, as :class:`~mpa_plugin_ocr.reading.Readings` says."""
        from mpa_plugin_ocr.finder import load_finder
        from mpa_plugin_ocr.reading import Readings

        boxes = load_finder().to(images.device)(images)
        return Readings(self.reader, images, boxes, feature_weight=self.settings.feature_weight)

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        photos = super().dataset(root, split, crop)
        fonts = find_fonts(self.settings.fonts, "test" if split == "test" else "train")
        # The pictures that paths are judged by do not change with the seed of a training.
        seed = self.seed if split == "train" else 0
        area = WHOLE_AREA if crop is None else TRAIN_AREA
        return Lettered(photos, fonts, seed=seed, area=area)

    def metrics(self) -> Mapping[str, Metric]:
        """Character error rate by the recogniser and by the judge, and PSNR."""
        try:
            from mpa_plugin_ocr.judging import character_error_rate, reader_judge
        except ImportError as error:
            raise MissingDependencyError(
                f"the character error rate needs jiwer ({error}); install it with "
                "pip install 'mpa-plugin-ocr[train]'"
            ) from error
        found = {"cer": character_error_rate(reader_judge(self.reader), "PP-OCRv4")}
        if self.settings.judge is not None:
            from mpa_plugin_ocr.tesseract import Tesseract

            found["cer_unseen"] = character_error_rate(Tesseract(), "Tesseract")
        return {**found, "psnr": psnr_metric()}


def some_lines(boxes: Tensor, count: int) -> Tensor:
    """Boxes [B, K, 5] of which at most ``count`` for each picture are kept, the others 0.

    They are drawn by torch's generator, which stage 2 seeds before each step.
    """
    order = torch.rand(boxes.shape[:2]).to(boxes.device) * boxes[..., 2].gt(0)
    kept = order.topk(min(count, boxes.shape[1]), dim=1).indices
    return boxes * torch.zeros_like(order).scatter(1, kept, 1.0)[..., None]
