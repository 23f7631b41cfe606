"""How many processes share the work of a run over many files."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mpa_core.cli.batch.jobs import Task
from mpa_core.cli.batch.plan import Plan
from mpa_core.cli.machine import free_memory, usable_cpus
from mpa_core.cli.threads import Choice

_LOOKED_AT = 32
"""Inputs whose size is read before the processes are started, from all over the plan."""
_PROCESS_BYTES = 900 << 20
"""What a process with ``mpa-small`` takes before its first picture, most of it torch."""
_PIXEL_BYTES = 450
"""What it takes for each pixel of a picture: 3.2 GB altogether for 3000 x 2000."""


@dataclass(frozen=True)
class Pool:
    """Who does the work.

    Attributes:
        workers: processes beside this one; 0: this process does it.
        threads: of each of them.
    """

    workers: int
    threads: int


def choose_pool(args: argparse.Namespace, plan: Plan, task: Task) -> Pool:
    """Choose who does the jobs of ``plan``.

    Without ``--jobs`` a single input, or what goes through stdin or stdout, is this process's work.
    Several inputs are that of as many workers as processors, memory and inputs allow; where that
    is one it is this process, too.

    Args:
        args: with ``jobs`` and ``threads``, and the ``choice`` that was made for them.
        plan: what to do.
        task: how; it says how large inputs are.
    """
    threads = args.threads or 1
    if args.jobs is not None:
        return Pool(min(args.jobs, len(plan)), threads)
    workers = min(len(plan), most_processes(args.choice, threads))
    if multiprocessing.current_process().daemon:
        workers = 0  # Python lets it have no children
    if workers > 1 and (memory := free_memory()) is not None:
        workers = min(workers, memory // _bytes_of_one(plan, task))
    return Pool(workers if workers > 1 else 0, threads)


def most_processes(choice: Choice, threads: int) -> int:
    """As many processes of ``threads`` threads as processors may be used, at least 1.

    What the user has set as a number of threads is how many processors are meant to be used.
    """
    cpus = usable_cpus()
    return max(1, min(cpus, choice.said or cpus) // threads)


def _bytes_of_one(plan: Plan, task: Task) -> int:
    return _PROCESS_BYTES + _PIXEL_BYTES * max(_pixels(plan, task), default=0)


def _pixels(plan: Plan, task: Task) -> Iterator[int]:
    """Pixels of some inputs; those that cannot be read are reported when their turn comes."""
    for job in islice(plan, 0, None, -(-len(plan) // _LOOKED_AT)):
        if os.path.isfile(job.source):  # noqa: PTH113 -- a pipe is read once
            try:
                yield task.pixels(job)
            except Exception:  # noqa: BLE001, S112 -- see above
                continue
