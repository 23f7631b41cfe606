"""The folder of a run, its settings, its budget and its record, for any kind of training."""

from __future__ import annotations

import logging
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpa_core.checkpoints import is_bare
from mpa_core.errors import CheckpointError, TrainingError
from mpa_core.io.files import already_exists
from mpa_core.io.folders import claim_output
from mpa_core.training.engine.board import Board
from mpa_core.training.engine.checkpoint import SavedState, has_checkpoint, load_latest
from mpa_core.training.engine.loop import CHECKPOINTS, RunResult, TrainingLoop, Validator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.settings.base import BudgetSettings, RunConfig
from mpa_core.training.settings.trees import changed_keys, is_below, save_config

if TYPE_CHECKING:
    from mpa_core.training.engine.progress import Progress

logger = logging.getLogger(__name__)


ENGINE = 2
"""Version of the engine, which fixes the steps that a run makes from its settings and its seed. A
run is resumed only by its own version: checkpoints record it, except those of version 1."""


def run_meant(source: str | Path) -> Path | None:
    """Return the folder of a run that ``source`` names; None for a bare name or no run.

    :func:`mpa_core.checkpoints.is_bare` tells bare names.
    """
    folder = Path(source).expanduser()
    return folder if not is_bare(source) and has_checkpoint(folder / CHECKPOINTS) else None


def stored_config(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in ``folder``, as its newest checkpoint records them.

    Raises:
        TrainingError: this version of the engine cannot resume that run.
        CheckpointError: there is no intact checkpoint, or it records no settings.
    """
    state = load_latest(folder / CHECKPOINTS)
    _require_engine(folder, state)
    config = state.meta["config"]
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: its newest checkpoint records no settings")
    return config


def open_run(
    folder: Path, config: RunConfig, *, inputs: Collection[Path], resume: bool
) -> SavedState | None:
    """Make the folder of a new run, or read the newest checkpoint of the one to resume.

    Args:
        folder: folder of the run.
        config: settings of the run.
        inputs: folders of photos, which must not hold the run's own pictures; see
            :func:`claim_output`.
        resume: whether to resume the run in the folder.

    Raises:
        TrainingError: the run to resume is of another engine, or has other values for settings that
            are fixed.
        CheckpointError: there is nothing to resume from.
        OutputError: there is a run in the folder already, where a new one is to begin; the folder
            cannot be made, or is one of ``inputs``.
    """
    checkpoints = folder / CHECKPOINTS
    if not resume:
        if has_checkpoint(checkpoints):
            raise already_exists(checkpoints, "go on from it with --resume")
        claim_output(folder, inputs)
        return None
    state = load_latest(checkpoints)
    _require_engine(folder, state)
    stored = type(config).parse(state.meta["config"], source=str(state.folder))
    changed = [
        key
        for key in changed_keys(stored, config)
        if is_below(key, config.fixed) and not is_below(key, config.free)
    ]
    if changed:
        raise TrainingError(
            f"{folder}: cannot resume with other settings for {', '.join(changed)}; leave them out "
            "(the run's own are used), or start a new run in another folder"
        )
    return state


def run_loop(
    trainer: Trainer[Any, Any],
    folder: Path,
    *,
    state: SavedState | None,
    meta: Mapping[str, Any],
    validate: Validator | None,
    progress: Progress | None,
) -> RunResult:
    """Train for the rest of the budget.

    Args:
        trainer: the trainer at its start, or with ``state`` loaded.
        folder: folder of the run; the settings are written into it.
        state: the checkpoint from which a run is resumed, or None.
        meta: facts to record about the run.
        validate: called at intervals.
        progress: None shows it as usual.

    Raises:
        TrainingError: the budget is already spent; the training diverged.
        MissingDependencyError: TensorBoard is asked for and not installed.
        OutputError: the folder cannot be written.
    """
    config, is_main = trainer.config, bool(trainer.accelerator.is_main_process)
    start = (0, 0.0)
    if state is not None:
        start = (int(state.meta["step"]), float(state.meta["elapsed"]))
    board = Board(folder, start[0]) if config.run.tensorboard and is_main else None
    try:
        loop = TrainingLoop(
            trainer,
            folder,
            config.run,
            trainer.accelerator,
            steps=budget_steps(config.budget, trainer.source.steps_per_epoch),
            hours=config.budget.hours,
            meta=meta,
            validate=validate,
            start=start,
            progress=progress,
            board=board,
        )
        require_budget(folder, loop)
        trainer.loader.begin(start[0])  # before there are threads that show the progress
        if is_main:
            save_config(config, folder / "config.yaml")
        return loop.run()
    finally:
        if board is not None:
            board.close()


def describe(trainer: Trainer[Any, Any], **rest: Any) -> dict[str, Any]:
    """Return the facts that every checkpoint of a run records; ``rest`` are those of its kind."""
    accelerator = trainer.accelerator
    return {
        "kind": trainer.objective.kind,
        "engine": ENGINE,
        "config": trainer.config.model_dump(mode="json"),
        **rest,
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "precision": accelerator.mixed_precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def warn_of_other_data(state: SavedState, data: Mapping[str, str]) -> None:
    """Warn where a digest of the data differs from the recorded one."""
    for name, found in data.items():
        if state.meta.get(name) != found:
            logger.warning(
                "the %s are not those this run began with (%s, now %s); going on with these",
                name, state.meta.get(name), found,
            )  # fmt: skip


def _require_engine(folder: Path, state: SavedState) -> None:
    found = state.meta.get("engine", 1)
    if found != ENGINE:
        raise TrainingError(
            f"{folder}: begun by version {found} of the training engine, and this is version "
            f"{ENGINE}, which would not go on as it began; resume it with the mpa-core that began "
            f"it, or begin a new run in another folder with its weights: --from {folder}"
        )


def budget_steps(budget: BudgetSettings, steps_per_epoch: int) -> int | None:
    """Return the budget in steps, the smaller of ``steps`` and ``epochs``; None without either."""
    found = [budget.steps] if budget.steps is not None else []
    if budget.epochs is not None:
        found.append(max(1, round(budget.epochs * steps_per_epoch)))
    return min(found) if found else None


def require_budget(folder: Path, loop: TrainingLoop) -> None:
    """Check that the budget is not spent.

    Raises:
        TrainingError: nothing of it is left.
    """
    if loop.fraction >= 1.0:
        raise TrainingError(
            f"{folder}: its budget is already spent ({loop.step} steps, "
            f"{loop.elapsed / 3600:.2f} hours); give a larger one, for example --resume --hours "
            f"{loop.elapsed / 1800:.1f}"
        )
