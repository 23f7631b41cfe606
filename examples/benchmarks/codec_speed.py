"""Seconds to encode and decode one picture, against what its arithmetic alone would take.

The floor is the time of a plain matrix multiplication with as many operations as one forward pass
of mpa-base (441 K multiply-adds per pixel, all of it main path), at the rate measured in this very
process. The other bases are held to the same floor: their own is lower.

    python examples/benchmarks/codec_speed.py mpa-base mpa-small --photo PHOTO
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.checkpoints import bundled_bases
from mpa_core.demo import SAMPLE
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import pixels_only
from mpa_core.io.images import load_image

OPERATIONS_PER_PIXEL = 2 * 441_000
MATRIX = 2048
SIZE = (768, 512)


def seconds(task: Callable[[], Any], repeats: int) -> float:
    """Return the median of ``repeats`` runs, after one that fills the caches."""
    task()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def sgemm_rate(repeats: int) -> float:
    """Floating-point operations a second of a large float32 matrix multiplication."""
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    return 2 * MATRIX**3 / seconds(lambda: a @ b, repeats)


def load(base: str) -> MPACodec:
    """Return a bundled base or folder, else a preset of that name with random weights."""
    if base in PRESETS and base not in bundled_bases() and not Path(base).is_dir():
        return MPACodec.from_preset(base)
    return MPACodec.from_pretrained(base)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bases", nargs="*", default=["mpa-base", "mpa-small"])
    parser.add_argument("--photo", type=Path, help="resized to 768x512 (default: bundled)")
    parser.add_argument("--quality", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        rows = list(measure(options))
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rate = rows[0]["sgemm_gflops"]
    console = Console(highlight=False)
    console.print(
        f"{SIZE[0]}x{SIZE[1]}, {torch.get_num_threads()} threads, sgemm {rate:.0f} GFLOP/s, "
        f"floor {rows[0]['floor_seconds']:.3f} s\n"
    )
    shown = Table("base", box=None, pad_edge=False)
    for heading in ("bytes", "encode s", "decode s", "encode + decode over floor"):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(
            row["base"],
            str(row["bytes"]),
            f"{row['encode_seconds']:.3f}",
            f"{row['decode_seconds']:.3f}",
            f"{row['over_floor']:.2f}",
        )
    console.print(shown)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row of figures per base."""
    sample = Path(__file__).parents[2] / "mpa_core" / "assets" / SAMPLE
    photo = pixels_only(load_image(options.photo or sample))
    photo = photo.resize(SIZE, Image.Resampling.LANCZOS)
    rate = sgemm_rate(options.repeats)
    floor = OPERATIONS_PER_PIXEL * SIZE[0] * SIZE[1] / rate
    rows = []
    for base in options.bases:
        codec = load(base)
        data = codec.encode(photo, quality=options.quality)
        encode = seconds(lambda c=codec: c.encode(photo, quality=options.quality), options.repeats)
        decode = seconds(lambda c=codec, d=data: c.decode(d), options.repeats)
        rows.append(
            {
                "base": codec.name,
                "quality": options.quality,
                "bytes": len(data),
                "threads": torch.get_num_threads(),
                "sgemm_gflops": rate / 1e9,
                "floor_seconds": floor,
                "encode_seconds": encode,
                "decode_seconds": decode,
                "over_floor": (encode + decode) / floor,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
