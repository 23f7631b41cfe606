"""Ending a run on a signal as on Ctrl-C: an unfinished job is undone, finished ones reported."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class _Deferred:
    """The state of :func:`uninterrupted`: whether a signal has to wait, and which one waits.

    There is one for the process, as for signals.
    """

    active = False
    pending: int | None = None


class Terminated(KeyboardInterrupt):
    """The process got a signal other than Ctrl-C's to end; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise :class:`Terminated` in the block; SIGINT acts as ever.

    None of them does so inside :func:`uninterrupted`. Signals that were given another meaning
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
    if _Deferred.active and _Deferred.pending is None:
        _Deferred.pending = number
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(number)
