"""One thread for what encoder and decoder must compute alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()


def _in_forked_child() -> None:
    """A forked child has neither OpenMP's threads nor the holders of locks to wait for."""
    global _lock
    _lock = threading.Lock()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one intra-operation thread, whatever the process is set to.

    Sums are cut into as many parts as there are threads, so float32 results differ in the last bit
    between thread counts, and one such bit in a scale is enough to lose sync. The setting is the
    process's: callers in other threads wait for their turn.
    """
    with _lock:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
