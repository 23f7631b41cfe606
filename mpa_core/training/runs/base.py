"""A training run as a folder: starting it, resuming it, exporting what it learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpa_core.base.tinylic.entropy import CDF_BUFFERS
from mpa_core.checkpoints import is_bare, load_base
from mpa_core.codec import MPACodec
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError, TrainingError
from mpa_core.runtime.surroundings import making_weights
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data.photos import BatchSource
from mpa_core.training.engine.checkpoint import checkpoint_name, has_checkpoint, load_latest
from mpa_core.training.engine.freezing import entropy_is_frozen, freeze_all_but
from mpa_core.training.engine.loop import CHECKPOINTS, SAMPLES, Outcome
from mpa_core.training.engine.parallel import joined
from mpa_core.training.engine.process import process_settings
from mpa_core.training.objectives.base import Stage1
from mpa_core.training.runs.folder import (
    describe,
    open_run,
    run_stage,
    warn_of_other_data,
)
from mpa_core.training.settings.base import FIXED, TrainConfig
from mpa_core.training.validation.photos import load_validation_photos, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpa_core.checkpoints.meta import StorageType
    from mpa_core.training.engine.progress import Progress

QUANTILE_LIMIT = 1024.0
BISECTIONS = 40


@dataclass(frozen=True)
class BaseRun:
    """Where a stage-1 run reads and writes."""

    folder: Path
    data: Path
    val: Path | None = None
    start_from: str | None = None
    """A base (folder or bundled id) or another run's folder whose weights a new run begins with."""


def train_base(
    run: BaseRun,
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
) -> Outcome:
    """Train a base codec, from nothing or from the newest checkpoint in ``run.folder``.

    For the time of the run torch's thread count, TF32 switch and denormal mode are the run's.
    Stage 1a, or 1b where ``config.adversarial`` is set. ``accelerator``: of the processes that
    train together; None makes one for this run, which leaves them at its end.

    Raises:
        TrainingError: the folder holds a run and ``resume`` is not set; or ``start_from`` has
            another architecture; or ``resume`` is set and the
            settings that fix the state or the order of the photos are others; or the budget is
            already spent; or no photo can be used; or the training diverged; or the device, the
            precision or the number of processes does not fit.
        CheckpointError: nothing to resume from.
        MissingDependencyError: the perceptual distance, Accelerate or TensorBoard is not on this
            machine.
        OutputError: the folder cannot be written.
    """
    with process_settings(config.run), joined(config.run, accelerator) as processes:
        return _train(run, config, resume, progress, processes)


def _train(
    run: BaseRun,
    config: TrainConfig,
    resume: bool,
    progress: Progress | None,
    accelerator: Accelerator,
) -> Outcome:
    inputs = [folder for folder in (run.data, run.val) if folder is not None]
    state = open_run(run.folder, config, FIXED, inputs=inputs, resume=resume)
    accelerator.wait_for_everyone()  # all have looked before the main process writes
    photos = PhotoFolder(run.data, min_side=config.data.crop, cache_mib=config.data.cache_mib)
    held_out = None
    if run.val is not None and accelerator.is_main_process:
        settings = config.run
        held_out = load_validation_photos(run.val, settings.validate_images, settings.validate_side)
    source = BatchSource(
        photos,
        config.data,
        config.loss,
        levels=config.model.quality_levels,
        seed=config.seed,
        device=accelerator.device,
    )
    try:
        stage = _stage_class(config)(config, source, accelerator)
        meta = _describe(config, photos, accelerator)
        if state is not None:
            stage.load(state.tensors, state.meta["stage"])
            warn_of_other_data(state, meta, "photos")
        elif run.start_from is not None:
            _start_from(stage, run.start_from)
        return run_stage(
            stage,
            run.folder,
            config,
            accelerator,
            state=state,
            steps_per_epoch=source.steps_per_epoch,
            meta=meta,
            validate=_validator(stage, held_out, run.folder) if held_out else None,
            progress=progress,
        )
    finally:
        source.close()


def averaged_model(folder: Path) -> MPAModel:
    """The averaged weights of the newest checkpoint in ``folder``, with CDF tables, in eval mode.

    Raises :class:`CheckpointError` if there is none or it does not fit its own settings.
    """
    state = load_latest(folder / CHECKPOINTS)
    config = TrainConfig.parse(state.meta["config"], source=str(state.folder))
    with making_weights():
        model = MPAModel(config.model)
    live = model.state_dict()
    for prefix in ("model.", "average."):
        for name, value in state.tensors.items():
            key = name[len(prefix) :]
            if not name.startswith(prefix):
                continue
            resized = key.endswith(CDF_BUFFERS)
            if key not in live or (live[key].shape != value.shape and not resized):
                raise CheckpointError(f"{state.folder}: {name} does not fit its own settings")
            live[key] = value
    model.load_state_dict(live)
    freeze_all_but(model, config.optim.trainable)
    if not (entropy_is_frozen(model) and model.base.entropy.has_tables):
        settle_quantiles(model)
        model.update()
    return model.eval()


def pretrained(source: str) -> MPAModel:
    """The model of a base (folder or bundled id), or the averaged one of a run's folder.

    Raises :class:`CheckpointError` if ``source`` is neither.
    """
    folder = Path(source).expanduser()
    if not is_bare(source) and has_checkpoint(folder / CHECKPOINTS):
        return averaged_model(folder)
    return load_base(source).model


@torch.no_grad()
def settle_quantiles(model: MPAModel) -> None:
    """Put the entropy bottleneck's quantiles exactly where its density has them, by bisection.

    They were trained along with other weights than the averaged ones, and only ever approach
    their place. Symbols further than ``QUANTILE_LIMIT`` from zero take the range coder's escape.
    """
    prior = model.base.entropy.z_prior
    low = torch.full_like(prior.quantiles, -QUANTILE_LIMIT)
    high = torch.full_like(prior.quantiles, QUANTILE_LIMIT)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = prior.logits(middle, fixed=True) < prior.target
        low = torch.where(below, middle, low)
        high = torch.where(below, high, middle)
    prior.quantiles.copy_((low + high) / 2)


def export_run(
    folder: Path, out: Path, *, name: str | None = None, dtype: StorageType = "float32"
) -> str:
    """Write the run's averaged weights as a base folder and return its fingerprint.

    ``name`` is what the base is called by; the folder's own name if None. Raises
    :class:`CheckpointError` or :class:`OutputError`.
    """
    codec = MPACodec(averaged_model(folder), name=name or out.name)
    codec.save_pretrained(out, dtype=dtype)
    # Rounding to float16 makes another base: what counts is the one in the folder.
    return MPACodec.from_pretrained(out).fingerprint


def _start_from(stage: Stage1, source: str) -> None:
    model = pretrained(source)
    if model.config != stage.config.model:
        raise TrainingError(
            f"{source}: a base of another architecture than the settings' model; leave the model "
            "out of them to take the base's own"
        )
    stage.start_from(model)


def _validator(stage: Stage1, photos: list[Any], folder: Path) -> Any:
    def run(step: int) -> list[dict[str, float]]:
        samples = folder / SAMPLES / checkpoint_name(step)
        wanted = samples if stage.config.run.validate_samples else None
        return validate(stage.averaged_model(), photos, samples=wanted)

    return run


def _stage_class(config: TrainConfig) -> type[Stage1]:
    if config.adversarial is None:
        return Stage1
    from mpa_core.training.objectives.adversary import Stage1b

    return Stage1b


def _describe(
    config: TrainConfig, photos: PhotoFolder, accelerator: Accelerator
) -> Mapping[str, Any]:
    digest = hashlib.sha256(repr(photos.shapes).encode()).hexdigest()
    kind = "stage1a" if config.adversarial is None else "stage1b"
    return describe(kind, config, accelerator, photos=f"{len(photos)} photos, {digest[:12]}")
