"""Configuration of a base codec, of any type, and of a task path, as pydantic models.

Nothing here imports torch: a config can be read, checked and printed on a machine without it.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails
from typing_extensions import Self

from mpa_core.arguments import MAX_QUALITY, did_you_mean, shown
from mpa_core.errors import ConfigError

CHECKPOINT_FORMAT: Literal[1] = 1
"""Version of the checkpoint layout (``docs/spec/checkpoint.md``)."""

TINYLIC = "tinylic"
"""The type of base of an architecture without a ``type``."""

MAX_WIDTH, MAX_DEPTH, MAX_STAGES, MAX_WINDOW = 2**14, 64, 8, 63
"""Upper limits of a config, far beyond any codec, so that a forged one cannot ask for more memory
or time than a check of its numbers takes."""

Positive = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0, le=MAX_WIDTH)]
"""Type of a config's field that is a number of channels, from 1 to 16384."""
Depth = Annotated[int, Field(ge=0, le=MAX_DEPTH)]
Ratio = Annotated[float, Field(gt=0, le=64)]
"""A hidden width over a width; neither infinite nor NaN."""
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


# With the first model of a process pydantic looks for plugins of its own in all that is installed,
# and a damaged entry_points.txt of any distribution raises there, only once: not in our models.
with suppress(Exception):

    class _First(BaseModel):
        pass


class StrictModel(BaseModel):
    """An immutable model in which every unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, data: Any, *, source: str) -> Self:
        """Validate ``data``.

        Raises:
            ConfigError: the message names ``source`` and every invalid key.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = _problems(cls, error)
            raise ConfigError(f"{source}: {_invalid(cls)}{problems}") from error


class CallersModel(StrictModel):
    """A model that callers make by its name; invalid values raise :class:`ConfigError`."""

    if not TYPE_CHECKING:  # type checkers know the fields

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                cls = type(self)
                raise ConfigError(f"{_invalid(cls)}{_problems(cls, error)}") from error


def _invalid(model: type[BaseModel]) -> str:
    """Return how the message begins that lists what is wrong with a ``model``."""
    return f"not a valid {model.__name__}: "


def _problems(model: type[BaseModel], error: ValidationError) -> str:
    """Return every invalid key of ``model`` with its fault, in one line."""
    return "; ".join(_problem(model, item) for item in error.errors(include_url=False))


def _problem(model: type[BaseModel], item: ErrorDetails) -> str:
    *parents, key = map(str, item["loc"] or ("",))
    where = ".".join([*parents, key]) or "(top level)"
    reason = item.get("ctx", {}).get("error")
    if isinstance(reason, ConfigError) and str(reason).startswith(_invalid(model)):
        # A model that checks itself as its caller makes it, which has named its keys.
        return str(reason).removeprefix(_invalid(model))
    if item["type"] == "value_error":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "missing":
        return f"{where}: is missing"
    if item["type"] == "extra_forbidden":
        hint = did_you_mean(key, _keys(model, parents))
        return f"{where}: there is no such key{hint}"
    return f"{where}: {item['msg']}, found {shown(item['input'])}"


def _keys(model: type[BaseModel], parents: list[str]) -> list[str]:
    """Return the fields of the model that is found in ``model`` by the names ``parents``."""
    for name in parents:
        field = model.model_fields.get(name)
        parts = get_args(field.annotation) if field else ()
        inner = (field.annotation, *parts) if field else ()
        models = [part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)]
        if len(models) != 1:  # a list, or one of several kinds: nothing to guess from
            return []
        (model,) = models
    return list(model.model_fields)


class PathStage(NamedTuple):
    """A stage that a side path attaches to, of ``g_s`` (or ``g_a`` for the encoder's own path)."""

    stage: int
    """Index of the stage in execution order."""
    dim: int
    """Channels of its tokens."""
    depth: int
    """Number of blocks, and so of side MLPs."""

    def __str__(self) -> str:
        return f"{self.stage}: {self.dim} x {self.depth}"


class BaseConfig(StrictModel):
    """Everything that fixes the architecture of a base codec; each type of base has its own.

    A subclass sets :attr:`type`, adds the fields of its architecture and implements the abstract
    properties (a ``ClassVar`` of the same name does as well). Its module imports no torch. In JSON
    an architecture consists of its fields and ``type``, which is left out for TinyLIC.
    """

    type: ClassVar[str]
    """The type of base: ``distribution:name`` of the :class:`mpa_core.BaseSpec` that offers it."""
    quality_levels: int = MAX_QUALITY
    """Number of quality levels that the base is trained at, 2 to 8."""
    encoder_hidden_ratio: Ratio = 0.5
    """Hidden width of the encoder's side MLPs over the stage's width (a bottleneck)."""

    @field_validator("quality_levels")
    @classmethod
    def _levels_of_a_file(cls, value: int) -> int:
        if not 2 <= value <= MAX_QUALITY:
            raise ValueError(
                f"{value} quality levels; a file holds qualities from 1 to {MAX_QUALITY}: give the "
                f"base 2 to {MAX_QUALITY} levels"
            )
        return value

    @model_validator(mode="after")
    def _check_strides(self) -> Self:
        if self.latent_stride < 1 or self.hyper_stride % self.latent_stride:
            raise ValueError(
                f"hyper_stride {self.hyper_stride} is not a multiple of latent_stride "
                f"{self.latent_stride}"
            )
        return self

    @model_serializer(mode="wrap")
    def _with_type(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump: dict[str, Any] = fields(self)
        return dump if self.type == TINYLIC else {"type": self.type, **dump}

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Number M of channels of ``y``."""

    @property
    @abstractmethod
    def hyper_channels(self) -> int:
        """Number C of channels of ``z``."""

    @property
    @abstractmethod
    def latent_stride(self) -> int:
        """Side in image pixels that one position of ``y`` covers."""

    @property
    @abstractmethod
    def hyper_stride(self) -> int:
        """Side in pixels that one position of ``z`` covers, a multiple of the latent stride.

        Images are padded to multiples of it.
        """

    @property
    @abstractmethod
    def least_parameters(self) -> int:
        """About nine tenths of the number of weights, or less: a checkpoint holds at least as many.

        A checkpoint with fewer numbers, or with far more than twice as many, is refused before
        anything is built. So this is computed from the fields alone.
        """

    @property
    @abstractmethod
    def encoder_path_stages(self) -> tuple[PathStage, ...]:
        """Stages of the analysis with a side path of the base's own; empty for none."""

    @property
    @abstractmethod
    def decoder_path_stages(self) -> tuple[PathStage, ...]:
        """Stages of the synthesis that a task path attaches to."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line of Markdown on the architecture, for the card of a checkpoint."""


class PathConfig(CallersModel):
    """The architecture of a task path; a plugin's path class may extend it."""

    hidden_ratio: Ratio = 0.5
    """Hidden width of the side MLPs over the stage's width: 0.5 bottleneck, 2.0 inverted."""
