"""What we use of CompressAI, imported once.

Importing the package scripts a few layers of its own dependencies, and torch announces the end of
``torch.jit.script`` on stderr each time. That is no news to who uses a codec.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from compressai.ans import BufferedRansEncoder, RansDecoder
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional

__all__ = ["BufferedRansEncoder", "EntropyBottleneck", "GaussianConditional", "RansDecoder"]
