"""Look-up of the paths and types of base of the installed plugins.

What is installed is found by :mod:`mpa_core.plugins.discovery`, once for the process. Path classes
are imported by :meth:`Registry.load_class`, those of bases by :mod:`mpa_core.plugins.bases`.
"""

from __future__ import annotations

import functools
import importlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpa_core.arguments import as_text, did_you_mean
from mpa_core.config import PathConfig
from mpa_core.errors import PathNotFoundError, PluginError
from mpa_core.plugins.discovery import discover
from mpa_core.plugins.entries import normalize
from mpa_core.plugins.records import Plugin, RegisteredBase, RegisteredPath, unknown_plugin
from mpa_core.requirements import DISTRIBUTION
from mpa_core.runtime.foreign import foreign_code

if TYPE_CHECKING:
    from mpa_core.paths.path import TaskPath

__all__ = ["Plugin", "RegisteredBase", "RegisteredPath", "Registry", "load_target", "registry"]


@dataclass(frozen=True)
class Registry:
    """The result of one discovery; immutable. :func:`registry` makes and caches it."""

    plugins: tuple[Plugin, ...]

    def paths(self) -> tuple[RegisteredPath, ...]:
        """Return every path of every plugin that loaded, sorted by name, then by distribution."""
        found = (path for plugin in self.plugins for path in plugin.paths)
        return tuple(sorted(found, key=lambda path: (path.name, path.distribution)))

    def bases(self) -> tuple[RegisteredBase, ...]:
        """Return the types of base of all plugins that loaded, by name, then distribution."""
        found = (base for plugin in self.plugins for base in plugin.bases)
        return tuple(sorted(found, key=lambda base: (base.name, base.distribution)))

    def conflicts(self) -> frozenset[str]:
        """Return the names claimed more than once: all but the SDK's own need a distribution."""
        names = [path.name for path in self.paths()]
        return frozenset(name for name in names if names.count(name) > 1)

    def name_of(self, path: RegisteredPath) -> str:
        """Return the shortest name that means ``path``: its own, or ``distribution:name``."""
        taken = path.name in self.conflicts() and path.distribution != DISTRIBUTION
        return path.qualified_name if taken else path.name

    def get(self, name: str) -> RegisteredPath:
        """Look up ``name``, or ``distribution:name``.

        A name that the SDK's own distribution has is that one, whoever else claims it.

        Raises:
            PathNotFoundError: no plugin claims it, or more than one does.
        """
        distribution, colon, bare = as_text(name, "name", PathNotFoundError).rpartition(":")
        found = [
            path
            for path in self.paths()
            if path.name == bare
            and (not colon or normalize(path.distribution) == normalize(distribution))
        ]
        if not found:
            raise PathNotFoundError(self._not_found(name))
        found = [path for path in found if path.distribution == DISTRIBUTION] or found
        if len(found) > 1:
            claims = " and ".join(f"{path.distribution} {path.version}" for path in found)
            names = " or ".join(sorted({repr(path.qualified_name) for path in found}))
            raise PathNotFoundError(
                f"task path {name!r} is claimed by {claims}; "
                f"ask for {names}, or uninstall all but one"
            )
        return found[0]

    def load_class(self, name: str) -> type[TaskPath]:
        """Import the class of path ``name``, and check it against the contract; imports torch.

        Raises:
            PathNotFoundError: as :meth:`get`.
            PluginError: it needs another SDK, or the import fails or yields anything but a
                :class:`mpa_core.TaskPath` subclass of that name.
        """
        from mpa_core.paths.path import TaskPath

        found = self.get(name)
        found.require_sdk()
        target = found.spec.path
        where = f"task path {found.qualified_name!r}: {target!r}"
        loaded = load_target(target, where)
        if not (isinstance(loaded, type) and issubclass(loaded, TaskPath)):
            raise PluginError(f"{where} is {loaded!r}, expected a subclass of mpa_core.TaskPath")
        own_name = getattr(loaded, "name", None)
        if own_name != found.name:
            raise PluginError(
                f"{where} has name = {own_name!r}, expected {found.name!r} as in its PathSpec; "
                "make the two equal"
            )
        if not issubclass(loaded.Config, PathConfig):
            raise PluginError(f"{where} has a Config that is no mpa_core.config.PathConfig")
        return loaded

    def offering(self, path_class: type[TaskPath]) -> RegisteredPath:
        """Return the registered path whose class is ``path_class``.

        Raises:
            PluginError: no loaded plugin offers it.
        """
        for found in self.paths():
            if found.name != path_class.name:
                continue
            with suppress(PluginError):  # another of that name, broken
                if self.load_class(found.qualified_name) is path_class:
                    return found
        raise PluginError(
            f"no installed plugin offers {path_class.__module__}.{path_class.__qualname__} as path "
            f"{path_class.name!r}; return a PathSpec for it from mpa_task_paths and install that"
        )

    def select(self, name: str | None = None) -> tuple[Plugin, ...]:
        """Return the plugins whose entry point or distribution is called ``name``; all for None.

        Raises:
            PluginError: there is none.
        """
        if name is None:
            return self.plugins
        as_text(name, "name", PluginError)
        found = tuple(plugin for plugin in self.plugins if plugin.is_called(name))
        if not found:
            raise PluginError(
                unknown_plugin(f"no plugin {name!r} is installed", name, self.plugins)
            )
        return found

    def _not_found(self, name: str) -> str:
        known = sorted({path.name for path in self.paths()})
        names = known + [path.qualified_name for path in self.paths()]
        text = f"no task path {name!r} is installed; known: {', '.join(known) or 'none'}"
        text += did_you_mean(name, names) + self.broken_plugins()
        return f"{text}; write one that `mpa paths ls` shows, or install the plugin that has it"

    def advice(self, plugin: Plugin) -> str | None:
        """Return what its user can do about ``plugin``, in one line; None if there is no need."""
        if plugin.error is not None:
            if "pip install --upgrade" in plugin.error:
                return None  # it says so itself
            name = plugin.distribution
            return f"repair it, or run: pip install --upgrade {name}, or: pip uninstall {name}"
        told = [
            f"{spec.name!r} {spec.unmet}"
            for spec in (*(p.spec for p in plugin.paths), *(b.spec for b in plugin.bases))
            if spec.unmet
        ]
        for path in plugin.paths:
            others = [o for o in self.paths() if o.name == path.name and o != path]
            if others:
                claims = " and ".join(sorted({other.distribution for other in others}))
                told.append(
                    f"{path.name!r} is claimed by {claims}, too: write {self.name_of(path)}"
                )
        return "; ".join(told) or None

    def broken_plugins(self) -> str:
        """Return the end of a message on a missing name: the plugins that did not load."""
        broken = [plugin.name for plugin in self.plugins if plugin.error is not None]
        return f"; did not load, see `mpa plugins ls`: {', '.join(broken)}" if broken else ""


def registry(*, refresh: bool = False) -> Registry:
    """Return the installed plugins, discovered on the first call and then kept for the process.

    The environment variable ``MPA_PLUGINS=a,b`` limits discovery to the plugins whose entry point
    or distribution is named; set but empty, it loads none. ``MPA_STRICT_PLUGINS=1`` makes a broken
    plugin an error.

    Args:
        refresh: discover again, for a plugin installed meanwhile or a changed environment variable.
            Modules that were imported before stay as they are, as always in Python.

    Raises:
        PluginError: a plugin is broken and ``MPA_STRICT_PLUGINS`` is set, or ``MPA_PLUGINS`` has a
            name that is not installed.
    """
    if refresh:
        importlib.invalidate_caches()
        _discover.cache_clear()
    return _discover()


@functools.cache
def _discover() -> Registry:
    return Registry(discover())


def load_target(target: str, where: str) -> Any:
    """Import and return ``target``, ``"module:Name"`` of a plugin.

    Args:
        target: as in the plugin's :class:`PathSpec`.
        where: description of it, for messages.

    Raises:
        PluginError: the import fails in whatever way, ``sys.exit()`` included, or has no such name.
    """
    module_name, _, name = target.partition(":")
    with foreign_code(f"{where} cannot be imported", passed=()):
        return getattr(importlib.import_module(module_name), name)
