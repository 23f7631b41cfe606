"""Pictures to begin a search from, of which what counts little is blurred."""

from __future__ import annotations

import torch

from mpa_core.coding.effort.starts import BLURS, blurred


def steps(x: torch.Tensor) -> float:
    """How much neighbours differ."""
    return float((x[..., 1:] - x[..., :-1]).abs().mean())


def test_what_counts_stays_and_the_rest_is_more_and_more_blurred():
    x = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    importance = torch.full((2, 1, 64, 128), 0.1)
    importance[..., :32] = 1
    found = list(blurred(x, importance, 16))
    assert len(found) == len(BLURS)
    last = steps(x[..., 48:])
    for picture in found:
        # Half a latent beside what counts, there is no blur, either.
        torch.testing.assert_close(picture[..., :40], x[..., :40])
        assert steps(picture[..., 48:]) < last
        last = steps(picture[..., 48:])
