"""Jobs in worker processes: one codec and one torch thread each.

A worker has one job at a time and reports it before it is given the next, so whatever ends a
worker (the kernel that is out of memory, a crash in native code) is known to belong to that job;
another worker takes its place and the others go on.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from signal import Signals
from typing import cast

from mpa_core.cli.common import Job
from mpa_core.cli.jobs import Outcome, Rules, Task, attempt, failure
from mpa_core.cli.signals import Terminated, children_without_ctrl_c, ending_signals
from mpa_core.errors import MPAError

_GRACE_SECONDS = 10.0
"""What a worker gets to undo its half-done job before it is killed."""


class WorkerError(MPAError):
    """A worker process ended in the middle of its work."""


@dataclass
class _Hand:
    """A worker as its employer sees it."""

    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    """What it is doing; None while it is starting."""


def work_in_processes(
    task: Task, jobs: Iterator[Job], rules: Rules, count: int
) -> Generator[Outcome, None, None]:
    """Do ``jobs`` with ``count`` workers; outcomes come in the order in which jobs are finished.

    A job is taken from ``jobs`` only when a worker is free for it. Closing the generator ends the
    workers: what they were doing is undone.
    """
    crew: dict[Connection, _Hand] = {}
    leaving: list[SpawnProcess] = []
    try:
        for _ in range(count):
            _hire(crew, task, rules)
        while crew:
            for connection in wait(list(crew)):
                hand = crew[cast(Connection, connection)]
                try:
                    outcome: Outcome | None = hand.connection.recv()
                except (EOFError, OSError):
                    yield _death(hand)
                    _dismiss(crew, hand, leaving)
                    if hand.job is not None:
                        _hire(crew, task, rules)
                    continue
                if outcome is not None:
                    yield outcome
                hand.job = next(jobs, None)
                if hand.job is None:
                    _dismiss(crew, hand, leaving)
                else:
                    with suppress(BrokenPipeError):  # it has died: the next round says so
                        hand.connection.send(hand.job)
    finally:
        for hand in crew.values():
            hand.process.terminate()
            leaving.append(hand.process)
        for process in leaving:
            process.join(_GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _hire(crew: dict[Connection, _Hand], task: Task, rules: Rules) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, task, rules), daemon=True)
    with children_without_ctrl_c():
        process.start()
    theirs.close()
    crew[ours] = _Hand(process, ours)


def _dismiss(crew: dict[Connection, _Hand], hand: _Hand, leaving: list[SpawnProcess]) -> None:
    """A worker ends when nobody listens to it any more; that is waited for later."""
    del crew[hand.connection]
    hand.connection.close()
    leaving.append(hand.process)


def _death(hand: _Hand) -> Outcome:
    hand.process.join()
    code = hand.process.exitcode or 0
    how = f"was ended by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if hand.job is None:
        return failure(
            "stopped",
            {},
            WorkerError(f"a worker process {how} before it could begin; try fewer --jobs"),
        )
    return failure(
        "failed",
        {"input": hand.job.source, "output": hand.job.target},
        WorkerError(
            f"{hand.job.source}: the worker process that did it {how}; if memory was short, "
            "try fewer --jobs"
        ),
    )


def _serve(connection: Connection, task: Task, rules: Rules) -> None:
    """The life of a worker: load, say so by None, then one outcome for each job."""
    import torch

    torch.set_num_threads(1)
    # Nobody needs this worker any more when nobody listens. Until it begins a signal just ends it.
    with suppress(EOFError, BrokenPipeError, Terminated):
        try:
            worker = task.start()
        except Exception as error:  # noqa: BLE001 -- reported where the others are
            connection.send(failure("stopped", {}, error))
            return
        connection.send(None)
        with ending_signals():
            while True:
                connection.send(attempt(worker, connection.recv(), rules))
