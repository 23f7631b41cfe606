"""Jobs in worker processes, each with a codec and torch threads of its own.

A worker has one job at a time and reports it before it gets the next, so if a worker ends (memory
runs out, a crash in native code) the job that it had is known; another worker takes its place and
the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from signal import Signals
from types import ModuleType
from typing import NamedTuple, cast

from mpa_core import errors
from mpa_core.cli.batch.jobs import JobOutcome, Rules, WorkerSettings, attempt, failure
from mpa_core.cli.batch.pool import Pool
from mpa_core.cli.batch.signals import Terminated, children_without_ctrl_c, ending_signals
from mpa_core.cli.common import Job
from mpa_core.errors import MPAError

_GRACE_SECONDS = 10.0
"""Seconds that a worker gets to undo its unfinished job before it is killed."""


class WorkerError(MPAError):
    """A worker process ended in the middle of its work."""


@dataclass
class _WorkerProcess:
    """A worker process, as the main process keeps track of it."""

    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    """The job that it does; None while it is starting."""
    place: int | None = None
    """Index of that job in the list."""
    told: bool = False
    """Whether it was told to end the search of that job."""


class _Warning(NamedTuple):
    """A warning from a worker. Many workers send the same: the main process shows it once."""

    category: str
    text: str
    file: str
    line: int


class _Step(NamedTuple):
    """A step of the search of a worker's job."""

    done: int
    steps: int


def work_in_processes(
    settings: WorkerSettings,
    jobs: Iterator[tuple[int, Job]],
    rules: Rules,
    pool: Pool,
    step: Callable[[int, str, int, int], bool],
) -> Generator[tuple[int | None, JobOutcome], None, None]:
    """Do ``jobs``, each with its place in the list, with the workers of ``pool``.

    Outcomes come in the order in which jobs are finished, each with its job's place, or None for an
    outcome of no job.

    A job is taken from ``jobs`` only when a worker is free for it. Closing the generator ends the
    workers, and their unfinished jobs are undone.

    ``step`` is called after each step of a job's search with the job's place, the name of its
    input, the steps done and all steps. Returns False if that search shall end.
    """
    workers: dict[Connection, _WorkerProcess] = {}
    ending: list[SpawnProcess] = []
    warned: set[_Warning] = set()
    try:
        for _ in range(pool.workers):
            _start(workers, settings, rules, pool.threads)
        while workers:
            for connection in wait(list(workers)):
                worker = workers[cast(Connection, connection)]
                try:
                    answer: JobOutcome | _Step | _Warning | None = worker.connection.recv()
                except (EOFError, OSError):
                    yield worker.place, _failure_of(worker)
                    _release(workers, worker, ending)
                    if worker.job is not None:
                        _start(workers, settings, rules, pool.threads)
                    continue
                if isinstance(answer, _Warning):
                    if answer not in warned:
                        warned.add(answer)
                        _show(answer)
                    continue
                if isinstance(answer, _Step):
                    _note(worker, answer, step)
                    continue
                if answer is not None:
                    yield worker.place, answer
                worker.place, worker.job = next(jobs, (None, None))
                worker.told = False
                if worker.job is None:
                    _release(workers, worker, ending)
                else:
                    with suppress(BrokenPipeError):  # it has died, which the next round finds out
                        worker.connection.send(worker.job)
    finally:
        for worker in workers.values():
            worker.process.terminate()
            ending.append(worker.process)
        for process in ending:
            process.join(_GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _start(
    workers: dict[Connection, _WorkerProcess], settings: WorkerSettings, rules: Rules, threads: int
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, settings, rules, threads), daemon=True)
    with children_without_ctrl_c(), _no_main():
        process.start()
    theirs.close()
    workers[ours] = _WorkerProcess(process, ours)


@contextmanager
def _no_main() -> Iterator[None]:
    """Keep processes spawned in the block from running this process's script again.

    They do not need it, and a script that calls the command line without a guard would start all
    its workers again in each of them.
    """
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _note(
    worker: _WorkerProcess, answer: _Step, step: Callable[[int, str, int, int], bool]
) -> None:
    """Pass on a step of a worker's search, and tell the worker if the search shall end."""
    assert worker.place is not None and worker.job is not None
    goes_on = step(worker.place, worker.job.source, *answer)
    if not (goes_on or worker.told):
        worker.told = True
        with suppress(BrokenPipeError):  # it has died, which the next round finds out
            worker.connection.send(None)


def _show(warning: _Warning) -> None:
    category = getattr(errors, warning.category, UserWarning)
    warnings.showwarning(category(warning.text), category, warning.file, warning.line)


def _release(
    workers: dict[Connection, _WorkerProcess], worker: _WorkerProcess, ending: list[SpawnProcess]
) -> None:
    """Close a worker's connection, by which it ends; its end is awaited later."""
    del workers[worker.connection]
    worker.connection.close()
    ending.append(worker.process)


def _failure_of(worker: _WorkerProcess) -> JobOutcome:
    worker.process.join()
    code = worker.process.exitcode or 0
    how = f"was ended by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if worker.job is None:
        return failure(
            "stopped",
            {},
            WorkerError(f"a worker process {how} before it could begin; try fewer --jobs"),
        )
    return failure(
        "failed",
        {"input": worker.job.source, "output": worker.job.target},
        WorkerError(
            f"{worker.job.source}: the worker process that did it {how}; if memory was short, "
            "try fewer --jobs"
        ),
    )


def _serve(connection: Connection, settings: WorkerSettings, rules: Rules, threads: int) -> None:
    """Run a worker process: load, send None when ready, then one outcome for each job.

    A job's search sends each of its steps; None, received meanwhile, ends it.
    """

    def send_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        *_: object,
    ) -> None:
        with suppress(OSError):  # the main process no longer reads
            connection.send(_Warning(category.__name__, str(message), filename, lineno))

    def step(done: int, steps: int) -> bool:
        connection.send(_Step(done, steps))
        return not connection.poll()  # nothing but that None comes during a job

    with suppress(OSError):
        os.dup2(2, 1)  # the main process prints the results; anything printed here goes to stderr
    warnings.showwarning = send_warning  # type: ignore[assignment]  # file and line are in *_

    import torch

    torch.set_num_threads(threads)
    # It ends when the main process no longer reads (a reset connection: it has left steps unread);
    # before its first job a signal just ends it.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, Terminated):
        try:
            worker = settings.start()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- reported where the others are
            connection.send(failure("stopped", {}, error))
            return
        connection.send(None)
        with ending_signals():
            while True:
                job = connection.recv()
                if job is not None:  # else its search was over before it was told to end it
                    connection.send(attempt(worker, job, rules, step))
