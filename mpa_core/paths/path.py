"""The base class of task paths, which fit the decoder's features to one task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, cast

from torch import Tensor, nn
from typing_extensions import Self

from mpa_core.arguments import as_sequence, as_whole, expect
from mpa_core.config import PathConfig, PathStage
from mpa_core.errors import ConfigError
from mpa_core.paths.mlp import SideMLP
from mpa_core.paths.predictor import OwnPredictor, Predictor, ShiftedPredictor
from mpa_core.runtime.foreign import foreign_code

_NO_CODE = {
    *("name", "Config", "plugin", "__module__", "__qualname__", "__doc__", "__annotations__"),
    *("__annotations_cache__", "__annotate__", "__annotate_func__", "__conditional_annotations__"),
    *("__firstlineno__", "__static_attributes__", "__parameters__", "__type_params__"),
}
"""Attributes that a class without code of its own may have."""


class PathStageModule(nn.Module):
    """A path's parts at one stage: ``predictor``, and ``mlps``, one for each block of the stage."""

    predictor: ShiftedPredictor
    mlps: nn.ModuleList

    def __init__(self, predictor: ShiftedPredictor, mlps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.predictor = predictor
        self.mlps = nn.ModuleList(mlps)


class TaskPath(nn.Module):
    """Side MLPs and predictors for every stage that a path attaches to.

    A plugin subclasses it and sets ``name`` and, for another hidden width, ``Config``; for other
    layers it overrides :meth:`build_mlp` (any module from [..., dim] to [..., dim]) or
    :meth:`build_predictor`::

        class DetPath(TaskPath):
            name = "det"

            class Config(PathConfig):
                hidden_ratio: float = 0.5

    The class holds weights and has no ``forward``: an aggregator calls its parts.

    Args:
        stages: the stages to attach to, from ``BaseConfig.decoder_path_stages`` (or the encoder's).
        config: None for the defaults of ``Config``; a plain :class:`PathConfig` is read as one.
        levels: number of quality levels of the base.

    Raises:
        ConfigError: ``config`` does not fit ``Config``, or ``stages`` is empty.
    """

    name: ClassVar[str] = "path"
    Config: ClassVar[type[PathConfig]] = PathConfig
    trained_on: object = None
    """The base that a path names if it was read from a folder or repository; no other base takes
    it."""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load the path of a folder or of a repository of the Hugging Face Hub, on the CPU.

        ``codec.attach_path(path)`` puts it on its base. A subclass takes paths of its own type
        alone; ``TaskPath`` takes any, by the class of the installed plugin. Nothing of a
        repository is run.

        Args:
            source: a path's folder, said with a separator in it or as a ``Path``, or ``"org/repo"``
                or ``"org/repo@revision"``.
            revision, token, cache_dir, local_files_only: as huggingface_hub has them.

        Raises:
            CheckpointError: no path is there, or files that are damaged or of another version.
            PathNotFoundError: its plugin is not installed, and it needs it.
            PluginError: it is of another type than ``cls``.
            HubError, MissingDependencyError, OutputError: the repository cannot be fetched.
        """
        from mpa_core.checkpoints.hub import HubOptions
        from mpa_core.checkpoints.task_paths import read_task_path

        options = HubOptions(revision, token, cache_dir, local_files_only)
        return cast(Self, read_task_path(source, cls, options))

    def __init__(
        self, stages: Sequence[PathStage], config: PathConfig | None = None, levels: int = 8
    ) -> None:
        super().__init__()
        stages = as_sequence(stages, "stages", "stages of a base", ConfigError)
        if not stages:
            raise ConfigError(
                f"path {self.name}: the base has no stage to attach to; "
                "give one stage other than the coarsest a depth of at least 1"
            )
        for stage in stages:
            entries = as_sequence(stage, "a stage", "index, width and depth", ConfigError)
            if len(entries) != 3:
                raise ConfigError(f"a stage is {len(entries)} numbers, expected 3; see PathStage")
            for entry, least in zip(entries, (0, 1, 0), strict=True):
                as_whole(entry, "a number of a stage", least=least, error=ConfigError)
        levels = as_whole(levels, "levels", least=1, most=255, error=ConfigError)
        expect(config, (PathConfig, type(None)), "config", "a PathConfig or None", ConfigError)
        if config is None:
            config = self.Config()
        elif not isinstance(config, self.Config):
            config = self.Config.parse(config.model_dump(), source=f"path {self.name}")
        self.config = config
        self.levels = levels
        self.layout = tuple(PathStage(*stage) for stage in stages)
        self.stages = nn.ModuleDict(
            {
                str(stage): PathStageModule(
                    self._predictor(dim), [self.build_mlp(dim) for _ in range(depth)]
                )
                for stage, dim, depth in stages
            }
        )

    def build_mlp(self, dim: int) -> nn.Module:
        """Build the MLP of one block, [..., dim] to [..., dim]; called once per block."""
        return SideMLP(dim, self.config.hidden_ratio)

    def build_predictor(self, dim: int) -> nn.Module:
        """Build the predictor of one stage, [B, H, W, dim] to [B, H, W]; called once per stage.

        A module that is no :class:`~mpa_core.paths.predictor.Predictor` is given the shift for
        each level that training needs; the keys of its tensors then begin with ``predictor.own``.
        """
        return Predictor(dim, self.levels)

    def _predictor(self, dim: int) -> ShiftedPredictor:
        built = self.build_predictor(dim)
        return built if isinstance(built, ShiftedPredictor) else OwnPredictor(built, self.levels)

    @property
    def is_plain(self) -> bool:
        """Whether the class has no code of its own.

        The path is then side MLPs and predictors of the SDK and nothing else, and its config is
        enough to build it, without its plugin.
        """
        classes = type(self).__mro__[: type(self).__mro__.index(TaskPath)]
        own = {name for each in classes for name in vars(each)}
        if own - _NO_CODE or set(self.Config.model_fields) != set(PathConfig.model_fields):
            return False
        return all(
            type(stage.predictor) is Predictor and all(type(mlp) is SideMLP for mlp in stage.mlps)
            for stage in cast("list[PathStageModule]", list(self.stages.values()))
        )

    def stage(self, index: int) -> PathStageModule | None:
        """Return the parts at stage ``index`` of the transform; None where it does not attach."""
        key = str(index)
        return cast(PathStageModule, self.stages[key]) if key in self.stages else None


def building_path(path_class: type[TaskPath]) -> AbstractContextManager[None]:
    """Return a context for making a ``path_class``, or its ``Config``; see :func:`foreign_code`."""
    return foreign_code(f"task path {path_class.name!r} cannot be built")


def run_part(part: nn.Module, tokens: Tensor, path: str) -> Tensor:
    """Return the output of a predictor or an MLP of the path class ``path`` for ``tokens``.

    Raises:
        PluginError: it fails, in whatever way; see :func:`foreign_code`.
    """
    with foreign_code(f"{type(part).__name__} of task path {path!r} fails"):
        out: Tensor = part(tokens)
        return out
