"""Ordinary tensors for the user, which may be trained on, whatever mode they are made in.

A tensor made in ``torch.inference_mode`` is an *inference tensor* for ever: autograd refuses it,
possibly in a training step long after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def normal_tensors() -> Iterator[None]:
    """Run the block, or as a decorator the function, without autograd and inference mode.

    New tensors are normal ones without gradients, and new parameters require gradients as always,
    even where the caller is in ``torch.inference_mode``.
    """
    # In this order: leaving inference mode turns gradients on.
    with torch.inference_mode(False), torch.no_grad():
        yield
