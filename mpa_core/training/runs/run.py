"""A training run as a folder: starting it, or resuming it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.training.data.loader import lost_workers_named
from mpa_core.training.engine.loop import RunResult
from mpa_core.training.engine.parallel import joined
from mpa_core.training.engine.process import process_settings
from mpa_core.training.runs.base import BaseJob
from mpa_core.training.runs.folder import describe, open_run, run_loop, warn_of_other_data
from mpa_core.training.runs.job import Job
from mpa_core.training.runs.path import PathJob
from mpa_core.training.settings.base import TrainConfig
from mpa_core.training.settings.path import PathTrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpa_core.training.engine.progress import Progress


@dataclass(frozen=True)
class Run:
    """The places that a run reads from and writes to."""

    folder: Path
    """Folder of the run, for settings, metrics and checkpoints."""
    data: Path
    """Folder of photos, or the place of the data as the path's recipe takes it."""
    val: Path | None = None
    """The same for validation; None for no validation."""
    start_from: str | None = None
    """A base or a path (bundled id or folder), or another run's folder, whose weights a new run
    begins with."""


def train(
    run: Run,
    config: TrainConfig | PathTrainConfig,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
) -> RunResult:
    """Train a base codec, or a path on a frozen base, until the budget ends or a signal comes.

    During the run torch's thread count, TF32 switch and denormal mode are the run's.

    Args:
        run: folders.
        config: settings; their class says what is trained: a base (stage 1a, or 1b where
            ``adversarial`` is set) or a path (stage 2).
        resume: go on from the newest checkpoint in ``run.folder`` instead of beginning there.
        progress: shows the run's progress; None shows it on stderr.
        accelerator: the processes that train together; None makes one for this run, which separates
            them at its end.

    Raises:
        TrainingError: ``resume`` is set and the run is of another version of the engine, or differs
            in settings that fix its state or the order of its data; or the budget is spent; no
            picture can be used; the training diverged; a process that makes batches was ended;
            ``start_from`` does not fit; the path has no recipe; the device, the precision or the
            number of processes does not fit; or a path's base was changed by foreign code.
        CheckpointError: nothing to resume from, or the base or ``start_from`` cannot be loaded.
        BaseMismatchError: ``resume`` is set, and the run began on another base.
        PathNotFoundError, PluginError: the path or its recipe is not available.
        ConfigError: settings that do not fit the base, the path or the recipe.
        MissingDependencyError: a network of the loss or the recipe, Accelerate or TensorBoard is
            not on this machine.
        OutputError: the folder cannot be written, or holds a run and ``resume`` is not set.
    """
    with process_settings(config.run), joined(config.run, accelerator) as processes:
        inputs = [folder for folder in (run.data, run.val) if folder is not None]
        state = open_run(run.folder, config, inputs=inputs, resume=resume)
        processes.wait_for_everyone()  # all have checked the folder before the main process writes
        job = _job(run, config, processes)
        try:
            if state is not None:
                job.require(run.folder, state)
            job.prepare()
            meta = describe(job.trainer, **job.facts(), **job.data())
            if state is not None:
                job.trainer.load(state.tensors, state.meta["stage"])
                meta["start_from"] = state.meta.get("start_from")
                warn_of_other_data(state, job.data())
            elif run.start_from is not None:
                meta["start_from"] = Path(run.start_from).name
                job.trainer.start_from(job.weights_of(run.start_from))
            else:
                job.begin()
            validate = job.validator(run.folder)
            meta["validation"] = job.validated
            job.try_out(validate)
            with lost_workers_named():
                outcome = run_loop(
                    job.trainer,
                    run.folder,
                    state=state,
                    meta=meta,
                    validate=validate,
                    progress=progress,
                )
            job.check_end()
            return outcome
        finally:
            job.close()


def _job(
    run: Run, config: TrainConfig | PathTrainConfig, accelerator: Accelerator
) -> Job[Any, Any]:
    # Only the main process validates.
    val = run.val if accelerator.is_main_process else None
    if isinstance(config, TrainConfig):
        return BaseJob(config, run.data, val, accelerator)
    return PathJob(config, run.data, val, accelerator, run.folder)
