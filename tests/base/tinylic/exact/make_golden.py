"""Write the golden files of the exact profile: ``python tests/base/tinylic/exact/make_golden.py``.

To be run when a new format or a new bundled base is published, never to make a failing test pass:
files that were written once must decode to the same latents for ever.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from PIL import Image

from mpa_core import MPACodec

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests/golden/exact"
CASES = {"small": "mpa-small", "tiny": str(GOLDEN / "tiny")}
"""Name of the files to base: the bundled one, and a small one that stays as it is."""
QUALITIES = (1.0, 2.71, 6.5, 8.0)


def latents_digest(codec: MPACodec, data: bytes) -> str:
    """SHA-256 of ``y_hat`` as little-endian float32."""
    y_hat = codec.open(data).latents()
    return hashlib.sha256(y_hat.cpu().numpy().astype("<f4").tobytes()).hexdigest()


def main() -> None:
    """Encode a part of the bundled photo, and note what its files decode to."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    if not (GOLDEN / "tiny").exists():
        MPACodec.from_preset("mpa-tiny", seed=11).save_pretrained(GOLDEN / "tiny", dtype="float16")
    with Image.open(ROOT / "mpa_core/assets/chelsea.png") as image:
        cat = image.convert("RGB").crop((90, 40, 290, 190))
    digests = {}
    for name, base in CASES.items():
        codec = MPACodec.from_pretrained(base)
        for quality in QUALITIES:
            data = codec.encode(cat, quality)
            file = f"{name}-{quality}.mpa"
            (GOLDEN / file).write_bytes(data)
            digests[file] = latents_digest(codec, data)
    (GOLDEN / "latents.json").write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
