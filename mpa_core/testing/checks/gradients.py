"""The path in training, without its recipe."""

from __future__ import annotations

import torch

from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.testing.check import fail_unless, listed
from mpa_core.testing.subject import QUALITY, PathUnderTest


def check_gradients(path: PathUnderTest) -> None:
    """Check that all of its parameters get a finite gradient, and nothing of the base does."""
    model = path.codec.model
    before = path.reference
    built = path.build().train()
    base = model.base
    wanted_gradient = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    try:
        y_hat = path.codec.open(before.data).latents().expand(2, -1, -1, -1).clone()
        router = GumbelAggregator(built, torch.tensor([0.4, 0.7]), torch.tensor([5.0, 3.0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x_hat = base.synthesise(y_hat, base.quality(QUALITY, y_hat), router)
        loss = (x_hat - 0.3).square().mean() + router.ratio_loss()
        fail_unless(
            loss.requires_grad,
            "no gradient reaches the path from the picture; build_mlp and build_predictor must "
            "return modules that autograd sees through: no detach(), no torch.no_grad()",
        )
        loss.backward()
        touched = [n for n, p in model.named_parameters() if p.requires_grad or p.grad is not None]
    finally:
        for parameter, wanted in zip(model.parameters(), wanted_gradient, strict=True):
            parameter.requires_grad_(wanted)
            parameter.grad = None
    fail_unless(
        not touched and fingerprint(model.frozen_state()) == before.fingerprint,
        f"training the path reaches the base ({listed(touched) or 'its tensors changed'}); a path "
        "must not write to the base nor turn on its gradients",
    )
    own = {name: p for name, p in built.named_parameters() if p.requires_grad}
    idle = {name for name, parameter in own.items() if parameter.grad is None}
    fail_unless(
        not idle,
        f"{len(idle)} of its {len(own)} parameters get no gradient ({listed(idle)}); use them in "
        "forward, or leave them out",
    )
    wild = {name for name, p in own.items() if p.grad is not None and not p.grad.isfinite().all()}
    fail_unless(
        not wild,
        f"the gradient of {listed(wild)} is not finite; look for a square root or a division at 0",
    )
