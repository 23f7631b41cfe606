"""The recipe in a few steps of real training."""

from __future__ import annotations

import torch
from rich.console import Console

from mpa_core import checkpoints
from mpa_core.tasks.recipe import Recipe
from mpa_core.testing.check import CheckFailed, fail_unless, listed
from mpa_core.testing.subject import PathUnderTest
from mpa_core.training.engine.checkpoint import SavedState, load_latest
from mpa_core.training.engine.loop import CHECKPOINTS
from mpa_core.training.engine.parallel import joined
from mpa_core.training.engine.process import process_settings
from mpa_core.training.engine.progress import Progress
from mpa_core.training.objectives.path import PathObjective
from mpa_core.training.runs.path import build_path_trainer
from mpa_core.training.runs.run import Run, train
from mpa_core.training.runs.trial import try_step
from mpa_core.training.settings.path import PathTrainConfig

STEPS = 12
"""Made on one batch to see its loss fall."""

_TASK_ALONE = ("loss.distortion_weight=0", "loss.task_weight=1", "loss.ratio_weight=0")
_SAME_BATCH = (
    "data.batch=1",
    "data.flip=false",
    "loss.full_share=1",
    "optim.lr=3e-3",
    "loss.quality_values=integer",
)


def check_loss_falls(path: PathUnderTest) -> None:
    """Check that on one picture, again and again, the task's loss falls."""
    who = path.require_recipe()
    _ = path.path_class
    task = type(path.set_up.recipe).task_loss is not Recipe.task_loss
    config = path.training(STEPS, *_SAME_BATCH, *(_TASK_ALONE if task else ()))
    first, last = _first_and_last(path, config)
    fail_unless(
        first == first and last < first,
        f"{who}: {STEPS} steps on one picture take the loss from {first:.6g} to {last:.6g}, where "
        "it should fall; see that task_loss() is low where the task is done well, and that its "
        "gradient is its own",
    )


def check_resumes(path: PathUnderTest) -> None:
    """Check that a training that was stopped and goes on ends with the same weights."""
    who = path.require_recipe()
    _ = path.set_up, path.path_class
    straight = _trained(path, "straight", 2)
    _trained(path, "stopped", 1)
    resumed = _trained(path, "stopped", 2, resume=True)
    different = {
        name
        for name, value in straight.tensors.items()
        if name not in resumed.tensors or not torch.equal(value, resumed.tensors[name])
    }
    fail_unless(
        not different,
        f"{who}: stopped after one step and resumed, it ends with other weights "
        f"({listed(different)}); keep nothing from step to step in the recipe or the data set, "
        "and draw at random from torch's generator alone, which is seeded for every step",
    )


def _first_and_last(path: PathUnderTest, config: PathTrainConfig) -> tuple[float, float]:
    """Return the loss of the first step's batch before the steps and after them."""
    base = checkpoints.load_base(config.base)
    with (
        process_settings(config.run),
        torch.random.fork_rng(devices=[]),
        joined(config.run) as accelerator,
    ):
        trainer = build_path_trainer(config, base, path.data, accelerator, latents=path.folder)
        objective = trainer.objective
        if not isinstance(objective, PathObjective):  # of this kind by what built it
            raise CheckFailed("the training of a path has another objective")
        try:
            first = float(try_step(objective, trainer.source))
            for _ in range(STEPS):
                trainer.train_step(0, 0.0)
            last = float(try_step(objective, trainer.source))
        finally:
            trainer.close()
            objective.latents.close()
    return first, last


def _trained(path: PathUnderTest, name: str, steps: int, *, resume: bool = False) -> SavedState:
    run = Run(path.folder / name, path.data)
    train(run, path.training(steps), resume=resume, progress=Progress(1.0, Console(quiet=True)))
    return load_latest(run.folder / CHECKPOINTS)
