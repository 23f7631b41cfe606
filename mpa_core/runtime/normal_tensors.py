"""What is made here is the user's: tensors that may be trained on, whatever mode they are made in.

A tensor made in ``torch.inference_mode`` is an *inference tensor* for ever: autograd refuses it, in
a training step long after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def normal_tensors() -> Iterator[None]:
    """Inside, or in a function decorated with ``@normal_tensors()``, no graph and no inference.

    New tensors are normal ones without gradients, new parameters ask for gradients as always, also
    where the caller is in ``torch.inference_mode``.
    """
    # In this order: leaving inference mode turns gradients on.
    with torch.inference_mode(False), torch.no_grad():
        yield
