from __future__ import annotations

import torch

from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.coding.model import MPAModel
from mpa_core.training.rescale import rescale_blocks


def test_the_function_stays_and_the_gammas_grow():
    torch.manual_seed(0)
    model = MPAModel(PRESETS["mpa-tiny"]).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        # Quality 3 sends some tokens through the encoder's side path, some through the main one.
        before = model(x, 3.0)
        gammas = [p.clone() for n, p in model.base.g_s.named_parameters() if "gamma" in n]
        rescale_blocks(model, 20.0)
        after = model(x, 3.0)
    assert torch.allclose(before["x_hat"], after["x_hat"], atol=1e-4)
    scaled = [p for n, p in model.base.g_s.named_parameters() if "gamma" in n]
    assert all(torch.allclose(20 * a, b) for a, b in zip(gammas, scaled, strict=True))
