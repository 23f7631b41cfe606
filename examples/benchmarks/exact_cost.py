"""What the exact profile costs: bits and processor time beside the float profile, photo by photo.

Both profiles encode and decode each photo in turns, so that a busy machine slows both alike;
the ratio of the sums is the figure.

    python examples/benchmarks/exact_cost.py --photos PHOTOS --threads 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.coding.profiles import Profile
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import pixels_only
from mpa_core.io.images import load_image

PROFILES: tuple[Profile, ...] = ("float", "exact")
QUALITIES = (1.0, 2.5, 4.0, 6.0, 8.0)


def fastest(task: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest of ``repeats`` runs, and its result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = task()
        best = min(best, time.perf_counter() - start)
    return best, result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photos", type=Path, help="a folder (default: the bundled photo)")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--qualities", type=float, nargs="+", default=QUALITIES)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    sources = [Path(str(resources.files("mpa_core") / "assets" / "chelsea.png"))]
    if options.photos:
        sources = sorted(p for p in options.photos.iterdir() if p.is_file())[: options.limit]
    try:
        codec = MPACodec.from_pretrained(options.base)
        rows = measure(codec, sources, options.qualities, options.repeats)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = Table("profile", "bytes", "encode s", "decode s", "together s")
    for name, row in rows.items():
        seconds = (row["encode"], row["decode"], row["encode"] + row["decode"])
        table.add_row(name, str(row["bytes"]), *(f"{s:.2f}" for s in seconds))
    console = Console(highlight=False)
    console.print(table)
    bits, spent = (
        rows["exact"]["bytes"] / rows["float"]["bytes"],
        (rows["exact"]["encode"] + rows["exact"]["decode"])
        / (rows["float"]["encode"] + rows["float"]["decode"]),
    )
    threads = torch.get_num_threads()
    console.print(
        f"{len(sources)} photos, {len(options.qualities)} qualities, {threads} threads: exact takes"
        f" {bits - 1:+.4%} bits and {spent - 1:+.1%} time"
    )
    if options.json:
        figures = {"photos": len(sources), "threads": threads, "bits": bits, "time": spent, **rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def measure(
    codec: MPACodec, sources: Sequence[Path], qualities: Sequence[float], repeats: int
) -> dict[str, dict[str, float]]:
    """Sums over photos and qualities, by profile."""
    rows = {name: {"bytes": 0.0, "encode": 0.0, "decode": 0.0} for name in PROFILES}
    for number, source in enumerate(sources):
        picture = pixels_only(load_image(source))
        for quality in qualities:
            for profile in PROFILES:

                def encode(
                    profile: Profile = profile,
                    quality: float = quality,
                    picture: Image.Image = picture,
                ) -> bytes:
                    return codec.encode(picture, quality, profile=profile)

                if number == 0 and quality == qualities[0]:
                    codec.decode(encode())  # fills caches
                took, coded = fastest(encode, repeats)
                data = cast(bytes, coded)
                row = rows[profile]
                row["bytes"] += len(data)
                row["encode"] += took
                row["decode"] += fastest(lambda data=data: codec.decode(data), repeats)[0]
    return rows


if __name__ == "__main__":
    sys.exit(main())
