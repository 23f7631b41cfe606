"""The command ``mpa plugins``: the installed plugins, and checks of the contract."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mpa_core.cli.common import UsageError
from mpa_core.cli.threads import add_threads_argument

if TYPE_CHECKING:
    from mpa_core.plugins.registry import Plugin
    from mpa_core.testing.report import Outcome


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
        help="run the conformance checks on plugins' paths and bases; exit 1 if one fails",
    )
    check.add_argument(
        "name",
        nargs="?",
        help="entry point or distribution of the plugin, or distribution:name (default: all)",
    )
    check.add_argument(
        "--train",
        action="store_true",
        help="check the recipes, too: setup, samples, loss, metrics, and a few steps of training",
    )
    check.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data of the recipes for --train (default: three small photos)",
    )
    check.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a setting of the trainings of --train, such as data.crop=256; may be repeated",
    )
    check.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="CHECK=REASON",
        dest="expected",
        help="a check that is known to fail; may be repeated",
    )
    check.add_argument(
        "--verbose", action="store_true", help="say what passed and what was skipped, too"
    )
    add_threads_argument(check)
    check.set_defaults(run=run_check)

    new = commands.add_parser(
        "new", parents=[common], help="write a new plugin: a distribution that works as it is"
    )
    new.add_argument("name", metavar="NAME", help="name of its path, such as det")
    new.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to make (default: mpa-plugin-NAME)"
    )
    new.add_argument("--summary", metavar="TEXT", help="what the path is for, in one line")
    new.add_argument("--author", metavar="NAME", help="who the licence names")
    new.set_defaults(run=run_new)


def run_ls(args: argparse.Namespace) -> int:
    """List the plugins that discovery found; imports no path class, hence no torch."""
    from mpa_core.cli.output import emit, table
    from mpa_core.plugins.registry import registry

    found = registry()
    plugins = found.plugins
    data = [
        {**_facts(plugin), "error": plugin.error, "advice": found.advice(plugin)}
        for plugin in plugins
    ]

    def text() -> str:
        rows = [
            {
                "plugin": plugin.name,
                "distribution": f"{plugin.distribution} {plugin.version}",
                "paths": ", ".join(path.name for path in plugin.paths),
                "bases": ", ".join(base.name for base in plugin.bases),
                "status": "; ".join(
                    filter(
                        None,
                        (
                            "ok" if plugin.error is None else f"broken: {plugin.error}",
                            found.advice(plugin),
                        ),
                    )
                ),
            }
            for plugin in plugins
        ]
        return table(rows) if rows else "no plugins found"

    emit(args, data, text)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Check plugins, and print what fails. Returns 1 if anything does."""
    from mpa_core.cli.output import emit
    from mpa_core.plugins.registry import registry

    if not args.train and (args.data or args.settings):
        raise UsageError("mpa plugins check: --data and --set are for the trainings of --train")
    if args.data is not None and not args.data.exists():
        raise UsageError(f"--data {args.data} does not exist; give the data of the recipes")
    # Discovery first: afterwards nobody could tell which import brought torch in.
    found = registry()
    plugins = found.select(args.name)

    from mpa_core.testing.report import check_plugin

    expected = _expected(args.expected)
    reports = [
        (
            plugin,
            list(
                check_plugin(
                    plugin,
                    train=args.train,
                    expected_failures=expected,
                    data=args.data,
                    settings=args.settings,
                )
            ),
        )
        for plugin in plugins
    ]

    def text() -> str:
        lines = []
        for plugin, outcomes in reports:
            paths = ", ".join(path.name for path in plugin.paths) or "none"
            bases = ", ".join(base.name for base in plugin.bases)
            broken = any(outcome.status == "failed" for outcome in outcomes)
            lines.append(
                f"{'broken' if broken else 'ok':<7} {plugin.name}  "
                f"({plugin.distribution} {plugin.version}; paths: {paths}"
                f"{f'; bases: {bases}' if bases else ''}; {_counts(outcomes)})"
            )
            shown = ("failed",) if not args.verbose else ("failed", "expected", "skipped", "passed")
            lines += [
                f"        {f'{outcome.status:<9}' if args.verbose else ''}{outcome}"
                for status in shown
                for outcome in outcomes
                if outcome.status == status
            ]
        return "\n".join(lines) or "no plugins found"

    data = [
        {
            **_facts(plugin),
            "problems": [
                f"{outcome.subject}: {outcome.message}"
                for outcome in outcomes
                if outcome.status == "failed"
            ],
            "checks": [asdict(outcome) for outcome in outcomes],
        }
        for plugin, outcomes in reports
    ]
    emit(args, data, text)
    return 1 if any(report["problems"] for report in data) else 0


def run_new(args: argparse.Namespace) -> int:
    """Write the folder of a new plugin, and say what to do with it."""
    from mpa_core.cli.output import emit
    from mpa_core.plugins.scaffold import new_plugin

    folder = new_plugin(args.name, args.out, summary=args.summary, author=args.author)
    steps = [
        f"pip install --editable '{folder}[test]'",
        f"pytest {folder}",
        f"mpa train path {args.name} --data PHOTOS --out runs/{args.name}",
    ]
    emit(args, {"folder": str(folder), "next": steps}, "\n".join([f"{folder}: next", *steps]))
    return 0


def _counts(outcomes: Sequence[Outcome]) -> str:
    """Return how many checks had each result, such as ``"17 checks passed, 2 skipped"``."""
    count = Counter[str](outcome.status for outcome in outcomes)
    words = {"failed": "failed", "expected": "failed as expected", "skipped": "skipped"}
    rest = [f"{count[status]} {word}" for status, word in words.items() if count[status]]
    return ", ".join([f"{count['passed']} checks passed", *rest])


def _expected(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, reason = text.partition("=")
        if not (name and equals and reason):
            raise UsageError(
                f"--expect {text!r} is not CHECK=REASON; write for example "
                'check_card="no weights are trained yet"'
            )
        found[name] = reason
    return found


def _facts(plugin: Plugin) -> dict[str, object]:
    return {
        "plugin": plugin.name,
        "module": plugin.module,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "paths": [path.name for path in plugin.paths],
        "bases": [base.name for base in plugin.bases],
    }
