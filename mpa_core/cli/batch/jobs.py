"""One job of many, which is done, skipped or fails on its own."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mpa_core.cli.batch.job_list import make_folder
from mpa_core.cli.common import STREAM, Job
from mpa_core.cli.output import debugging, describe_error
from mpa_core.errors import CheckpointError, OutputError, PathNotFoundError, QualityError
from mpa_core.io.files import check_writable, write_bytes
from mpa_core.runtime.streams import stdout

State = Literal["done", "skipped", "failed", "stopped"]

Step = Callable[[int, int], bool]
"""Called after each step of a job's search with the steps done and all steps; with a target there
are several searches. Returns False if this one, and any after it, shall end with what was found."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors after which no later file can be written either: disk full, quota spent, read-only."""


@dataclass(frozen=True)
class JobOutcome:
    """The result of one job.

    Attributes:
        state: ``stopped`` is a failure that every other job would have as well.
        row: the report: ``input`` and ``output``, and figures or an ``error`` with ``type`` and
            ``message``. An error that concerns every job stands alone.
        trace: traceback of the error, if ``MPA_DEBUG`` asks for it.
    """

    state: State
    row: dict[str, Any]
    trace: str | None = None


@dataclass(frozen=True)
class Rules:
    """The rules for every file that is written.

    Attributes:
        force: existing files may be overwritten.
        resume: existing files that are up to date are skipped.
        make_folders: missing sub-folders of the outputs are made.
    """

    force: bool
    resume: bool
    make_folders: bool


class Worker(Protocol):
    """An object that does jobs, with everything loaded."""

    def difference(self, job: Job) -> str | None:
        """Describe how the existing output differs from that of :meth:`make`, as a verb phrase.

        None if it does not, as far as can be told without making it.
        """

    def make(self, job: Job, step: Step, /) -> tuple[bytes, dict[str, Any]]:
        """Return the output's bytes, and figures to report about it; ``step`` if it searches."""


class WorkerSettings(Protocol):
    """Settings of a run; they can be pickled."""

    def start(self) -> Worker:
        """Load everything needed, and return the worker; its errors hold for every job."""

    def pixels(self, job: Job) -> int:
        """Return width times height of the job's picture by its header; may raise any error."""


def attempt(worker: Worker, job: Job, rules: Rules, step: Step) -> JobOutcome:
    """Do one job; every error of it is in the outcome.

    Raises:
        BrokenPipeError: stdout is the output and its reader is gone, or ``step`` raises it.
    """
    about = {"input": job.source, "output": job.target}
    start = time.perf_counter()
    try:
        there = _is_there(worker, job, rules)
        figures = None if there else _carry_out(worker, job, rules, step)
    except BrokenPipeError:
        raise
    except (QualityError, PathNotFoundError, CheckpointError) as error:
        return failure("stopped", {}, error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- even a bug in one file stops no other
        no_room = isinstance(error, OutputError) and error.errno in _NO_ROOM
        return failure("stopped" if no_room else "failed", about, error)
    if figures is None:
        return JobOutcome("skipped", {**about, "skipped": True})
    seconds = round(time.perf_counter() - start, 3)
    return JobOutcome("done", {**about, **figures, "seconds": seconds})


def failure(state: State, about: dict[str, Any], error: BaseException) -> JobOutcome:
    """Return the outcome of ``error`` for the job that ``about`` names, or for the whole run."""
    described = describe_error(error, about.get("input"))
    trace = "".join(traceback.format_exception(error)) if debugging() else None
    return JobOutcome(state, {**about, "error": described}, trace)


def _is_there(worker: Worker, job: Job, rules: Rules) -> bool:
    """Return whether the output exists and is up to date.

    Raises:
        OutputError: it exists, is not up to date, and may not be overwritten.
    """
    there = job.target != STREAM and os.path.exists(job.target)  # noqa: PTH110
    if not (rules.resume and there):
        return False
    difference = worker.difference(job)
    if difference is not None and not rules.force:
        raise OutputError(
            f"{job.target} {difference}, and was left as it is; replace it with --resume --force"
        )
    return difference is None


def _carry_out(worker: Worker, job: Job, rules: Rules, step: Step) -> dict[str, Any] | None:
    """Make and write the output, and return its figures, or None if another run was faster.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if job.target != STREAM:
            if rules.make_folders:
                make_folder(os.path.dirname(job.target))  # noqa: PTH120
            check_writable(job.target, overwrite=rules.force)
        data, figures = worker.make(job, step)
        if job.target == STREAM:
            stdout().buffer.write(data)
            stdout().buffer.flush()
        else:
            write_bytes(job.target, data, overwrite=rules.force)
    except OutputError:
        if _is_there(worker, job, rules):  # another run has written the same file meanwhile
            return None
        raise
    return figures
