"""SPEC section 4: the figures of the full-width model, to the last digit."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from mpa_core.base.tinylic.attention import NeighborhoodAttention
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.coding.model import MPAModel
from mpa_core.config import BaseConfig, PathConfig
from mpa_core.paths.path import TaskPath


@cache
def full_width() -> MPAModel:
    return MPAModel(PRESETS["mpa-base"]).eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def predictors(path: TaskPath) -> int:
    return sum(count(stage.predictor) for stage in path.stages.values())


def decoder_path(hidden_ratio: float) -> TaskPath:
    stages = PRESETS["mpa-base"].decoder_path_stages
    return TaskPath(stages, PathConfig(hidden_ratio=hidden_ratio))


def test_base():
    assert count(full_width().base) == 28_461_091


def test_encoder_side_path():
    path = full_width().encoder_path
    assert (count(path) - predictors(path), predictors(path)) == (507_328, 32_944)


@pytest.mark.parametrize(("ratio", "mlps"), [(0.5, 507_328), (2.0, 2_009_728)])
def test_task_path(ratio, mlps):
    path = decoder_path(ratio)
    assert (count(path) - predictors(path), predictors(path)) == (mlps, 32_944)


def test_inverted_path_with_predictors():
    assert count(decoder_path(2.0)) == 2_042_672


def test_stage_1_model_and_three_paths():
    assert count(full_width()) == 29_001_363
    three = count(decoder_path(2.0)) + 2 * count(decoder_path(0.5))
    assert count(full_width()) + three == 32_124_579


def test_share_of_a_bottleneck_path():
    path = decoder_path(0.5)
    assert count(path) == 540_272
    assert f"{100 * count(path) / count(full_width().base):.3f}" == "1.898"
    state = path.state_dict()
    assert len(state) == 84
    assert sum(t.numel() for t in state.values()) * 4 == 2_161_088  # 2.16 MB in fp32


@pytest.mark.parametrize(
    ("stage", "bottleneck", "inverted", "predictor"),
    [(1, 398_592, 1_580_544, 18_024), (2, 75_072, 296_832, 10_256), (3, 33_664, 132_352, 4_664)],
)
def test_per_stage(stage, bottleneck, inverted, predictor):
    for ratio, expected in ((0.5, bottleneck), (2.0, inverted)):
        parts = decoder_path(ratio).stage(stage)
        assert count(parts.mlps) == expected
        assert count(parts.predictor) == predictor


def multiply_adds(module: nn.Module, run) -> int:
    """Multiply-adds of convolutions, linear layers and attention windows while ``run`` runs."""
    total = 0

    def linear(layer, inputs, output):
        nonlocal total
        total += output.numel() * layer.in_features

    def conv(layer, inputs, output):
        nonlocal total
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        if isinstance(layer, nn.ConvTranspose2d):
            total += inputs[0].numel() * layer.out_channels * kernel
        else:
            total += output.numel() * layer.in_channels * kernel

    def attention(layer, inputs, output):
        # Every query meets the keys and the values of its own window, no more.
        nonlocal total
        window = layer.rpb.shape[-1] // 2 + 1
        total += 2 * output.numel() * window**2

    hooks = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            hooks.append(layer.register_forward_hook(linear))
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(layer.register_forward_hook(conv))
        elif isinstance(layer, NeighborhoodAttention):
            hooks.append(layer.register_forward_hook(attention))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return total


@pytest.mark.parametrize(
    ("part", "quality", "thousands"), [("g_a", 8, 195.19), ("g_a", 1, 138.35), ("g_s", 8, 195.19)]
)
def test_multiply_adds_per_pixel(part, quality, thousands):
    """g_a or g_s alone: 197.16 K main and 140.33 K side, of which 1.975 K are the predictors.

    Where nothing is to decide our predictors do not run, so they are not in the count.
    """
    from mpa_core.paths.aggregate import Aggregator

    model = full_width()
    x = torch.zeros(1, 3, 64, 64)
    if part == "g_a":
        router = Aggregator.for_shares(
            model.encoder_path, torch.tensor([float(quality == 8)], dtype=torch.float64)
        )

        def run():
            model.base.analyse(x, model.base.quality(quality, x), router)
    else:
        y = torch.zeros(1, 320, 4, 4)

        def run():
            model.base.synthesise(y, model.base.quality(quality, y))

    with torch.no_grad():
        macs = multiply_adds(model, run)
    # The 4x4 map of this picture is padded to the window of 7 before attention; take out what
    # that adds, so that the count is that of a picture without padding.
    excess = padded_excess(PRESETS["mpa-base"])
    assert (macs - excess) / 64**2 / 1000 == pytest.approx(thousands, abs=0.02)


def padded_excess(config: BaseConfig) -> int:
    """Extra multiply-adds of the projections to q, k, v on a 4x4 map padded to the window."""
    stage = config.g_a[-1]
    extra_tokens = 7 * 7 - 4 * 4
    return stage.depth * extra_tokens * 3 * stage.width**2
