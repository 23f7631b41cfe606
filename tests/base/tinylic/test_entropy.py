"""The entropy model: one schedule for estimation, encoding and decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpa_core.base.likelihoods import coded
from mpa_core.base.tinylic.context_entropy import ContextEntropy
from mpa_core.base.tinylic.schedule import (
    SCHEDULE,
    coding_order,
    context_mask,
    join_phases,
    split_phases,
)
from mpa_core.bitstream.rangecoder import RangeEncoder
from mpa_core.errors import BitstreamError, CheckpointError

SLICES = (3, 7, 10, 12)


def without_tables() -> ContextEntropy:
    torch.manual_seed(0)
    model = ContextEntropy(SLICES, 16).eval()
    for net, channels in zip(model.parameter_nets, SLICES, strict=True):
        net[-1].weight.data.mul_(3)  # so that means and scales vary, about scales that fit y
        net[-1].bias.data[:channels] = 3.0
    return model


@pytest.fixture(scope="module")
def entropy() -> ContextEntropy:
    model = without_tables()
    model.update()
    return model


def latents(batch: int = 2, height: int = 6, width: int = 10):
    generator = torch.Generator().manual_seed(1)
    y = 3 * torch.randn(batch, sum(SLICES), height, width, generator=generator)
    params = 4 * torch.randn(batch, 2 * sum(SLICES), height, width, generator=generator)
    return y, params


def test_schedule_codes_every_position_once():
    for index in range(4):
        phases = [phase for step in SCHEDULE if step.slice == index for phase in step.phases]
        assert sorted(phases) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_schedule_is_the_papers():
    passes = [sum(step.slice == index for step in SCHEDULE) for index in range(4)]
    assert passes == [4, 2, 2, 1]
    assert [step.phases for step in SCHEDULE[:4]] == [((0, 0),), ((1, 1),), ((0, 1),), ((1, 0),)]
    assert SCHEDULE[4].phases == SCHEDULE[7].phases != SCHEDULE[5].phases  # opposite phase


@pytest.mark.parametrize("step", [s for s in SCHEDULE if s.known], ids=str)
def test_context_sees_known_positions_only(step):
    mask = context_mask(step, 5)
    row, column = step.phases[0]
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            known = ((row + dy) % 2, (column + dx) % 2) in step.known
            assert bool(mask[dy + 2, dx + 2]) == known


def test_phases_round_trip():
    tensor = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    phases = ((0, 0), (0, 1), (1, 0), (1, 1))
    split = split_phases(tensor, phases)
    assert torch.equal(join_phases(dict(zip(phases, split, strict=True))), tensor)
    # The step that codes a whole map goes in raster order.
    assert torch.equal(coding_order(split[:, 0]).reshape(-1), tensor[0].reshape(-1))


def test_decode_gives_what_was_encoded(entropy):
    y, params = latents()
    with torch.no_grad():
        y_hat, streams, symbols = entropy.encode_y(y, params)
        decoded, read, damage = entropy.decode_y(streams, params)
    assert torch.equal(decoded, y_hat) and damage == [None] * len(y)
    for wrote, got in zip(symbols, read, strict=True):
        assert np.array_equal(wrote, got)
        assert wrote.size == y[0].numel()
    assert (y - y_hat).abs().max() <= 0.5 + 1e-4


def test_estimate_is_what_is_coded(entropy):
    y, params = latents()
    with torch.no_grad():
        estimated, likelihoods = entropy.estimate(y, params)
        coded, streams, _ = entropy.encode_y(y, params)
    assert torch.allclose(estimated, coded, atol=1e-5)
    bits = -likelihoods.log2().flatten(1).sum(1)
    for estimate, stream in zip(bits.tolist(), streams, strict=True):
        assert 8 * len(stream) == pytest.approx(estimate, rel=0.001, abs=128)


def test_charge_is_the_coders_even_for_escapes(entropy):
    """Symbols far outside their row: bits by the tables against bytes by the coder."""
    generator = torch.Generator().manual_seed(4)
    indexes = torch.randint(0, 64, (4000,), generator=generator)
    symbols = torch.randint(-3000, 3000, (4000,), generator=generator).float()
    symbols[::50] *= 30_000
    bits = float(-coded(symbols, indexes, entropy.y_prior).double().log2().sum())
    encoder = RangeEncoder()
    encoder.encode(symbols.int().numpy(), indexes.int().numpy(), entropy.tables[1])
    assert 8 * len(encoder.finish()) == pytest.approx(bits, rel=0.001, abs=128)


def test_without_tables_the_estimate_is_gaussian():
    model = without_tables()
    y, params = latents(1)
    with torch.no_grad():
        _, before = model.estimate(y, params)
        model.update()
        _, after = model.estimate(y, params)
    assert not torch.equal(before, after)
    assert float(before.log2().sum()) == pytest.approx(float(after.log2().sum()), rel=0.05)


def test_scale_indexes_are_the_first_that_is_no_smaller(entropy):
    table = entropy.y_prior.scale_table
    scales = torch.cat([table, table * 1.01, table * 0.99, torch.tensor([0.0, 1e9])])
    own = torch.arange(len(table))
    expected = torch.cat([own, (own + 1).clamp(max=len(table) - 1), own, torch.tensor([0, 63])])
    assert torch.equal(entropy._scale_indexes(scales), expected)


def test_z_round_trip(entropy):
    z = 5 * torch.randn(2, 16, 3, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        coded, streams, symbols = entropy.encode_z(z)
        decoded, read, damage = entropy.decode_z(streams, (3, 2), z)
        estimated, _ = entropy.estimate_z(z)
    assert torch.equal(decoded, coded) and damage == [None, None]
    assert torch.allclose(estimated, coded + entropy.z_medians)
    assert np.array_equal(np.stack(symbols), np.stack(read))


def test_training_is_differentiable_and_noisy(entropy):
    y, params = latents()
    y.requires_grad_()
    entropy.train()
    try:
        y_hat, likelihoods = entropy.estimate(y, params)
        _, again = entropy.estimate(y, params)
    finally:
        entropy.eval()
    assert not torch.equal(likelihoods, again)
    assert (y - y_hat).abs().max() <= 0.5 + 1e-4
    (y_hat.sum() - likelihoods.log().sum()).backward()
    assert torch.isfinite(y.grad).all() and y.grad.abs().sum() > 0


def test_no_tables_is_an_error():
    model = ContextEntropy(SLICES, 16).eval()
    y, params = latents(1)
    with pytest.raises(CheckpointError, match="update"):
        model.encode_y(y, params)


def test_tables_travel_in_the_state(entropy):
    other = ContextEntropy(SLICES, 16).eval()
    other.load_state_dict(entropy.state_dict())
    y, params = latents(1)
    with torch.no_grad():
        assert other.encode_y(y, params)[1] == entropy.encode_y(y, params)[1]


def test_empty_stream_is_an_error(entropy):
    _, params = latents(1)
    with pytest.raises(BitstreamError):
        entropy.decode_y([b""], params)
