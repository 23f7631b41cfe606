"""What ``encode`` and ``decode`` share: naming outputs, and many files in one run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpa_core.cli.output import emit, report_error, table
from mpa_core.errors import (
    BitstreamError,
    MPAError,
    OutputError,
    PathNotFoundError,
    QualityError,
)
from mpa_core.files import check_writable, write_bytes

STREAM = "-"
"""Stands for stdin as an input and for stdout as the output."""


class UsageError(MPAError):
    """Arguments that make no sense together; exit code 2."""


@dataclass(frozen=True)
class Job:
    """One input and where its result goes; either may be :data:`STREAM`."""

    source: str
    target: str


def add_job_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``IN… -o OUT --force``."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help=f"{what}; - for stdin")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a file (- for stdout) for one input; a folder if it exists, ends in / or there are "
        "several inputs",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def plan(args: argparse.Namespace, suffix: str) -> list[Job]:
    """Name every output before anything is done, and make the output folder if one is meant.

    Args:
        args: with ``inputs``, ``output`` and ``format``.
        suffix: of the files in an output folder, such as ``.mpa``; the stem is the input's.

    Raises:
        UsageError: two inputs would become one file, an output is also an input, or a stream is
            asked for where there is none.
        OutputError: the folder cannot be made.
    """
    inputs: list[str] = args.inputs
    out: str = args.output
    if out == STREAM:
        if len(inputs) > 1:
            raise UsageError("several inputs cannot all go to stdout; give a folder with -o")
        if args.format == "json":
            raise UsageError("stdout is taken by the output; --format json needs -o FILE")
        return [Job(inputs[0], STREAM)]
    is_folder = len(inputs) > 1 or out.endswith(("/", os.sep)) or Path(out).is_dir()
    if not is_folder:
        jobs = [Job(inputs[0], out)]
    elif STREAM in inputs:
        raise UsageError("what comes from stdin has no name; give a file with -o")
    else:
        jobs = [Job(name, str(Path(out) / (Path(name).stem + suffix))) for name in inputs]
    _check_names(jobs)
    if is_folder:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {out}: {error.strerror}; choose another with -o"
            ) from error
    return jobs


def run_jobs(
    args: argparse.Namespace, jobs: Sequence[Job], work: Callable[[Job], dict[str, Any]]
) -> int:
    """Do every job; one that fails is reported and the others go on.

    Args:
        args: with ``force`` and ``format``.
        jobs: from :func:`plan`.
        work: does one job and returns what to report about it.

    Returns:
        The exit code: 1 if any job failed.

    Raises:
        QualityError, PathNotFoundError: at once, since they hold for every input.
    """
    results: list[dict[str, Any]] = []
    with _progress(jobs) as counted:
        for job in counted:
            about = {"input": job.source, "output": job.target}
            start = time.perf_counter()
            try:
                if job.target != STREAM:
                    check_writable(job.target, overwrite=args.force)
                done = work(job)
            except (QualityError, PathNotFoundError, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 -- even a bug in one file stops no other
                results.append({**about, "error": report_error(error, job.source)})
            else:
                results.append({**about, **done, "seconds": round(time.perf_counter() - start, 3)})
    done_rows = [row for row in results if "error" not in row]
    failed = len(results) - len(done_rows)
    if jobs[0].target != STREAM:
        emit(args, {"files": results, "failed": failed}, lambda: table(done_rows))
    if failed and len(jobs) > 1:
        print(f"mpa: {failed} of {len(jobs)} files failed", file=sys.stderr)
    return 1 if failed else 0


def read_input(name: str) -> bytes:
    """All bytes of an ``.mpa`` file, or of stdin.

    Raises:
        BitstreamError: it cannot be read.
    """
    if name == STREAM:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise BitstreamError(f"cannot read {name}: {error.strerror}; check the name") from error


def write_output(name: str, data: bytes, *, force: bool) -> None:
    """Write a job's result to its file, atomically, or to stdout."""
    if name == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_bytes(name, data, overwrite=force)


def bundled_fingerprints() -> dict[str, str]:
    """Fingerprint (64 hex digits) of each base that ships with the package, by id. No torch."""
    from mpa_core.hub import bundled_bases, read_base_meta

    return {name: read_base_meta(folder).fingerprint for name, folder in bundled_bases().items()}


def _check_names(jobs: Sequence[Job]) -> None:
    targets = Counter(_identity(job.target) for job in jobs)
    for job in jobs:
        if targets[_identity(job.target)] > 1:
            same = [
                other.source for other in jobs if _identity(other.target) == _identity(job.target)
            ]
            raise UsageError(
                f"{' and '.join(same)} would all be written to {job.target}; "
                "encode or decode them into different folders"
            )
    sources = {_identity(job.source) for job in jobs if job.source != STREAM}
    for job in jobs:
        if _identity(job.target) in sources and Path(job.target).exists():
            raise UsageError(f"{job.target} is an input too; choose another name with -o")


def _identity(name: str) -> str:
    return os.path.normcase(os.path.realpath(name))


@contextmanager
def _progress(jobs: Sequence[Job]) -> Iterator[Iterable[Job]]:
    """Count the jobs with a bar, where there are several and somebody is watching."""
    if len(jobs) < 2 or not sys.stderr.isatty():
        yield jobs
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    with bar:
        yield bar.track(jobs)
