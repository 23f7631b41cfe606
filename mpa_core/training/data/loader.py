"""Input of a run by step: torch's DataLoader, whose sampler counts the steps.

The input of a step is a pure function of (seed, step, shard). So a resumed run sees exactly what it
would have seen without the interruption, whether this process makes the input or workers that are
some steps ahead.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.reduction import ForkingPickler
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mpa_core.errors import MPAError, TrainingError
from mpa_core.tasks.seeds import Stream, torch_seed
from mpa_core.training.data.places import Shard

Part = TypeVar("Part")

AHEAD = 2
"""Number of steps that each worker is ahead."""


class Source(ABC, Generic[Part]):
    """Batches by step; it can be pickled for workers that do not start as copies of the process."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of steps in which every item is seen about once."""

    @abstractmethod
    def batch(self, step: int, rows: Sequence[int] | None = None) -> Part:
        """Make the batch of ``step`` (counted from 0), or only these ``rows`` of it, on the CPU.

        The result is a function of the seed and the arguments; other random numbers come from
        torch's generator.
        """

    def workers_for(self, device: torch.device) -> int:
        """Return the number of workers for a run on ``device`` where the settings do not say."""
        del device
        return 0


class StepSampler(Sampler[int]):
    """A sampler that counts steps from ``first`` on, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return count(self.first)


class StepData(Dataset[list[Part] | MPAError]):
    """Input of a process's shards by step, drawn from seeds of their own."""

    def __init__(self, source: Source[Part], shards: Sequence[Shard], seed: int) -> None:
        self.source = source
        self.shards = shards
        self.seed = seed

    def __getitem__(self, step: int) -> list[Part] | MPAError:
        """Return one part for each shard, or the error that the run is to raise.

        A worker must not raise it itself: torch would put its traceback into the message.
        """
        try:
            return [self._part(step, shard) for shard in self.shards]
        except MPAError as error:
            return error

    def _part(self, step: int, shard: Shard) -> Part:
        # The CPU's generator alone: torch.manual_seed would seed those of all devices, too.
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(
            torch_seed(self.seed, Stream.SAMPLES, step, shard.number)
        )
        try:
            return self.source.batch(step, shard.rows)
        finally:
            torch.default_generator.set_state(before)


class StepLoader(Generic[Part]):
    """The input of each step, made in this process or by workers.

    Args:
        source: batches by step.
        shards: shards of this process.
        seed: seed of the run.
        workers: number of processes that make batches; 0 makes each here, when it is asked for.
        pin: whether parts are copied to pinned memory, from which a GPU copies them faster.

    Raises:
        TrainingError: ``source`` cannot be sent to workers.
    """

    def __init__(
        self,
        source: Source[Part],
        shards: Sequence[Shard],
        *,
        seed: int,
        workers: int,
        pin: bool = False,
    ) -> None:
        self.data = StepData(source, shards, seed)
        self.workers = workers
        self.pin = pin
        self._iterator: Iterator[list[Part] | MPAError] | None = None
        self._next = 0
        if workers and not forks():
            try:
                ForkingPickler.dumps(source)
            except Exception as error:
                raise TrainingError(
                    f"data.workers is {workers}, and the data set cannot be sent to other "
                    f"processes: {error}; set data.workers=0"
                ) from error

    def parts(self, step: int) -> list[Part]:
        """Return the input of ``step``, one part for each shard; steps in order are fast.

        Raises:
            TrainingError: a worker was ended. Errors in making the input are raised as they are.
        """
        if self._iterator is None or step != self._next:
            self.begin(step)
        assert self._iterator is not None
        self._next = step + 1
        with lost_workers_named():
            found = next(self._iterator)
        if isinstance(found, MPAError):
            self.close()
            raise found
        return found

    def begin(self, step: int) -> None:
        """Start the workers, if there are any, with the input of ``step``."""
        self.close()
        self._next = step
        with warnings.catch_warnings():
            # Python 3.12 and later warn of a fork while threads run, as torch's do. torch makes its
            # own workers by such forks; they use neither these threads nor their locks.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            self._iterator = iter(self._loader(step))

    def close(self) -> None:
        """End the workers; the next step starts new ones."""
        self._iterator = None

    def _loader(self, first: int) -> DataLoader[list[Part] | MPAError]:
        several = self.workers > 0
        return DataLoader(
            self.data,
            batch_size=None,  # an item is a step's whole input
            sampler=StepSampler(first),
            num_workers=self.workers,
            prefetch_factor=AHEAD if several else None,
            worker_init_fn=_ignore_signals if several else None,
            pin_memory=self.pin,
            # A generator of its own, so that making an iterator draws nothing from the run's.
            generator=torch.Generator(),
        )


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Raise :class:`TrainingError` where torch notices that a worker was ended from outside.

    It notices when it waits for that worker, or at any other moment, by the system's signal.
    """
    try:
        yield
    except TrainingError:  # also a RuntimeError; raised by an inner block
        raise
    except (RuntimeError, ConnectionError, EOFError) as error:
        # The latter two are raised if a tensor in shared memory has gone with its worker.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        main = threading.current_thread() is threading.main_thread()
        if main and hasattr(signal, "SIGCHLD"):
            # Torch's handler would raise the error again later, anywhere in the program.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise TrainingError(
            f"a process that makes batches was ended: {' '.join(str(error).split())}; resume with "
            "fewer of them, for example --resume --set data.workers=0"
        ) from error


def forks() -> bool:
    """Return whether processes start as copies of this one, to which nothing has to be sent."""
    return multiprocessing.get_start_method() == "fork"


def _ignore_signals(worker: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker, as the main process ends the run.

    A terminal sends Ctrl-C to all of them.
    """
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
