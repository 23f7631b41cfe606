"""Path folders: ``path_config.json``, ``path.safetensors``, ``README.md``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path

from torch import Tensor

from mpa_core.arguments import as_path, as_text, expect
from mpa_core.checkpoints import tensors as tensor_io
from mpa_core.checkpoints.cards import path_card
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.meta import (
    CARD,
    PATH_CONFIG,
    PATH_WEIGHTS,
    BaseRef,
    PathMeta,
    PluginRef,
    StorageType,
    canonical_json,
    read_path_meta,
)
from mpa_core.checkpoints.origin import origin_of
from mpa_core.checkpoints.write import write_folder
from mpa_core.errors import BaseMismatchError, CheckpointError, ConfigError, OutputError
from mpa_core.paths.path import TaskPath, building_path
from mpa_core.requirements import satisfies
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults


@dataclass(frozen=True)
class LoadedPath:
    """A path folder that passed every check that needs neither its class nor its base."""

    meta: PathMeta
    tensors: dict[str, Tensor]
    folder: Path

    @property
    def called(self) -> str:
        """What messages call it: its repository and commit, where the folder is a copy of one."""
        return str(origin_of(self.folder) or self.folder)

    def require_base(self, name: str, base_fingerprint: str) -> None:
        """Refuse any base other than the one the path was trained on; see :func:`require_base`."""
        what = f"path {self.meta.path_type!r} in {self.called}"
        require_base(self.meta.base, what, name, base_fingerprint)

    @normal_tensors()
    def build(self, path_class: type[TaskPath]) -> TaskPath:
        """Build the path with its weights, in eval mode on the CPU.

        Args:
            path_class: the class registered as ``meta.path_type``.

        Raises:
            CheckpointError: the installed plugin has another version than the path needs, or its
                class takes another config or builds other tensors than those stored.
            PluginError: the class fails while it is built, in whatever way.
        """
        plugin = self.meta.plugin
        with suppress(PackageNotFoundError):  # a class defined in a script has no distribution
            installed = distribution_version(plugin.distribution)
            if not satisfies(installed, plugin.version):
                raise CheckpointError(
                    f"{self.folder / PATH_CONFIG} needs {plugin.distribution} {plugin.version}, "
                    f'installed is {installed}; run: pip install "{plugin.distribution}'
                    f'{plugin.version}"'
                )
        try:
            with building_path(path_class), making_weights():
                config = path_class.Config.parse(
                    self.meta.config, source=f"{self.folder / PATH_CONFIG}, config"
                )
                build = partial(path_class, self.meta.path_stages, config, self.meta.levels)
                tensor_io.check_buildable(build, self.tensors, str(self.folder / PATH_WEIGHTS))
                path = build()
        except ConfigError as error:
            raise CheckpointError(
                f"{error}; the path was written for {plugin.distribution}{plugin.version}: "
                "install that version"
            ) from error
        tensor_io.load_into(path, self.tensors, str(self.folder / PATH_WEIGHTS))
        return path.eval()


def require_base(wanted: BaseRef, what: str, name: str, base_fingerprint: str) -> None:
    """Refuse any base but ``wanted``, the one that ``what`` was trained on.

    Raises:
        BaseMismatchError: With both bases and the line that loads the right one.
    """
    if base_fingerprint != wanted.fingerprint:
        raise BaseMismatchError(
            f"{what} was trained on base {wanted.repo_id!r} ({wanted.fingerprint[:16]}…), this "
            f"codec is {name!r} ({base_fingerprint[:16]}…); load the right one: {wanted.loading}"
        )


@usual_defaults()
def save_path(
    folder: str | Path,
    path: TaskPath,
    *,
    base_name: str,
    base_fingerprint: str,
    plugin: PluginRef | None = None,
    base_revision: str | None = None,
    card: str | Callable[[PathMeta], str] | None = None,
    dtype: StorageType = "float32",
) -> str:
    """Write a path folder, as a whole or not at all; the files of an earlier save are replaced.

    Args:
        folder: made if missing, and not that of another path; other files in it are left alone.
        path: its own tensors are written, without the local name it is loaded under.
        base_name: name by which ``MPACodec.from_pretrained`` loads the base.
        base_fingerprint: 64 hex digits of that base.
        plugin: distribution and version range that provide the class; None is the SDK itself.
        base_revision: commit of the base's Hub repository, if it has one.
        card: text of ``README.md``, or a function that makes it from the metadata; None writes a
            plain one.
        dtype: ``float16`` halves the file by rounding matrices.

    Returns:
        The fingerprint of the path's tensors as loaded back.

    Raises:
        CheckpointError: the tensors are not finite or do not fit float16.
        ConfigError: ``base_name``, ``base_fingerprint`` or ``dtype`` has a value that the format
            does not allow.
        OutputError: the folder cannot be written, or holds another path; its files are unchanged.
    """
    target = as_path(folder, "folder", OutputError)
    expect(path, TaskPath, "path", "a TaskPath", ConfigError)
    with suppress(CheckpointError):  # what cannot be read is replaced
        held = read_path_meta(target).path_type
        if held != path.name:
            raise OutputError(
                f"{target} holds the path {held!r} and was left as it is, expected a new folder or "
                f"one of {path.name!r}; choose another folder, or delete this one"
            )
    if not callable(card):
        expect(card, (str, type(None)), "card", "text (str), or what makes it", ConfigError)
    kept = tensor_io.stored(path.state_dict(), dtype)
    digest = fingerprint(tensor_io.used(kept))
    base = {"repo_id": base_name, "revision": base_revision, "fingerprint": base_fingerprint}
    meta = PathMeta.parse(
        {
            "path_type": path.name,
            "plugin": plugin if plugin is not None else PluginRef(),
            "plain": path.is_plain,
            "base": base,
            "config": path.config.model_dump(mode="json"),
            "stages": [stage._asdict() for stage in path.layout],
            "levels": path.levels,
            "fingerprint": digest,
            "dtype": dtype,
        },
        source=f"path {path.name!r}",
    )
    weights = tensor_io.to_file(
        kept,
        {
            "format": meta.format,
            "kind": meta.kind,
            "path_type": meta.path_type,
            "base_fingerprint": base_fingerprint,
            "fingerprint": digest,
        },
    )
    text = as_text(card(meta) if callable(card) else card or path_card(meta), "card")
    write_folder(
        target,
        {
            PATH_WEIGHTS: weights,
            PATH_CONFIG: canonical_json(meta).encode(),
            CARD: text.encode(),
        },
    )
    return digest


@usual_defaults()
@normal_tensors()
def load_path(folder: str | Path) -> LoadedPath:
    """Read a path folder; :meth:`LoadedPath.build` makes the path.

    Raises:
        CheckpointError: there is nothing there, a base folder, another version, files that are
            broken or do not belong together, pickles or NaN; the message says which and what to do.
    """
    folder = as_path(folder, "folder", CheckpointError)
    meta = read_path_meta(folder)
    source = folder / PATH_WEIGHTS
    tensors = tensor_io.read_file(source, meta.dtype)
    found = fingerprint(tensors)
    tensor_io.check_fingerprint(found, meta.fingerprint, str(source), PATH_CONFIG)
    return LoadedPath(meta, tensors, folder)
