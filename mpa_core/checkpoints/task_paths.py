"""Building paths from their folders: by the plugin's class, or without one if none is needed."""

from __future__ import annotations

from pathlib import Path

from mpa_core.checkpoints.hub import HubOptions
from mpa_core.checkpoints.meta import BaseRef, PathMeta, PluginRef
from mpa_core.checkpoints.path_folders import LoadedPath, load_path
from mpa_core.checkpoints.sources import path_on, resolve
from mpa_core.errors import PathNotFoundError, PluginError
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.registry import registry
from mpa_core.requirements import version_of


def build_path(loaded: LoadedPath) -> TaskPath:
    """Build the path of a folder, in eval mode on the CPU; it keeps which base it belongs to.

    Nothing of the folder is run. Its class is the one that the installed plugin has under the
    folder's ``path_type``; a path whose class has no code of its own is built without its plugin.

    Raises:
        PathNotFoundError: its plugin is not installed, and it needs it.
        CheckpointError, PluginError: as :meth:`LoadedPath.build`.
    """
    meta = loaded.meta
    try:
        found = registry().load_class(f"{meta.plugin.distribution}:{meta.path_type}")
    except PathNotFoundError as error:
        if not meta.plain:
            raise PathNotFoundError(_not_installed(loaded)) from error
        found = _plain_class(meta)
    path = loaded.build(found)
    path.trained_on = meta.base
    return path


def read_task_path(source: str | Path, path_class: type[TaskPath], options: HubOptions) -> TaskPath:
    """Return what :meth:`mpa_core.TaskPath.from_pretrained` of ``path_class`` does.

    Raises:
        PluginError: the folder's path is of another class.
        MPAError: as :func:`resolve`, :func:`load_path` and :func:`build_path`.
    """
    loaded = load_path(resolve(source, path_on(), options))
    if path_class is TaskPath:
        return build_path(loaded)
    if loaded.meta.path_type != path_class.name:
        raise PluginError(
            f"{loaded.folder} has a path of type {loaded.meta.path_type!r}, expected "
            f"{path_class.name!r}, that of {path_class.__qualname__}; "
            "load it with TaskPath.from_pretrained"
        )
    path = loaded.build(path_class)
    path.trained_on = loaded.meta.base
    return path


def plugin_of(path: TaskPath) -> PluginRef:
    """Return the distribution that has the class of ``path``, for the folder it is saved in.

    Raises:
        PluginError: no installed plugin offers its class, so nobody could load the folder.
    """
    if isinstance(path, _PlainPath):
        return path.plugin
    offered = registry().offering(type(path))
    return PluginRef(distribution=offered.distribution, version=f">={offered.version}")


def base_of(path: TaskPath) -> BaseRef | None:
    """Return the base that ``path`` was trained on, where it was read from a folder."""
    return path.trained_on if isinstance(path.trained_on, BaseRef) else None


class _PlainPath(TaskPath):
    """A path without its plugin, that remembers which it was."""

    plugin: PluginRef


def _plain_class(meta: PathMeta) -> type[TaskPath]:
    members = {"name": meta.path_type, "plugin": meta.plugin, "__doc__": _PlainPath.__doc__}
    return type("PlainPath", (_PlainPath,), members)


def _not_installed(loaded: LoadedPath) -> str:
    meta = loaded.meta
    plugin, version = meta.plugin, version_of(meta.plugin.distribution)
    line = f'pip install "{plugin.distribution}{plugin.version}"'
    what = f"path {meta.path_type!r} in {loaded.called} needs the code of its plugin"
    if version is None:
        return f"{what}, {plugin.distribution}, which is not installed; run: {line}"
    return (
        f"{what}; {plugin.distribution} {version} is installed and offers no path of that name"
        f"{registry().broken_plugins()}; look at mpa plugins ls, or run: {line}"
    )
