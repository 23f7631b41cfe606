"""What test_parallel.py runs on two processes: ``accelerate launch … two_processes.py OUT PHOTOS``.

Each run's checkpoint is left below OUT; the tests compare them with runs of one process.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from mpa_core.training.config import RunSettings, load_config
from mpa_core.training.parallel import average_gradients, make_accelerator
from mpa_core.training.progress import Progress
from mpa_core.training.runs import BaseRun, train_base

COMMON = (
    "model=mpa-tiny",
    "data.crop=64",
    "data.batch=4",
    "data.shards=2",
    "loss.perceptual=null",
    "loss.quality_sampling=per_image",
    "optim.lr=1e-3",
    "run.device=cpu",
    "run.threads=1",
    "run.log_every=1",
    "run.validate_images=1",
    "run.validate_side=64",
)
NOISY = (*COMMON, "budget.steps=4")
WITHOUT_NOISE = (*COMMON, "model.drop_path=0", "optim.trainable=base.g_s.*", "budget.steps=4")


class StopAfter(Progress):
    """Sends this process SIGTERM when the metrics of a step are shown: on the main process only."""

    def __init__(self, step: int) -> None:
        super().__init__(1e9)
        self.step = step

    def update(self, fraction, line):
        if line["step"] == self.step:
            signal.raise_signal(signal.SIGTERM)


def average_of_partial_gradients(accelerator) -> list:
    """Rank 0 has gradients for the first two of three parameters, rank 1 for the second."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    if accelerator.process_index == 0:
        parameters[0].grad = torch.tensor([2.0, 4.0])
    parameters[1].grad = torch.full((2,), float(accelerator.process_index))
    average_gradients(accelerator, parameters)
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


def main() -> None:
    out, photos = map(Path, sys.argv[1:])
    accelerator = make_accelerator(RunSettings(device="cpu"))
    rank = accelerator.process_index
    facts = {"gradients": average_of_partial_gradients(accelerator)}

    def train(name, *settings, **options):
        outcome = train_base(
            BaseRun(out / name, photos, photos),
            load_config(None, settings),
            accelerator=accelerator,
            **options,
        )
        return outcome.step, outcome.reason, outcome.is_main

    facts["straight"] = train("straight", *NOISY)
    facts["stopped"] = train("resumed", *NOISY, progress=StopAfter(2))
    facts["resumed"] = train("resumed", *NOISY, resume=True)
    facts["plain"] = train("plain", *WITHOUT_NOISE)
    (out / f"facts-{rank}.json").write_text(json.dumps(facts))
    accelerator.end_training()


if __name__ == "__main__":
    main()
