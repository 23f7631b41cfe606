"""The router for training: a hard Gumbel-sigmoid mask that passes gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mpa_core.errors import MixError
from mpa_core.paths.aggregate import MainMLP
from mpa_core.paths.allocation import allocate, token_counts
from mpa_core.paths.path import TaskPath, run_part


class MixedBlocks:
    """Router of the blocks of one stage in training: both MLPs run, and the mask chooses.

    Args:
        mask: [B, H, W], 1 where main; the value is hard, the gradient is the soft mask's.
        mlps: the blocks' side MLPs.
        path: name of their path class, for messages.
    """

    def __init__(self, mask: Tensor, mlps: nn.ModuleList, path: str) -> None:
        self._mask = mask.unsqueeze(-1)
        self._mlps = mlps
        self._path = path

    def __call__(self, tokens: Tensor, block: int, main: MainMLP) -> Tensor:
        """Return mask * main(tokens) + (1 - mask) * side(tokens), for ``tokens`` [B, H, W, C]."""
        by_main, by_side = main(tokens), run_part(self._mlps[block], tokens, self._path)
        # lerp is exact at 0 and 1: the result is the chosen MLP's output, as in inference.
        mixed: Tensor = torch.lerp(by_side.to(by_main.dtype), by_main, self._mask.to(by_main.dtype))
        return mixed


class GumbelAggregator:
    """Stage router that trains one side path's predictors (SPEC sections 2 and 3, equation 4).

    Its forward pass sends the first floor(T * rho) tokens by noisy logit to the main MLP, by the
    same rule as inference, so that training fits what runs in use. Its backward pass is that of the
    soft mask sigmoid((logit + 100 * shift(level) + logistic noise) / tau), straight through. The
    shift is the same for all tokens of an image, so it does not change which tokens are first; it
    lets the mean of the soft mask reach rho, as the ratio loss demands.

    Args:
        path: the side path.
        main_share: rho per image, floating [B], in [0, 1].
        level: the level of each rho, [B], real, from 1 to the number of levels, as for quality.
        noise: add logistic noise, from torch's global generator; False for evaluation.
        tau: temperature of the soft mask.

    Attributes:
        masks: per stage that was run, int64 [B, H, W]: 0 main, 1 the side path.
        soft_masks: per stage, float [B, H, W]: the soft mask, high where main.
    """

    def __init__(
        self,
        path: TaskPath,
        main_share: Tensor,
        level: Tensor,
        *,
        noise: bool = True,
        tau: float = 1.0,
    ) -> None:
        self.masks: dict[int, Tensor] = {}
        self.soft_masks: dict[int, Tensor] = {}
        self._path = path
        self._main_share = main_share.detach()
        self._level = level
        self._noise = noise
        self._tau = tau

    def __call__(self, stage: int, tokens: Tensor) -> MixedBlocks | None:
        """Assign the tokens [B, H, W, C] of ``stage``; None where the path does not attach.

        Raises:
            MixError: there is not one share per image.
        """
        module = self._path.stage(stage)
        if module is None:
            return None
        if len(tokens) != len(self._main_share):
            raise MixError(
                f"{len(self._main_share)} shares for a batch of {len(tokens)}; give one per image"
            )
        logits = run_part(module.predictor, tokens, self._path.name).float()
        if self._noise:
            # The difference of two Gumbel variables is logistic.
            uniform = torch.rand_like(logits).clamp(1e-7, 1 - 1e-7)
            logits = logits + uniform.log() - torch.log1p(-uniform)
        shift = 100 * module.predictor.shift_at(self._level.to(logits.device))
        soft = torch.sigmoid((logits + shift.view(-1, 1, 1)) / self._tau)

        free = torch.full((len(tokens),), logits[0].numel())
        counts = token_counts(self._main_share, [1.0], free)
        routes = allocate(logits.flatten(1).unsqueeze(0), counts).view_as(logits)
        self.masks[stage] = routes
        self.soft_masks[stage] = soft
        hard = 1.0 - routes
        return MixedBlocks(hard + (soft - soft.detach()), module.mlps, self._path.name)

    def ratio_loss(self) -> Tensor:
        """Return equation 4: the mean over predictors and images of (rho - mean soft mask)**2.

        A scalar; 0 before any stage was run.
        """
        rho = self._main_share
        losses = [
            (rho.to(soft) - soft.mean(dim=(1, 2))).square().mean()
            for soft in self.soft_masks.values()
        ]
        return torch.stack(losses).mean() if losses else rho.new_zeros(())
