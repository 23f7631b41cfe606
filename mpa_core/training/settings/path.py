"""Settings of a stage-2 run: a path trained on a frozen base by a recipe.

The defaults are the constants of SPEC section 3, stage 2; a recipe's own defaults override them,
and the user's values override both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from mpa_core.arguments import shown
from mpa_core.config import StrictModel
from mpa_core.errors import ConfigError, PathNotFoundError, PluginError
from mpa_core.plugins.registry import registry
from mpa_core.tasks.recipe import load_recipe
from mpa_core.tasks.settings import CropSettings
from mpa_core.training.settings.base import (
    BudgetSettings,
    DataSettings,
    Fraction,
    LossSettings,
    NonNegative,
    RunConfig,
    RunSettings,
)
from mpa_core.training.settings.trees import override, read_tree

EPOCHS = 200.0
"""Number of passes over the photos in stage 2 of the paper."""


Quality = Annotated[float, Field(ge=1.0)]


class PathDataSettings(DataSettings, CropSettings):
    """Settings for making a batch, and the crops in it."""


class PathLossSettings(LossSettings):
    """Settings of equations (8) and (9). The rate is constant here and only logged."""

    task_weight: NonNegative = 1.0
    distortion_weight: NonNegative = 1.0
    full_share: Fraction = 0.0
    """Probability that all tokens of a picture take the side path (q_task 8) instead of a q_task
    drawn uniformly from 1..8. The paper's is 0."""


class PathInitSettings(StrictModel):
    """Settings for the start of training."""

    mlp: Literal["random", "main"] = "random"
    """``main``: side MLPs start as the base's own (:mod:`mpa_core.training.runs.side_start`)."""


class CacheSettings(StrictModel):
    """Settings of the latents of the training pictures (:mod:`mpa_core.training.data.latents`)."""

    dir: str | None = None
    """Folder, which paths may share; null keeps the latents in the run's folder."""
    limit_gib: NonNegative = 4.0
    """Largest size on disk of this base's latents; 0 keeps none and runs the encoder at each
    step."""
    batched: bool = False
    """Encode all pictures of a batch whose latents are missing in one pass, for a GPU. By default
    they are encoded one by one, so that a picture's latents do not depend on the others of its
    batch, to the last bit."""


class PathBudgetSettings(BudgetSettings):
    """The end of a run; an epoch is a pass over the samples of the data set."""

    published: ClassVar[float] = EPOCHS


class PathRunSettings(RunSettings):
    """Settings for carrying out a run; none of them changes what is learned."""

    validate_qualities: tuple[Quality, ...] = (1.0, 3.0, 5.0)
    """Qualities at which the path and the main path are compared on the validation pictures."""


class PathTrainConfig(RunConfig):
    """Everything that fixes a stage-2 run, apart from the photos and the base's weights."""

    fixed = ("name", "seed", "path", "recipe", "init", "data", "optim.trainable")

    name: str
    """Registered name of the path, ``"cls"`` or ``"distribution:cls"``; kept as the latter, so that
    it means the same path whatever is installed later."""
    base: str
    """Bundled id or folder of the base."""
    path: dict[str, Any] = Field(default_factory=dict)
    """Fields of the path class's ``Config``, such as ``hidden_ratio``."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe's ``Settings``."""
    init: PathInitSettings = PathInitSettings()
    data: PathDataSettings = PathDataSettings()
    loss: PathLossSettings = PathLossSettings()
    budget: PathBudgetSettings = PathBudgetSettings()
    cache: CacheSettings = CacheSettings()
    run: PathRunSettings = PathRunSettings()

    @field_validator("name")
    @classmethod
    def _qualified(cls, value: str) -> str:
        with suppress(PathNotFoundError):  # for whoever looks for its class
            return registry().get(value).qualified_name
        return value


def recipe_defaults(name: str) -> dict[str, Any]:
    """Return a copy of the settings that the recipe of path ``name`` lays under the user's.

    Raises:
        PathNotFoundError, TrainingError, PluginError: as :func:`load_recipe`.
        PluginError: they are no settings of a run.
    """
    found = load_recipe(name).defaults
    source = f"{registry().get(name).recipe_name}: its defaults"
    if not isinstance(found, Mapping):
        raise PluginError(f"{source} are {shown(found)}, expected a mapping; repair the plugin")
    try:
        PathTrainConfig.parse({**found, "name": name, "base": ""}, source=source)
    except ConfigError as error:
        raise PluginError(f"{error}; repair the plugin") from error
    return dict(found)


def load_path_config(
    name: str,
    base: str,
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any],
) -> PathTrainConfig:
    """Read a configuration from a YAML file, over ``defaults`` and under ``key=value`` overrides.

    Args:
        name: name of the path.
        base: id or folder of the base.
        path: YAML file, or None.
        overrides: ``key=value``, keys dotted.
        defaults: defaults of the recipe, or the settings of the run to resume.

    Raises:
        ConfigError: anything is unknown, not readable or not valid.
    """
    tree = read_tree(path, {**defaults, "name": name, "base": base})
    for item in overrides:
        tree = override(tree, item)
    source = str(path) if path is not None else "training settings"
    return PathTrainConfig.parse(tree, source=source)
