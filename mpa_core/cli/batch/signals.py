"""Ending a run on a signal as on Ctrl-C: an unfinished job is undone, finished ones reported.

Only a search is worth waiting for: the first Ctrl-C ends it, and its job is finished.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class _Deferred:
    """The state of :func:`uninterrupted` and :func:`finishing`: what has to wait, and what waits.

    There is one for the process, as for signals.
    """

    active = False
    busy: Callable[[], bool] | None = None
    pending: int | None = None

    @classmethod
    def waits(cls, number: int) -> bool:
        """Return whether a signal that comes now has to wait."""
        return cls.active or (number == signal.SIGINT and cls.busy is not None and cls.busy())


class Terminated(KeyboardInterrupt):
    """The process got a signal other than Ctrl-C's to end; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise :class:`Terminated` in the block; SIGINT acts as ever.

    None of them does so inside :func:`uninterrupted`, and :func:`finishing` has the first Ctrl-C
    wait. Signals that were given another meaning
    before (``nohup`` ignores SIGHUP) keep it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return
    known = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    ours = [number for number, handler in before.items() if handler in usual]
    try:
        for number in ours:
            signal.signal(number, _end)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Run the block as a unit: a signal that ends the run waits until it is done.

    A second signal does not wait, since the block may be blocked by a reader that never reads.
    """
    _Deferred.active = True
    try:
        yield
    finally:
        _Deferred.active = False
        number, _Deferred.pending = _Deferred.pending, None
        if number is not None:
            _end(number, None)


@contextmanager
def finishing(busy: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Have the first Ctrl-C wait if ``busy()`` is true when it comes, and a second end the block.

    What waits acts at the end of the first :func:`uninterrupted` after which ``busy()`` is false,
    or of the block. Yields the function that says whether Ctrl-C waits.
    """
    _Deferred.busy = busy
    try:
        yield lambda: _Deferred.pending == signal.SIGINT
    finally:
        number, _Deferred.busy, _Deferred.pending = _Deferred.pending, None, None
    if number is not None:
        _end(number, None)


@contextmanager
def children_without_ctrl_c() -> Iterator[None]:
    """Make processes spawned in the block ignore Ctrl-C, which a terminal sends to all."""
    if sys.platform == "win32":
        yield
        return
    # The first spawn would start it inside the block, and it unblocks the signal when it starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(number: int, _: FrameType | None) -> None:
    if _Deferred.pending is None and _Deferred.waits(number):
        _Deferred.pending = number
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(number)
