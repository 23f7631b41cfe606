"""What test_parallel.py runs on two processes, all in one launch, for starting takes longest:

    accelerate launch … two_processes.py OUT PHOTOS BASE

Each run's checkpoint is left below OUT; the tests compare them with runs of one process. On stdout
is what the command line says.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from mpa_core.cli.main import main as cli
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.engine.parallel import average_gradients, make_accelerator
from mpa_core.training.engine.progress import Progress
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.base import RunSettings, load_config
from mpa_core.training.settings.path import load_path_config

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
# Stage 1b has all that stage 1a draws and steps, and the discriminator.
NOISY = (*COMMON, "adversarial={widths: [4, 4, 6, 6]}", "budget.steps=4")
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


def path_config(base):
    """Stage 2 on the folder ``base``: the mse path, whose recipe needs no network."""
    settings = [item for item in COMMON if not item.startswith(("model", "run.validate_side"))]
    settings += ["budget.hours=null", "budget.steps=4"]
    defaults = load_recipe("mse").defaults
    return load_path_config("mse", str(base), None, settings, defaults=defaults)


def main() -> None:
    out, photos, base = map(Path, sys.argv[1:])
    accelerator = make_accelerator(RunSettings(device="cpu"))
    rank = accelerator.process_index
    facts = {"gradients": average_of_partial_gradients(accelerator)}

    def train_base(name, *settings, **options):
        outcome = train(
            Run(out / name, photos, photos),
            load_config(None, settings),
            accelerator=accelerator,
            **options,
        )
        return outcome.step, outcome.reason, outcome.is_main

    facts["straight"] = train_base("straight", *NOISY)
    facts["stopped"] = train_base("resumed", *NOISY, progress=StopAfter(2))
    facts["resumed"] = train_base("resumed", *NOISY, resume=True)
    facts["plain"] = train_base("plain", *WITHOUT_NOISE)
    train(Run(out / "path", photos), path_config(base), accelerator=accelerator)
    # Last, for it parts the processes. Without run.device, so that Accelerate chooses.
    settings = [f"--set={item}" for item in COMMON if not item.startswith(("model", "run.device"))]
    facts["exit"] = cli([
        "train", "base", "--preset", "mpa-tiny", "--data", str(photos), "--out",
        str(out / "command"), "--format", "json", *settings, "--steps", "1",
    ])  # fmt: skip
    (out / f"facts-{rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
