"""The recipe's hooks, each for itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mpa_core.arguments import shown
from mpa_core.errors import ConfigError, ImageError
from mpa_core.tasks.metric import PERCENT, Metric
from mpa_core.tasks.recipe import Recipe, load_recipe
from mpa_core.tasks.samples import PathBatch, Sample, collate
from mpa_core.testing.check import CheckFailed, NotApplicable, fail_unless, listed
from mpa_core.testing.subject import PathUnderTest
from mpa_core.training.settings.path import recipe_defaults

PICTURES = 3
"""This many samples are looked at."""


def check_recipe_class(path: PathUnderTest) -> None:
    """Check that the recipe imports, and that its settings and defaults are complete and valid.

    Its own `__init__`, if it has one, hands on what it is given.
    """
    who = path.require_recipe()
    recipe_class = load_recipe(path.name)
    recipe_defaults(path.name)
    try:
        recipe_class.Settings.parse({}, source="Settings")
    except ConfigError as error:
        raise CheckFailed(
            f"{who}: its Settings cannot be made without values ({error}); give every field a "
            "default"
        ) from error
    recipe = path.make_recipe().recipe
    data = path.training(1).data
    fail_unless(
        isinstance(getattr(recipe, "settings", None), recipe_class.Settings)
        and getattr(recipe, "data", None) == data
        and getattr(recipe, "seed", None) == path.training(1).seed,
        f"{who}: its __init__ loses settings, data or seed; begin it with "
        "super().__init__(*args, **kwargs), or do without one",
    )


def check_setup(path: PathUnderTest) -> None:
    """Check that `setup` builds task models that are frozen: in eval mode, without gradients."""
    who = path.require_recipe()
    _ = path.recipe
    recipe = path.make_set_up().recipe
    modules = {name: part for name, part in vars(recipe).items() if isinstance(part, nn.Module)}
    training = {name for name, part in modules.items() if any(m.training for m in part.modules())}
    fail_unless(
        not training,
        f"{who}: {listed(training)} is in training mode after setup(), so that its loss depends on "
        "the batch; use mpa_core.tasks.freeze",
    )
    learning = {n for n, part in modules.items() if any(p.requires_grad for p in part.parameters())}
    fail_unless(
        not learning,
        f"{who}: the weights of {listed(learning)} take gradients, which nobody uses; use "
        "mpa_core.tasks.freeze",
    )


def check_samples(path: PathUnderTest) -> None:
    """Check that samples are uint8 pictures with tensors for targets, alike within a split."""
    who = path.require_recipe()
    crop = path.training(1).data.crop
    for split, side in (("train", crop), ("val", None)):
        samples = few_samples(path, split)
        for sample in samples:
            image = sample.image
            fail_unless(
                isinstance(image, np.ndarray)
                and image.dtype == np.uint8
                and image.ndim == 3
                and image.shape[2] == 3,
                f"{who}: a sample of split {split!r} has for its image {_array(image)}, expected "
                "uint8 [H, W, 3]; convert pictures to RGB bytes in dataset()",
            )
            fail_unless(
                side is None or image.shape[:2] == (side, side),
                f"{who}: a training sample is {image.shape[1]} x {image.shape[0]} pixels, expected "
                f"{side} x {side}; cut pictures to `crop` in dataset()",
            )
            wrong = {
                str(name)
                for name, value in sample.target.items()
                if not (isinstance(name, str) and isinstance(value, Tensor))
            }
            fail_unless(
                not wrong,
                f"{who}: target {listed(wrong)} is no tensor under a name; make it one: "
                "torch.tensor(…)",
            )
        if split == "train":
            collate(samples, torch.ones(len(samples)))  # which says what is wrong


def check_samples_repeat(path: PathUnderTest) -> None:
    """Check that an index gives the same sample every time, unless `random = True`."""
    who = path.require_recipe()
    if path.recipe.recipe.random:
        raise NotApplicable("the recipe says that its samples are random")
    for split in ("train", "val"):
        first, second = few_samples(path, split), few_samples(path, split)
        for a, b in zip(first, second, strict=True):
            same = np.array_equal(a.image, b.image) and a.target.keys() == b.target.keys()
            fail_unless(
                same and all(torch.equal(a.target[name], b.target[name]) for name in a.target),
                f"{who}: asked for twice, a sample of split {split!r} is another one, while its "
                "latents are computed once and kept; draw from "
                "mpa_core.tasks.plugin_generator(self.seed, number, index), or set random = True",
            )


def check_loss(path: PathUnderTest) -> None:
    """Check that `task_loss` is finite, a scalar or one per picture, and has a gradient."""
    who = path.require_recipe()
    recipe = path.set_up
    batch = collate(few_samples(path, "train"), torch.full((PICTURES,), 3.0))
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    x_hat = (batch.images + 0.1 * noise).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = recipe.task_loss(x_hat, batch)
    fail_unless(
        bool(loss.isfinite().all()),
        f"{who}: task_loss() is {loss.detach().flatten().tolist()}; look for a logarithm or a "
        "division by zero, and for values of x_hat outside [0, 1], which is not clamped",
    )
    if type(recipe.recipe).task_loss is Recipe.task_loss:
        return  # without a task there is nothing to learn from
    gradient = torch.zeros(1)
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss.sum(), x_hat, materialize_grads=True)
    fail_unless(
        bool(gradient.isfinite().all()) and bool((gradient != 0).any()),
        f"{who}: the gradient of task_loss() in x_hat is zero or not finite; look for a clamp that "
        "cuts everything off, and for a square root at 0",
    )


def check_metrics(path: PathUnderTest) -> None:
    """Check that metrics give a number in their unit, and a better one for the original."""
    who = path.require_recipe()
    metrics = path.set_up.metrics()
    batches = [collate([sample], torch.ones(1)) for sample in few_samples(path, "val")]
    for name, metric in metrics.items():
        original, spoilt = (
            _figure(metric, batches, spoil=False),
            _figure(metric, batches, spoil=True),
        )
        if metric.unit == PERCENT:
            fail_unless(
                not any(abs(figure) > 1 + 1e-6 for figure in (original, spoilt)),
                f"{who}: metric {name!r} is written in percent and gives {original:g} and "
                f"{spoilt:g}; give a share in [0, 1], which is multiplied by 100 to be written",
            )
        better = original >= spoilt if metric.higher_is_better else original <= spoilt
        fail_unless(
            better or original != original or spoilt != spoilt,  # no number: nothing was there
            f"{who}: metric {name!r} gives {original:g} for the originals and {spoilt:g} for "
            f"pictures spoilt by noise, and says higher_is_better={metric.higher_is_better}; turn "
            "that round, or look at what it measures",
        )


def few_samples(path: PathUnderTest, split: str) -> list[Sample]:
    """Return a few samples of the recipe's data set, which is made anew."""
    crop = path.training(1).data.crop if split == "train" else None
    samples: Sequence[Sample] = path.recipe.dataset(path.data, split, crop)  # type: ignore[arg-type]
    if not len(samples):
        raise CheckFailed(
            f"{path.require_recipe()}: its data set is empty for {path.data}, split {split!r}; "
            "give a folder with data of its own kind, or see which photos it leaves out"
        )
    found: list[Sample] = []
    for index in range(len(samples)):
        try:
            found.append(samples[index])
        except ImageError:
            continue  # training takes the next one
        if len(found) == PICTURES:
            break
    while len(found) < PICTURES:
        found.append(found[0])
    return found


def _figure(metric: Metric, batches: Sequence[PathBatch], *, spoil: bool) -> float:
    generator = torch.Generator().manual_seed(1)
    parts = []
    for batch in batches:
        noise = torch.rand(batch.images.shape, generator=generator)
        parts.append(metric.per_picture(noise if spoil else batch.images, batch))
    return metric.figure(torch.cat(parts).sum(0))


def _array(value: object) -> str:
    dtype = f" of {value.dtype}" if isinstance(value, (np.ndarray, Tensor)) else ""
    return f"{shown(value)}{dtype}"
