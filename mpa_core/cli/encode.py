"""``mpa encode``: pictures to ``.mpa`` files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mpa_core.cli.common import STREAM, Job, add_job_arguments, plan, run_jobs, write_output


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa encode`` to the command line."""
    parser = subparsers.add_parser(
        "encode", parents=[common], help="compress pictures to .mpa files"
    )
    add_job_arguments(parser, "pictures of any format Pillow reads")
    parser.add_argument(
        "--base", default="mpa-small", metavar="ID", help="bundled base or folder (%(default)s)"
    )
    parser.add_argument(
        "-q",
        "--quality",
        type=float,
        default=4.5,
        metavar="Q",
        help="1 (smallest file) to 8 (best), fractions allowed (%(default)s)",
    )
    parser.add_argument(
        "--frame", type=int, metavar="N", help="frame of an animation or multi-page file, from 0"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encode every input; returns the exit code."""
    jobs = plan(args, ".mpa")
    # After the arguments are known to make sense: torch takes seconds.
    from mpa_core.codec import MPACodec
    from mpa_core.images import load_image

    codec = MPACodec.from_pretrained(args.base)

    def work(job: Job) -> dict[str, Any]:
        source = sys.stdin.buffer if job.source == STREAM else job.source
        image = load_image(source, frame=args.frame)
        data = codec.encode(image, quality=args.quality)
        write_output(job.target, data, force=args.force)
        return {
            "width": image.width,
            "height": image.height,
            "quality": args.quality,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (image.width * image.height), 5),
        }

    return run_jobs(args, jobs, work)
