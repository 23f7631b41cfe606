"""The importance predictor: one logit per token, high where the main path is worth its cost."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mpa_core.base.linear import TokenLinear


class ShiftedPredictor(nn.Module):
    """A predictor that can be trained: scores, and a shift of them for each quality level."""

    shift: nn.Parameter
    """One entry for each quality level, 0 at first."""

    def shift_at(self, level: Tensor) -> Tensor:
        """Return ``shift`` [B] at real-valued levels, linear between neighbours.

        Args:
            level: [B], counted as quality is: 1 is the first entry, ``levels`` the last; values
                outside take the nearest.
        """
        last = len(self.shift) - 1
        position = (level - 1).clamp(0, last)
        lower = position.floor().long()
        upper = (lower + 1).clamp(max=last)
        return torch.lerp(
            self.shift[lower], self.shift[upper], (position - lower).to(self.shift.dtype)
        )


class OwnPredictor(ShiftedPredictor):
    """A plugin's own predictor, any module from [B, H, W, dim] to [B, H, W], with that shift."""

    def __init__(self, own: nn.Module, levels: int) -> None:
        super().__init__()
        self.own = own
        self.shift = nn.Parameter(torch.zeros(levels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [B, H, W] of ``tokens`` [B, H, W, dim]."""
        logits: Tensor = self.own(tokens)
        return logits


class Predictor(ShiftedPredictor):
    """A predictor of the importance of each token to the main path (SPEC section 2).

    LayerNorm -> Linear(dim, dim/4) -> GELU, half of the channels replaced by their spatial mean, ->
    Linear(dim/4, dim/16) -> GELU -> Linear(dim/16, 1). The last half holds the mean: every token
    sees its own features and the whole picture's.

    Args:
        dim: channels of a token; inner widths are rounded down and at least 1.
        levels: number of quality levels, with one entry of ``shift`` each.
    """

    def __init__(self, dim: int, levels: int = 8) -> None:
        super().__init__()
        wide, narrow = max(1, dim // 4), max(1, dim // 16)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = TokenLinear(dim, wide)
        self.fc2 = TokenLinear(wide, narrow)
        self.fc3 = nn.Linear(narrow, 1, bias=False)
        self.act = nn.GELU()
        self.shift = nn.Parameter(torch.zeros(levels))
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(self.fc1.bias)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [B, H, W] for ``tokens`` [B, H, W, dim]."""
        hidden = self.act(self.fc1(self.norm(tokens)))
        local, shared = hidden.tensor_split([hidden.shape[-1] // 2], dim=-1)
        mean = shared.mean(dim=(1, 2), keepdim=True).expand_as(shared)
        hidden = torch.cat([local, mean], dim=-1)
        logits: Tensor = self.fc3(self.act(self.fc2(hidden)))
        return logits.squeeze(-1)
