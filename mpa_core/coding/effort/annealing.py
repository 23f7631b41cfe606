"""The search for better symbols of ``y``: gradient descent while rounding becomes real."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mpa_core.base.gains import Quality
from mpa_core.coding.effort.distortion import Distortion
from mpa_core.coding.effort.ladder import Schedule
from mpa_core.coding.effort.relaxation import decide, relax
from mpa_core.coding.effort.starts import blurred
from mpa_core.coding.effort.tiles import tiles
from mpa_core.coding.model import MPAModel

Progress = Callable[[int, int], Any]
"""Called after each step with the number of steps done and of all steps. Returning False ends the
search there; what was found so far is coded."""

_NEAR = 0.5
"""Distance in quality to the encoding by which the slope of a picture's curve is taken."""
_THRIFT = 0.7
"""Bits paid for a unit of error, as a share of what the picture's own curve pays. The search takes
away error more easily than bits, so at the full price it ends with larger files, which cost more
than they gain. Chosen by pilots on validation photos, where 0.5 and 1 were worse."""
_SEED = 0
"""Seed of the noise: the same picture gives the same file."""


class Latents(NamedTuple):
    """Values to code at one quality, of a batch."""

    y: Tensor
    """``[B, M, h, w]``, at the scale of the rounding step."""
    z: Tensor
    """``[B, C, h', w']``, likewise."""


class _Cost(NamedTuple):
    """The cost of latents when they are coded."""

    bits: Tensor
    """``[B]``."""
    error: Tensor
    """``[B]``, without the readers' tasks."""
    y_hat: Tensor
    """``[B, M, h, w]``, as a decoder has it."""


def without_gradients(model: MPAModel) -> MPAModel:
    """Return a model of the same tensors whose parameters need no gradient.

    Autograd then keeps nothing for them, and the flags of the user's model are left alone.
    """
    shared: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in model.parameters()
    }
    shared.update((id(buffer), buffer) for buffer in model.buffers())
    return copy.deepcopy(model, shared)


def search(
    distortion: Distortion,
    model: MPAModel,
    x: Tensor,
    quality: float,
    schedule: Schedule,
    progress: Progress | None = None,
) -> Latents:
    """Find latents that cost less than those of the analysis.

    What is minimised is bits plus error, the error in bits: at somewhat less than the rate at which
    the picture's own encodings, of this quality and one beside it, exchange one for the other. So
    the result lies below the picture's curve of rate and distortion, near the point of ``quality``
    on it. Where readers have tasks, part of the error is theirs, at the same rate.

    Args:
        distortion: measures the error of ``x``.
        model: the base, in eval mode, without gradients.
        x: ``[B, 3, H, W]`` in [0, 1], padded.
        quality: quality of all pictures.
        schedule: the number of steps and their sizes.
        progress: see :data:`Progress`.

    Returns:
        For each picture what was found, if it is cheaper when coded, else the latents of the
            analysis.
    """
    at = model.base.quality(quality, x)
    plain = Latents(*model.analyse(x, at))
    before = _cost(model, plain, at, distortion)
    near = model.base.quality(_next_to(quality, model.config.quality_levels), x)
    beside = _cost(model, Latents(*model.analyse(x, near)), near, distortion)
    price = _THRIFT * _price(before, beside)
    start = _start(model, x, plain, before, at, distortion, price)
    z_hat, _ = model.base.entropy.estimate_z(start.z)
    params = model.base.hyper_synthesise(z_hat, at)
    first, _ = model.base.entropy.estimate(start.y, params)
    parts = tiles(x.shape[-2], x.shape[-1], model.config.hyper_stride)
    stride = model.config.latent_stride
    y = start.y.clone()
    done = _Counter(progress, len(parts) * schedule.steps)
    aims = []
    for tile in parts:
        here, around = tile.cut(start.y, stride), tile.cut(params, stride)
        aim = distortion.of(tile).with_tasks(tile.cut(first, stride), at)
        aims.append(aim)
        tile.put(_anneal(model, here, around, at, aim, price, schedule, done), y, stride)
        if done.enough:
            break
    after = _cost(model, Latents(y, start.z), at, distortion)
    gain = before.bits - after.bits
    for tile, aim in zip(parts, aims, strict=False):
        old, new = (
            aim.error(tile.cut(cost.y_hat, stride), at, shown=True) for cost in (before, after)
        )
        gain = gain + price * (old - new)
    better = ((gain > 0) & (price > 0))[:, None, None, None]
    return Latents(torch.where(better, y, plain.y), torch.where(better, start.z, plain.z))


def _start(
    model: MPAModel,
    x: Tensor,
    plain: Latents,
    cost: _Cost,
    quality: Quality,
    distortion: Distortion,
    price: Tensor,
) -> Latents:
    """Return the latents from which a search begins.

    They are those of the picture, or of one of which what counts little is blurred, whichever cost
    least.
    """
    if distortion.uniform:
        return plain
    best, least = plain, cost.bits + price * cost.error
    for picture in blurred(x, distortion.importance, model.config.latent_stride):
        found = Latents(*model.analyse(picture, quality))
        bits, error, _ = _cost(model, found, quality, distortion)
        total = bits + price * error
        if not (total < least).any():
            break
        less = (total < least)[:, None, None, None]
        best = Latents(*(torch.where(less, new, old) for new, old in zip(found, best, strict=True)))
        least = torch.minimum(total, least)
    return best


class _Counter:
    """Counts the steps of all tiles, and asks whether there shall be more."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self.enough = False

    def step(self) -> None:
        """Count a step."""
        self._done += 1
        if self._progress is not None and self._progress(self._done, self._total) is False:
            self.enough = True


def _anneal(
    model: MPAModel,
    start: Tensor,
    params: Tensor,
    quality: Quality,
    distortion: Distortion,
    price: Tensor,
    schedule: Schedule,
    done: _Counter,
) -> Tensor:
    """Return better values for ``start``, a part of ``y``, with whole symbols."""
    entropy = model.base.entropy
    generator = torch.Generator().manual_seed(_SEED)
    y = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([y], lr=schedule.rate)
    temperature = schedule.first_temperature
    for step in range(schedule.steps):
        temperature = schedule.temperature(step)
        with torch.enable_grad():
            relaxed = relax(entropy, y, params, temperature, generator)
            # A sum: the pictures of a batch do not affect each other.
            loss = (relaxed.bits + price * distortion.error(relaxed.y_hat, quality)).sum()
            (y.grad,) = torch.autograd.grad(loss, y)
        optimizer.step()
        done.step()
        if done.enough:
            break
    return decide(entropy, y.detach(), params, temperature)


def _next_to(quality: float, levels: int) -> float:
    return quality + _NEAR if quality + _NEAR <= levels else quality - _NEAR


def _cost(model: MPAModel, latents: Latents, quality: Quality, distortion: Distortion) -> _Cost:
    """Return the cost of latents by the coder's tables and in the pictures as they are shown."""
    entropy = model.base.entropy
    z_hat, z = entropy.estimate_z(latents.z)
    y_hat, y = entropy.estimate(latents.y, model.base.hyper_synthesise(z_hat, quality))
    bits = -(y.log2().sum((1, 2, 3)) + z.log2().sum((1, 2, 3)))
    return _Cost(bits, distortion.error(y_hat, quality, shown=True), y_hat)


def _price(one: _Cost, other: _Cost) -> Tensor:
    """Return the bits that a unit of error is worth on each picture's own curve, ``[B]``.

    It is 0 for a picture whose two encodings do not differ, such as one of a single colour, where
    there is nothing to find.
    """
    bits, error = one.bits - other.bits, other.error - one.error
    same_sign = (bits > 0) & (error > 0) | (bits < 0) & (error < 0)
    return torch.where(same_sign, bits / error, torch.zeros_like(bits))
