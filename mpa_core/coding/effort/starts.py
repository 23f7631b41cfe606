"""Pictures to begin a search from: what counts little is blurred, so that it takes few bits.

A search moves each symbol by one or two, which is not far enough to take away what a mask of
importance has no use for. The latents of a picture that does not show it are there at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

BLURS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of the blur in pixels."""


def blurred(x: Tensor, importance: Tensor, stride: int) -> Iterator[Tensor]:
    """Yield ``x`` with more and more of a blur where it counts less.

    Args:
        x: ``[B, 3, H, W]``.
        importance: ``[B, 1, H, W]``, from 0 to 1: the share of ``x`` itself in what is yielded.
        stride: pixels of a latent along each side; so far around a pixel its weight holds, since
            its latents see that much.
    """
    # Slow to import, and not needed by who has no such mask.
    from torchvision.transforms.functional import gaussian_blur

    reach = 2 * (stride // 2) + 1
    share = F.max_pool2d(importance, reach, stride=1, padding=reach // 2)
    for sigma in BLURS:
        size = 2 * int(3 * sigma) + 1
        yield x * share + gaussian_blur(x, [size, size], [sigma, sigma]) * (1 - share)
