"""The routers: exactness, economy, regions, and agreement of training with inference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpa_core.config import PathConfig, PathStage
from mpa_core.errors import MixError, PathNotFoundError
from mpa_core.mix import Mix
from mpa_core.paths import Aggregator, GumbelAggregator, TaskPath
from mpa_core.paths.aggregate import RoutedBlocks
from mpa_core.paths.gumbel import MixedBlocks

DIM = 32
STAGE = PathStage(1, DIM, 2)
SIZE = (32, 48)
GRID = (16, 24)
TOKENS = GRID[0] * GRID[1]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_path(ratio: float = 0.5) -> TaskPath:
    path = TaskPath([STAGE], PathConfig(hidden_ratio=ratio))
    for mlp in path.stage(1).mlps:
        nn.init.normal_(mlp.fc2.weight)  # loud enough to tell the paths apart
    return path


def make_main(dim: int = DIM) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
    )


def aggregator(paths: dict[str, TaskPath], mix: Mix, batch: int = 2) -> Aggregator:
    return Aggregator(paths, mix, image_size=SIZE, padded_size=SIZE, batch=batch)


def forbid(module: nn.Module) -> None:
    def hook(*args: object) -> None:
        raise AssertionError("this module must not run")

    module.register_forward_pre_hook(hook)


def count_calls(module: nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_pre_hook(lambda _, args: calls.append(args[0][..., 0].numel()))
    return calls


@torch.no_grad()
def test_every_token_gets_its_own_mlp() -> None:
    paths = {name: make_path(ratio) for name, ratio in (("a", 0.5), ("b", 2.0), ("c", 0.5))}
    main, tokens = make_main(), torch.randn(2, *GRID, DIM)
    router = aggregator(paths, Mix(a=0.3, b=0.3))
    blocks = router(1, tokens)
    routes = router.masks[1]
    assert router.names == ("a", "b")
    assert routes.shape == (2, *GRID)
    # floor(0.4 * 384) = 153 to main, 231 left: 116 to a, whose name comes first, and 115 to b.
    for image in routes:
        assert image.flatten().bincount().tolist() == [153, 116, 115]
    for block in range(2):
        outs = torch.stack(
            [main(tokens), *(paths[n].stage(1).mlps[block](tokens) for n in ("a", "b"))]
        )
        expected = outs.gather(0, routes[None, ..., None].expand(1, *tokens.shape))[0]
        assert torch.allclose(blocks(tokens, block, main), expected, atol=1e-5)


@torch.no_grad()
def test_order_of_keywords_has_no_meaning() -> None:
    paths = {name: make_path() for name in "zya"}
    tokens = torch.randn(1, *GRID, DIM)
    one = aggregator(paths, Mix(z=0.2, y=0.3, a=0.1), 1)
    two = aggregator(dict(sorted(paths.items())), Mix(a=0.1, y=0.3, z=0.2), 1)
    one(1, tokens), two(1, tokens)
    assert one.names == two.names == ("a", "y", "z")
    assert torch.equal(one.masks[1], two.masks[1])


@torch.no_grad()
def test_images_of_a_batch_are_routed_alone() -> None:
    paths = {name: make_path() for name in "ab"}
    tokens = torch.randn(3, *GRID, DIM)
    together = aggregator(paths, Mix(a=0.3, b=0.3), 3)
    together(1, tokens)
    for b in range(3):
        alone = aggregator(paths, Mix(a=0.3, b=0.3), 1)
        alone(1, tokens[b : b + 1])
        assert torch.equal(alone.masks[1][0], together.masks[1][b])


def test_all_main_needs_no_router() -> None:
    path = make_path()
    forbid(path.stage(1).predictor)
    for mix in (Mix(), Mix(main=1.0), Mix(a=0), Mix(regions={"main": np.ones(SIZE)})):
        router = aggregator({"a": path}, mix)
        assert router(1, torch.randn(2, *GRID, DIM)) is None
        assert router.masks[1].shape == (2, *GRID)
        assert not router.masks[1].any()


def test_a_stage_without_paths_needs_no_router() -> None:
    router = aggregator({"a": make_path()}, Mix(a=1.0))
    assert router(0, torch.randn(2, *GRID, DIM)) is None
    assert router.masks == {}


def whole() -> np.ndarray:
    return np.ones(SIZE, dtype=bool)


@pytest.mark.parametrize(
    "mix", [Mix(a=1.0), Mix(main=1.0, regions={"a": whole()}), Mix(b=1.0, regions={"a": whole()})]
)
@torch.no_grad()
def test_nothing_to_decide_runs_no_predictor(mix: Mix) -> None:
    paths = {"a": make_path(), "b": make_path()}
    for path in paths.values():
        forbid(path.stage(1).predictor)
    forbid(paths["b"].stage(1).mlps[0])
    main, tokens = make_main(), torch.randn(2, *GRID, DIM)
    forbid(main)
    out = aggregator(paths, mix)(1, tokens)(tokens, 0, main)
    assert torch.equal(out, paths["a"].stage(1).mlps[0](tokens))


@torch.no_grad()
def test_only_contested_predictors_run() -> None:
    half = np.zeros(SIZE)
    half[: SIZE[0] // 2] = 1
    paths = {"a": make_path(), "b": make_path()}
    forbid(paths["b"].stage(1).predictor)
    router = aggregator(paths, Mix(a=0.5, regions={"b": half}))
    router(1, torch.randn(2, *GRID, DIM))
    for image in router.masks[1]:
        assert bool((image[: GRID[0] // 2] == 2).all())
        assert image[GRID[0] // 2 :].flatten().bincount().tolist() == [TOKENS // 4, TOKENS // 4]


@torch.no_grad()
def test_padding_belongs_to_no_region() -> None:
    router = Aggregator(
        {"a": make_path()},
        Mix(main=1.0, regions={"a": np.ones((20, 31))}),
        image_size=(20, 31),
        padded_size=SIZE,
        batch=1,
    )
    router(1, torch.randn(1, *GRID, DIM))
    expected = torch.zeros(GRID, dtype=torch.int64)
    expected[:10, :16] = 1
    assert torch.equal(router.masks[1][0], expected)


def test_wrong_calls() -> None:
    with pytest.raises(PathNotFoundError, match="path b is not loaded; loaded are a; call"):
        aggregator({"a": make_path()}, Mix(b=0.5))
    with pytest.raises(PathNotFoundError, match="loaded are none"):
        aggregator({}, Mix(regions={"b": whole()}))
    with pytest.raises(MixError, match="resize the mask to the picture"):
        aggregator({"a": make_path()}, Mix(regions={"a": np.ones((5, 5))}))
    with pytest.raises(MixError, match="made for 2 pictures, the batch has 3"):
        aggregator({"a": make_path()}, Mix(a=0.5))(1, torch.randn(3, *GRID, DIM))
    with pytest.raises(MixError, match="2 shares for a batch of 3"):
        GumbelAggregator(make_path(), torch.zeros(2), torch.ones(2))(1, torch.randn(3, *GRID, DIM))


@torch.no_grad()
def test_shares_per_image() -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(3, *GRID, DIM)
    router = Aggregator.for_shares(path, torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64))
    blocks = router(1, tokens)
    assert [int((image == 0).sum()) for image in router.masks[1]] == [0, TOKENS // 4, TOKENS]
    out = blocks(tokens, 1, main)
    assert torch.allclose(out[0], path.stage(1).mlps[1](tokens[0]), atol=1e-5)
    assert torch.allclose(out[2], main(tokens[2]), atol=1e-5)
    assert Aggregator.for_shares(path, torch.ones(3))(1, tokens) is None


@torch.no_grad()
def test_autocast() -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(2, *GRID, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        router = aggregator({"a": path}, Mix(a=0.5))
        out = router(1, tokens)(tokens, 0, main)
        trained = GumbelAggregator(path, torch.full((2,), 0.5), torch.ones(2), noise=False)
        mixed = trained(1, tokens)(tokens, 0, main)
    assert torch.equal(trained.masks[1], router.masks[1])
    assert torch.allclose(out.float(), mixed.float(), atol=0.1)


class ToyStage(nn.Module):
    """A stage's real cost: deconvolution, projections and window products of attention, MLPs."""

    def __init__(self, dim: int, depth: int, incoming: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(incoming, dim, 3, 2, 1, 1)
        self.qkv = nn.ModuleList(nn.Linear(dim, 3 * dim) for _ in range(depth))
        self.proj = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.main = nn.ModuleList(make_main(dim) for _ in range(depth))

    def forward(
        self, x: Tensor, blocks: Callable[[Tensor], RoutedBlocks | MixedBlocks | None]
    ) -> Tensor:
        tokens = self.up(x).permute(0, 2, 3, 1).contiguous()
        router = blocks(tokens)
        for i, (qkv, proj, main) in enumerate(zip(self.qkv, self.proj, self.main, strict=True)):
            tokens = tokens + proj(qkv(tokens)[..., : tokens.shape[-1]])
            tokens = tokens + (main(tokens) if router is None else router(tokens, i, main))
        return tokens.permute(0, 3, 1, 2)


@torch.no_grad()
def test_compute_is_at_most_the_dearest_path_and_five_percent() -> None:
    widths = (PathStage(1, 256, 6), PathStage(2, 192, 2), PathStage(3, 128, 2))
    toy = nn.ModuleList(
        ToyStage(dim, depth, before)
        for (_, dim, depth), before in zip(widths, (320, 256, 192), strict=True)
    )
    paths = {
        name: TaskPath(widths, PathConfig(hidden_ratio=ratio))
        for name, ratio in (("cls", 0.5), ("mse", 2.0), ("ocr", 0.5), ("seg", 0.5))
    }
    y = torch.randn(1, 320, 2, 3)

    def flops(mix: Mix) -> int:
        router = Aggregator(paths, mix, image_size=(32, 48), padded_size=(32, 48), batch=1)
        with FlopCounterMode(display=False) as counter:
            x = y
            for (stage, _, _), module in zip(widths, toy, strict=True):
                x = module(x, lambda tokens, stage=stage: router(stage, tokens))
        return counter.get_total_flops()

    alone = {"main": flops(Mix()), **{name: flops(Mix(**{name: 1.0})) for name in paths}}
    assert alone["cls"] < alone["main"] == alone["mse"]
    corner = np.zeros((32, 48))
    corner[:9, :9] = 1
    for mix in (
        Mix(cls=0.5),
        Mix(cls=0.4, mse=0.2),
        Mix(cls=0.25, mse=0.25, ocr=0.25, seg=0.25),
        Mix(cls=0.2, mse=0.2, ocr=0.2, seg=0.2),
        Mix(cls=0.01, mse=0.01, ocr=0.01, seg=0.01),
        Mix(cls=0.3, regions={"ocr": corner, "mse": corner[::-1]}),
    ):
        used = ["main"] * (mix.main > 0) + list(mix.path_names)
        assert flops(mix) <= 1.05 * max(alone[name] for name in used), mix
    assert flops(Mix(cls=0.5, seg=0.5)) <= 1.05 * alone["cls"]
    # Half the tokens on the bottleneck save half of what all of them save, less the predictors.
    saved = alone["main"] - flops(Mix(cls=0.5))
    assert saved > 0.45 * (alone["main"] - alone["cls"])


@torch.no_grad()
def test_tokens_are_run_once() -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(2, *GRID, DIM)
    router = aggregator({"a": path}, Mix(a=0.25))
    at_main, at_side = count_calls(main), count_calls(path.stage(1).mlps[0])
    router(1, tokens)(tokens, 0, main)
    assert (at_main, at_side) == ([2 * TOKENS * 3 // 4], [2 * TOKENS // 4])


@pytest.mark.parametrize("rho", [0.0, 0.3, 4 / 7, 1.0])
@torch.no_grad()
def test_training_without_noise_is_inference(rho: float) -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(2, *GRID, DIM)
    path.stage(1).predictor.shift.normal_()  # must not matter to who goes where
    shares = torch.tensor([rho, 1 - rho], dtype=torch.float64)
    trained = GumbelAggregator(path, shares, torch.tensor([2.5, 7.0]), noise=False)
    used = Aggregator.for_shares(path, shares)
    for block in range(2):
        mixed = trained(1, tokens)(tokens, block, main)
        routed = used(1, tokens)(tokens, block, main)
        assert torch.equal(trained.masks[1], used.masks[1])
        assert torch.allclose(mixed, routed, atol=1e-5)
        assert set(trained.soft_masks) == {1}


@torch.no_grad()
def test_hard_mask_is_exact_in_the_forward_pass() -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(2, *GRID, DIM)
    for rho, expected in ((1.0, main(tokens)), (0.0, path.stage(1).mlps[0](tokens))):
        router = GumbelAggregator(path, torch.full((2,), rho), torch.ones(2))
        assert torch.equal(router(1, tokens)(tokens, 0, main), expected)


def test_noise_changes_who_goes_and_never_how_many() -> None:
    path, tokens = make_path(), torch.randn(2, *GRID, DIM)
    masks = []
    for _ in range(2):
        router = GumbelAggregator(path, torch.tensor([0.25, 0.5]), torch.ones(2))
        router(1, tokens)
        masks.append(router.masks[1])
        assert [int((m == 0).sum()) for m in masks[-1]] == [TOKENS // 4, TOKENS // 2]
    assert not torch.equal(masks[0], masks[1])
    torch.manual_seed(1)
    first = GumbelAggregator(path, torch.tensor([0.25, 0.5]), torch.ones(2))
    first(1, tokens)
    torch.manual_seed(1)
    again = GumbelAggregator(path, torch.tensor([0.25, 0.5]), torch.ones(2))
    again(1, tokens)
    assert torch.equal(first.soft_masks[1], again.soft_masks[1])


@torch.no_grad()
def test_noise_is_logistic() -> None:
    path = make_path()
    nn.init.zeros_(path.stage(1).predictor.fc3.weight)
    router = GumbelAggregator(path, torch.tensor([0.5]), torch.ones(1))
    router(1, torch.randn(1, 200, 200, DIM))
    noise = torch.logit(router.soft_masks[1].double())
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(math.pi / math.sqrt(3), rel=0.02)


def test_gradient_is_that_of_the_soft_mask() -> None:
    path, main, tokens = make_path(), make_main(), torch.randn(2, *GRID, DIM)
    predictor = path.stage(1).predictor
    router = GumbelAggregator(
        path, torch.tensor([0.25, 0.5]), torch.tensor([1.0, 2.0]), noise=False, tau=2.0
    )
    blocks = router(1, tokens)
    weight = torch.randn_like(tokens)
    with torch.no_grad():
        by_main, by_side = main(tokens), path.stage(1).mlps[0](tokens)
    (blocks(tokens, 0, main) * weight).sum().backward(retain_graph=True)
    found = predictor.fc3.weight.grad.clone()
    predictor.zero_grad()
    soft = torch.sigmoid(predictor(tokens) / 2.0)[..., None]
    ((soft * by_main + (1 - soft) * by_side) * weight).sum().backward()
    assert torch.allclose(found, predictor.fc3.weight.grad, rtol=1e-4, atol=1e-4)
    assert all(p.grad is not None for p in path.stage(1).mlps[0].parameters())


@torch.no_grad()
def test_ratio_loss() -> None:
    path = TaskPath([STAGE, PathStage(2, DIM, 1)])
    rho = torch.tensor([0.25, 1.0])
    router = GumbelAggregator(path, rho, torch.tensor([1.0, 8.0]), noise=False)
    assert float(router.ratio_loss()) == 0
    for stage in (1, 2):
        router(stage, torch.randn(2, *GRID, DIM))
    expected = np.mean(
        [
            (float(r) - float(router.soft_masks[s][b].mean())) ** 2
            for s in (1, 2)
            for b, r in enumerate(rho)
        ]
    )
    assert float(router.ratio_loss()) == pytest.approx(expected, rel=1e-4)


def test_shift_learns_the_ratio() -> None:
    path = make_path()
    tokens = torch.randn(2, *GRID, DIM)
    rho, level = torch.tensor([0.1, 0.8]), torch.tensor([2.0, 6.0])
    optimizer = torch.optim.Adam(path.parameters(), lr=1e-3)
    for _ in range(60):
        router = GumbelAggregator(path, rho, level)
        router(1, tokens)
        optimizer.zero_grad()
        router.ratio_loss().backward()
        optimizer.step()
    assert router.soft_masks[1].detach().mean(dim=(1, 2)).tolist() == pytest.approx(
        [0.1, 0.8], abs=0.05
    )
    shift = path.stage(1).predictor.shift.detach()
    assert float(shift[1]) < 0 < float(shift[5])
    assert float(shift[0]) == 0
