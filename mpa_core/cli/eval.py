"""The command ``mpa eval``: rate, distortion and task metrics from real files, and their page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.cli.threads import add_threads_argument, counted
from mpa_core.codecs import DEFAULT_BASE

if TYPE_CHECKING:
    from mpa_core.checkpoints import AskedPaths


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa eval`` to the command line."""
    parser = subparsers.add_parser(
        "eval", parents=[common], help="measure a base and its paths beside classic codecs"
    )
    parser.add_argument("dataset", nargs="?", type=Path, metavar="DATASET", help="folder of photos")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--protocol",
        default="whole",
        metavar="NAME",
        help="what is coded of each photo: whole, the photo at its own size, or short-side[:SIDE], "
        "squares of SIDE (256) pixels of the photo made small (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="measure only what is not in --out")

    ours = parser.add_argument_group("ours")
    ours.add_argument(
        "--base",
        default=DEFAULT_BASE,
        metavar="ID",
        help="base to measure, bundled or a folder (%(default)s)",
    )
    ours.add_argument(
        "--no-base",
        dest="base",
        action="store_const",
        const=None,
        help="measure the classic codecs of --codecs alone",
    )
    ours.add_argument(
        "--paths", default="", metavar="LIST", help="paths to load: NAME or NAME=FOLDER, by commas"
    )
    ours.add_argument(
        "--qualities", default="1,2.5,4,6,8", metavar="LIST", help="default: %(default)s"
    )
    ours.add_argument(
        "--mixes", nargs="+", default=[], metavar="MIX", help='such as "cls=0.5,mse=0.2"'
    )
    ours.add_argument("--sweep", metavar="FROM:TO:STEPS", help="mixes such as main:cls:9")
    ours.add_argument("--sweep-quality", type=float, metavar="Q", help="default: the middle one")
    ours.add_argument("--device", default="cpu", help="default: %(default)s")

    others = parser.add_argument_group("classic codecs")
    others.add_argument(
        "--codecs",
        default="",
        metavar="LIST",
        help="with a curve on the photos: jpeg, webp, avif, jpeg2000, jxl, vvc",
    )
    others.add_argument(
        "--match", default="", metavar="LIST", help="at the bytes of each of our files"
    )

    add_threads_argument(parser, lasting=True)
    figures = parser.add_argument_group("metrics")
    figures.add_argument(
        "--tasks", default="", metavar="LIST", help="paths whose recipe judges, such as cls,seg"
    )
    figures.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TASK.KEY=VALUE",
        dest="settings",
        help="an option of a task's recipe, such as cls.stride=128; may be repeated",
    )
    figures.add_argument(
        "--perceptual",
        default="efficientnet-lite0,haarpsi",
        metavar="LIST",
        help="distances: lpips, vgg-hed, efficientnet-lite0, haarpsi, gmsd, fsim, vif "
        "(default: %(default)s)",
    )
    figures.add_argument(
        "--limit",
        type=counted("pictures", most=10**9),
        metavar="N",
        help="only the first N pictures, or by another protocol than whole the first N photos",
    )
    figures.add_argument("--no-plots", action="store_true", help="tables alone")
    figures.add_argument(
        "--strip-picture", type=int, default=0, metavar="N", help="which one the strip shows"
    )

    page = parser.add_argument_group("a page from stored results, nothing is measured")
    page.add_argument(
        "--report", nargs="+", type=Path, metavar="RESULTS.json", help="results of mpa eval"
    )
    page.add_argument("--markdown", type=Path, metavar="FILE", help="the page to write")
    page.add_argument("--plots", type=Path, metavar="DIR", help="folder for its plots")
    page.add_argument(
        "--band",
        action="append",
        default=[],
        metavar="LOW:HIGH",
        dest="bands",
        help="bits per pixel over which leads are averaged, such as 0.15:0.3; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, or make the page of stored results."""
    from mpa_core.cli.common import UsageError

    if args.report:
        if args.dataset is not None or args.markdown is None:
            raise UsageError("mpa eval --report RESULTS.json… takes --markdown FILE and no DATASET")
        return _report(args)
    if args.bands:
        raise UsageError("mpa eval: --band is for the page that --report makes of stored results")
    if args.dataset is None or args.out is None:
        raise UsageError("mpa eval: give DATASET and --out DIR, or --report RESULTS.json…")
    if args.base is None and (args.paths or args.mixes or args.sweep or args.match):
        raise UsageError("mpa eval: --paths, --mixes, --sweep and --match ask for a base")
    if args.base is None and not args.codecs:
        raise UsageError("mpa eval: --no-base leaves nothing to measure; give --codecs LIST")
    return _measure(args)


def _measure(args: argparse.Namespace) -> int:
    from mpa_core.arguments import as_device
    from mpa_core.cli.common import asked_paths, reading
    from mpa_core.cli.output import emit
    from mpa_core.codec import MPACodec
    from mpa_core.evaluation.learned import Sweep
    from mpa_core.evaluation.plan import Plan
    from mpa_core.evaluation.protocols import Protocol
    from mpa_core.evaluation.run import Evaluation
    from mpa_core.mix import Mix

    with reading("--protocol"):
        protocol = Protocol.parse(args.protocol)
    paths = asked_paths(_list(args.paths))
    with reading("--device"):
        device = as_device(args.device)
    with reading("--sweep"):
        sweep = Sweep.parse(args.sweep).by(paths.name) if args.sweep else None
    with reading("--mixes"):
        asked = [paths.mix(Mix.parse(text)) for text in args.mixes]
    with reading("--tasks"):
        tasks = [paths.task(task) for task in _list(args.tasks)]
    codec, mixes = None, [Mix()]
    if args.base is not None:
        codec = MPACodec.from_pretrained(args.base).to(device)
        names = codec.load_paths(paths.sources)
        mixes += [*(Mix.parse(f"{name}=1") for name in names), *asked]
    plan = Plan(
        dataset=args.dataset,
        out=args.out,
        protocol=protocol,
        qualities=_numbers(args.qualities),
        mixes=mixes,
        sweep=sweep,
        sweep_quality=args.sweep_quality,
        codecs=_list(args.codecs),
        match=_list(args.match),
        tasks=tasks,
        task_settings=_settings(args.settings, paths),
        perceptual=_list(args.perceptual),
        limit=args.limit,
        strip_picture=args.strip_picture,
        resume=args.resume,
    )
    evaluation = Evaluation(plan, codec, device)
    results = evaluation.run(_tell)
    files = evaluation.write(plots=not args.no_plots)
    rows = [
        {
            "set": results.sets[row.pictures].name,
            "protocol": results.sets[row.pictures].protocol,
            "codec": row.codec,
            "mix": row.mix,
            "setting": row.setting,
            "bpp": results.bpp(row),
        }
        | {name: results.figure(row, name) for name in results.metrics}
        for row in results.rows.values()
    ]
    emit(
        args,
        {
            "files": [str(file) for file in files],
            "rows": rows,
            "metrics": [
                {
                    "name": metric.name,
                    "label": metric.label,
                    "unit": metric.unit.symbol,
                    "factor": metric.unit.factor,
                    "higher_is_better": metric.higher_is_better,
                }
                for metric in results.metrics.values()
            ],
            "left_out_by_reason": evaluation.sets[0].left_out,
        },
        "\n".join(str(file) for file in files),
    )
    return 0


def _report(args: argparse.Namespace) -> int:
    import shlex

    from mpa_core.cli.common import reading
    from mpa_core.cli.output import emit
    from mpa_core.evaluation.bands import Band
    from mpa_core.evaluation.report import write_report
    from mpa_core.evaluation.results import Results

    words = ["mpa", "eval", "--report", *map(str, args.report), "--markdown", str(args.markdown)]
    words += ["--plots", str(args.plots)] if args.plots else []
    with reading("--band"):
        bands = [Band.parse(text) for text in args.bands]
    words += [word for band in bands for word in ("--band", str(band))]
    results = Results.load(*args.report)
    command = shlex.join(words)
    files = write_report(results, args.markdown, plots=args.plots, command=command, bands=bands)
    emit(
        args,
        {"files": [str(file) for file in files]},
        "\n".join(str(file) for file in files),
    )
    return 0


def _tell(what: str, done: int, total: int) -> None:
    print(f"mpa: [{done}/{total}] {what}", file=sys.stderr, flush=True)


def _settings(texts: list[str], paths: AskedPaths) -> dict[str, dict[str, Any]]:
    """Parse ``TASK.KEY=VALUE`` items, with values in JSON or as plain words, by plain names."""
    from mpa_core.cli.common import UsageError, reading

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        # A distribution may have dots in its name, too.
        distribution, colon, rest = name.rpartition(":")
        task, dot, key = rest.partition(".")
        if not (equals and dot and task and key):
            raise UsageError(
                f"--set {text!r} is not TASK.KEY=VALUE; write for example cls.stride=128"
            )
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        with reading("--set"):
            task = paths.task_name(distribution + colon + task)
        found.setdefault(task, {})[key] = parsed
    return found


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[float]:
    from mpa_core.cli.common import UsageError

    try:
        found = [float(part) for part in _list(text)]
    except ValueError:
        found = []
    if not found:
        raise UsageError(f"--qualities is {text!r}, expected numbers such as 1,2.5,4")
    return found
