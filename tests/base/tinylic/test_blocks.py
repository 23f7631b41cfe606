"""The blocks of the base, where a library is their reference."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import stochastic_depth

from mpa_core.base.tinylic.blocks import NSABlock


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.75])
@pytest.mark.parametrize("training", [False, True])
def test_stochastic_depth_is_torchvisions(probability: float, training: bool):
    block = NSABlock(8, 2, 3, 2.0, 8, probability).train(training)
    residual = torch.randn(64, 3, 2, 8, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        found, after = block._drop(residual), torch.rand(1)
        torch.manual_seed(2)
        expected = stochastic_depth(residual, probability, "row", training)
        assert torch.equal(after, torch.rand(1))  # the same state, for runs to resume to the bit
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert (training and probability) or torch.equal(found, residual)
