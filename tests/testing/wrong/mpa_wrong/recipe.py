"""The recipes; each is called as its path."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from mpa_core import Metric, Recipe
from mpa_core.config import StrictModel
from mpa_core.tasks import PERCENT, PLAIN, freeze


class right(Recipe):  # noqa: N801
    """Keeps what a fixed random filter sees."""

    defaults: ClassVar = {"loss": {"perceptual": None}, "budget": {"steps": 10}}

    def setup(self, device):
        self.model = freeze(nn.Conv2d(3, 4, 3, padding=1).to(device))

    def distance(self, x_hat, images):
        return (self.model(x_hat) - self.model(images)).square().mean((1, 2, 3))

    def task_loss(self, x_hat, batch):
        return 100 * self.distance(x_hat, batch.images)

    def reader_loss(self, images):
        images = images.clone()
        return lambda x_hat: self.distance(x_hat, images)

    def metrics(self):
        def statistics(x_hat, batch):
            return self.distance(x_hat, batch.images)

        return {"seen": Metric(statistics, higher_is_better=False, unit=PLAIN, label="distance")}


class bad_defaults(right):  # noqa: N801
    defaults: ClassVar = {"loss": {"perceptuel": None}}


class needs_a_value(right):  # noqa: N801
    class Settings(StrictModel):
        strength: float


class keeps_nothing(right):  # noqa: N801
    def __init__(self, settings=None, *, data=None, seed=0):
        super().__init__(settings)


class fails_in_setup(right):  # noqa: N801
    def setup(self, device):
        raise FileNotFoundError("weights.bin")


class unfrozen(right):  # noqa: N801
    def setup(self, device):
        self.model = nn.Conv2d(3, 4, 3).to(device)


class Changed:
    """The samples of a recipe, each changed by ``change(sample, index)``."""

    def __init__(self, samples, change):
        self.samples, self.change = samples, change

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.change(self.samples[index], index)


class tuples(right):  # noqa: N801
    def dataset(self, root, split, crop):
        return Changed(super().dataset(root, split, crop), lambda s, _: (s.image, 1))


class wrong_size(right):  # noqa: N801
    def dataset(self, root, split, crop):
        samples = super().dataset(root, split, crop)
        return Changed(samples, lambda s, _: replace(s, image=s.image[:40]))


class other_each_time(right):  # noqa: N801
    def dataset(self, root, split, crop):
        def shifted(sample, _):
            return replace(sample, image=np.roll(sample.image, np.random.randint(1, 30), 0))

        return Changed(super().dataset(root, split, crop), shifted)


class detached(right):  # noqa: N801
    def task_loss(self, x_hat, batch):
        return super().task_loss(x_hat.detach(), batch)


class no_number(right):  # noqa: N801
    def task_loss(self, x_hat, batch):
        return x_hat.log().mean((1, 2, 3))


class upside_down(right):  # noqa: N801
    def metrics(self):
        return {"seen": replace(super().metrics()["seen"], higher_is_better=True)}


class hundred(right):  # noqa: N801
    def metrics(self):
        def statistics(x_hat, batch):
            return 100 * (1 - self.distance(x_hat, batch.images))

        return {"seen": Metric(statistics, higher_is_better=True, unit=PERCENT)}


class no_metric(right):  # noqa: N801
    def metrics(self):
        return {"seen": 3}


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return -gradient


class backwards(right):  # noqa: N801
    def task_loss(self, x_hat, batch):
        return super().task_loss(Backwards.apply(x_hat), batch)


class remembers(right):  # noqa: N801
    def setup(self, device):
        super().setup(device)
        self.calls = itertools.count(1)

    def task_loss(self, x_hat, batch):
        return super().task_loss(x_hat + 0.1 * next(self.calls), batch)


class never_the_same(right):  # noqa: N801
    def reader_loss(self, images):
        loss = super().reader_loss(images)
        return lambda x_hat: loss(x_hat) * torch.rand(())


class draws_one_of_one(right):  # noqa: N801
    def reader_loss(self, images):
        self.chosen = int(torch.randint(1, ()))
        return super().reader_loss(images)


class no_function(right):  # noqa: N801
    def reader_loss(self, images):
        return self.distance(images, images)


class of_loss(right):  # noqa: N801
    """Changes what the function for readers returns."""

    def changed(self, x_hat, loss):
        raise NotImplementedError

    def reader_loss(self, images):
        loss = super().reader_loss(images)
        return lambda x_hat: self.changed(x_hat, loss)


class a_float(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return float(loss(x_hat.detach()).mean())


class one_for_all(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss(x_hat).mean()


class infinite(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss(x_hat) - x_hat.log().mean((1, 2, 3))


class unfelt(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss(x_hat.detach())


class rounds(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss((255 * x_hat).round() / 255)


class steep(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss(torch.where(x_hat > 0, x_hat.sqrt(), 0))


class likes_noise(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return -loss(x_hat)


class even_only(of_loss):  # noqa: N801
    def changed(self, x_hat, loss):
        return loss(x_hat) + nn.functional.pixel_unshuffle(x_hat, 2).square().mean((1, 2, 3))


class large_only(right):  # noqa: N801
    def reader_loss(self, images):
        return super().reader_loss(images) if images.shape[-1] > 1 else None


class writes(right):  # noqa: N801
    def reader_loss(self, images):
        return super().reader_loss(images.clamp_(0.1, 0.9))
