"""The command ``mpa plugins``: the installed plugins, and checks of the contract."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mpa_core.cli.threads import add_threads_argument

if TYPE_CHECKING:
    from mpa_core.plugins.registry import Plugin


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa plugins`` to the command line."""
    group = subparsers.add_parser("plugins", help="list and check installed plugins")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    ls = commands.add_parser(
        "ls", parents=[common], help="every plugin found, with what it brings or why it failed"
    )
    ls.set_defaults(run=run_ls)

    check = commands.add_parser(
        "check",
        parents=[common],
        help="load plugins fully and try their paths and bases; exit 1 if broken",
    )
    check.add_argument(
        "name", nargs="?", help="entry point or distribution of the plugin (default: all)"
    )
    add_threads_argument(check)
    check.set_defaults(run=run_check)


def run_ls(args: argparse.Namespace) -> int:
    """List the plugins that discovery found; imports no path class, hence no torch."""
    from mpa_core.cli.output import emit, table
    from mpa_core.plugins.registry import registry

    plugins = registry().plugins
    data = [{**_facts(plugin), "error": plugin.error} for plugin in plugins]

    def text() -> str:
        rows = [
            {
                "plugin": plugin.name,
                "distribution": f"{plugin.distribution} {plugin.version}",
                "paths": ", ".join(path.name for path in plugin.paths),
                "bases": ", ".join(base.name for base in plugin.bases),
                "status": "ok" if plugin.error is None else f"broken: {plugin.error}",
            }
            for plugin in plugins
        ]
        return table(rows) if rows else "no plugins found"

    emit(args, data, text)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Import plugins completely and try them; returns 1 if any breaks the contract."""
    from mpa_core.cli.output import emit
    from mpa_core.plugins.registry import registry

    # Discovery first: afterwards it could not be told which import has imported torch.
    found = registry()
    plugins = found.select(args.name)

    from mpa_core.plugins.check import check_plugin

    reports = [(plugin, check_plugin(found, plugin)) for plugin in plugins]

    def text() -> str:
        lines = []
        for plugin, problems in reports:
            paths = ", ".join(path.name for path in plugin.paths) or "none"
            bases = ", ".join(base.name for base in plugin.bases)
            lines.append(
                f"{'broken' if problems else 'ok':<7} {plugin.name}  "
                f"({plugin.distribution} {plugin.version}; paths: {paths}"
                f"{f'; bases: {bases}' if bases else ''})"
            )
            lines += [f"        {problem}" for problem in problems]
        return "\n".join(lines) or "no plugins found"

    emit(args, [{**_facts(plugin), "problems": problems} for plugin, problems in reports], text)
    return 1 if any(problems for _, problems in reports) else 0


def _facts(plugin: Plugin) -> dict[str, object]:
    return {
        "plugin": plugin.name,
        "module": plugin.module,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "paths": [path.name for path in plugin.paths],
        "bases": [base.name for base in plugin.bases],
    }
