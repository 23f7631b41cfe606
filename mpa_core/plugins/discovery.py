"""Discovery: each plugin is imported and asked on its own; one that fails is kept with its error.

A plugin is an entry point of the group ``mpa.plugins`` whose value is a module. Only the plugins'
top modules are imported.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from mpa_core.arguments import did_you_mean
from mpa_core.errors import PluginError
from mpa_core.plugins import hookspecs
from mpa_core.plugins.entries import installed_entries
from mpa_core.plugins.hookspecs import HOOK_PREFIX, PROJECT, BaseSpec, PathSpec
from mpa_core.plugins.records import Plugin, RegisteredBase, RegisteredPath, unknown_plugin
from mpa_core.requirements import asked_of_sdk, needs_other_sdk
from mpa_core.runtime.foreign import describe

GROUP = "mpa.plugins"
"""The entry-point group."""

Spec = TypeVar("Spec", PathSpec, BaseSpec)

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def discover() -> tuple[Plugin, ...]:
    """Return every plugin that is installed and wanted, loaded or with its error.

    Raises:
        PluginError: as :func:`mpa_core.plugins.registry.registry`.
    """
    strict = os.environ.get("MPA_STRICT_PLUGINS", "") not in ("", "0")
    # Sorted, because the order of distributions is the file system's.
    found = sorted(
        (
            Plugin(entry.name, entry.module, entry.distribution, entry.version, error=entry.error)
            for entry in installed_entries(GROUP)
        ),
        key=lambda plugin: (plugin.distribution, plugin.name),
    )
    return tuple(_load(plugin, strict) for plugin in _wanted(found))


def _wanted(installed: list[Plugin]) -> list[Plugin]:
    limit = os.environ.get("MPA_PLUGINS")
    if limit is None:
        return installed
    names = [name.strip() for name in limit.split(",") if name.strip()]
    for name in names:
        if not any(plugin.is_called(name) for plugin in installed):
            raise PluginError(
                unknown_plugin(
                    f"MPA_PLUGINS names {name!r}, which is not installed", name, installed
                )
            )
    return [plugin for plugin in installed if any(plugin.is_called(name) for name in names)]


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
        asked = asked_of_sdk(plugin.distribution)
        if asked and (unmet := needs_other_sdk(asked)) and unmet not in problem:
            problem = f"{problem}; {plugin.distribution} {unmet}"
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


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__!r}"
