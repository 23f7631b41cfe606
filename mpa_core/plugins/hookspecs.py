"""The contract between the SDK and a plugin: its hooks, and the records they return.

Written out in ``docs/spec/plugin-api.md``. A plugin's top module imports this one, so nothing
here may import torch.
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
"""Every hook starts so; a function of a plugin's top module that does must be a known hook."""

RESERVED_NAMES = frozenset({"main", "regions", "self"})
"""``main`` is the base's own path; the others are arguments of :class:`mpa_core.Mix`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_FOLDER = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_MEASURE = re.compile(r"[a-z][a-z0-9_-]*")
_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class _Spec(CallersModel):
    """One thing that a plugin offers under a name of its own."""

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
        """What to say where ``requires`` excludes this SDK: what is needed, and the pip line."""
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

    A value of the wrong form raises a :class:`mpa_core.errors.ConfigError`; the registry turns it
    into the error of that plugin.
    """

    name: str
    """Name users give in ``Mix(name=0.4)``: a lowercase identifier, no Python keyword."""
    path: str
    """The :class:`mpa_core.TaskPath` subclass, as ``"module:Class"``; imported on use."""
    recipe: str | None = None
    """The training recipe, as ``"module:Class"``; imported only when training."""
    summary: str
    """One line for ``mpa paths ls``."""
    weights: str = "weights"
    """Folder of bundled weights, relative to the package that ``path`` lives in."""
    measure: str | None = None
    """Name of a measure that ``mpa eval`` takes of every picture and that this path is for, such
    as ``"psnr"``. A path for a task leaves it out: the metrics of its recipe are what it is for."""
    requires: str = ""
    """Versions of mpa-core that it needs, as a PEP 440 specifier such as ``">=0.2"``; empty: any.
    Asked when the path is used, so that one that needs another SDK is listed and can say so."""
    weight_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Most parameters the path has with the defaults of its ``Config``, over those of the base: a
    promise to who stores and sends it, to which ``mpa plugins check`` holds it."""
    official: Annotated[int, Field(ge=0)] | None = None
    """Number of this path's task in the checkpoints that the paper's authors released
    (``mpa import-official``), from 0; None if it is none of theirs."""

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
        """Folder of this path's weights for the base ``base_name``, or None without any.

        It is ``<package of path>/<weights>/<base_name>``, with ``/`` in the base's name (a Hub
        id) written ``--``, and holds ``path_config.json`` and ``path.safetensors``. Which exact
        base the weights fit is in ``path_config.json`` and checked by who loads them. Nothing of
        the plugin is imported.
        """
        folder_name = as_text(base_name, "base_name").replace("/", "--")
        if not _BASE.fullmatch(folder_name):
            return None
        candidates = (root / folder_name for root in self._weights_roots())
        return next((folder for folder in candidates if folder.is_dir()), None)

    def bundled_bases(self) -> tuple[str, ...]:
        """Names of the bases that :meth:`bundled_weights` has a folder for, sorted."""
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
        # A top-level name is located without importing anything; from there on we follow the
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

    A value of the wrong form raises a :class:`mpa_core.errors.ConfigError`; the registry turns it
    into the error of that plugin.
    """

    name: str
    """Name of the type: a lowercase identifier, no Python keyword. The architectures of its bases
    have the type ``distribution:name``."""
    base: str
    """The :class:`mpa_core.base.api.Base` subclass, as ``"module:Class"``; imported on use."""
    config: str
    """Its :class:`mpa_core.config.BaseConfig` subclass, as ``"module:Class"``; imported wherever an
    architecture is read, so its module must not import torch."""
    summary: str
    """One line on what it is."""
    requires: str = ""
    """Versions of mpa-core that it needs, as for a path."""
    presets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named architectures: the name that ``MPACodec.from_preset`` takes, to the fields of
    ``config``."""

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
