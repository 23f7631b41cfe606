"""What runs of every stage do with their folder, their settings and their budget."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpa_core.config import StrictModel
from mpa_core.errors import CheckpointError, TrainingError
from mpa_core.io.folders import claim_output
from mpa_core.training.engine.board import Board
from mpa_core.training.engine.checkpoint import SavedState, has_checkpoint, load_latest
from mpa_core.training.engine.loop import CHECKPOINTS, Outcome, Stage, TrainingLoop
from mpa_core.training.settings.base import BudgetSettings, TrainConfig
from mpa_core.training.settings.path import PathTrainConfig
from mpa_core.training.settings.trees import changed_keys, is_below, save_config

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpa_core.training.engine.progress import Progress

logger = logging.getLogger(__name__)


def stored_config(folder: Path) -> dict[str, Any]:
    """The settings of the run in ``folder``, as its newest checkpoint records them."""
    config = load_latest(folder / CHECKPOINTS).meta["config"]
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: its newest checkpoint records no settings")
    return config


def open_run(
    folder: Path,
    config: StrictModel,
    fixed: Sequence[str],
    *,
    inputs: Collection[Path],
    resume: bool,
) -> SavedState | None:
    """Make the folder of a new run, or read the newest checkpoint of the one that goes on.

    ``fixed``: dotted keys of the settings that must not change then. ``inputs``: the folders of
    photos, which must not hold the run's own pictures; see :func:`claim_output`.

    Raises:
        TrainingError: a new run where there is one, or other values for fixed settings.
        CheckpointError: nothing to resume from.
        OutputError: the folder cannot be made, or is one of ``inputs``.
    """
    checkpoints = folder / CHECKPOINTS
    if not resume:
        if has_checkpoint(checkpoints):
            raise TrainingError(
                f"{folder}: a run is already in it; go on with --resume, or give another folder"
            )
        claim_output(folder, inputs)
        return None
    state = load_latest(checkpoints)
    stored = type(config).parse(state.meta["config"], source=str(state.folder))
    changed = [key for key in changed_keys(stored, config) if is_below(key, fixed)]
    if changed:
        raise TrainingError(
            f"{folder}: cannot resume with other settings for {', '.join(changed)}; leave them out "
            "(the run's own are used), or start a new run in another folder"
        )
    return state


def run_stage(
    stage: Stage,
    folder: Path,
    config: TrainConfig | PathTrainConfig,
    accelerator: Accelerator,
    *,
    state: SavedState | None,
    steps_per_epoch: int,
    meta: Mapping[str, Any],
    validate: Callable[[int], list[dict[str, float]]] | None,
    progress: Progress | None,
) -> Outcome:
    """Train ``stage`` for what is left of its budget.

    Args:
        stage: at its start, or as ``state`` has it.
        folder: of the run.
        config: its settings, which are written into it.
        accelerator: the processes.
        state: the checkpoint a run goes on from.
        steps_per_epoch: of its data.
        meta: what is recorded about it.
        validate: as for :class:`TrainingLoop`.
        progress: None shows it as usual.

    Raises:
        TrainingError: the budget is already spent; the training diverged.
        MissingDependencyError: TensorBoard is asked for and not installed.
        OutputError: the folder cannot be written.
    """
    is_main = bool(accelerator.is_main_process)
    start = (0, 0.0)
    if state is not None:
        start = (int(state.meta["step"]), float(state.meta["elapsed"]))
    board = Board(folder, start[0]) if config.run.tensorboard and is_main else None
    try:
        loop = TrainingLoop(
            stage,
            folder,
            config.run,
            accelerator,
            steps=budget_steps(config.budget, steps_per_epoch),
            hours=config.budget.hours,
            meta=meta,
            validate=validate,
            start=start,
            progress=progress,
            board=board,
        )
        require_budget(folder, loop)
        if is_main:
            save_config(config, folder / "config.yaml")
        return loop.run()
    finally:
        if board is not None:
            board.close()


def describe(
    kind: str, config: StrictModel, accelerator: Accelerator, **rest: Any
) -> dict[str, Any]:
    """What every checkpoint of a run records about it; ``rest`` is the stage's own."""
    return {
        "kind": kind,
        "config": config.model_dump(mode="json"),
        **rest,
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "precision": accelerator.mixed_precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def warn_of_other_data(state: SavedState, meta: Mapping[str, Any], key: str) -> None:
    """Say so where ``key`` of what is recorded, a digest of the data, is not what it was."""
    if state.meta.get(key) != meta[key]:
        logger.warning(
            "the %s are not those this run began with (%s, now %s); going on with these",
            key, state.meta.get(key), meta[key],
        )  # fmt: skip


def budget_steps(budget: BudgetSettings, steps_per_epoch: int) -> int | None:
    """The budget in steps, the smaller of ``steps`` and ``epochs``; None if neither is given."""
    found = [budget.steps] if budget.steps is not None else []
    if budget.epochs is not None:
        found.append(max(1, round(budget.epochs * steps_per_epoch)))
    return min(found) if found else None


def require_budget(folder: Path, loop: TrainingLoop) -> None:
    """Raise :class:`TrainingError` if nothing of the budget is left."""
    if loop.fraction >= 1.0:
        raise TrainingError(
            f"{folder}: its budget is already spent ({loop.step} steps, "
            f"{loop.elapsed / 3600:.2f} hours); give a larger one, for example --resume --hours "
            f"{loop.elapsed / 1800:.1f}"
        )
