"""Ending on a signal as on Ctrl-C: what is half done is undone, and what was done is reported."""

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
    """Whether ending has to wait, and for which signal it does. Of the process, as signals are."""

    active = False
    pending: int | None = None


class Terminated(KeyboardInterrupt):
    """The process was asked to end by another signal than Ctrl-C's; ``number`` says which."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Terminated` inside the block, SIGINT as ever.

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
    """A block that belongs together: a signal that ends the run waits until it is done.

    A second one does not: the block may be waiting for somebody who never reads.
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
    """Processes spawned inside the block do not see Ctrl-C, which a terminal sends to all."""
    if sys.platform == "win32":
        yield
        return
    # It would be started by the first spawn, and unblocks the signal when it is.
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
