"""TaskPath, SideMLP and Predictor: SPEC's counts, shapes at odd widths, hooks, the fresh state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mpa_core.config import PathConfig, PathStage
from mpa_core.errors import ConfigError
from mpa_core.paths import Predictor, SideMLP, TaskPath

STAGES = (PathStage(1, 256, 6), PathStage(2, 192, 2), PathStage(3, 128, 2))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("dim", "depth", "bottleneck", "inverted", "predictor"),
    [
        (256, 6, 398_592, 1_580_544, 18_024),
        (192, 2, 75_072, 296_832, 10_256),
        (128, 2, 33_664, 132_352, 4_664),
    ],
)
def test_counts_per_stage(
    dim: int, depth: int, bottleneck: int, inverted: int, predictor: int
) -> None:
    assert depth * count(SideMLP(dim, 0.5)) == bottleneck
    assert depth * count(SideMLP(dim, 2.0)) == inverted
    assert count(Predictor(dim)) == predictor


@pytest.mark.parametrize(("ratio", "mlps"), [(0.5, 507_328), (2.0, 2_009_728)])
def test_counts_of_a_path(ratio: float, mlps: int) -> None:
    path = TaskPath(STAGES, PathConfig(hidden_ratio=ratio))
    predictors = sum(count(path.stage(stage).predictor) for stage, _, _ in STAGES)
    assert predictors == 32_944
    assert count(path) - predictors == mlps
    assert len(path.state_dict()) == 84


def test_state_dict_keys() -> None:
    keys = set(TaskPath([PathStage(2, 16, 1)]).state_dict())
    mlp = {f"stages.2.mlps.0.{k}" for k in _layers("norm", "fc1", "fc2")}
    predictor = {f"stages.2.predictor.{k}" for k in _layers("norm", "fc1", "fc2")}
    assert keys == mlp | predictor | {"stages.2.predictor.fc3.weight", "stages.2.predictor.shift"}


def _layers(*names: str) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


@pytest.mark.parametrize("dim", [1, 3, 8, 24, 32])
@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
def test_any_width(dim: int, grid: tuple[int, int]) -> None:
    tokens = torch.randn(2, *grid, dim)
    assert Predictor(dim)(tokens).shape == (2, *grid)
    assert SideMLP(dim, 0.3)(tokens).shape == tokens.shape


def test_last_half_of_the_channels_is_the_mean() -> None:
    predictor = Predictor(32)
    tokens = torch.randn(1, 4, 4, 32)
    with torch.no_grad():
        hidden = predictor.act(predictor.fc1(predictor.norm(tokens)))
        hidden[..., 4:] = hidden[..., 4:].mean(dim=(1, 2), keepdim=True)
        logits = predictor.fc3(predictor.act(predictor.fc2(hidden)))[..., 0]
        assert torch.allclose(predictor(tokens), logits, atol=1e-6)


def test_images_of_a_batch_do_not_meet() -> None:
    predictor, tokens = Predictor(16), torch.randn(3, 4, 4, 16)
    with torch.no_grad():
        alone = torch.cat([predictor(image[None]) for image in tokens])
        assert torch.allclose(predictor(tokens), alone, atol=1e-6)


def test_shift_between_levels() -> None:
    predictor = Predictor(16, levels=4)
    with torch.no_grad():
        predictor.shift.copy_(torch.tensor([0.0, 1.0, 3.0, -1.0]))
    level = torch.tensor([1.0, 1.5, 2.0, 2.25, 4.0, 9.0, 0.0])
    expected = torch.tensor([0.0, 0.5, 1.0, 1.5, -1.0, -1.0, 0.0])
    assert torch.allclose(predictor.shift_at(level), expected)


def test_fresh_path_is_nearly_silent_and_learns_at_once() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1000, 64)
    for ratio in (0.5, 2.0):
        mlp = SideMLP(64, ratio)
        out = mlp(tokens)
        assert 1e-4 < float(out.detach().std()) < 2e-2
        (out - tokens).square().mean().backward()
        assert all(bool(p.grad.abs().max() > 0) for p in mlp.parameters())


def test_plugin_changes_the_width_by_config_only() -> None:
    class Wide(TaskPath):
        name = "wide"

        class Config(PathConfig):
            hidden_ratio: float = 2.0
            extra: int = 3

    path = Wide([PathStage(0, 8, 1)])
    assert path.stage(0).mlps[0].fc1.out_features == 16
    assert isinstance(path.config, Wide.Config) and path.config.extra == 3
    # A plain PathConfig is read as the plugin's own.
    path = Wide([PathStage(0, 8, 1)], PathConfig(hidden_ratio=0.25))
    assert path.stage(0).mlps[0].fc1.out_features == 2
    assert isinstance(path.config, Wide.Config)


class OtherConfig(PathConfig):
    extra: int = 0


def test_config_of_another_plugin() -> None:
    class Strict(TaskPath):
        name = "strict"

        class Config(PathConfig):
            needed: int

    with pytest.raises(ConfigError, match=r"path strict: .*needed"):
        Strict([PathStage(0, 8, 1)], PathConfig())
    with pytest.raises(ConfigError, match=r"path strict: .*extra"):
        Strict([PathStage(0, 8, 1)], OtherConfig(extra=1))


def test_plugin_overrides_the_mlp() -> None:
    class Linear(TaskPath):
        name = "linear"

        def build_mlp(self, dim: int) -> nn.Module:
            return nn.Linear(dim, dim)

    path = Linear([PathStage(0, 8, 2), PathStage(2, 4, 1)])
    assert [type(mlp) for mlp in path.stage(0).mlps] == [nn.Linear, nn.Linear]
    assert path.stage(1) is None
    assert path.stage(2).mlps[0].in_features == 4


def test_no_stage_to_attach_to() -> None:
    with pytest.raises(ConfigError, match="no stage to attach to"):
        TaskPath([])
