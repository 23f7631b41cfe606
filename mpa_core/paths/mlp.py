"""The side MLP, which replaces a block's feed-forward layer for the tokens of one path."""

from __future__ import annotations

from torch import Tensor, nn

from mpa_core.base.linear import TokenLinear


class SideMLP(nn.Module):
    """LayerNorm -> Linear -> GELU -> Linear, on tokens of shape [..., dim] (SPEC section 2).

    A new one has almost no effect: ``fc1`` keeps unit variance and ``fc2`` is a hundredth of that,
    so its output is about 1 % of a normalised token. A token sent to a new path then keeps the
    result of attention, the picture stays intact, and the task's loss starts from the base codec's
    features instead of noise. ``fc2`` is small and not zero so that the gradient reaches ``fc1``
    and ``norm`` from the first step on.

    Args:
        dim: channels of a token.
        hidden_ratio: hidden width over ``dim``: 0.5 is the bottleneck, 2.0 the inverted one. The
            hidden width is rounded down and at least 1.
    """

    def __init__(self, dim: int, hidden_ratio: float) -> None:
        super().__init__()
        hidden = max(1, int(dim * hidden_ratio + 1e-9))
        self.norm = nn.LayerNorm(dim)
        self.fc1 = TokenLinear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = TokenLinear(hidden, dim)
        nn.init.normal_(self.fc1.weight, std=dim**-0.5)
        nn.init.normal_(self.fc2.weight, std=0.01 * hidden**-0.5)
        nn.init.zeros_(self.fc1.bias)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the output [..., dim] for ``tokens`` [..., dim]."""
        out: Tensor = self.fc2(self.act(self.fc1(self.norm(tokens))))
        return out
