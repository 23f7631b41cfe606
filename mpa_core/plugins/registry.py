"""Discovery of installed plugins, one at a time, and look-up of their paths and types of base.

A plugin is an entry point of the group ``mpa.plugins`` whose value is a module. Each is imported
and asked on its own, so that a broken one is recorded with its error and stops nothing else.
Discovery imports the plugins' top modules only; path classes are imported by
:meth:`Registry.load_class`, those of bases by :mod:`mpa_core.plugins.bases`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from mpa_core.arguments import as_text
from mpa_core.config import PathConfig
from mpa_core.errors import PathNotFoundError, PluginError
from mpa_core.plugins import hookspecs
from mpa_core.plugins.entries import installed_entries, normalize
from mpa_core.plugins.hookspecs import HOOK_PREFIX, PROJECT, BaseSpec, PathSpec
from mpa_core.runtime.foreign import describe, foreign_code

if TYPE_CHECKING:
    from mpa_core.paths.path import TaskPath

GROUP = "mpa.plugins"
"""The entry-point group."""

Spec = TypeVar("Spec", PathSpec, BaseSpec)

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class RegisteredPath:
    """A task path and the distribution that offers it."""

    spec: PathSpec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The path's own name, such as ``det``; two distributions may claim the same."""
        return self.spec.name

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which no other distribution can claim."""
        return f"{self.distribution}:{self.spec.name}"


@dataclass(frozen=True)
class RegisteredBase:
    """A type of base codec and the distribution that offers it."""

    spec: BaseSpec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The type's own name; two distributions may claim the same."""
        return self.spec.name

    @property
    def type(self) -> str:
        """The type that its architectures state, ``distribution:name``."""
        return f"{self.distribution}:{self.spec.name}"


@dataclass(frozen=True)
class Plugin:
    """One entry point as discovery found it."""

    name: str
    """Name of the entry point."""
    module: str
    distribution: str
    version: str
    paths: tuple[RegisteredPath, ...] = ()
    bases: tuple[RegisteredBase, ...] = ()
    error: str | None = None
    """Reason why the plugin did not load, in one line; None if it did."""
    imports_torch: bool = False
    """Whether importing the top module imported torch, which the contract forbids."""


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
        """Return the names that are claimed more than once: these need ``distribution:name``."""
        names = [path.name for path in self.paths()]
        return frozenset(name for name in names if names.count(name) > 1)

    def get(self, name: str) -> RegisteredPath:
        """Look up ``name``, or ``distribution:name``.

        Raises:
            PathNotFoundError: no plugin claims it, or more than one does.
        """
        distribution, _, bare = as_text(name, "name", PathNotFoundError).rpartition(":")
        found = [
            path
            for path in self.paths()
            if path.name == bare
            and (not distribution or normalize(path.distribution) == normalize(distribution))
        ]
        if not found:
            raise PathNotFoundError(self._not_found(name))
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
            PluginError: the import fails or yields anything but a :class:`mpa_core.TaskPath`
                subclass of that name.
        """
        from mpa_core.paths.path import TaskPath

        found = self.get(name)
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
        found = tuple(plugin for plugin in self.plugins if _is_called(plugin, name))
        if not found:
            raise PluginError(
                _unknown_plugin(f"no plugin {name!r} is installed", name, self.plugins)
            )
        return found

    def _not_found(self, name: str) -> str:
        known = sorted({path.name for path in self.paths()})
        names = known + [path.qualified_name for path in self.paths()]
        text = f"no task path {name!r} is installed; known: {', '.join(known) or 'none'}"
        text += did_you_mean(name, names)
        return text + self.broken_plugins()

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
    strict = os.environ.get("MPA_STRICT_PLUGINS", "") not in ("", "0")
    # Sorted, because the order of distributions is the file system's.
    found = sorted(
        (
            Plugin(entry.name, entry.module, entry.distribution, entry.version, error=entry.error)
            for entry in installed_entries(GROUP)
        ),
        key=lambda plugin: (plugin.distribution, plugin.name),
    )
    return Registry(tuple(_load(plugin, strict) for plugin in _wanted(found)))


def _wanted(installed: list[Plugin]) -> list[Plugin]:
    limit = os.environ.get("MPA_PLUGINS")
    if limit is None:
        return installed
    names = [name.strip() for name in limit.split(",") if name.strip()]
    for name in names:
        if not any(_is_called(plugin, name) for plugin in installed):
            raise PluginError(
                _unknown_plugin(
                    f"MPA_PLUGINS names {name!r}, which is not installed", name, installed
                )
            )
    return [plugin for plugin in installed if any(_is_called(plugin, name) for name in names)]


def _load(plugin: Plugin, strict: bool) -> Plugin:
    had_torch = "torch" in sys.modules
    paths: list[PathSpec] = []
    bases: list[BaseSpec] = []
    problem: str | None = None
    try:
        if plugin.error is not None:
            raise PluginError(plugin.error)
        paths, bases = _ask(plugin)
    except KeyboardInterrupt:  # pressed by the user
        raise
    # Whatever else foreign code raises is its own failure, sys.exit() included.
    except BaseException as error:
        problem = describe(error)
        if strict:
            raise PluginError(
                f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version} is broken: "
                f"{problem}; repair or uninstall it, or unset MPA_STRICT_PLUGINS"
            ) from error
    return replace(
        plugin,
        paths=tuple(RegisteredPath(spec, plugin.distribution, plugin.version) for spec in paths),
        bases=tuple(RegisteredBase(spec, plugin.distribution, plugin.version) for spec in bases),
        error=problem,
        imports_torch="torch" in sys.modules and not had_torch,
    )


def _ask(plugin: Plugin) -> tuple[list[PathSpec], list[BaseSpec]]:
    """Import one plugin's top module, call its hooks, and check what they return."""
    if not _MODULE.fullmatch(plugin.module):
        raise PluginError(
            f"entry point {plugin.name} = {plugin.module!r} must be a module such as "
            "'mpa_plugin_det', without an attribute"
        )
    module = importlib.import_module(plugin.module)
    # A manager of its own per plugin, so that its errors concern this plugin alone.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    _check_hooks(module, manager)
    manager.register(module, name=plugin.name)
    hook = manager.hook
    if not (hook.mpa_task_paths.get_hookimpls() or hook.mpa_bases.get_hookimpls()):
        raise PluginError(
            f"module {plugin.module!r} implements no hook; expected a function "
            "mpa_task_paths() or mpa_bases() marked @hookimpl"
        )
    return (
        _offered(hook.mpa_task_paths, PathSpec, "paths"),
        _offered(hook.mpa_bases, BaseSpec, "bases"),
    )


def _check_hooks(module: ModuleType, manager: pluggy.PluginManager) -> None:
    """Refuse hooks that pluggy would silently ignore: misspelt, or without the mark."""
    known = [name for name in vars(hookspecs) if manager.parse_hookspec_opts(hookspecs, name)]
    for attribute, value in vars(module).items():
        options = manager.parse_hookimpl_opts(module, attribute)
        if options is None and not (
            attribute.startswith(HOOK_PREFIX) and inspect.isfunction(value)
        ):
            continue
        hook = (options and options.get("specname")) or attribute
        if hook not in known:
            raise PluginError(
                f"{hook!r} in {module.__name__} is no hook of this version; "
                f"known: {', '.join(known)}{did_you_mean(hook, known)}"
            )
        if options is None:
            raise PluginError(f"hook {hook!r} in {module.__name__} is not marked @hookimpl")


def _offered(hook: pluggy.HookCaller, kind: type[Spec], what: str) -> list[Spec]:
    """Return the records that all implementations of one hook return, with no name twice."""
    answers: list[Any] = hook()
    if len(answers) != len(hook.get_hookimpls()):  # pluggy drops the answer None
        raise PluginError(f"{hook.name}() returned None; expected a list of {kind.__name__}")
    specs: list[Spec] = []
    for answer in answers:
        if not isinstance(answer, list):
            raise PluginError(
                f"{hook.name}() returned {_kind(answer)}; expected a list of {kind.__name__}"
            )
        for spec in answer:
            if not isinstance(spec, kind):
                raise PluginError(
                    f"{hook.name}() returned a list with {_kind(spec)} in it; "
                    f"expected {kind.__name__} only"
                )
            if any(spec.name == other.name for other in specs):
                raise PluginError(
                    f"{hook.name}() returned two {what} named {spec.name!r}; give each its own"
                )
            specs.append(spec)
    return specs


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


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__!r}"


def _is_called(plugin: Plugin, name: str) -> bool:
    """Return whether entry point or distribution have this name, as installers compare names."""
    return name == plugin.name or normalize(name) == normalize(plugin.distribution)


def _unknown_plugin(found: str, name: str, installed: Iterable[Plugin]) -> str:
    known = sorted({plugin.name for plugin in installed})
    hint = did_you_mean(
        name, [each for plugin in installed for each in (plugin.name, plugin.distribution)]
    )
    return f"{found}; installed: {', '.join(known) or 'none'}{hint}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message on ``name``: the most similar of ``known``, if there is one."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
