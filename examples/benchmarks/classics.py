"""What classic encoders get for their time: bits at equal quality against ours at effort 0.

The anchor are the rows of effort 0 in a file that effort.py wrote for the same photos and crop;
those of its other efforts are listed first. Each file is made once, and its figures go to a file of
JSON lines: run it again with the same ``--out`` and it goes on where it was. Rates are of whole
files without metadata, times are of one thread, those of encoders in processes of their own
included.

    python examples/benchmarks/effort.py --photos PHOTOS --efforts 0,2,4 --reader mse --out e.jsonl
    python examples/benchmarks/classics.py --photos PHOTOS --efforts e.jsonl --out c.jsonl
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image
from resumed import Figures, Row, add_arguments, centre, photos_of
from rich.console import Console
from rich.table import Table

from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import classic_codec, pixels_only
from mpa_core.evaluation.statistics import bd_rate
from mpa_core.io.distortion import bits_per_pixel, ms_ssim, psnr
from mpa_core.io.images import load_image

SPEEDS = {
    "avif": ("speed", (9, 8, 6, 4, 2, 0)),
    "jxl": ("effort", (3, 7, 9)),
    "vvc": ("", (0,)),
}
"""By codec: what Pillow calls its speed, and which are measured, fastest first. VVC's is fixed."""
MEASURES = ("psnr", "ms_ssim")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--efforts", type=Path, required=True, help="what effort.py wrote")
    parser.add_argument("--path", default="mse", help="path by which ours is shown")
    parser.add_argument("--crop", type=int, help="as effort.py had it")
    parser.add_argument("--codecs", default="avif,jxl,vvc")
    add_arguments(parser)
    options = parser.parse_args(argv)
    figures = Figures(options.out, {"crop": options.crop}, ("photo", "codec", "speed", "setting"))
    try:
        for name in options.codecs.split(","):
            measure(options, figures, name)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(options, figures)
    return 0


def measure(options: argparse.Namespace, figures: Figures, name: str) -> None:
    """Measure what is not known yet of a codec, photo by photo."""
    key, codec = classic_codec(name)
    word, speeds = SPEEDS[name]
    for photo in photos_of(options):
        picture = centre(pixels_only(load_image(photo)), options.crop)
        for speed in speeds:
            for setting in codec.curve:
                row: Row = {"photo": photo.name, "codec": name, "speed": speed, "setting": setting}
                if figures.key(row) in figures.rows:
                    continue
                start = processor_time()
                if word:
                    buffer = io.BytesIO()
                    words = {**codec.options, word: speed}
                    picture.save(buffer, key, quality=setting, **words)
                    data = buffer.getvalue()
                else:
                    data = codec.write(picture, setting)
                row["seconds"] = processor_time() - start
                row["bpp"] = bits_per_pixel(len(data), picture.size)
                shown = (
                    codec.read(data, picture.size) if codec.read else Image.open(io.BytesIO(data))
                )
                row |= {"psnr": psnr(picture, shown), "ms_ssim": ms_ssim(picture, shown)}
                figures.add(row)


def processor_time() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def show(options: argparse.Namespace, figures: Figures) -> None:
    """Print a line for each encoder, of the photos that all have."""
    ours = [
        row
        for row in map(json.loads, options.efforts.read_text(encoding="utf-8").splitlines())
        if row["crop"] == options.crop and row["base"] == options.base
    ]
    curves: dict[str, list[Row]] = {}
    for row in sorted(ours, key=lambda row: row["effort"]):
        measured = {name: row[f"{name} {options.path}"] for name in MEASURES}
        title = f"effort {row['effort']}" + (f" for {row['reader']}" if row["effort"] else "")
        curves.setdefault(title, []).append({**row, **measured, "setting": row["quality"]})
    for row in figures.rows.values():
        word = SPEEDS[row["codec"]][0]
        title = " ".join(map(str, (row["codec"], word, row["speed"]))) if word else row["codec"]
        curves.setdefault(title, []).append(row)
    photos = set.intersection(*({row["photo"] for row in rows} for rows in curves.values()))
    anchor = next(iter(curves))
    table = Table("encoder", "seconds", *(f"bits at equal {name}" for name in MEASURES))
    for title, rows in curves.items():
        kept = [row for row in rows if row["photo"] in photos]
        rates = [
            bd_rate(curve(curves[anchor], photos, name), curve(kept, photos, name))
            for name in MEASURES
        ]
        shown = ("-" if rate is None else f"{rate:+.1f} %" for rate in rates)
        table.add_row(title, f"{fmean(row['seconds'] for row in kept):.2f}", *shown)
    console = Console(highlight=False, width=200)
    console.print(table)
    console.print(f"{len(photos)} photos, ours through {options.path}; BD-rate against {anchor}")


def curve(rows: Iterable[Row], photos: set[str], name: str) -> list[tuple[float, float]]:
    """The mean rate and figure of each setting."""
    by_setting: dict[Any, list[Row]] = {}
    for row in rows:
        if row["photo"] in photos and row[name] is not None:  # MS-SSIM of a small picture is none
            by_setting.setdefault(row["setting"], []).append(row)
    return [(fmean(r["bpp"] for r in at), fmean(r[name] for r in at)) for at in by_setting.values()]


if __name__ == "__main__":
    sys.exit(main())
