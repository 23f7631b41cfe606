"""Time one stage-1 training step against its arithmetic.

The arithmetic (multiplications and additions of all matrix products and convolutions, forward and
backward) is counted by torch's FlopCounterMode; the rate it could run at is that of a large matrix
product timed in the same process, in turns with the steps, so that a busy machine slows both.

    python examples/benchmarks/train_step.py --preset mpa-small --threads 1 2
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mpa_core.coding.model import MPAModel
from mpa_core.tasks.perceptual import build_distance
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data.photos import Batch
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.runs.base import build_base_trainer
from mpa_core.training.settings.base import load_config


def make_stage(args: argparse.Namespace, folder: Path) -> Trainer[Batch, MPAModel]:
    """A trainer on photos, or on noise where there are none."""
    if args.data is None:
        pixels = np.random.default_rng(0).integers(0, 256, (args.crop, args.crop, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "noise.png")
    config = load_config(
        None,
        [
            f"model={args.preset}",
            f"data.crop={args.crop}",
            f"data.batch={args.batch}",
            "loss.perceptual=null",
            "loss.quality_sampling=per_image",
            *args.overrides,
        ],
    )
    photos = PhotoFolder(args.data or folder, min_side=args.crop, cache_mib=4096)
    list(photos)  # read before the clock starts
    return build_base_trainer(config, photos, make_accelerator(config.run))


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def perceptual_seconds(name: str, batch: int, crop: int) -> float:
    """What a distance adds to a step, forward and backward."""
    distance = build_distance(name)
    x = torch.rand(batch, 3, crop, crop)
    x_hat = x.clone().requires_grad_()
    return statistics.median(seconds(lambda: distance(x, x_hat).sum().backward()) for _ in range(3))


def main() -> None:
    """Print one line per thread count, and one per perceptual distance asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mpa-small")
    parser.add_argument("--data", type=Path, help="folder of photos (default: noise)")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--perceptual", nargs="*", default=[], help="distances to time as well")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--profile", action="store_true", help="print the dearest operations")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as folder:
        stage = make_stage(args, Path(folder))
    print(
        f"{args.preset}: {sum(p.numel() for p in stage.objective.module.parameters()):,} parameters"
    )
    counter = FlopCounterMode(display=False)
    with counter:
        stage.train_step(0, 0.5)
    flops = counter.get_total_flops()
    print(f"arithmetic of a step, {args.batch} crops of {args.crop}: {flops / 1e9:.1f} GFLOP")
    matrix = torch.randn(1024, 1024)
    for threads in args.threads:
        torch.set_num_threads(threads)
        rates, steps, inputs = [], [], []
        stage.train_step(1, 0.5)
        matrix @ matrix
        for step in range(2, 2 + args.steps):
            rates.append(10 * 2 * 1024**3 / seconds(lambda: [matrix @ matrix for _ in range(10)]))
            inputs.append(seconds(lambda at=step: stage.source.batch(at)))
            steps.append(seconds(lambda at=step: stage.train_step(at, 0.5)))
        step, rate = statistics.median(steps), statistics.median(rates)
        print(
            f"{threads} thread(s): {step:.3f} s a step (best {min(steps):.3f}), of it the batch "
            f"{statistics.median(inputs):.4f}; sgemm {rate / 1e9:.0f} GFLOP/s; "
            f"{step * rate / flops:.2f} x the arithmetic"
        )
        for name in args.perceptual:
            cost = perceptual_seconds(name, args.batch, args.crop)
            print(f"{threads} thread(s): {name} adds {cost:.3f} s")
    if args.profile:
        with profile(activities=[ProfilerActivity.CPU]) as found:
            stage.train_step(2, 0.5)
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


if __name__ == "__main__":
    main()
