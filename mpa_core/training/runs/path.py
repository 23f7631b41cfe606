"""A run of stage 2: a recipe's data, a frozen base, a path on it, its validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from mpa_core import checkpoints
from mpa_core.errors import BaseMismatchError, ConfigError, TrainingError
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.registry import registry
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.tasks.samples import Sample
from mpa_core.training.data.latents import Latents, LatentStore
from mpa_core.training.data.samples import PathStep, SampleBatches
from mpa_core.training.engine.checkpoint import SavedState
from mpa_core.training.engine.loop import Validator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.objectives.path import PathObjective
from mpa_core.training.runs.folder import run_meant
from mpa_core.training.runs.job import Job
from mpa_core.training.runs.side_start import init_from_main
from mpa_core.training.runs.trial import try_metrics, try_step
from mpa_core.training.runs.weights import averaged_path, build_path
from mpa_core.training.settings.path import PathTrainConfig
from mpa_core.training.validation.path import PathValidator

if TYPE_CHECKING:
    from accelerate import Accelerator

LATENTS = "latents"
"""Name of the folder for the latents in a run's folder, unless ``cache.dir`` names another."""

INIT_PICTURES = 8
"""Number of pictures, of all qualities, to which ``init.mlp=main`` is fitted."""

_PROBES = 8


class PathJob(Job[PathStep, TaskPath]):
    """Training of a path on the data of its recipe.

    Args:
        config: settings.
        pictures: the place of the training data, as the recipe takes it.
        val: the same for validation, or None.
        accelerator: the processes.
        folder: folder of the run, for the latents.

    Raises:
        CheckpointError: the base cannot be loaded.
        ConfigError: the settings do not fit it.
    """

    def __init__(
        self,
        config: PathTrainConfig,
        pictures: Path,
        val: Path | None,
        accelerator: Accelerator,
        folder: Path,
    ) -> None:
        self.config = config
        self.pictures = pictures
        self.val = val
        self.accelerator = accelerator
        self.latents = folder / LATENTS
        self.base = checkpoints.load_base(config.base)
        _check(config, self.base)

    def require(self, folder: Path, state: SavedState) -> None:
        """Check that the run began on the same base.

        Raises:
            BaseMismatchError: it began on another one.
        """
        require_base(folder, state, self.base, "give the base it began with, or begin with --from")

    def prepare(self) -> None:
        """Build the recipe, its data set, the path and the store of latents."""
        self.trainer = build_path_trainer(
            self.config, self.base, self.pictures, self.accelerator, latents=self.latents
        )
        self.objective = cast(PathObjective, self.trainer.objective)
        self.samples = cast(SampleBatches, self.trainer.source).samples

    def data(self) -> dict[str, str]:
        """Return the number of samples, and a digest of a few."""
        probes = self.samples.spread(min(_PROBES, len(self.samples)))
        return {"data": f"{len(self.samples)} samples, {_digest(probes)}"}

    def facts(self) -> dict[str, Any]:
        """Return the base, the plugin and the recipe."""
        path = registry().get(self.config.name)
        return {
            "base": {"name": self.base.name, "fingerprint": self.base.fingerprint},
            "plugin": {"distribution": path.distribution, "version": path.version},
            "recipe": path.spec.recipe,
            "start_from": None,
        }

    def weights_of(self, source: str) -> TaskPath:
        """Return a registered path with weights for the base, a path folder, or a run's average."""
        run = run_meant(source)
        if run is not None:
            return averaged_path(run, self.base)
        folder = checkpoints.resolve(source, checkpoints.path_on(self.base.name))
        return checkpoints.load_path(folder).build(registry().load_class(self.config.name))

    def begin(self) -> None:
        """Fit to the first pictures, one at each quality in turn, if ``init.mlp`` is ``main``."""
        if self.config.init.mlp != "main":
            return
        levels = self.base.config.quality_levels
        samples = self.samples.spread(INIT_PICTURES)
        quality = torch.tensor([float(1 + i % levels) for i in range(INIT_PICTURES)])
        y_hat = self.objective.latents_of(samples, quality)
        init_from_main(self.objective.module, self.objective.model, y_hat, quality.to(y_hat.device))
        self.trainer.restart_average()

    def validator(self, folder: Path) -> Validator | None:
        """Return the validator of the path's metrics beside the main path's."""
        if self.val is None:
            return None
        dataset = self.objective.recipe.dataset(self.val, "val", None)
        validator = PathValidator(self.trainer.averaged, self.objective, dataset, folder)
        self.validated = {
            "data": self.val.resolve().name,  # where it lies is this machine's affair
            "digest": _digest(validator.samples),
            "metrics": {
                name: {"label": each.unit.label(each.label or name), "factor": each.unit.factor}
                for name, each in validator.metrics.items()
            },
        }
        return validator

    def try_out(self, validate: Validator | None) -> None:
        """One sample through the recipe's loss and back, and through each of its metrics.

        Raises:
            TrainingError: the loss is not finite, so that the step would be skipped.
        """
        loss = float(try_step(self.objective, self.trainer.source))
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.objective.recipe.who}: the loss of the first sample is {loss}, expected a "
                "finite number; look in task_loss() for a logarithm or a division by zero, or run: "
                f"mpa plugins check {self.config.name} --train"
            )
        if isinstance(validate, PathValidator):
            try_metrics(validate.metrics, validate.samples[0], self.accelerator.device)

    def check_end(self) -> None:
        """Check that the base has not changed.

        Raises:
            TrainingError: it has.
        """
        if self.objective.base_fingerprint() != self.base.fingerprint:
            raise TrainingError(
                "the base changed during training, so nothing learned is of use; a recipe or a "
                "path must not write to the base's tensors: repair the plugin"
            )

    def close(self) -> None:
        """Close the latents as well."""
        super().close()
        if hasattr(self, "objective"):
            self.objective.latents.close()


def _digest(samples: Sequence[Sample]) -> str:
    pictures = b"".join(sample.image.tobytes() for sample in samples)
    return hashlib.sha256(pictures).hexdigest()[:12]


def require_base(folder: Path, state: SavedState, base: checkpoints.LoadedBase, fix: str) -> None:
    """Check that the run in ``folder`` began on ``base``; ``fix`` is the advice if not.

    Raises:
        BaseMismatchError: it began on another base.
    """
    began = state.meta["base"]
    if began["fingerprint"] != base.fingerprint:
        raise BaseMismatchError(
            f"{folder}: trained on base {began['name']!r} ({began['fingerprint'][:16]}…), found "
            f"{base.name!r} ({base.fingerprint[:16]}…); {fix}"
        )


def build_path_trainer(
    config: PathTrainConfig,
    base: checkpoints.LoadedBase,
    data: Path,
    accelerator: Accelerator,
    *,
    latents: Path,
) -> Trainer[PathStep, TaskPath]:
    """Build recipe, data, path and latents as ``config`` says, ready for the first step.

    Seeds torch. Latents are kept below ``latents``, unless ``cache.dir`` names another folder. The
    caller has to close the trainer and ``objective.latents``. The errors are those of
    :func:`mpa_core.training.runs.run.train`.
    """
    recipe = RecipeCalls(config.name, config.recipe, data=config.data, seed=config.seed)
    dataset = recipe.dataset(data, "train", config.data.crop)
    if not len(dataset):
        raise TrainingError(f"{data}: the recipe's data set is empty; give another folder")
    torch.manual_seed(config.seed)
    recipe.setup(accelerator.device)
    levels = base.config.quality_levels
    source = SampleBatches(dataset, config.data, config.loss, levels=levels, seed=config.seed)
    limit = 0 if recipe.recipe.random else int(config.cache.limit_gib * 2**30)
    store = None
    if limit:
        root = Path(config.cache.dir).expanduser() if config.cache.dir else latents
        side = config.data.crop // base.config.latent_stride
        shape = (base.config.latent_channels, side, side)
        store = LatentStore(root / base.fingerprint[:16], shape, limit)
    path = build_path(config, base)
    kept = Latents(base.model, store, batched=config.cache.batched)
    objective = PathObjective(config, base.model, path, recipe, kept, accelerator)
    return Trainer(config, objective, source, accelerator)


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
