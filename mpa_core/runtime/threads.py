"""Control of torch's number of threads where results depend on it; the setting is restored."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_forked = False


def _in_forked_child() -> None:
    """Make a new lock in a forked child, where no thread is left to release the old one."""
    global _lock, _forked
    _lock = threading.Lock()
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one intra-operation thread, whatever the process is set to.

    Sums are split into as many parts as there are threads, so float32 results differ in the last
    bit between thread counts, and one such bit in a scale is enough to lose sync. The setting
    belongs to the process: callers in other threads wait for their turn.
    """
    with _lock, _set_to_one():
        yield


@contextmanager
def own_threads() -> Iterator[None]:
    """Run the block with threads that exist.

    OpenMP's pool does not survive a fork: a child that sums in several threads waits for its
    parent's threads for ever. In a forked child the block has one thread; outside of the block the
    child's setting does not change.
    """
    if not _forked:
        yield
        return
    with _set_to_one():
        yield


@contextmanager
def _set_to_one() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
