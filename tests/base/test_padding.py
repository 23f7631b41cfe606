from __future__ import annotations

import pytest
import torch

from mpa_core.base.padding import pad, padded_size, unpad


@pytest.mark.parametrize(
    ("size", "padded"),
    [((64, 128), (64, 128)), ((1, 65), (64, 128)), ((63, 129), (64, 192))],
)
def test_the_next_multiples(size, padded):
    assert padded_size(*size, 64) == padded
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    wide = pad(x, 64)
    assert wide.shape[-2:] == padded
    assert torch.equal(unpad(wide, *size), x)
    # The last row and column go on.
    height, width = size
    assert torch.equal(
        wide[..., height:, :width], x[..., -1:, :].expand(-1, -1, padded[0] - height, -1)
    )
    assert torch.equal(
        wide[..., width:], wide[..., width - 1 : width].expand(-1, -1, -1, padded[1] - width)
    )


def test_what_is_cut_to_size_is_in_range():
    x_hat = torch.tensor([-0.5, 0.25, 1.5, 9.0]).view(1, 1, 1, 4)
    assert unpad(x_hat, 1, 3).flatten().tolist() == [0.0, 0.25, 1.0]
