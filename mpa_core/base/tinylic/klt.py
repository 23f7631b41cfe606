"""A start for training from the best linear codec: a hierarchical Karhunen-Loeve transform.

From random weights the first thousand steps only learn what linear algebra gives at once: the
linear features of a picture that keep most of its energy. Here every strided convolution of ``g_a``
starts as the KLT (principal components) of its non-overlapping 2x2 blocks of input features, and
every transposed convolution of ``g_s`` as the transpose, so that without the blocks (which start
near the identity) ``g_s(g_a(x))`` is the orthogonal projection of a picture onto the leading
components of its 16x16 blocks, and ``y`` is that block's KLT, in the units of a pixel in [0, 1].

Channels that the transform does not need keep their random weights, scaled down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mpa_core.base.tinylic.transforms import AnalysisStage, SynthesisStage

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC

WHITENING = 0.5
"""Inside the transforms a component of standard deviation s is scaled by s**-WHITENING; otherwise
the mean of a block would dominate layer norm. ``y`` itself is not scaled."""
SPARE = 0.1
"""Factor on the random weights of channels that the transform does not use."""
BLOCK_SCALE = 0.02
"""Initial value of the residual scales gamma in ``g_a`` and ``g_s``: close to the identity."""
SMALLEST_SCALE = 1e-3
"""Smaller standard deviations (a quarter of an 8-bit level) are not amplified further."""


@torch.no_grad()
def initialise(base: TinyLIC, photos: Tensor) -> None:
    """Set the convolutions of ``g_a`` and ``g_s`` from ``photos`` ``[B, 3, H, W]`` in [0, 1].

    H and W are multiples of the base's latent stride. The same photos give the same weights.
    """
    features = photos.to(torch.float64)
    scale_in = torch.ones(3, dtype=torch.float64)
    analysis = [cast(AnalysisStage, s) for s in base.g_a.stages]
    synthesis = [cast(SynthesisStage, s) for s in reversed(base.g_s.stages)]
    for index, (down, up) in enumerate(zip(analysis, synthesis, strict=True)):
        last = index == len(analysis) - 1
        blocks = _blocks(features)
        mean = blocks.mean((0, 2))
        kept = min(down.conv.out_channels, up.conv.in_channels, blocks.shape[1])
        basis, deviations = _components(blocks - mean[:, None], kept)
        scale_out = torch.ones(kept, dtype=torch.float64)
        if not last:
            scale_out = deviations.clamp(min=SMALLEST_SCALE) ** -WHITENING
        _fill(down.conv, basis * scale_out[:, None], 1 / scale_in, len(down.blocks))
        _fill(up.conv, basis / scale_out[:, None], scale_in, len(up.blocks))
        # Means are taken out on the way down, and put back on the way up.
        assert down.conv.bias is not None and up.conv.bias is not None
        down.conv.bias[:kept] = (-(basis * scale_out[:, None]) @ mean).float() * _halved(down)
        per_channel = mean.reshape(-1, 4).mean(1) * scale_in
        up.conv.bias.zero_()
        up.conv.bias[: len(per_channel)] = per_channel.float()
        projected = torch.einsum("kc,bcn->bkn", basis, blocks - mean[:, None])
        features = projected.unflatten(2, (features.shape[-2] // 2, features.shape[-1] // 2))
        scale_in = scale_out
    for transform in (base.g_a, base.g_s):
        for name, parameter in transform.named_parameters():
            if name.endswith(("gamma1", "gamma2")):
                parameter.fill_(BLOCK_SCALE)


def _blocks(features: Tensor) -> Tensor:
    """Return the 2x2 blocks of ``[B, C, H, W]`` as vectors: ``[B, 4C, (H/2)(W/2)]``."""
    return nn.functional.pixel_unshuffle(features, 2).flatten(2)


def _components(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading eigenvectors of the covariance and their deviations.

    The eigenvectors are rows, with a fixed sign.
    """
    vectors = centred.transpose(0, 1).flatten(1)
    values, columns = torch.linalg.eigh(vectors @ vectors.T / vectors.shape[1])
    values, rows = values.flip(0)[:count], columns.flip(1).T[:count]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return rows * largest.sign(), values.clamp(min=0).sqrt()


def _halved(stage: AnalysisStage | SynthesisStage) -> float:
    # A run of blocks that are the identity doubles its input: the outer residual adds it again.
    return 0.5 if len(stage.blocks) else 1.0


def _fill(conv: nn.Conv2d | nn.ConvTranspose2d, rows: Tensor, scale: Tensor, depth: int) -> None:
    """Put ``rows`` ``[k, 4c]`` on the 2x2 taps that cover a block exactly; ``scale`` is ``[c]``.

    Convolution and transposed convolution store ``[k, c, kernel, kernel]`` alike, and with the same
    weights one is the transpose of the other.
    """
    kept, inputs = rows.shape[0], rows.shape[1] // 4
    centre = conv.kernel_size[0] // 2
    taps = rows.reshape(kept, inputs, 2, 2) * scale[:, None, None]
    conv.weight.mul_(SPARE)
    conv.weight[:kept, :inputs] = 0
    conv.weight[:kept, :inputs, centre : centre + 2, centre : centre + 2] = (
        taps * (0.5 if depth else 1.0)
    ).float()
