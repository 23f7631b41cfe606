"""Ending on a signal as on Ctrl-C: what is half done is undone, and what was done is reported."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_ENDING = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """The process was asked to end by another signal than Ctrl-C's; ``number`` says which."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(self.number.name)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Terminated` inside the block.

    Signals that were given another meaning before (``nohup`` ignores SIGHUP) keep it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return
    known = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _terminate)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


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


def _terminate(number: int, _: FrameType | None) -> None:
    raise Terminated(number)
