"""Writes ``tests/golden/compressai.npz``: what compressai 1.2.8 makes of a few given numbers.

    python tests/base/make_compressai_reference.py

Needs compressai. The committed file is for the environments that do not have it; where it is there,
``tests/base/test_priors.py`` makes all of this again and compares.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).resolve().parent.parent / "golden" / "compressai.npz"
CHANNELS = 6
SCALES = tuple(float(scale) for scale in np.geomspace(0.11, 24, 24))


def bottleneck_state() -> dict[str, torch.Tensor]:
    """Parameters of an entropy bottleneck that is not as it began."""
    rng = np.random.default_rng(1)
    widths = (1, 3, 3, 3, 3, 1)
    state = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        state[f"matrices.{i}"] = rng.normal(0.4, 0.3, (CHANNELS, outputs, inputs)) - i / 4
        state[f"biases.{i}"] = rng.normal(0, 0.4, (CHANNELS, outputs, 1))
        if i < 4:
            state[f"factors.{i}"] = rng.normal(0, 0.3, (CHANNELS, outputs, 1))
    state["quantiles"] = np.sort(rng.normal(0, 9, (CHANNELS, 1, 3)))
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in state.items()}


def latents() -> torch.Tensor:
    """Values for the bottleneck, a few far out."""
    values = np.random.default_rng(2).standard_t(2, (2, CHANNELS, 4, 3)) * 4
    return torch.from_numpy(values.astype(np.float32))


def residuals_and_scales() -> tuple[torch.Tensor, torch.Tensor]:
    """For the Gaussian: below its bounds, at entries of the table, and beyond it."""
    scales = torch.cat([torch.tensor(SCALES), torch.linspace(0.01, 30, 77)])
    return torch.linspace(-9, 9, len(scales)), scales


def masses() -> np.ndarray:
    """``[8, 200]`` float32 probabilities: flat, steep, one alone, rows that do not sum to 1."""
    rng = np.random.default_rng(3)
    found = rng.random((8, 200)) ** np.array([0, 1, 3, 9, 30, 90, 1, 1])[:, None]
    found /= found.sum(1, keepdims=True) * np.array([1, 1, 1, 1, 1, 1, 0.7, 3])[:, None]
    found[0] = 0
    found[0, 17] = 1
    return found.astype(np.float32)


def symbols_and_rows() -> tuple[np.ndarray, np.ndarray]:
    """5000 symbols for the Gaussian's rows, some of them far outside."""
    rng = np.random.default_rng(4)
    rows = rng.integers(0, len(SCALES), 5000).astype(np.int32)
    scale = np.array(SCALES)[rows] * rng.choice([1, 20, 1e5], len(rows), p=[0.95, 0.04, 0.01])
    return np.rint(rng.normal(size=len(rows)) * scale).astype(np.int32), rows


def reference() -> dict[str, np.ndarray]:
    """What compressai makes of them, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        from compressai._CXX import pmf_to_quantized_cdf
        from compressai.ans import BufferedRansEncoder, RansEncoder
        from compressai.entropy_models import EntropyBottleneck, GaussianConditional

    bottleneck = EntropyBottleneck(CHANNELS)
    bottleneck.load_state_dict(bottleneck_state(), strict=False)
    bottleneck.eval().update(force=True)
    gaussian = GaussianConditional(list(SCALES)).eval()
    gaussian.update()
    found = {
        "z_likelihoods": bottleneck(latents())[1],
        "z_loss": bottleneck.loss(),
        "y_likelihoods": gaussian.likelihood_lower_bound(
            gaussian._likelihood(*residuals_and_scales())
        ),
        "y_rows": gaussian.build_indexes(residuals_and_scales()[1]),
    }
    for name, prior in (("z", bottleneck), ("y", gaussian)):
        for buffer in ("_quantized_cdf", "_cdf_length", "_offset"):
            found[name + buffer] = getattr(prior, buffer)
    arrays = {name: tensor.detach().numpy() for name, tensor in found.items()}
    arrays["quantized"] = np.array([pmf_to_quantized_cdf(row.tolist(), 16) for row in masses()])
    symbols, rows = symbols_and_rows()
    tables = [arrays[f"y{name}"].tolist() for name in ("_quantized_cdf", "_cdf_length", "_offset")]
    whole = RansEncoder().encode_with_indexes(symbols.tolist(), rows.tolist(), *tables)
    buffered = BufferedRansEncoder()
    for part in (slice(1000), slice(1000, None)):
        buffered.encode_with_indexes(symbols[part].tolist(), rows[part].tolist(), *tables)
    if buffered.flush() != whole:
        raise AssertionError("compressai's two encoders differ")
    arrays["symbols"], arrays["rows"] = symbols, rows
    arrays["stream"] = np.frombuffer(whole, np.uint8)
    return arrays


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **reference())
