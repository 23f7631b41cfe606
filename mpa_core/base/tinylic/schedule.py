"""The order in which the positions of ``y`` are coded (SPEC section 1, "Entropy model").

Estimation, encoding and decoding all walk this one list of steps. A step codes some positions of
one channel slice; positions are named by *phase*, the pair (row parity, column parity), so that a
phase is the strided map ``y[..., row::2, column::2]`` and every phase has the same size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Phase = tuple[int, int]

EVEN: tuple[Phase, ...] = ((0, 0), (1, 1))
"""One colour of the checkerboard: the positions whose row + column is even."""
ODD: tuple[Phase, ...] = ((0, 1), (1, 0))
"""The other colour: the positions whose row + column is odd."""


class Step(NamedTuple):
    """The positions of one slice that are coded together."""

    slice: int
    """Index of the channel slice."""
    phases: tuple[Phase, ...]
    """Positions coded in this step, in coding order."""
    known: tuple[Phase, ...]
    """Positions of the same slice that were decoded before."""


def _passes(index: int, *passes: tuple[Phase, ...]) -> list[Step]:
    steps: list[Step] = []
    known: tuple[Phase, ...] = ()
    for phases in passes:
        steps.append(Step(index, phases, known))
        known += phases
    return steps


SCHEDULE: tuple[Step, ...] = (
    *_passes(0, ((0, 0),), ((1, 1),), ((0, 1),), ((1, 0),)),
    *_passes(1, ODD, EVEN),
    *_passes(2, EVEN, ODD),
    *_passes(3, ((0, 0), (0, 1), (1, 0), (1, 1))),
)
"""Nine steps: four passes over slice 0, two over slices 1 and 2, one over slice 3."""


def context_mask(step: Step, kernel: int) -> Tensor:
    """Return which taps of a ``kernel x kernel`` convolution see known positions.

    All phases of one step must agree on it, as they do in a checkerboard.

    Returns:
        ``[kernel, kernel]`` float32, 1 where a tap sees a known position, else 0.
    """
    reach = kernel // 2
    masks = {
        tuple(
            ((row + dy) % 2, (column + dx) % 2) in step.known
            for dy in range(-reach, reach + 1)
            for dx in range(-reach, reach + 1)
        )
        for row, column in step.phases
    }
    (mask,) = masks
    return torch.tensor(mask, dtype=torch.float32).reshape(kernel, kernel)


def split_phases(tensor: Tensor, phases: tuple[Phase, ...]) -> Tensor:
    """Split ``[B, C, H, W]`` into one strided map per phase: ``[P, B, C, H/2, W/2]``."""
    return torch.stack([tensor[..., row::2, column::2] for row, column in phases])


def coding_order(phases: Tensor) -> Tensor:
    """Return the positions of one step of one picture in the order of their symbols, as a view.

    ``phases`` ``[P, c, H/2, W/2]`` keep their order (phase, channel, row, column), except in the
    step that codes the whole map at once: its order is channel, row and column of the map.
    """
    if len(phases) < 4:
        return phases
    return phases.unflatten(0, (2, 2)).permute(2, 3, 0, 4, 1)


def join_phases(parts: dict[Phase, Tensor]) -> Tensor:
    """Join maps ``[B, C, H/2, W/2]`` by phase to ``[B, C, H, W]``; absent phases are 0.

    The inverse of :func:`split_phases`.
    """
    zeros = torch.zeros_like(next(iter(parts.values())))
    rows = [
        torch.stack([parts.get((row, column), zeros) for column in (0, 1)], dim=-1)
        for row in (0, 1)
    ]
    stacked = torch.stack(rows, dim=-3)  # [B, C, h, 2 (row), w, 2 (column)]
    batch, channels, height, _, width, _ = stacked.shape
    return stacked.reshape(batch, channels, 2 * height, 2 * width)
