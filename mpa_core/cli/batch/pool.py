"""Choice of the number of processes and threads for a run over many files."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mpa_core.cli.batch.job_list import JobList
from mpa_core.cli.batch.jobs import WorkerSettings
from mpa_core.cli.machine import free_memory, usable_cpus
from mpa_core.cli.threads import Choice

_LOOKED_AT = 32
"""Number of inputs, spread over the list, whose size is read before the processes are started."""
_PROCESS_BYTES = 900 << 20
"""Memory of a process with ``mpa-small`` before its first picture, most of it torch."""
_PIXEL_BYTES = 450
"""Memory of a process per pixel of a picture: 3.2 GB altogether for 3000 x 2000."""


@dataclass(frozen=True)
class Pool:
    """The processes that do the work.

    Attributes:
        workers: number of processes beside this one; 0: this process does the work.
        threads: number of threads of each of them.
    """

    workers: int
    threads: int


def choose_pool(args: argparse.Namespace, job_list: JobList, settings: WorkerSettings) -> Pool:
    """Choose the processes that do the jobs of ``job_list``.

    Without ``--jobs``, this process does a single input, and input from stdin or output to stdout.
    Several inputs are done by as many workers as processors, memory and inputs allow; if that is
    one, this process does them, too.

    Args:
        args: has ``jobs`` and ``threads``, and the ``choice`` that was made for them.
        job_list: the jobs.
        settings: the settings of the run, which give the sizes of inputs.
    """
    threads = args.threads or 1
    if args.jobs is not None:
        return Pool(min(args.jobs, len(job_list)), threads)
    workers = min(len(job_list), most_processes(args.choice, threads))
    if multiprocessing.current_process().daemon:
        workers = 0  # Python allows a daemon no child processes
    if workers > 1 and (memory := free_memory()) is not None:
        workers = min(workers, memory // _bytes_of_one(job_list, settings))
    return Pool(workers if workers > 1 else 0, threads)


def most_processes(choice: Choice, threads: int) -> int:
    """Return as many processes of ``threads`` threads as processors may be used, at least 1.

    A number of threads that the user has set is the number of processors to use.
    """
    cpus = usable_cpus()
    return max(1, min(cpus, choice.said or cpus) // threads)


def _bytes_of_one(job_list: JobList, settings: WorkerSettings) -> int:
    return _PROCESS_BYTES + _PIXEL_BYTES * max(_pixels(job_list, settings), default=0)


def _pixels(job_list: JobList, settings: WorkerSettings) -> Iterator[int]:
    """Yield the pixels of some inputs; unreadable ones are reported when their turn comes."""
    for job in islice(job_list, 0, None, -(-len(job_list) // _LOOKED_AT)):
        if os.path.isfile(job.source):  # noqa: PTH113 -- a pipe is read once
            try:
                yield settings.pixels(job)
            except Exception:  # noqa: BLE001, S112 -- see above
                continue
