"""Allocation: exact counts, stability, SPEC's rule for one path, and regions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpa_core.errors import MixError
from mpa_core.paths import allocate
from mpa_core.paths.allocation import FREE, region_grid, token_counts

# Few distinct values, so that ties are common.
SCORES = st.integers(-3, 3).map(float)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counts_of(rho: float, sides: list[float], tokens: int) -> list[int]:
    return token_counts(f64(rho), sides, torch.tensor([tokens]))[0].tolist()


@pytest.mark.parametrize("level", range(1, 9))
@pytest.mark.parametrize("tokens", [7, 49, 12_288, 98_304, 7 * 2**24])
def test_no_token_is_lost_to_rounding(level: int, tokens: int) -> None:
    exact = math.floor(tokens * (1 - Fraction(level - 1, 7)))
    for rho in (1 - (level - 1) / 7, (8 - level) / 7, 1 - (level - 1) * (1 / 7)):
        assert counts_of(rho, [1.0], tokens) == [exact, tokens - exact]
    coarse = torch.tensor([1 - (level - 1) / 7], dtype=torch.float32)
    if tokens <= 98_304:
        assert int(token_counts(coarse, [1.0], torch.tensor([tokens]))[0, 0]) == exact


def test_largest_remainder() -> None:
    # 10 tokens, 4 main; 6 to share by 0.4 : 0.2 -> 4 and 2.
    assert counts_of(0.4, [0.4, 0.2], 10) == [4, 4, 2]
    # Quotas 3.33 each of 10: the token over goes to the first listed.
    assert counts_of(0.0, [1 / 3, 1 / 3, 1 / 3], 10) == [0, 4, 3, 3]
    # Quotas 1.5, 0.75, 0.75 of 3: one token over two goes to the largest remainders.
    assert counts_of(0.0, [0.5, 0.25, 0.25], 3) == [0, 1, 1, 1]
    assert counts_of(1.0, [0.0, 0.0], 5) == [5, 0, 0]
    assert counts_of(0.5, [], 0) == [0]


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.floats(0, 1),
    st.integers(0, 100_000),
)
def test_counts_are_a_partition(sides: list[float], rho: float, tokens: int) -> None:
    if sum(sides) <= 1e-3:
        sides = [1.0] * len(sides)
    main, *rest = counts_of(rho, sides, tokens)
    assert main + sum(rest) == tokens
    assert min(main, *rest) >= 0
    assert abs(main - math.floor(tokens * rho)) <= 1
    for count, share in zip(rest, sides, strict=True):
        assert abs(count - sum(rest) * share / sum(sides)) < 1 + 1e-5


def test_counts_are_per_image() -> None:
    counts = token_counts(f64(0, 0.5, 1), [1.0], torch.tensor([4, 5, 6]))
    assert counts.tolist() == [[0, 4], [2, 3], [6, 0]]


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(SCORES, min_size=1, max_size=40), st.floats(0, 1))
def test_one_path_is_the_stable_top_k(scores: list[float], rho: float) -> None:
    tokens = len(scores)
    main = math.floor(tokens * rho)
    by_score = sorted(range(tokens), key=lambda t: -scores[t])  # Python's sort is stable
    expected = [1] * tokens
    for t in by_score[:main]:
        expected[t] = 0
    given_counts = torch.tensor([[main, tokens - main]])
    assert allocate(torch.tensor([[scores]]), given_counts)[0].tolist() == expected


def reference(scores: list[list[float]], counts: list[int], regions: list[int]) -> list[int]:
    """The rule of ``allocate`` for one image, in plain Python."""
    free = [t for t, route in enumerate(regions) if route == FREE]
    paths = [p for p in range(len(scores)) if counts[p + 1]]
    rank = {
        p: {t: r for r, t in enumerate(sorted(free, key=lambda t: -scores[p][t]))} for p in paths
    }
    result = list(regions)
    left = sorted(free, key=lambda t: sum(counts[p + 1] * rank[p][t] for p in paths))
    for t in left[: counts[0]]:
        result[t] = 0
    left = sorted(left[counts[0] :])
    for i, p in enumerate(paths):
        others = paths[i + 1 :]
        left.sort(key=lambda t: max((rank[o][t] for o in others), default=0) - rank[p][t])
        for t in left[: counts[p + 1]]:
            result[t] = p + 1
        left = sorted(left[counts[p + 1] :])
    assert not left
    return result


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[list[float]]], list[list[int]], list[list[int]]]:
    paths = draw(st.integers(1, 4))
    batch = draw(st.integers(1, 3))
    tokens = draw(st.integers(1, 24))
    rows = st.lists(SCORES, min_size=tokens, max_size=tokens)
    scores = [[draw(rows) for _ in range(batch)] for _ in range(paths)]
    regions, counts = [], []
    for _ in range(batch):
        claimed = st.one_of(st.just(FREE), st.just(FREE), st.integers(0, paths))
        row = draw(st.lists(claimed, min_size=tokens, max_size=tokens))
        free = row.count(FREE)
        cuts = sorted(draw(st.lists(st.integers(0, free), min_size=paths, max_size=paths)))
        regions.append(row)
        counts.append([b - a for a, b in zip([0, *cuts], [*cuts, free], strict=True)])
    return scores, counts, regions


@settings(deadline=None)  # a loaded machine is no failure
@given(problems())
def test_allocation_is_the_reference(
    problem: tuple[list[list[list[float]]], list[list[int]], list[list[int]]],
) -> None:
    scores, counts, regions = problem
    routes = allocate(torch.tensor(scores), torch.tensor(counts), torch.tensor(regions))
    for b, row in enumerate(routes.tolist()):
        assert row == reference([path[b] for path in scores], counts[b], regions[b])
        for route, count in enumerate(counts[b]):
            free = [p for p, region in zip(row, regions[b], strict=True) if region == FREE]
            assert free.count(route) == count
    if all(route == FREE for row in regions for route in row):
        assert torch.equal(routes, allocate(torch.tensor(scores), torch.tensor(counts)))


def test_scale_of_the_logits_has_no_weight() -> None:
    scores = torch.randn(2, 1, 60, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([[20, 20, 20]])
    loud = scores * torch.tensor([1.0, 1e4]).view(2, 1, 1) + 5
    # 5 and 1e4 round differently but keep the order of each row.
    assert torch.equal(allocate(scores, counts), allocate(loud, counts))


def test_each_path_gets_what_it_wants() -> None:
    # Tokens 0-1 matter to both; path 0 wants 2-3, path 1 wants 4-5.
    scores = torch.tensor([[[9.0, 8, 0, 1, 5, 6]], [[9.0, 8, 5, 6, 0, 1]]])
    routes = allocate(scores, torch.tensor([[2, 2, 2]]))
    assert routes.tolist() == [[0, 0, 1, 1, 2, 2]]


def test_equal_scores_go_by_index() -> None:
    routes = allocate(torch.zeros(3, 1, 8), torch.tensor([[2, 2, 2, 2]]))
    assert routes.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert allocate(torch.tensor([[[0.0, -0.0]]]), torch.tensor([[1, 1]])).tolist() == [[0, 1]]


def test_counts_hold_for_scores_that_are_no_numbers() -> None:
    scores = torch.tensor([[[math.nan, 1.0, math.inf, -math.inf]]] * 2)
    routes = allocate(scores, torch.tensor([[1, 2, 1]]))
    assert routes.flatten().bincount().tolist() == [1, 2, 1]


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(MixError, match=r"counts sum to \[4\], the free tokens are \[5\]"):
        allocate(torch.zeros(1, 1, 5), torch.tensor([[2, 2]]))
    with pytest.raises(MixError, match=r"the free tokens are \[3\]"):
        allocate(torch.zeros(1, 1, 5), torch.tensor([[2, 3]]), torch.tensor([[-1, -1, -1, 0, 1]]))


def test_large_maps_do_not_overflow() -> None:
    tokens = 2**18
    counts = token_counts(f64(0.4), [0.4, 0.2], torch.tensor([tokens]))
    scores = torch.randn(2, 1, tokens, generator=torch.Generator().manual_seed(1))
    routes = allocate(scores, counts)
    assert routes.flatten().bincount().tolist() == counts[0].tolist()


def test_region_takes_every_cell_it_touches() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1, 1] = True  # one pixel of cell (0, 0)
    mask[4, 3:5] = True  # one pixel each of cells (2, 1) and (2, 2)
    grid = region_grid([(1, mask)], (8, 8), (4, 4))
    assert grid.tolist() == [
        [1, FREE, FREE, FREE],
        [FREE] * 4,
        [FREE, 1, 1, FREE],
        [FREE] * 4,  # padding below the picture
    ]


def test_first_region_wins() -> None:
    left, top = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    left[:, :2] = True
    top[:2] = True
    assert region_grid([(1, left), (0, top)], (4, 4), (2, 2)).tolist() == [[1, 0], [1, FREE]]
    assert region_grid([(0, top), (1, left)], (4, 4), (2, 2)).tolist() == [[0, 0], [1, FREE]]


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(1, 13), st.integers(1, 13), st.randoms(use_true_random=False))
def test_region_grid_is_any_pixel(height: int, width: int, random: object) -> None:
    mask = np.array([[random.random() < 0.1 for _ in range(width)] for _ in range(height)])
    grid = region_grid([(2, mask)], (16, 16), (4, 4))
    for i in range(4):
        for j in range(4):
            inside = mask[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].any()
            assert int(grid[i, j]) == (2 if inside else FREE)
