"""What efforts buy: bits at equal quality (BD-rate against effort 0), and what they cost in time.

Each file is made once, and its figures go to a file of JSON lines: run it again with the same
``--out`` and it goes on where it was. Rates are of whole files without metadata.

    python examples/benchmarks/effort.py --photos PHOTOS/test --efforts 0,2,4 --out efforts.jsonl
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import fmean

import torch
from PIL import Image
from resumed import Figures, Row, add_arguments, centre, numbers, photos_of
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import pixels_only
from mpa_core.evaluation.statistics import bd_rate
from mpa_core.io.distortion import bits_per_pixel, ms_ssim, psnr
from mpa_core.io.images import load_image

MEASURES = ("psnr", "ms_ssim")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crop", type=int, help="the middle of each photo, of so many pixels")
    parser.add_argument("--qualities", type=numbers, default=[1, 3, 5, 7])
    parser.add_argument("--efforts", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--paths", default="mse", help="bundled paths to decode by, beside main")
    parser.add_argument("--reader", default="main", help="the path that the search is for")
    add_arguments(parser)
    options = parser.parse_args(argv)
    options.efforts = sorted({0, *map(int, options.efforts)})  # all are compared with 0
    options.paths = [name for name in options.paths.split(",") if name]
    torch.set_num_threads(options.threads)
    figures = Figures(
        options.out,
        {"base": options.base, "paths": options.paths, "crop": options.crop},
        ("photo", "quality", "effort", "reader"),
    )
    try:
        measure(options, figures)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(options, figures)
    return 0


def measure(options: argparse.Namespace, figures: Figures) -> None:
    """Measure what is not known yet, photo by photo, efforts in turns."""
    photos = photos_of(options)
    codec = MPACodec.from_pretrained(options.base)
    codec.load_paths(options.paths)
    codec.decode(codec.encode(Image.new("RGB", (64, 64))))  # fills caches
    for photo in photos:
        picture = centre(pixels_only(load_image(photo)), options.crop)
        for quality in options.qualities:
            for effort in options.efforts:
                row: Row = {"photo": photo.name, "quality": quality, "effort": effort}
                row["reader"] = options.reader if effort else "main"
                if figures.key(row) in figures.rows:
                    continue
                start = time.process_time()
                reader = options.reader if effort else None
                data = codec.encode(picture, quality, effort=effort, reader=reader)
                row["seconds"] = time.process_time() - start
                row["bpp"] = bits_per_pixel(len(data), picture.size)
                coded = codec.open(data)
                for path in ("main", *options.paths):
                    shown = coded.render(path)
                    row[f"psnr {path}"] = psnr(picture, shown)
                    row[f"ms_ssim {path}"] = ms_ssim(picture, shown)
                figures.add(row)


def show(options: argparse.Namespace, figures: Figures) -> None:
    """Print a line for each effort, of the photos that all of them have."""
    efforts, qualities = options.efforts, options.qualities
    by_photo: dict[str, dict[tuple[float, int], Row]] = {}
    for row in figures.rows.values():
        if row["reader"] == (options.reader if row["effort"] else "main"):
            by_photo.setdefault(row["photo"], {})[row["quality"], row["effort"]] = row
    wanted = {(quality, effort) for quality in qualities for effort in efforts}
    whole = [found for found in by_photo.values() if wanted <= found.keys()]
    columns = [f"{measured} {path}" for path in ("main", *options.paths) for measured in MEASURES]
    table = Table("effort", "seconds", "of effort 0", *columns, *(f"q{q:g}" for q in qualities))

    def mean(quality: float, effort: int, name: str) -> float:
        return fmean(found[quality, effort][name] for found in whole)

    def curve(effort: int, name: str) -> list[tuple[float, float]]:
        if any(row[name] is None for found in whole for row in found.values()):
            return []  # MS-SSIM of a small picture is none
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
