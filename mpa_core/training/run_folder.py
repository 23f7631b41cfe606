"""What runs of every stage do with their folder, their settings and their budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpa_core.config import StrictModel
from mpa_core.errors import CheckpointError, OutputError, TrainingError
from mpa_core.training.checkpoint import SavedState, has_checkpoint, load_latest
from mpa_core.training.config import BudgetSettings, RunSettings
from mpa_core.training.loop import CHECKPOINTS, TrainingLoop
from mpa_core.training.trees import changed_keys, is_below


def stored_config(folder: Path) -> dict[str, Any]:
    """The settings of the run in ``folder``, as its newest checkpoint records them."""
    config = load_latest(folder / CHECKPOINTS).meta["config"]
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: its newest checkpoint records no settings")
    return config


def open_run(
    folder: Path, config: StrictModel, fixed: Sequence[str], *, resume: bool
) -> SavedState | None:
    """Make the folder of a new run, or read the newest checkpoint of the one that goes on.

    ``fixed``: dotted keys of the settings that must not change then.

    Raises:
        TrainingError: a new run where there is one, or other values for fixed settings.
        CheckpointError: nothing to resume from.
        OutputError: the folder cannot be made.
    """
    checkpoints = folder / CHECKPOINTS
    if not resume:
        if has_checkpoint(checkpoints):
            raise TrainingError(
                f"{folder}: a run is already in it; go on with --resume, or give another folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {folder}: {error.strerror or error}; choose another"
            ) from error
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


def prepare_process(settings: RunSettings) -> None:
    """Set torch's thread count and its flush-denormal mode for the process."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # found out and kept now: where denormals are flushed numpy warns about it
    torch.set_flush_denormal(True)


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
