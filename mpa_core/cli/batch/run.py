"""A run over many files, in which the failure of one never stops the others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing

from mpa_core.cli.batch.jobs import Outcome, Rules, Task, attempt, failure
from mpa_core.cli.batch.plan import Plan
from mpa_core.cli.batch.pool import choose_pool
from mpa_core.cli.batch.report import Report
from mpa_core.cli.batch.signals import Terminated, ending_signals
from mpa_core.cli.batch.workers import work_in_processes
from mpa_core.cli.common import Job
from mpa_core.errors import OutputError
from mpa_core.io.files import remove_leftovers
from mpa_core.io.folders import cannot_list


def run_jobs(args: argparse.Namespace, plan: Plan, task: Task) -> int:
    """Do every job of ``plan``; one that fails is reported and the others go on.

    Only a failure that every other file would have as well ends the run early: a wrong setting, or
    an output without space left.

    Args:
        args: has ``force``, ``resume``, ``format``, and the options that :func:`choose_pool` needs.
        plan: the jobs.
        task: the settings of the run, started in this process, or in each of the workers.

    Returns:
        The exit code: 1 if anything failed; 128 plus the number of the signal that ended the run.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; finished jobs have been reported.
        MPAError: ``task`` could not be started in this process.
    """
    pool = choose_pool(args, plan, task)
    worker = None if pool.workers else task.start()
    rules = Rules(force=args.force, resume=args.resume, make_folders=plan.to_folder)
    report = Report(plan, as_json=args.format == "json")
    try:
        with ending_signals(), report:
            jobs = enumerate(_feed(plan, report))
            outcomes = (
                ((place, attempt(worker, job, rules)) for place, job in jobs)
                if worker is not None
                else work_in_processes(task, jobs, rules, pool)
            )
            for outcome in _unreadable(plan):
                report.add(outcome)
            with closing(outcomes):
                for place, outcome in outcomes:
                    report.add(outcome, place)
                    if outcome.row.get("input") is None:
                        break  # the failure concerns every job
    except Terminated as ended:
        report.close(signalled=str(ended))
        return 128 + ended.number
    except KeyboardInterrupt:
        report.close(signalled="SIGINT")
        raise
    report.close()
    return 1 if report.counts["failed"] or report.stopped else 0


def _feed(plan: Plan, report: Report) -> Iterator[Job]:
    """Yield the jobs until the run is stopped, and remove leftovers from each output folder."""
    seen: set[str] = set()
    for job in plan:
        if report.stopped is not None:
            return
        folder = os.path.dirname(job.target)  # noqa: PTH120
        if plan.to_folder and folder not in seen:
            seen.add(folder)
            report.leftovers += remove_leftovers(folder)
        yield job


def _unreadable(plan: Plan) -> Iterator[Outcome]:
    for folder, error in plan.unreadable:
        yield failure(
            "failed",
            {"input": folder, "output": None},
            OutputError(cannot_list(folder, error)),
        )
