"""The command ``mpa train path``: trains a task path on a frozen base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mpa_core.codecs import DEFAULT_BASE


def register(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    shared: argparse.ArgumentParser,
) -> None:
    """Add ``mpa train path``; ``shared`` has the options of every training command."""
    path = commands.add_parser(
        "path", parents=[common, shared], help="stage 2: a task path on a frozen base; resumable"
    )
    path.add_argument("name", metavar="NAME", help="registered path, such as cls")
    path.add_argument(
        "--base", metavar="ID", help=f"base codec, id or folder (default: {DEFAULT_BASE})"
    )
    path.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML settings, over the recipe's defaults"
    )
    path.add_argument(
        "--cache", metavar="DIR", help="folder for latents, shared by paths (default: in the run)"
    )
    begin = path.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on from its last checkpoint")
    begin.add_argument(
        "--from",
        dest="start_from",
        metavar="PATH",
        help="begin a new run with the weights of a path (id or folder) or of another run",
    )
    path.set_defaults(run=run_path)


def run_path(args: argparse.Namespace) -> int:
    """Train, or resume training, until the budget ends or a signal comes.

    Ends with a checkpoint.
    """
    from mpa_core.cli.train import budget_overrides, print_result
    from mpa_core.training.runs.folder import stored_config
    from mpa_core.training.runs.run import Run, train
    from mpa_core.training.settings.path import load_path_config, recipe_defaults

    defaults: dict[str, Any]
    base = args.base
    if args.resume:
        defaults = stored_config(args.out)
        base = base or defaults["base"]
    else:
        defaults = recipe_defaults(args.name)
    overrides = [*args.overrides, *budget_overrides(args, defaults)]
    if args.cache is not None:
        defaults["cache"] = {**defaults.get("cache", {}), "dir": args.cache}
    config = load_path_config(
        args.name, base or DEFAULT_BASE, args.config, overrides, defaults=defaults
    )
    run = Run(args.out, args.data, args.val, args.start_from)
    return print_result(args, train(run, config, resume=args.resume))
