"""What efforts buy: bits at equal quality (BD-rate against effort 0), and what they cost in time.

Each file is made once, and its figures go to a file of JSON lines: run it again with the same
``--out`` and it goes on where it was. Rates are of whole files without metadata.

    python examples/benchmarks/effort.py --photos PHOTOS/test --efforts 0,2,4 --out efforts.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import pixels_only
from mpa_core.evaluation.statistics import bd_rate
from mpa_core.io.distortion import bits_per_pixel, ms_ssim, psnr
from mpa_core.io.images import load_image

MEASURES = ("psnr", "ms_ssim")
Row = dict[str, Any]


def numbers(text: str) -> list[float]:
    """Read ``1,3,5``."""
    return [float(each) for each in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photos", type=Path, required=True, help="a folder")
    parser.add_argument("--limit", type=int, help="only the first photos")
    parser.add_argument("--crop", type=int, help="the middle of each photo, of so many pixels")
    parser.add_argument("--qualities", type=numbers, default=[1, 3, 5, 7])
    parser.add_argument("--efforts", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--paths", default="mse", help="bundled paths to decode by, beside main")
    parser.add_argument("--reader", default="main", help="the path that the search is for")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, resumed")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        measure(options)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(options)
    return 0


def key(row: Row) -> tuple[Any, ...]:
    """What a row is of."""
    return row["photo"], row["quality"], row["effort"], row["crop"], row["reader"]


def known(out: Path) -> list[Row]:
    """The rows measured so far; a line that was cut off is not one."""
    lines = out.read_text(encoding="utf-8").split("\n")[:-1] if out.exists() else []
    return [json.loads(line) for line in lines]


def measure(options: argparse.Namespace) -> None:
    """Measure what is not known yet, photo by photo, efforts in turns."""
    photos = sorted(p for p in options.photos.iterdir() if p.is_file())[: options.limit]
    done = {key(row) for row in known(options.out)}
    paths = [name for name in options.paths.split(",") if name]
    codec = MPACodec.from_pretrained(options.base)
    for name in paths:
        codec.load_path(name)
    codec.decode(codec.encode(Image.new("RGB", (64, 64))))  # fills caches
    for photo in photos:
        picture = pixels_only(load_image(photo))
        if options.crop:
            left, top = ((side - options.crop) // 2 for side in picture.size)
            picture = picture.crop((left, top, left + options.crop, top + options.crop))
        for quality in options.qualities:
            for effort in map(int, options.efforts):
                row: Row = {"photo": photo.name, "quality": quality, "effort": effort}
                row |= {"crop": options.crop, "reader": options.reader if effort else "main"}
                if key(row) in done:
                    continue
                start = time.process_time()
                reader = options.reader if effort else None
                data = codec.encode(picture, quality, effort=effort, reader=reader)
                row["seconds"] = time.process_time() - start
                row["bpp"] = bits_per_pixel(len(data), picture.size)
                coded = codec.open(data)
                for path in ("main", *paths):
                    shown = coded.render(path)
                    row[f"psnr {path}"] = psnr(picture, shown)
                    row[f"ms_ssim {path}"] = ms_ssim(picture, shown)
                with options.out.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(row) + "\n")


def show(options: argparse.Namespace) -> None:
    """Print a line for each effort, of the photos that all of them have."""
    rows = known(options.out)
    efforts, qualities = list(map(int, options.efforts)), options.qualities
    by_photo: dict[str, dict[tuple[float, int], Row]] = {}
    for row in rows:
        reader = options.reader if row["effort"] else "main"
        if (row["crop"], row["reader"]) == (options.crop, reader):
            by_photo.setdefault(row["photo"], {})[row["quality"], row["effort"]] = row
    wanted = {(quality, effort) for quality in qualities for effort in efforts}
    whole = [found for found in by_photo.values() if wanted <= found.keys()]
    paths = ["main", *(name for name in options.paths.split(",") if name)]
    columns = [f"{measured} {path}" for path in paths for measured in MEASURES]
    table = Table("effort", "seconds", "of effort 0", *columns, *(f"q{q:g}" for q in qualities))

    def mean(quality: float, effort: int, name: str) -> float:
        return fmean(found[quality, effort][name] for found in whole)

    def curve(effort: int, name: str) -> list[tuple[float, float]]:
        return [(mean(q, effort, "bpp"), mean(q, effort, name)) for q in qualities]

    for effort in efforts:
        seconds, plain = (
            fmean(mean(quality, each, "seconds") for quality in qualities) for each in (effort, 0)
        )
        rates = [bd_rate(curve(0, name), curve(effort, name)) for name in columns]
        sizes = [mean(q, effort, "bpp") / mean(q, 0, "bpp") - 1 for q in qualities]
        table.add_row(
            str(effort),
            f"{seconds:.2f}",
            f"{seconds / plain:.1f}",
            *("-" if rate is None else f"{rate:+.1f} %" for rate in rates),
            *(f"{size:+.1%}" for size in sizes),
        )
    console = Console(highlight=False, width=200)
    console.print(table)
    console.print(
        f"{len(whole)} photos, {options.threads} threads; BD-rate against effort 0; q: bits at "
        "the same quality"
    )


if __name__ == "__main__":
    sys.exit(main())
