"""What the caller's process is set to: our results do not depend on it, and it stays as it is.

torch keeps defaults for a whole process or thread: the device and the type of new tensors, the
generator of random numbers, autocast, the number of threads. A program sets them for its own
networks. Ours are made, loaded and run in the same way under any of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from mpa_core.base.threads import own_threads

_AUTOCASTING = ("cpu", "cuda", "mps", "xpu")
_making = threading.RLock()
"""The generator that weights are drawn from, and the type they have, are the process's."""


def _in_forked_child() -> None:
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


@contextmanager
def usual_defaults(*, autocast: bool = False) -> Iterator[None]:
    """Run the block, or as a decorator the function, as in a process of our own.

    New tensors are on the processor unless said otherwise, and in a forked child there is one
    thread (:func:`own_threads`). All of it is the calling thread's alone.

    Args:
        autocast: leave that to the caller, who may be training.
    """
    with ExitStack() as stack:
        stack.enter_context(own_threads())
        if not _processor_is_default():
            stack.enter_context(torch.device("cpu"))
        for kind in () if autocast else _AUTOCASTING:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def making_weights(seed: int | None = None) -> Iterator[None]:
    """Run the block, which makes modules, so that they are float32 on the processor.

    Nobody's random numbers move. One caller at a time: torch has one generator and one default
    type for all threads, and they are put back at the end.

    Args:
        seed: of the random start; None where it does not matter.
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
    except (RuntimeError, AssertionError):  # one that this machine does not have
        return False
