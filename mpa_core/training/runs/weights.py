"""The averaged weights of a run's newest checkpoint, for export and as a start of other runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mpa_core import checkpoints
from mpa_core.base.entropy import CDF_BUFFERS
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError
from mpa_core.paths.path import TaskPath, building_path
from mpa_core.plugins.registry import registry
from mpa_core.runtime.surroundings import making_weights
from mpa_core.training.engine.checkpoint import SavedState, load_latest
from mpa_core.training.engine.freezing import entropy_is_frozen, freeze_model
from mpa_core.training.engine.loop import CHECKPOINTS
from mpa_core.training.objectives.base import MODEL
from mpa_core.training.objectives.path import PATH, STAGE
from mpa_core.training.runs.folder import run_meant
from mpa_core.training.settings.base import TrainConfig
from mpa_core.training.settings.path import PathTrainConfig

QUANTILE_LIMIT = 1024.0
BISECTIONS = 40


def is_path_run(state: SavedState) -> bool:
    """Return whether the checkpoint is of a run that trains a path."""
    return bool(state.meta.get("kind") == STAGE)


def averaged_model(folder: Path) -> MPAModel:
    """Return the averaged model of the newest checkpoint in ``folder``, in eval mode.

    It has CDF tables.

    Raises:
        CheckpointError: there is none, it is of a path, or it does not fit its own settings.
    """
    state = load_latest(folder / CHECKPOINTS)
    if is_path_run(state):
        raise CheckpointError(f"{folder} is a run of a path, expected one of mpa train base")
    config = TrainConfig.parse(state.meta["config"], source=str(state.folder))
    with making_weights():
        model = MPAModel(config.model)
    live = model.state_dict()
    for name, value in _averaged(state, MODEL).items():
        resized = name.endswith(CDF_BUFFERS)
        if name not in live or (live[name].shape != value.shape and not resized):
            raise CheckpointError(f"{state.folder}: {name} does not fit its own settings")
        live[name] = value
    model.load_state_dict(live)
    freeze_model(model, config.optim.trainable)
    if not (entropy_is_frozen(model) and model.base.entropy.has_tables):
        settle_quantiles(model)
        model.update()
    return model.eval()


def averaged_path(folder: Path, base: checkpoints.LoadedBase) -> TaskPath:
    """Return the averaged path of the newest checkpoint of the run in ``folder``, in eval mode.

    Raises:
        CheckpointError: there is none, it is of a base, or it does not fit its own settings.
    """
    state = load_latest(folder / CHECKPOINTS)
    if not is_path_run(state):
        raise CheckpointError(
            f"{folder} is a run of {state.meta.get('kind')!r}, expected one of mpa train path"
        )
    config = PathTrainConfig.parse(state.meta["config"], source=str(state.folder))
    path = build_path(config, base)
    checkpoints.load_into(path, _averaged(state, PATH), str(state.folder))
    return path.eval().requires_grad_(False)


def pretrained(source: str) -> MPAModel:
    """Return the model of a base (folder or bundled id), or the averaged one of a run's folder.

    Raises:
        CheckpointError: ``source`` is neither.
    """
    run = run_meant(source)
    return checkpoints.load_base(source).model if run is None else averaged_model(run)


def build_path(config: PathTrainConfig, base: checkpoints.LoadedBase) -> TaskPath:
    """Build a path of the class registered as ``config.name``, with random weights from the seed.

    Raises:
        ConfigError: ``config.path`` does not fit the class's ``Config``.
        PluginError: the class fails.
    """
    path_class = registry().load_class(config.name)
    with building_path(path_class), making_weights(config.seed):
        settings = path_class.Config.parse(config.path, source="settings of the path")
        return path_class(base.config.decoder_path_stages, settings, base.config.quality_levels)


@torch.no_grad()
def settle_quantiles(model: MPAModel) -> None:
    """Set the entropy bottleneck's quantiles to those of its density, by bisection.

    They were trained along with other weights than the averaged ones, and only approach the right
    values. Symbols further than ``QUANTILE_LIMIT`` from zero take the range coder's escape.
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


def _averaged(state: SavedState, prefix: str) -> dict[str, Tensor]:
    """Return the module's tensors by name: all of them, with averages in place of parameters."""
    return {
        name[len(start) :]: value
        for start in (prefix, "average.")
        for name, value in state.tensors.items()
        if name.startswith(start)
    }
