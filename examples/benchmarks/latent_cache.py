"""What keeping the latents saves: seconds of a stage-2 step with and without, in one run.

    python examples/benchmarks/latent_cache.py PHOTOS --path cls --steps 8

For each step, in turns and on the same batch: the encoder runs every time; it runs and its latents
are written; they are read back. Seconds are processor time of one thread, so that a busy machine
can be measured on as well. Read-back comes from the operating system's memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mpa_core import checkpoints
from mpa_core.paths.path import TaskPath
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.data.samples import PathStep
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.runs.path import build_path_trainer
from mpa_core.training.settings.path import load_path_config

MODES = ("encoder in the loop", "cold cache", "warm cache")


def timed(stage: Trainer[PathStep, TaskPath], step: int) -> tuple[float, float]:
    """Processor time of one step, and its loss."""
    began = time.process_time()
    record = stage.train_step(step, 0.5)
    return time.process_time() - began, float(record.scalars["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--path", default="cls")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    defaults = load_recipe(args.path).defaults
    with tempfile.TemporaryDirectory() as folder:
        stages = {}
        for mode in MODES:
            limit = "cache.limit_gib=" + ("0" if mode == MODES[0] else "4")
            config = load_path_config(
                args.path, args.base, None, [*args.overrides, limit], defaults=defaults
            )
            stages[mode] = build_path_trainer(
                config,
                checkpoints.load_base(args.base),
                args.photos,
                make_accelerator(config.run),
                latents=Path(folder),
            )
        # The third reads what the second has just written.
        stages[MODES[2]].objective.latents = stages[MODES[1]].objective.latents
        for stage in stages.values():
            stage.train_step(args.steps, 0.5)  # first calls are slower
        seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
        for step in range(args.steps):
            for stage in stages.values():
                stage.source.batch(step)  # photos are read and decoded before the clock starts
            found = {mode: timed(stage, step) for mode, stage in stages.items()}
            assert len({loss for _, loss in found.values()}) == 1, "the losses differ"
            for mode, (spent, _) in found.items():
                seconds[mode].append(spent)
        kept = stages[MODES[1]].objective.latents
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.latents"))
        records = len(kept.store) if kept.store is not None else 0
        kept.close()
    median = {mode: statistics.median(values) for mode, values in seconds.items()}
    print(
        json.dumps(
            {
                "path": args.path,
                "base": args.base,
                "batch": config.data.batch,
                "crop": config.data.crop,
                "steps": args.steps,
                "seconds per step": {mode: round(value, 4) for mode, value in median.items()},
                "without over warm": round(median[MODES[0]] / median[MODES[2]], 3),
                "KiB per picture and quality": round(size / max(records, 1) / 1024, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
