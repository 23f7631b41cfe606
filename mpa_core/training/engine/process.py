"""Settings of the whole process that a training run makes, and restores at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mpa_core.training.settings.base import RunSettings


@contextmanager
def process_settings(settings: RunSettings) -> Iterator[None]:
    """Run the block with a run's thread count, TF32 switch and denormal numbers flushed to zero.

    At the end all three are restored, since a program that trains a path goes on computing in its
    own modes. They are torch's, for all threads of the process (the denormal mode: the calling
    one's).
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # measured and cached now: numpy warns if denormals are flushed by then
    threads, flushed = torch.get_num_threads(), denormals_are_flushed()
    tf32 = [(owner, name, getattr(owner, name)) for owner, name in _tf32_switches()]
    try:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        torch.set_flush_denormal(True)
        for owner, name, before in tf32:
            on, off = (True, False) if isinstance(before, bool) else ("tf32", "ieee")
            setattr(owner, name, on if settings.tf32 else off)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
        for owner, name, before in tf32:
            setattr(owner, name, before)


def denormals_are_flushed() -> bool:
    """Return whether the calling thread flushes denormal numbers to zero; torch cannot tell."""
    return sys.float_info.min / 2 == 0


def _tf32_switches() -> list[tuple[Any, str]]:
    """Return the attributes that allow TF32 on an NVIDIA GPU, in the interface this torch has.

    Where there are switches by operator, the older ``allow_tf32`` must not be used as well: torch
    refuses to read a mixture.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [(owner, "fp32_precision") for owner in (matmul, cudnn.conv, cudnn.rnn)]
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]
