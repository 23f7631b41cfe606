"""Suppression of Python's warnings, whose filters belong to the whole process, for a block."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class _Quiet:
    """Warning filters that the first thread to enter sets, and the last to leave restores.

    ``warnings.catch_warnings`` in two threads at once may restore the filters of the other thread,
    so that a setting meant for a moment stays for good.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.filters = warnings.catch_warnings()

    def enter(self) -> None:
        with self.lock:
            if not self.inside:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.filters.__exit__(None, None, None)


_quiet = _Quiet()


def _in_forked_child() -> None:
    """Restore the filters in a forked child, where the threads that were inside do not exist."""
    global _quiet
    if _quiet.inside:
        _quiet.filters.__exit__(None, None, None)
    _quiet = _Quiet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress all warnings in the block; other threads may be in blocks of their own."""
    quiet = _quiet
    quiet.enter()
    try:
        yield
    finally:
        quiet.leave()
