"""The recipe's loss for the readers of a file, as a search for better symbols uses it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mpa_core.errors import PluginError
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.tasks.samples import collate
from mpa_core.testing.check import CheckFailed, NotApplicable, fail_unless
from mpa_core.testing.checks.recipe import PICTURES, few_samples
from mpa_core.testing.subject import PathUnderTest

_NOISE = 0.1
"""Standard deviation of the noise that damages pictures."""

_ODD = (47, 61)
"""Height and width of a picture that no stride divides."""


class _Losses(NamedTuple):
    """The loss of a few pictures, [B] each."""

    damaged: Tensor
    again: Tensor
    """That of the damaged pictures with another function, without gradients."""
    original: Tensor
    gradient: Tensor
    """By the damaged pictures, [B, 3, H, W]."""
    draws: bool
    """Whether torch's random state was changed."""


def check_reader_loss(path: PathUnderTest) -> None:
    """Check that `reader_loss` gives the same loss each time, for pictures of any size.

    It is finite, one per picture, has a gradient, draws nothing, and is not larger for the
    originals than for pictures spoilt by noise.
    """
    who = path.require_recipe()
    recipe = path.set_up
    crops = collate(few_samples(path, "train"), torch.ones(PICTURES)).images
    with torch.random.fork_rng(devices=[]):
        if recipe.reader_loss(crops) is None:
            raise NotApplicable("the recipe has no loss for readers")
    losses = _tried(recipe, crops, who)
    fail_unless(
        bool((losses.gradient.flatten(1) != 0).any(1).all()),
        f"{who}: the gradient of reader_loss() is zero for a picture with noise, so a search finds "
        "nothing for the task; look for argmax, rounding, and a clamp that cuts everything off",
    )
    fail_unless(
        torch.allclose(losses.damaged, losses.again, rtol=1e-4, atol=1e-7),
        f"{who}: asked twice, reader_loss() gives {_values(losses.damaged)} and "
        f"{_values(losses.again)} for the same pictures; draw nothing at random, and keep nothing "
        "from call to call",
    )
    fail_unless(
        not losses.draws,
        f"{who}: reader_loss() changes torch's random state, so that what is drawn after it is "
        "something else; draw nothing, or from a torch.Generator of its own with a fixed seed",
    )
    fail_unless(
        bool((losses.original <= losses.damaged).all()),
        f"{who}: reader_loss() is {_values(losses.original)} for the originals and "
        f"{_values(losses.damaged)} for the same spoilt by noise; turn its sign round, or compare "
        "with what the task model says of the originals",
    )
    whole = collate(few_samples(path, "val")[:1], torch.ones(1)).images
    height, width = _ODD
    for images in (whole, crops[:2, :, :height, :width], crops[:1, :, :1, :1]):
        _tried(recipe, images, who)


def _tried(recipe: RecipeCalls, images: Tensor, who: str) -> _Losses:
    """Return the losses of ``images``, which are of the right shape and finite."""
    count, (height, width) = len(images), images.shape[-2:]
    what = f"{count} picture{'s' * (count > 1)} of {width} x {height} pixels"
    try:
        losses = _losses(recipe, images, who, what)
    except PluginError as error:
        raise CheckFailed(
            f"{error}; it was given {what}, and there are pictures of any size: resize them to "
            "what the task model takes, or cut them into views"
        ) from error
    fail_unless(
        bool(losses.damaged.isfinite().all() and losses.original.isfinite().all()),
        f"{who}: reader_loss() gives {_values(losses.damaged)} for {what} with noise, and "
        f"{_values(losses.original)} for the originals; look for a logarithm, a division by zero, "
        "and values outside [0, 1], since decoded pictures are not clamped",
    )
    fail_unless(
        bool(losses.gradient.isfinite().all()),
        f"{who}: the gradient of reader_loss() is not finite for {what}; look for a square root at "
        "0, and for a division by zero",
    )
    return losses


def _losses(recipe: RecipeCalls, images: Tensor, who: str, what: str) -> _Losses:
    before = images.clone()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    damaged = images + _NOISE * noise
    x_hat = damaged.clone().requires_grad_()
    found, draws = [], False
    with torch.random.fork_rng(devices=[]):
        for seed, pictures in enumerate((x_hat, damaged, images)):
            state = torch.manual_seed(seed).get_state()
            # As in a search: what is said of the originals is not differentiated.
            with torch.no_grad():
                loss = recipe.reader_loss(images)
            if loss is None:
                raise CheckFailed(
                    f"{who}: reader_loss() returns None for {what}, and a function for others; "
                    "decide by the settings alone whether there is a loss"
                )
            with torch.set_grad_enabled(pictures is x_hat):
                values = loss(pictures)
            draws |= not torch.equal(state, torch.get_rng_state())
            fail_unless(
                values.shape == (len(images),),
                f"{who}: the function of reader_loss() returned the shape {tuple(values.shape)} "
                f"for {what}, expected one loss each, {(len(images),)}; take means over all "
                "dimensions but the first",
            )
            found.append(values)
    fail_unless(
        found[0].requires_grad,
        f"{who}: no gradient goes from reader_loss() to the decoded pictures, so a search finds "
        "nothing for the task; leave out detach(), torch.no_grad(), argmax and rounding on the way",
    )
    fail_unless(
        torch.equal(images, before),
        f"{who}: reader_loss() writes to the originals that it is given; work on a copy of them",
    )
    (gradient,) = torch.autograd.grad(found[0].sum(), x_hat, materialize_grads=True)
    return _Losses(found[0].detach(), found[1], found[2], gradient, draws)


def _values(losses: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in losses.tolist())
