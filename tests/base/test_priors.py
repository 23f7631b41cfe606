"""The priors: against compressai's where it is installed, else against what it once gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise

import make_compressai_reference as given_numbers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from mpa_core.base.likelihoods import gaussian
from mpa_core.base.priors import EntropyBottleneck, GaussianConditional, LowerBound, quantized_cdf
from mpa_core.base.tinylic.context_entropy import ContextEntropy
from mpa_core.codec import MPACodec
from mpa_core.errors import CheckpointError

with np.load(given_numbers.FILE) as stored:
    STORED = dict(stored)
BUFFERS = ("_quantized_cdf", "_cdf_length", "_offset")


@pytest.fixture(scope="module")
def theirs():
    """compressai's entropy models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        return pytest.importorskip("compressai.entropy_models")


def seeded(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """A module of seed 0, and a number drawn after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(), torch.rand(1)


def assert_same_state(own: nn.Module, other: nn.Module) -> None:
    ours, expected = own.state_dict(), other.state_dict()
    assert list(ours) == list(expected)
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name
    assert [name for name, _ in own.named_parameters()] == [
        name for name, _ in other.named_parameters()
    ]


def bottleneck() -> EntropyBottleneck:
    own = EntropyBottleneck(given_numbers.CHANNELS)
    own.load_state_dict(given_numbers.bottleneck_state(), strict=False)
    own.update()
    return own


# ---------------------------------------------------------------------- what compressai once gave


def test_the_bottleneck_gives_what_is_stored():
    own = bottleneck()
    with torch.no_grad():
        likelihoods = own(given_numbers.latents(), noisy=False).numpy()
    np.testing.assert_allclose(likelihoods, STORED["z_likelihoods"], rtol=1e-4, atol=1e-8)
    assert own.loss().item() == pytest.approx(float(STORED["z_loss"]), rel=1e-5)
    assert np.array_equal(own._cdf_length, STORED["z_cdf_length"])
    assert np.array_equal(own._offset, STORED["z_offset"])
    # Another machine's exponential may round otherwise: one count, where it is nearly a half.
    assert np.abs(own._quantized_cdf.numpy() - STORED["z_quantized_cdf"]).max() <= 1


def test_the_gaussian_gives_what_is_stored():
    own = GaussianConditional(given_numbers.SCALES)
    own.update()
    residuals, scales = given_numbers.residuals_and_scales()
    found = gaussian(residuals, scales, own)
    np.testing.assert_allclose(found, STORED["y_likelihoods"], rtol=1e-4, atol=1e-7)
    assert np.array_equal(own._cdf_length, STORED["y_cdf_length"])
    assert np.array_equal(own._offset, STORED["y_offset"])
    assert np.abs(own._quantized_cdf.numpy() - STORED["y_quantized_cdf"]).max() <= 1


def test_rows_of_scales_are_what_is_stored():
    model = ContextEntropy((3, 7, 10, 12), 16)
    model.y_prior = GaussianConditional(given_numbers.SCALES)
    _, scales = given_numbers.residuals_and_scales()
    assert model._scale_indexes(scales).tolist() == STORED["y_rows"].tolist()


def test_quantizing_gives_what_is_stored():
    for row, expected in zip(given_numbers.masses(), STORED["quantized"], strict=True):
        assert quantized_cdf(row).tolist() == expected.tolist()


def test_what_is_stored_is_what_compressai_gives(theirs):
    found = given_numbers.reference()
    assert list(found) == list(STORED)
    for name, array in found.items():
        if array.dtype == np.float32:
            np.testing.assert_allclose(array, STORED[name], rtol=1e-4, atol=1e-8)
        elif name.endswith("_quantized_cdf"):
            assert np.abs(array - STORED[name]).max() <= 1
        else:
            assert np.array_equal(array, STORED[name]), name


# ---------------------------------------------------------------------- compressai itself


@pytest.mark.parametrize("channels", [1, 16, 192])
def test_a_new_bottleneck_is_compressais(theirs, channels: int):
    own, drawn = seeded(lambda: EntropyBottleneck(channels))
    other, expected = seeded(lambda: theirs.EntropyBottleneck(channels))
    assert drawn == expected
    assert_same_state(own, other)
    own.update()
    other.update()
    assert_same_state(own, other)


@pytest.mark.parametrize("scales", [given_numbers.SCALES, tuple(np.geomspace(0.11, 256, 64))])
def test_a_gaussians_tables_are_compressais(theirs, scales):
    own, other = GaussianConditional(scales), theirs.GaussianConditional(list(scales))
    assert_same_state(own, other)
    own.update()
    other.update()
    assert_same_state(own, other)


def test_a_trained_priors_tables_are_compressais(theirs):
    entropy = MPACodec.from_pretrained("mpa-small").model.base.entropy
    others = (
        theirs.EntropyBottleneck(entropy.z_prior.channels),
        theirs.GaussianConditional(entropy.y_prior.scale_table.tolist()),
    )
    for own, other in zip((entropy.z_prior, entropy.y_prior), others, strict=True):
        own.update()
        weights = {k: v for k, v in own.state_dict().items() if k not in BUFFERS}
        other.load_state_dict(weights, strict=False)
        other.update()
        assert_same_state(own, other)


@pytest.mark.parametrize("noisy", [False, True])
def test_likelihoods_and_gradients_are_compressais(theirs, noisy: bool):
    own, other = bottleneck(), theirs.EntropyBottleneck(given_numbers.CHANNELS)
    other.load_state_dict(given_numbers.bottleneck_state(), strict=False)
    other.update()
    assert_same_state(own, other)
    found = []
    for likelihoods_of, prior in (
        (lambda z: own(z, noisy=noisy), own),
        (lambda z: other(z, training=noisy)[1], other),
    ):
        z = given_numbers.latents().requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            likelihoods = likelihoods_of(z)
        # Of both signs, so that the bound's rule shows.
        signs = torch.linspace(-1, 2, likelihoods.numel()).reshape(likelihoods.shape)
        loss = prior.loss()
        ((likelihoods.log() * signs).sum() + loss).backward()
        gradients = [parameter.grad for parameter in prior.parameters()]
        found.append([likelihoods, loss, *([z.grad] if noisy else []), *gradients])
    assert (found[0][0] == 1e-9).any()
    for mine, expected in zip(*found, strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("bound", [0.11, 1e-9])
def test_the_bounds_gradient_is_compressais(theirs, bound: float):
    found = []
    for module in (LowerBound(bound), theirs.GaussianConditional(None).lower_bound_scale):
        module.bound.fill_(bound)
        x = torch.tensor([-1.0, 0.0, bound, 1.0, -1.0, bound, 2.0], requires_grad=True)
        y = module(x)
        y.backward(torch.tensor([1.0, 1, 1, 1, -1, -1, -1]))
        found.append((y, x.grad))
    for mine, expected in zip(*found, strict=True):
        assert torch.equal(mine, expected)
    assert found[0][1].tolist() == [0, 0, 1, 1, -1, -1, -1]


# ---------------------------------------------------------------------- quantizing


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 1, width=32)))
@settings(max_examples=200, deadline=None)
def test_a_quantized_distribution_can_be_coded_with(masses: np.ndarray):
    if not (np.floor(masses.astype(float) * 65536 + 0.5) > 0).any():
        with pytest.raises(CheckpointError, match="are all 0"):
            quantized_cdf(masses)
        return
    found = quantized_cdf(masses)
    assert (found[0], found[-1], len(found)) == (0, 65536, len(masses) + 1)
    assert (np.diff(found) > 0).all()


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 1, width=32)))
@settings(max_examples=200, deadline=None)
def test_quantizing_is_compressais(theirs, masses: np.ndarray):
    from compressai._CXX import pmf_to_quantized_cdf

    masses[0] = 1
    assert quantized_cdf(masses).tolist() == pmf_to_quantized_cdf(masses.tolist(), 16)


@pytest.mark.parametrize(
    ("masses", "expected"),
    [
        # By hand: halves go up; what is nothing takes 1 of the first of the smallest above 1.
        ([0.5, 0.5], [0, 32768, 65536]),
        ([1.0], [0, 65536]),
        ([0, 1, 0], [0, 1, 65535, 65536]),
        ([2 / 65536, 0, 3 / 65536, 2 / 65536], None),
        ([0.25, 0, 0.25, 0.5], [0, 16383, 16384, 32768, 65536]),
    ],
)
def test_quantizing_by_hand(masses, expected):
    found = quantized_cdf(np.array(masses, np.float32)).tolist()
    if expected is None:
        widths = [b - a for a, b in pairwise(found)]
        assert widths == [65536 * 2 // 7 - 1, 1, 65536 * 3 // 7, 65536 - 65536 * 2 // 7 - 28086]
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("masses", "expected"),
    [
        ([0.5, float("nan")], "not finite"),
        ([0.5, float("inf")], "not finite"),
        ([0.5, -0.1], "negative"),
        ([0, 0, 1e-6], "all 0"),
        ([1 / 70_000] * 70_000, "too many"),
    ],
)
def test_no_distribution(masses, expected: str):
    with pytest.raises(CheckpointError, match=expected):
        quantized_cdf(np.array(masses, np.float32))


def test_diverged_weights_give_no_tables():
    own = bottleneck()
    own.biases[2].data[3] = float("nan")
    with pytest.raises(CheckpointError, match="diverged"):
        own.update()
