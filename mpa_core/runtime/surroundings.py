"""Independence of our results from settings of the caller's process, which are not changed.

torch keeps defaults for a whole process or thread: the device and the type of new tensors, the
generator of random numbers, autocast, the number of threads. A program sets them for its own
networks. Ours are made, loaded and run in the same way under any of them.

Settings of the calling thread alone are set for the time of a call. Settings of the whole process
are touched only where a program has set them to values that would change our numbers, and are
restored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from mpa_core.runtime.threads import own_threads

_NUMPY_ERRORS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""numpy's initial settings. Small numbers do become zero in our tables."""
_AUTOCASTING = ("cpu", "cuda", "mps", "xpu")
_making = threading.RLock()
"""Lock on the process's random generator and default dtype, from which weights are made."""
_LONGEST_MAKING = 60.0
"""Seconds that a fork waits for other threads that make weights."""


class _FullPrecision:
    """While any thread is inside, the whole process computes products of float32 in float32."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[Any, str]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [
                    (switch, switch.fp32_precision)
                    for switch in _precision_switches()
                    if switch.fp32_precision in _SHORTER
                ]
                for switch, _ in self._before:
                    switch.fp32_precision = _FULL
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.put_back()

    def put_back(self) -> None:
        """Restore the settings, except those that other code has changed meanwhile."""
        for switch, value in self._before:
            if switch.fp32_precision == _FULL:
                switch.fp32_precision = value
        self._before = []


_FULL, _SHORTER = "ieee", ("tf32", "bf16")
_full_precision = _FullPrecision()


def _precision_switches() -> list[Any]:
    """Return the switches of matrix products, and of convolutions on the CPU.

    torch before 2.9 has none.
    """
    mkldnn: Any = torch.backends.mkldnn
    parts = (getattr(mkldnn, "matmul", None), getattr(mkldnn, "conv", None))
    switches = (*parts, torch.backends.cuda.matmul)
    return [switch for switch in switches if hasattr(switch, "fp32_precision")]


class _Forking(threading.local):
    """Whether this thread holds the lock on making weights while it forks."""

    holds = False


_forking = _Forking()


def _before_fork() -> None:
    """Wait until no thread draws random weights.

    torch locks its generator for each draw. A child forked meanwhile would inherit the generator
    locked by a thread that it does not have, and wait for ever at its first draw. The wait has an
    end in case the thread that makes weights itself waits for the one that forks.
    """
    _forking.holds = _making.acquire(timeout=_LONGEST_MAKING)


def _in_forking_parent() -> None:
    if _forking.holds:
        _making.release()


def _in_forked_child() -> None:
    """Make new locks in a forked child, where threads that held the old ones do not exist."""
    global _making, _full_precision
    _making = threading.RLock()
    _full_precision.put_back()
    _full_precision = _FullPrecision()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_in_forking_parent,
        after_in_child=_in_forked_child,
    )


@contextmanager
def usual_defaults(*, mixed_precision: bool = False) -> Iterator[None]:
    """Run the block, or as a decorator the function, under torch's usual defaults.

    New tensors are on the CPU unless stated otherwise, a forked child uses one thread
    (:func:`own_threads`), and float32 is computed in float32.

    Args:
        mixed_precision: leave the precision to the caller, who may be training.
    """
    with ExitStack() as stack:
        stack.enter_context(own_threads())
        stack.enter_context(np.errstate(**_NUMPY_ERRORS))
        if not _processor_is_default():
            stack.enter_context(torch.device("cpu"))
        if not mixed_precision:
            stack.enter_context(_full_precision)
            for kind in _AUTOCASTING:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def making_weights(seed: int | None = None) -> Iterator[None]:
    """Run the block, which makes modules, so that they are float32 on the CPU.

    The caller's random numbers do not change. Only one thread at a time is in such a block: torch
    has one generator and one default type for all threads, and they are restored at the end.

    Args:
        seed: seed of the random weights; None where they do not matter.
    """
    with (
        _making,
        usual_defaults(),
        torch.inference_mode(False),
        torch.random.fork_rng(devices=[]),
        _float32(),
    ):
        if seed is not None:
            # torch.manual_seed would seed the generators of all devices, too.
            torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _float32() -> Iterator[None]:
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _processor_is_default() -> bool:
    try:
        return torch.get_default_device().type == "cpu"
    except (RuntimeError, AssertionError):  # a device that this machine does not have
        return False
