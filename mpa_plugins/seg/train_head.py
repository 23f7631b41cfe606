"""Training of a segmentation head on composites.

``python -m mpa_plugins.seg.train_head --help`` lists the options.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpa_core.errors import MPAError, TrainingError
from mpa_core.tasks import (
    PhotoFolder,
    Replacing,
    WholePhotos,
    random_crop,
    to_tensor,
    undamaged,
)
from mpa_plugins.seg.composites import Composites, paste, place
from mpa_plugins.seg.network import HeadConfig, Segmenter, save_head
from mpa_plugins.seg.scores import cross_entropy, intersections_and_unions, mean_iou
from mpa_plugins.seg.stamps import CLASSES, STAMPS, Stamp, load_stamps

logger = logging.getLogger(__name__)

WARMUP = 0.05
"""Fraction of the time in which the learning rate rises."""

TINT = 0.15
"""Largest relative change of the brightness of each colour of a training picture."""


class FreshComposites:
    """Composites that never repeat: crops of photos, drawn by the number of the sample."""

    def __init__(self, photos: PhotoFolder, stamps: list[Stamp], crop: int, seed: int) -> None:
        self.photos = Replacing(photos)
        self.stamps = stamps
        self.crop = crop
        self.seed = seed

    def sample(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a picture [3, crop, crop] in [0, 1] and its labels [crop, crop]."""
        random = np.random.default_rng((self.seed, number))
        photo = self.photos[int(random.integers(len(self.photos)))]
        view = random_crop(photo, self.crop, random, flip=True, transpose=False)
        placed = place(self.stamps, self.crop, self.crop, random)
        picture, labels = paste(view, placed)
        image = to_tensor(picture)
        tint = 1 + TINT * torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
        return (image * tint).clamp(0, 1), torch.from_numpy(labels)

    def batch(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Return the ``count`` samples of ``step``, stacked."""
        pairs = [self.sample(step * count + i) for i in range(count)]
        images, masks = zip(*pairs, strict=True)
        return torch.stack(images), torch.stack(masks)


def train(model: Segmenter, source: FreshComposites, *, batch: int, lr: float, hours: float) -> int:
    """Train the decoder for ``hours`` by AdamW with a cosine schedule and warm-up.

    Returns:
        The number of steps.
    """
    optimiser = torch.optim.AdamW(model.decoder.parameters(), lr=lr, weight_decay=0.01)
    begin, step, said = time.monotonic(), 0, 0.0
    model.train()
    while (spent := (time.monotonic() - begin) / (3600 * hours)) < 1:
        images, masks = source.batch(step, batch)
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, spent / WARMUP) * (0.5 + 0.5 * float(np.cos(np.pi * spent)))
        loss = cross_entropy(model(images), masks).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if time.monotonic() - said > 30:
            said = time.monotonic()
            logger.info("%3.0f %%  step %d  loss %.4f", 100 * spent, step, float(loss.detach()))
    model.eval()
    return step


@torch.no_grad()
def evaluate(model: Segmenter, samples: Composites) -> tuple[float, list[float]]:
    """Return the mean and the per-class IoU of ``model`` on whole composites."""
    totals = torch.zeros(2 * len(model.config.classes), dtype=torch.float64)
    for sample in samples:
        image = to_tensor(sample.image)[None]
        totals += intersections_and_unions(model(image), sample.target["mask"][None])[0]
    both, either = totals.chunk(2)
    return mean_iou(totals), (both / either.clamp_min(1)).tolist()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m mpa_plugins.seg.train_head")
    parser.add_argument("--data", type=Path, required=True, help="photos to paste on")
    parser.add_argument("--test", type=Path, help="other photos, to measure the head on")
    parser.add_argument("--stamps", type=Path, default=Path(STAMPS))
    parser.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--hours", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        _run(args)
    except MPAError as error:
        parser.exit(1, f"{error}\n")


def _run(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    if args.hours <= 0:
        raise TrainingError(f"--hours {args.hours}: expected a positive number of hours")
    model = Segmenter(HeadConfig(backbone=args.backbone, classes=tuple(CLASSES)))
    photos = PhotoFolder(args.data, min_side=args.crop, cache_mib=4096)
    source = FreshComposites(photos, load_stamps(args.stamps, "train"), args.crop, args.seed)
    steps = train(model, source, batch=args.batch, lr=args.lr, hours=args.hours)
    save_head(model, args.out)
    logger.info("%d steps; written: %s", steps, args.out)
    if args.test is not None:
        whole = [sample for _, sample in undamaged(WholePhotos(args.test))]
        samples = Composites(whole, load_stamps(args.stamps, "test"), seed=args.seed)
        mean, each = evaluate(model, samples)
        names = ", ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, each, strict=True))
        logger.info("mIoU %.4f (%s)", mean, names)


if __name__ == "__main__":
    main()
