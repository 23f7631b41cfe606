"""The JSON beside the weights: its fields, and how it is read and written; imports no torch."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import Field, field_validator

from mpa_core.arguments import as_path
from mpa_core.checkpoints.header import read_header, unique_keys
from mpa_core.checkpoints.origin import Origin, origin_of
from mpa_core.config import (
    CHECKPOINT_FORMAT,
    MAX_DEPTH,
    MAX_STAGES,
    TINYLIC,
    PathStage,
    StrictModel,
    Width,
)
from mpa_core.errors import CheckpointError, ConfigError, PluginError
from mpa_core.io.folders import LAYOUTS
from mpa_core.plugins.bases import Architecture
from mpa_core.requirements import DISTRIBUTION, DISTRIBUTION_NAME, satisfies, sdk_version

BASE_CONFIG = "config.json"
BASE_WEIGHTS = "model.safetensors"
EXACT_FORMATS = "exact.safetensors"
PATH_CONFIG = "path_config.json"
PATH_WEIGHTS = "path.safetensors"
CARD = "README.md"

REQUIRES = ">=0.1"
"""SDK versions that can read the files of this version."""

_REVISION = re.compile(r"\w[\w./+-]*", re.ASCII)

_KINDS = ("base", "path")
_RESTORE = (
    "restore the file from its source, or, if a newer version wrote it, run: "
    f"pip install --upgrade {DISTRIBUTION}"
)
"""What to do about contents that no version up to this one writes."""

_CONFIG_BYTES = 2**20
"""Largest size of a config in bytes; real ones have some thousand."""
TABLE_ELEMENTS = 2**22
"""Upper limit, generous, on the numbers in a base's CDF tables and small tensors."""

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=96)]
StorageType = Literal["float32", "float16"]
"""Element type of the large floating-point tensors in the file; in use they are float32."""


def is_revision(text: str) -> bool:
    """Whether this can be a branch, a tag or a commit: it becomes part of a path in the cache."""
    return _REVISION.fullmatch(text) is not None and ".." not in text


class _Versioned(StrictModel):
    format: Literal[1] = CHECKPOINT_FORMAT
    requires: str = REQUIRES
    """SDK versions that can read the folder, as a PEP 440 specifier."""

    @field_validator("requires")
    @classmethod
    def _is_specifier(cls, value: str) -> str:
        SpecifierSet(value)
        return value


class BaseMeta(_Versioned):
    """``config.json`` of a base folder."""

    kind: Literal["base"] = "base"
    name: Name
    """Id by which a user loads it, and which messages use."""
    fingerprint: Fingerprint
    exact: Fingerprint | None = None
    """Fingerprint of the base with the formats of its exact profile. None for a base without one,
    or in a folder from before the profile existed, whose formats are chosen when it is loaded."""
    dtype: StorageType
    architecture: Architecture


class PluginRef(StrictModel):
    """The distribution that provides the code of a path."""

    distribution: Annotated[Name, Field(pattern=DISTRIBUTION_NAME)] = DISTRIBUTION
    version: str = REQUIRES
    """Its versions that can build the path, as a PEP 440 specifier; empty for any."""

    @field_validator("version")
    @classmethod
    def _is_specifier(cls, value: str) -> str:
        SpecifierSet(value)
        return value


class BaseRef(StrictModel):
    """The base codec that a path was trained on."""

    repo_id: Name
    """Bundled id, Hub repository or folder name, as ``MPACodec.from_pretrained`` takes it."""
    revision: str | None = None
    """Commit of that repository; None where the base comes from none."""
    fingerprint: Fingerprint

    @field_validator("revision")
    @classmethod
    def _is_revision(cls, value: str | None) -> str | None:
        if value is not None and not is_revision(value):
            raise ValueError(f"{value!r} is no branch, tag or commit")
        return value

    @classmethod
    def of(cls, name: str, fingerprint: str, origin: Origin | None) -> BaseRef:
        """Make the reference of a base: by its repository if it has one, else by its name."""
        if origin is None:
            return cls(repo_id=name, fingerprint=fingerprint)
        return cls(repo_id=origin.repo_id, revision=origin.revision, fingerprint=fingerprint)

    @property
    def loading(self) -> str:
        """The line of Python that loads this base."""
        revision = f', revision="{self.revision}"' if self.revision else ""
        return f'MPACodec.from_pretrained("{self.repo_id}"{revision})'


class StageEntry(StrictModel):
    """One stage of ``g_s`` that the path attaches to: see :class:`mpa_core.config.PathStage`."""

    stage: Annotated[int, Field(ge=0, lt=MAX_STAGES)]
    dim: Width
    depth: Annotated[int, Field(gt=0, le=MAX_DEPTH)]


class PathMeta(_Versioned):
    """``path_config.json`` of a path folder."""

    kind: Literal["path"] = "path"
    path_type: Name
    """Registered name of the path's class."""
    plugin: PluginRef
    plain: bool = False
    """Whether the path's class has no code of its own, so that it can be built without its plugin;
    absent in folders from before this was said, which need it."""
    base: BaseRef
    config: dict[str, Any]
    """The path class's own config, as JSON."""
    stages: Annotated[tuple[StageEntry, ...], Field(max_length=MAX_STAGES)]
    levels: Annotated[int, Field(ge=2, le=255)]
    """Quality levels of the base."""
    fingerprint: Fingerprint
    """Fingerprint of the path's own tensors, which tells damage from a mismatch of files."""
    dtype: StorageType

    @property
    def path_stages(self) -> tuple[PathStage, ...]:
        """The stages in the form that builds a :class:`mpa_core.paths.path.TaskPath`."""
        return tuple(PathStage(entry.stage, entry.dim, entry.depth) for entry in self.stages)


Meta = TypeVar("Meta", BaseMeta, PathMeta)


def canonical_json(meta: StrictModel) -> str:
    """Return the JSON with sorted keys, an indent of two spaces and one newline at the end.

    Equal contents give equal bytes.
    """
    dump = meta.model_dump(mode="json")
    return json.dumps(dump, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_base_meta(folder: Path) -> BaseMeta:
    """Read and check ``config.json`` in ``folder``.

    Weights beside it that cannot be those of its architecture are an error, too, which is found
    without building the model or reading the weights.

    Raises:
        CheckpointError: the message says what is wrong and what to do.
        PluginError: the type of base is of no installed plugin, or its plugin fails.
    """
    meta = _read(BaseMeta, folder, BASE_CONFIG, "base", (PATH_CONFIG, "path", _AS_A_PATH))
    _check_size(Path(folder) / BASE_WEIGHTS, meta.architecture.least_parameters)
    return meta


def read_path_meta(folder: Path) -> PathMeta:
    """Read and check ``path_config.json`` in ``folder``.

    Raises:
        CheckpointError: the message says what is wrong and what to do.
    """
    return _read(PathMeta, folder, PATH_CONFIG, "path", (BASE_CONFIG, "base", _AS_A_BASE))


_AS_A_PATH = (
    "load it on its base: codec.load_path, MPACodec.from_path, or --path on the command line"
)
_AS_A_BASE = "load it with MPACodec.from_pretrained, or as --base on the command line"


def said_kind(folder: Path) -> str | None:
    """Return ``"base"`` or ``"path"`` if a config in ``folder`` says so, of whatever version."""
    for name in (BASE_CONFIG, PATH_CONFIG):
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            kind = json.loads((folder / name).read_bytes()[:_CONFIG_BYTES]).get("kind")
            if kind in _KINDS:
                return str(kind)
    return None


def is_run(folder: Path) -> bool:
    """Return whether ``folder`` looks like that of a training run."""
    return all((folder / name).exists() for name in LAYOUTS["train"][0])


def _read(
    model: type[Meta], folder: Path, file: str, kind: str, other: tuple[str, str, str]
) -> Meta:
    folder = as_path(folder, "folder", CheckpointError)
    source = folder / file
    if not source.is_file():
        other_file, other_kind, advice = other
        called = origin_of(folder) or folder
        if (folder / other_file).is_file():
            raise CheckpointError(
                f"{called} is a {other_kind} folder (it has {other_file}), expected a {kind} "
                f"folder with {file}; {advice}"
            )
        if is_run(folder):
            raise CheckpointError(
                f"{folder} is the folder of a training run, expected a {kind} folder with {file}; "
                f"write its weights as one first: mpa train export {folder} OUT"
            )
        what = "has no " + file if folder.is_dir() else "is no folder that exists"
        raise CheckpointError(
            f"{called} {what}, expected a {kind} folder with {file}; "
            f"give the folder that save_pretrained or training wrote"
        )
    check_inside(source)
    try:
        with source.open("rb") as handle:
            text = handle.read(_CONFIG_BYTES + 1)
        if len(text) > _CONFIG_BYTES:
            raise ValueError(f"more than {_CONFIG_BYTES} bytes, expected some thousand")
        data = json.loads(text.decode(), object_pairs_hook=unique_keys, parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{source} is not readable JSON ({error}); restore the file from its source"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{source} holds a JSON {type(data).__name__}, expected an object; "
            "restore the file from its source"
        )
    found = data.get("kind")
    if found in _KINDS and found != kind:
        raise CheckpointError(
            f"{source} is of kind {found!r}, expected {kind!r}; give a {kind} folder"
        )
    _check_version(data, source)
    if found != kind:
        known = " and ".join(map(repr, _KINDS))
        raise CheckpointError(
            f"{source} is of kind {found!r}, mpa-core {sdk_version()} knows {known}, expected "
            f"{kind!r}; {_RESTORE}"
        )
    try:
        return model.parse(data, source=str(source))
    except ConfigError as error:
        raise CheckpointError(
            f"{error}; it asks for mpa-core{data.get('requires', REQUIRES)} and this is "
            f"{sdk_version()}: {_RESTORE}"
        ) from error
    except PluginError as error:  # the type of base is of a plugin that is not here, or fails
        raise PluginError(f"{source}: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def check_inside(file: Path) -> None:
    """Refuse a file that a symbolic link leads out of its checkpoint's folder.

    The cache of the Hub keeps a repository's files in ``blobs`` beside ``snapshots/REVISION``:
    links within the cache are allowed, also where such a blob is itself a link to the ``blobs``
    that all repositories of the cache share. So are those of the installed package, since
    installers make such links.

    Raises:
        CheckpointError: the file is such a link; the message names its target.
    """
    homes, real = [file.parent.resolve()], file.resolve()
    if homes[0].parent.name == "snapshots":
        repository = homes[0].parent.parent
        homes = [repository, repository.parent / "blobs"]
    installed = file.absolute().is_relative_to(Path(__file__).parents[2])
    if not (any(real.is_relative_to(home) for home in homes) or installed):
        raise CheckpointError(
            f"{file} is a link to {real}, outside of its folder; put the file itself there"
        )


def _check_size(weights: Path, parameters: int) -> None:
    """Check that there are about as many weights as the architecture has."""
    header = read_header(weights) if weights.is_file() else None
    if header is None:
        return  # without weights: reported by the code that reads them
    if not parameters <= header.elements <= 2 * parameters + TABLE_ELEMENTS:
        raise CheckpointError(
            f"{weights} has {header.elements} numbers, the architecture in its {BASE_CONFIG} takes "
            f"{parameters} or some more: config and weights must come from the same save"
        )


def _check_version(data: dict[str, Any], source: Path) -> None:
    """Check the versions first of all, since a newer folder may hold anything."""
    version = sdk_version()
    requires = data.get("requires", "")
    try:
        if not isinstance(requires, str):  # a list would be accepted here, and fail much later
            raise InvalidSpecifier(requires)
        specifier = SpecifierSet(requires)
    except InvalidSpecifier as error:
        raise CheckpointError(
            f"{source} requires {requires!r}, expected a version range such as {REQUIRES!r}; "
            "restore the file from its source"
        ) from error
    known = set(BaseMeta.model_fields) | set(PathMeta.model_fields)
    unknown = sorted(str(key) for key in data if key not in known)
    extra = f" and has the unknown keys {', '.join(unknown)}" if unknown else ""
    upgrade = f'pip install --upgrade "{DISTRIBUTION}{requires}"'
    if not satisfies(version, specifier):
        raise CheckpointError(
            f"{source} requires mpa-core {requires}{extra}, this is {version}; run: {upgrade}"
        )
    for what, written in (
        ("checkpoint", data.get("format")),
        ("architecture", _architecture_format(data)),
    ):
        if isinstance(written, int) and written > CHECKPOINT_FORMAT:
            raise CheckpointError(
                f"{source} is of {what} format {written}{extra}, mpa-core {version} reads up to "
                f"{CHECKPOINT_FORMAT}; run: {upgrade}"
            )


def _architecture_format(data: dict[str, Any]) -> Any:
    """Return the format number in a TinyLIC architecture, where there is one.

    Other types of base number theirs, if they do, as their plugins like.
    """
    architecture = data.get("architecture")
    if isinstance(architecture, dict) and architecture.get("type", TINYLIC) == TINYLIC:
        return architecture.get("format")
    return None
