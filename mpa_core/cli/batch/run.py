"""A run over many files, in which the failure of one never stops the others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from mpa_core.cli.batch.job_list import JobList
from mpa_core.cli.batch.jobs import JobOutcome, Rules, WorkerSettings, attempt, failure
from mpa_core.cli.batch.pool import choose_pool
from mpa_core.cli.batch.printer import OutcomePrinter
from mpa_core.cli.batch.signals import Terminated, ending_signals, finishing
from mpa_core.cli.batch.workers import work_in_processes
from mpa_core.cli.common import Job
from mpa_core.errors import OutputError
from mpa_core.io.files import remove_leftovers
from mpa_core.io.folders import cannot_list


def run_jobs(args: argparse.Namespace, job_list: JobList, settings: WorkerSettings) -> int:
    """Do every job of ``job_list``; one that fails is reported and the others go on.

    Only a failure that every other file would have as well ends the run early: a wrong setting, or
    an output without space left.

    Args:
        args: has ``force``, ``resume``, ``format``, and the options that :func:`choose_pool` needs.
        job_list: the jobs.
        settings: the settings of the run, started in this process, or in each of the workers.

    Returns:
        The exit code: 1 if anything failed; 128 plus the number of the signal that ended the run.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; finished jobs have been reported, among them those
            whose search it ended.
        MPAError: ``settings`` could not be started in this process.
    """
    pool = choose_pool(args, job_list, settings)
    worker = None if pool.workers else settings.start()
    rules = Rules(force=args.force, resume=args.resume, make_folders=job_list.to_folder)
    printer = OutcomePrinter(job_list, as_json=args.format == "json")
    try:
        with ending_signals(), printer, finishing(printer.searching) as interrupted:
            jobs = enumerate(_feed(job_list, printer, interrupted))

            def step(place: int, name: str, done: int, steps: int) -> bool:
                ending = interrupted()
                printer.step(place, name, done, steps, ending=ending)
                return not ending

            outcomes = (
                (
                    (place, attempt(worker, job, rules, partial(step, place, job.source)))
                    for place, job in jobs
                )
                if worker is not None
                else work_in_processes(settings, jobs, rules, pool, step)
            )
            for outcome in _unreadable(job_list):
                printer.add(outcome)
            with closing(outcomes):
                for place, outcome in outcomes:
                    printer.add(outcome, place)
                    if outcome.row.get("input") is None:
                        break  # the failure concerns every job
    except Terminated as ended:
        printer.close(signalled=str(ended))
        return 128 + ended.number
    except KeyboardInterrupt:
        printer.close(signalled="SIGINT")
        raise
    printer.close()
    return 1 if printer.counts["failed"] or printer.stopped else 0


def _feed(
    job_list: JobList, printer: OutcomePrinter, interrupted: Callable[[], bool]
) -> Iterator[Job]:
    """Yield the jobs until the run is stopped, and remove leftovers from each output folder."""
    seen: set[str] = set()
    for job in job_list:
        if printer.stopped is not None or interrupted():
            return
        folder = os.path.dirname(job.target)  # noqa: PTH120
        if job_list.to_folder and folder not in seen:
            seen.add(folder)
            printer.leftovers += remove_leftovers(folder)
        yield job


def _unreadable(job_list: JobList) -> Iterator[JobOutcome]:
    for folder, error in job_list.unreadable:
        yield failure(
            "failed",
            {"input": folder, "output": None},
            OutputError(cannot_list(folder, error)),
        )
