"""A stage-2 run as a folder: starting it, resuming it, exporting the path it trained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpa_core import checkpoints
from mpa_core.errors import BaseMismatchError, CheckpointError, ConfigError, TrainingError
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.registry import registry
from mpa_core.runtime.surroundings import making_weights
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.data.latents import Latents, LatentStore
from mpa_core.training.data.samples import PathSource
from mpa_core.training.engine.checkpoint import SavedState, has_checkpoint, load_latest
from mpa_core.training.engine.loop import CHECKPOINTS, Outcome
from mpa_core.training.engine.parallel import joined
from mpa_core.training.engine.process import process_settings
from mpa_core.training.objectives.path import PATH, Stage2
from mpa_core.training.runs.folder import (
    describe,
    open_run,
    run_stage,
    warn_of_other_data,
)
from mpa_core.training.runs.side_start import init_from_main
from mpa_core.training.settings.path import FIXED, PathTrainConfig
from mpa_core.training.validation.path import PathValidator

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpa_core.training.engine.progress import Progress

STAGE = "stage2"
LATENTS = "latents"
"""Folder in a run's folder for the latents, unless ``cache.dir`` names another."""

INIT_PICTURES = 8
"""``init.mlp=main`` is fitted to this many pictures, of all qualities."""

_PROBES = 8


@dataclass(frozen=True)
class PathRun:
    """Where a stage-2 run reads and writes."""

    folder: Path
    data: Path
    val: Path | None = None
    start_from: str | None = None
    """What a new run's path begins with: a registered path with weights for the base, a path
    folder, or another run's folder."""


def train_path(
    run: PathRun,
    config: PathTrainConfig,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    accelerator: Accelerator | None = None,
) -> Outcome:
    """Train a path on a frozen base, from nothing or from the newest checkpoint in ``run.folder``.

    For the time of the run torch's thread count, TF32 switch and denormal mode are the run's.
    ``accelerator``: of the processes that train together; None makes one for this run, which
    leaves them at its end.

    Raises:
        PathNotFoundError, PluginError: the path or its recipe cannot be had.
        CheckpointError: the base cannot be loaded, or there is nothing to resume from.
        BaseMismatchError: ``resume``, and the base is another one than the run began with.
        TrainingError: the folder holds a run and ``resume`` is not set; fixed settings are others;
            the budget is spent; the path has no recipe; no sample can be used; the training
            diverged; the device, the precision or the number of processes does not fit; or the
            base was changed by foreign code.
        ConfigError: settings that do not fit the base, the path or the recipe.
        MissingDependencyError: a model of the recipe or the loss, Accelerate or TensorBoard is not
            on this machine.
        OutputError: the folder cannot be written.
    """
    with process_settings(config.run), joined(config.run, accelerator) as processes:
        return _train(run, config, resume, progress, processes)


def _train(
    run: PathRun,
    config: PathTrainConfig,
    resume: bool,
    progress: Progress | None,
    accelerator: Accelerator,
) -> Outcome:
    inputs = [folder for folder in (run.data, run.val) if folder is not None]
    state = open_run(run.folder, config, FIXED, inputs=inputs, resume=resume)
    accelerator.wait_for_everyone()  # all have looked before the main process writes
    base = checkpoints.load_base(config.base)
    _check(config, base)
    if state is not None:
        require_base(run.folder, state, base, "give the base it began with, or begin with --from")
    stage = build_stage(config, base, run.data, accelerator, latents=run.folder / LATENTS)
    try:
        meta = _describe(run, stage, base)
        if state is not None:
            stage.load(state.tensors, state.meta["stage"])
            meta["start_from"] = state.meta["start_from"]
            warn_of_other_data(state, meta, "data")
        elif run.start_from is not None:
            stage.start_from(_start_path(run.start_from, config, base))
        elif config.init.mlp == "main":
            _init_from_main(stage)
        validator = None
        if run.val is not None and accelerator.is_main_process:
            validator = PathValidator(stage, stage.recipe.dataset(run.val, "val", None), run.folder)
        outcome = run_stage(
            stage,
            run.folder,
            config,
            accelerator,
            state=state,
            steps_per_epoch=stage.source.steps_per_epoch,
            meta=meta,
            validate=validator,
            progress=progress,
        )
        if stage.base_fingerprint() != base.fingerprint:
            raise TrainingError(
                "the base changed during training, so nothing learned is of use; a recipe or a "
                "path must not write to the base's tensors: repair the plugin"
            )
        return outcome
    finally:
        stage.latents.close()


def require_base(folder: Path, state: SavedState, base: checkpoints.LoadedBase, fix: str) -> None:
    """Raise :class:`BaseMismatchError` unless the run in ``folder`` began on ``base``."""
    began = state.meta["base"]
    if began["fingerprint"] != base.fingerprint:
        raise BaseMismatchError(
            f"{folder}: trained on base {began['name']!r} ({began['fingerprint'][:16]}…), found "
            f"{base.name!r} ({base.fingerprint[:16]}…); {fix}"
        )


def build_stage(
    config: PathTrainConfig,
    base: checkpoints.LoadedBase,
    data: Path,
    accelerator: Accelerator,
    *,
    latents: Path,
) -> Stage2:
    """Recipe, data, path and latents as ``config`` says, ready for the first step. Seeds torch.

    Latents are kept below ``latents``, unless ``cache.dir`` names another folder; who calls this
    closes ``stage.latents``. Raises what :func:`train_path` does.
    """
    recipe = load_recipe(config.name)(config.recipe, data=config.data, seed=config.seed)
    dataset = recipe.dataset(data, "train", config.data.crop)
    if not len(dataset):
        raise TrainingError(f"{data}: the recipe's data set is empty; give another folder")
    torch.manual_seed(config.seed)
    recipe.setup(accelerator.device)
    levels = base.config.quality_levels
    source = PathSource(dataset, config.data, config.loss, levels=levels, seed=config.seed)
    limit = 0 if recipe.random else int(config.cache.limit_gib * 2**30)
    store = None
    if limit:
        root = Path(config.cache.dir).expanduser() if config.cache.dir else latents
        side = config.data.crop // base.config.latent_stride
        shape = (base.config.latent_channels, side, side)
        store = LatentStore(root / base.fingerprint[:16], shape, limit)
    path = build_path(config, base)
    kept = Latents(base.model, store, batched=config.cache.batched)
    return Stage2(config, base.model, path, recipe, source, kept, accelerator)


def build_path(config: PathTrainConfig, base: checkpoints.LoadedBase) -> TaskPath:
    """A fresh path of the class registered as ``config.name``; random weights from the seed.

    Raises :class:`ConfigError` if ``config.path`` does not fit the class's ``Config``.
    """
    path_class = registry().load_class(config.name)
    settings = path_class.Config.parse(config.path, source="settings of the path")
    with making_weights(config.seed):
        return path_class(base.config.decoder_path_stages, settings, base.config.quality_levels)


def averaged_path(folder: Path, base: checkpoints.LoadedBase) -> TaskPath:
    """The averaged weights of the newest checkpoint of the run in ``folder``, in eval mode.

    Raises :class:`CheckpointError` if there is none, or it does not fit its own settings.
    """
    state = load_latest(folder / CHECKPOINTS)
    if state.meta.get("kind") != STAGE:
        raise CheckpointError(
            f"{folder} is a run of {state.meta.get('kind')!r}, expected one of mpa train path"
        )
    config = PathTrainConfig.parse(state.meta["config"], source=str(state.folder))
    path = build_path(config, base)
    tensors = {
        name[len(prefix) :]: value
        for prefix in (PATH, "average.")  # buffers and all, then the averages over them
        for name, value in state.tensors.items()
        if name.startswith(prefix)
    }
    checkpoints.load_into(path, tensors, str(state.folder))
    return path.eval().requires_grad_(False)


def _check(config: PathTrainConfig, base: checkpoints.LoadedBase) -> None:
    stride, levels = base.config.hyper_stride, base.config.quality_levels
    if config.data.crop % stride:
        wanted = max(1, round(config.data.crop / stride)) * stride
        raise ConfigError(
            f"data.crop {config.data.crop} is not a multiple of {stride}, which base "
            f"{base.name!r} needs; take {wanted}"
        )
    if len(config.loss.rate_lambdas) != levels:
        raise ConfigError(
            f"{len(config.loss.rate_lambdas)} loss.rate_lambdas for the {levels} quality levels "
            f"of base {base.name!r}; give {levels}"
        )


def _init_from_main(stage: Stage2) -> None:
    """Fit to the first pictures, one at each quality in turn."""
    levels = stage.model.config.quality_levels
    samples = stage.source.samples.spread(INIT_PICTURES)
    quality = torch.tensor([float(1 + i % levels) for i in range(INIT_PICTURES)])
    y_hat = stage.latents_of(samples, quality)
    init_from_main(stage.path, stage.model, y_hat, quality.to(y_hat.device))
    stage.average.load(stage.trained.parameters, updates=0)


def _start_path(source: str, config: PathTrainConfig, base: checkpoints.LoadedBase) -> TaskPath:
    folder = Path(source).expanduser()
    bare = checkpoints.is_bare(source)
    if not bare and has_checkpoint(folder / CHECKPOINTS):
        return averaged_path(folder, base)
    if bare or not (folder / checkpoints.PATH_CONFIG).is_file():
        found = registry().get(source).spec.bundled_weights(base.name)
        if found is None:
            raise TrainingError(
                f"--from {source}: the plugin has no weights for base {base.name!r}; give the "
                "folder of a path or of a run"
            )
        folder = found
        checkpoints.warn_of_folder(source, checkpoints.PATH_CONFIG)
    return checkpoints.load_path(folder).build(registry().load_class(config.name))


def _describe(run: PathRun, stage: Stage2, base: checkpoints.LoadedBase) -> dict[str, Any]:
    config, samples = stage.config, stage.source.samples
    probes = samples.spread(min(_PROBES, len(samples)))
    digest = hashlib.sha256(b"".join(probe.image.tobytes() for probe in probes)).hexdigest()
    path = registry().get(config.name)
    return describe(
        STAGE,
        config,
        stage.accelerator,
        base={"name": base.name, "fingerprint": base.fingerprint},
        plugin={"distribution": path.distribution, "version": path.version},
        recipe=path.spec.recipe,
        start_from=None if run.start_from is None else Path(run.start_from).name,
        data=f"{len(samples)} samples, {digest[:12]}",
    )
