"""The command ``mpa train``: trains a base codec or a path, and exports a run's weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.cli import train_path
from mpa_core.cli.threads import add_threads_argument

if TYPE_CHECKING:
    from mpa_core.training.engine.loop import RunResult


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa train`` to the command line."""
    group = subparsers.add_parser("train", help="train a base codec or a task path; export a run")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    shared = _shared_options()

    base = commands.add_parser(
        "base", parents=[common, shared], help="stage 1a on a folder of photos; resumable"
    )
    start = base.add_mutually_exclusive_group()
    start.add_argument("--config", type=Path, metavar="FILE", help="YAML settings")
    start.add_argument("--preset", metavar="NAME", help="architecture, with default settings")
    begin = base.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on from its last checkpoint")
    begin.add_argument(
        "--from",
        dest="start_from",
        metavar="BASE",
        help="begin a new run with the weights of a base (id or folder) or of another run",
    )
    base.set_defaults(run=run_base)

    train_path.register(commands, common, shared)

    export = commands.add_parser(
        "export",
        parents=[common],
        help="write a run's averaged weights as a folder of a base or of a path",
    )
    export.add_argument("source", type=Path, metavar="RUN_DIR", help="folder of the run")
    export.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    export.add_argument("--name", help="what a base is called by (default: OUT's own name)")
    export.add_argument(
        "--base", metavar="ID", help="of a path: where its base is now (default: as it was)"
    )
    export.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="how the weights are stored (default: float32)",
    )
    export.add_argument(
        "--license",
        metavar="ID",
        help="of the weights, for the card, as the Hub calls it (such as mit)",
    )
    export.add_argument(
        "--figures",
        type=Path,
        metavar="FILE",
        help="Markdown for a path's card (default: the run's last validation)",
    )
    export.add_argument("--force", action="store_true", help="replace what is in OUT")
    add_threads_argument(export)
    export.set_defaults(run=run_export)


def _shared_options() -> argparse.ArgumentParser:
    """Build a parser of the options that every training command takes."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", type=Path, required=True, metavar="DIR", help="training photos")
    shared.add_argument("--val", type=Path, metavar="DIR", help="photos to validate on")
    shared.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    shared.add_argument("--hours", type=float, help="budget in hours of training, all resumptions")
    shared.add_argument("--steps", type=int, help="budget in steps")
    add_threads_argument(shared, lasting=True)
    shared.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="another value for one setting, such as optim.lr=3e-4; may be repeated",
    )
    return shared


def budget_overrides(args: argparse.Namespace, base: dict[str, Any]) -> list[str]:
    """Return the settings of ``--hours``, ``--steps`` and ``--threads``.

    Either of the first two is the whole budget: an older budget in ``base`` is removed, so that it
    does not end the run as well.
    """
    overrides = []
    if args.hours is not None or args.steps is not None:
        base.pop("budget", None)
        overrides += [
            "budget.epochs=null",
            f"budget.hours={'null' if args.hours is None else args.hours}",
            f"budget.steps={'null' if args.steps is None else args.steps}",
        ]
    if args.threads is not None:
        overrides.append(f"run.threads={args.threads}")
    return overrides


def print_result(args: argparse.Namespace, result: RunResult) -> int:
    """Print how a run ended, if this process wrote it; the exit code is 0."""
    from mpa_core.cli.output import emit
    from mpa_core.io.folders import find_files, picture_suffixes

    if not result.is_main:
        return 0
    left_out = find_files(args.data, picture_suffixes()).left_out
    ended = {"budget": "its budget is spent", "signal": "stopped by a signal"}[result.reason]
    emit(
        args,
        {
            "run": str(args.out),
            "step": result.step,
            "hours": round(result.elapsed / 3600, 4),
            "ended": result.reason,
            "checkpoint": str(result.checkpoint),
            "left_out_by_reason": dict(left_out),
        },
        f"{args.out}: {result.step} steps in {result.elapsed / 3600:.2f} hours; {ended}; "
        f"the state is in {result.checkpoint}",
    )
    return 0


def run_base(args: argparse.Namespace) -> int:
    """Train, or resume training, until the budget ends or a signal comes.

    Ends with a checkpoint.
    """
    from mpa_core.cli.common import UsageError
    from mpa_core.training.runs.folder import stored_config
    from mpa_core.training.runs.run import Run, train
    from mpa_core.training.runs.weights import pretrained
    from mpa_core.training.settings.base import load_config

    base: dict[str, Any]
    if args.resume:
        base = stored_config(args.out)
    elif args.preset or args.config:
        base = {}
    elif args.start_from:
        base = {"model": pretrained(args.start_from).config.model_dump(mode="json")}
    else:
        raise UsageError("mpa train base: give --config, --preset, --from or --resume")
    overrides = list(args.overrides)
    if args.preset:
        overrides.insert(0, f"model={args.preset}")
    overrides += budget_overrides(args, base)
    config = load_config(args.config, overrides, base=base)
    run = Run(args.out, args.data, args.val, args.start_from)
    return print_result(args, train(run, config, resume=args.resume))


def run_export(args: argparse.Namespace) -> int:
    """Write the averaged weights of the newest checkpoint as a folder that a codec loads."""
    from mpa_core.checkpoints.meta import BASE_CONFIG, PATH_CONFIG
    from mpa_core.cli.output import emit
    from mpa_core.io.files import already_exists
    from mpa_core.training.runs.export import export_run, run_kind

    kind = run_kind(args.source)
    config = {"base": BASE_CONFIG, "path": PATH_CONFIG}[kind]
    if (args.out / config).exists() and not args.force:
        raise already_exists(args.out / config, "overwrite it with --force")
    fingerprint = export_run(
        args.source,
        args.out,
        dtype=args.dtype,
        name=args.name,
        base=args.base,
        licence=args.license,
        figures=_figures(args.figures),
    )
    emit(
        args,
        {kind: str(args.out), "fingerprint": fingerprint, "dtype": args.dtype},
        f"{args.out}: {kind} {fingerprint[:16]} as {args.dtype}",
    )
    return 0


def _figures(path: Path | None) -> str | None:
    from mpa_core.cli.common import UsageError

    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--figures {path}: cannot be read as text: {error}") from error
