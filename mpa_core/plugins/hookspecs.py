"""The contract between the SDK and a plugin: its hooks, and the records they return.

``docs/spec/plugin-api.md`` specifies it. A plugin's top module imports this one, so nothing here
may import torch.
"""

from __future__ import annotations

import keyword
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pluggy
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import Field, field_validator

from mpa_core.arguments import as_text
from mpa_core.config import CallersModel
from mpa_core.errors import ConfigError
from mpa_core.requirements import needs_other_sdk

PROJECT = "mpa"
HOOK_PREFIX = "mpa_"
"""Beginning of every hook's name; a function of a plugin's top module with it must be a known
hook."""

RESERVED_NAMES = frozenset({"main", "regions", "self"})
"""Names that no path may have: ``main`` is the base's own path, and the others are arguments of
:class:`mpa_core.Mix`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Decorator that marks a function of a plugin's top module as a hook."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_FOLDER = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_MEASURE = re.compile(r"[a-z][a-z0-9_-]*")
_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class _Spec(CallersModel):
    """The record of something that a plugin offers under a name."""

    name: str
    summary: str
    requires: str = ""

    if not TYPE_CHECKING:  # which knows the fields

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ConfigError as error:
                # What this SDK does not know may be what a newer one, which it needs, does.
                if problem := _unmet(data.get("requires")):
                    raise ConfigError(f"{data.get('name')!r} {problem}") from error
                raise

    @property
    def unmet(self) -> str | None:
        """Text on the SDK that is needed and how to install it; None if this SDK will do."""
        return needs_other_sdk(self.requires)

    @field_validator("requires")
    @classmethod
    def _check_requires(cls, value: str) -> str:
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise ValueError(f"{value!r} is no range of versions such as '>=0.2,<0.3'") from None
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or keyword.iskeyword(value):
            raise ValueError(f"{value!r} is not a lowercase identifier such as 'det' or 'ocr_2'")
        return value

    @field_validator("summary")
    @classmethod
    def _check_summary(cls, value: str) -> str:
        if not value.strip() or "\n" in value:
            raise ValueError(f"{value!r} is not one line of text")
        return value


def _unmet(requires: object) -> str | None:
    with suppress(InvalidSpecifier):
        return needs_other_sdk(requires) if isinstance(requires, str) else None
    return None


def _checked_target(value: str | None) -> str | None:
    if value is not None and not _TARGET.fullmatch(value):
        raise ValueError(f"{value!r} is not of the form 'package.module:Class'")
    return value


class PathSpec(_Spec):
    """One task path that a plugin offers, described without importing it.

    Raises:
        ConfigError: a value has the wrong form; the registry makes it the error of that plugin.
    """

    name: str
    """Name that users give in ``Mix(name=0.4)``: a lowercase identifier, no Python keyword."""
    path: str
    """The :class:`mpa_core.TaskPath` subclass, as ``"module:Class"``; imported when used."""
    recipe: str | None = None
    """The training recipe, as ``"module:Class"``; imported only when training."""
    summary: str
    """One line for ``mpa paths ls``."""
    weights: str = "weights"
    """Folder of bundled weights, relative to the package that contains ``path``."""
    measure: str | None = None
    """Name of a measure that ``mpa eval`` takes of every picture and that this path is made for,
    such as ``"psnr"``. None for a path that serves a task: it is judged by the metrics of its
    recipe."""
    requires: str = ""
    """Versions of mpa-core that the path needs, as a PEP 440 specifier such as ``">=0.2"``; empty
    for any. They are compared when the path is used: a path that needs another SDK is listed."""
    weight_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Upper limit on the parameters of the path, with the defaults of its ``Config``, as a fraction
    of those of the base ``mpa-small``; ``mpa plugins check`` compares it."""
    official: Annotated[int, Field(ge=0)] | None = None
    """Number of this path's task, from 0, in the checkpoints that the paper's authors released
    (``mpa import-official``); None if it is none of theirs."""

    @field_validator("name")
    @classmethod
    def _check_reserved(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"{value!r} is reserved; choose another name")
        return value

    _check_targets = field_validator("path", "recipe")(_checked_target)

    @field_validator("measure")
    @classmethod
    def _check_measure(cls, value: str | None) -> str | None:
        if value is not None and not _MEASURE.fullmatch(value):
            raise ValueError(f"{value!r} is not the name of a measure such as 'psnr' or 'ms_ssim'")
        return value

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: str) -> str:
        if not _FOLDER.fullmatch(value):
            raise ValueError(f"{value!r} is not a relative folder such as 'weights/det'")
        return value

    def bundled_weights(self, base_name: str) -> Path | None:
        """Return the folder of this path's weights for the base ``base_name``, or None.

        It is ``<package of path>/<weights>/<base_name>``, with ``/`` in the base's name (a Hub id)
        written ``--``, and holds ``path_config.json`` and ``path.safetensors``. The exact base that
        the weights fit is in ``path_config.json``, and is checked when they are loaded. Nothing of
        the plugin is imported.
        """
        folder_name = as_text(base_name, "base_name").replace("/", "--")
        if not _BASE.fullmatch(folder_name):
            return None
        candidates = (root / folder_name for root in self._weights_roots())
        return next((folder for folder in candidates if folder.is_dir()), None)

    def bundled_bases(self) -> tuple[str, ...]:
        """Return the names of the bases that :meth:`bundled_weights` has a folder for, sorted."""
        return tuple(
            sorted(
                folder.name.replace("--", "/")
                for root in self._weights_roots()
                for folder in (root.iterdir() if root.is_dir() else ())
                if folder.is_dir() and _BASE.fullmatch(folder.name)
            )
        )

    def _weights_roots(self) -> list[Path]:
        top, *inner = self.path.partition(":")[0].split(".")
        # A top-level name is located without importing anything; below it we search the
        # folders ourselves, because find_spec on "a.b" would import a.
        try:
            spec = find_spec(top)
        except ValueError:  # a module without a spec, such as __main__
            return []
        if spec is None or spec.submodule_search_locations is None:
            return []  # a single file has no folder of its own
        packages = [Path(location) for location in spec.submodule_search_locations]
        for part in inner:
            deeper = [package / part for package in packages if (package / part).is_dir()]
            if not deeper:
                break
            packages = deeper
        return [package / self.weights for package in packages]


class BaseSpec(_Spec):
    """One type of base codec that a plugin offers, described without importing it.

    Raises:
        ConfigError: a value has the wrong form; the registry makes it the error of that plugin.
    """

    name: str
    """Name of the type: a lowercase identifier, no Python keyword. The architectures of its bases
    have the type ``distribution:name``."""
    base: str
    """The :class:`mpa_core.base.api.Base` subclass, as ``"module:Class"``; imported when used."""
    config: str
    """Its :class:`mpa_core.config.BaseConfig` subclass, as ``"module:Class"``; imported wherever an
    architecture is read, so its module must not import torch."""
    summary: str
    """One line that describes the type."""
    requires: str = ""
    """Versions of mpa-core that the type needs, as for a path."""
    presets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields of ``config`` by the name of the preset, which ``MPACodec.from_preset`` takes."""

    _check_targets = field_validator("base", "config")(_checked_target)

    @field_validator("presets")
    @classmethod
    def _check_presets(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            if not _BASE.fullmatch(name):
                raise ValueError(f"{name!r} is not a preset's name such as 'conv-small'")
        return value


@hookspec
def mpa_task_paths() -> list[PathSpec]:
    """Return the task paths this plugin offers; called once, at discovery."""
    return []


@hookspec
def mpa_bases() -> list[BaseSpec]:
    """Return the types of base codec this plugin offers; called once, at discovery."""
    return []
