"""The number of threads that a command computes with, and how they wait for one another.

OpenMP's threads spin while they wait, for some milliseconds: fast on an idle machine, and many
times slower than one thread if another process wants the same processors, since a thread then spins
until one that was suspended gets its turn. The libraries read their variables when they are loaded,
so the choice is made before torch is imported, from the load of the machine at that moment, and
never overrides what the user has set.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mpa_core.cli.machine import LoadMeter, cores, usable_cpus

COUNTING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables for the number of threads; each is enough for torch."""
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables for how threads wait."""
_MOST = 1024
"""Largest number of threads or processes: more is a typing error, and the system may refuse it."""
_IDLE = 0.5
"""The machine counts as idle if fewer processors than this are busy."""
_SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
_SPIN_BRIEFLY = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}
"""About 20 microseconds of spinning with GNU's OpenMP, none with LLVM's or Intel's."""


@dataclass(frozen=True)
class Choice:
    """The number of threads of a command, and how they wait.

    Attributes:
        threads: threads of one operation; None if the user's variables set it.
        said: number that those variables set; None if they do not, or not by a number.
        why: the reason for the number.
        waiting: how threads wait for one another, and why.
        busy: load of other processes, in processors, when the choice was made.
        variables: environment variables to set for it.
    """

    threads: int | None
    said: int | None
    why: str
    waiting: str
    busy: float
    variables: Mapping[str, str] = field(default_factory=dict)


def add_threads_argument(parser: argparse.ArgumentParser, *, lasting: bool = False) -> None:
    """Add ``--threads``, which :func:`computing` acts on.

    Args:
        parser: parser of a command that computes.
        lasting: the command runs for long, so that the load at its start does not matter: by
            default it has as many threads as there are cores.
    """
    default = "as many as there are cores" if lasting else "as many as cores are free"
    parser.add_argument(
        "--threads",
        type=counted("threads"),
        metavar="N",
        help=f"threads of one operation (default: {default})",
    )
    parser.set_defaults(lasting=lasting)


def counted(what: str, *, most: int = _MOST) -> Callable[[str], int]:
    """Return a type for argparse: a number of ``what``, from 1 to ``most``."""

    def parse(text: str) -> int:
        value = int(text) if text.isdecimal() and len(text) <= len(str(most)) else 0
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of {what}; give 1 to {most}")
        return value

    return parse


def choose(
    asked: int | None, said: Mapping[str, str], *, cpus: int, busy: float, lasting: bool = False
) -> Choice:
    """Choose the number of threads and how they wait.

    Args:
        asked: value of ``--threads``.
        said: environment variables that the user has set.
        cpus: number of processors that may be used, one of each core.
        busy: load of other processes, in processors.
        lasting: leave no processors free for other processes, which may end soon.
    """
    variables: dict[str, str] = {}
    counts, waits = (
        ", ".join(f"{name}={said[name]}" for name in names if said.get(name))
        for names in (COUNTING, WAITING)
    )
    threads: int | None
    if asked is not None:
        threads, why = asked, "--threads"
        variables = dict.fromkeys(COUNTING, str(asked))
    elif counts:
        threads, why = None, counts
    else:
        threads = cpus if lasting else max(1, cpus - int(busy + 0.5))
        why = f"{threads} of {cpus} cores" + ("" if lasting else " were free")
        variables = {"OMP_NUM_THREADS": str(threads)}
    if waits:
        waiting = waits
    else:
        policy = _SPIN_BRIEFLY if busy < _IDLE else _SLEEP
        others = "the machine was idle" if busy < _IDLE else "other processes were busy"
        waiting = ", ".join(f"{name}={value}" for name, value in policy.items()) + f", as {others}"
        variables |= policy
    numbers = [int(first) for name in COUNTING if (first := _first(said.get(name))).isdecimal()]
    return Choice(threads, min(numbers, default=None), why, waiting, round(busy, 2), variables)


def _first(value: str | None) -> str:
    """Return the threads of the outermost level: a variable may give one number for each."""
    return (value or "").partition(",")[0].strip()


@contextmanager
def computing(args: argparse.Namespace, meter: LoadMeter) -> Iterator[None]:
    """Run the block with torch's threads as :func:`choose` chooses for ``args``.

    The choice is in ``args.choice``, for commands with :func:`add_threads_argument`; for others
    nothing happens. Afterwards the environment is restored. In a process that has imported torch
    before, settings other than ``--threads`` stay as they are.

    Args:
        args: parsed arguments.
        meter: has been measuring since the process began.
    """
    if not hasattr(args, "lasting"):
        yield
        return
    late = sys.modules.get("torch") is not None
    busy = 0.0 if late else meter.read()
    cpus = min(usable_cpus(), cores())
    args.choice = choose(args.threads, os.environ, cpus=cpus, busy=busy, lasting=args.lasting)
    if late:
        with torch_threads(args.threads):
            yield
        return
    before = {name: os.environ.get(name) for name in args.choice.variables}
    os.environ.update(args.choice.variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads in the block; None leaves the number as it is."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
