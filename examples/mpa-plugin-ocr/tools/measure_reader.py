"""What files made for the recogniser give: character error rates at equal bytes.

The pictures are the test pictures of ``mpa eval --tasks ocr``. For each number of bits per pixel,
which no file of ours exceeds, there are files without a search (plain), with a search for the main
path's picture (effort), with one that weights the pixels of lines (importance) and with one for
this path (reader), each shown by the main path and by ``ocr``; and files of classic codecs at the
setting nearest to as many bytes. Each file is made once, and its figures go to a file of JSON
lines: run it again with the same ``--out`` and it goes on where it was.

    python tools/measure_reader.py --photos PHOTOS/test --bpp 0.085,0.139 --effort 6 --out cer.jsonl
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from mpa_plugin_ocr.importance import OUTSIDE, text_importance
from mpa_plugin_ocr.lettering import Lettered
from mpa_plugin_ocr.recipe import OcrRecipe
from mpa_plugin_ocr.tesseract import PROGRAM
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import classic_codec, nearest_in_size
from mpa_core.evaluation.statistics import Estimate, difference
from mpa_core.io.distortion import bits_per_pixel
from mpa_core.tasks import Metric, Sample, collate, to_tensor

OURS = ("plain", "effort", "importance", "reader")
SHOWN = ("main", "mse", "ocr")
MEASURES = ("cer", "cer_unseen", "psnr")
ANCHOR = "avif"
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photos", type=Path, required=True, help="a folder")
    parser.add_argument("--limit", type=int, help="only the first photos")
    parser.add_argument("--crop", type=int, help="the middle of each photo, of so many pixels")
    parser.add_argument("--bpp", default="0.085,0.139", help="bits per pixel, one or more")
    parser.add_argument("--effort", type=int, default=6)
    parser.add_argument("--files", default=",".join(OURS), help=f"some of {', '.join(OURS)}")
    parser.add_argument("--match", default="avif,webp,jpeg", help="classic codecs")
    parser.add_argument(
        "--outside", type=float, default=OUTSIDE, help="importance beside the lines"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, resumed")
    options = parser.parse_args(argv)
    options.bpp = [float(each) for each in options.bpp.split(",")]
    options.files, options.match = (
        [name for name in text.split(",") if name] for text in (options.files, options.match)
    )
    if unknown := set(options.files) - set(OURS):
        parser.error(f"--files has {', '.join(sorted(unknown))}, expected some of {OURS}")
    torch.set_num_threads(options.threads)
    judge = "tesseract" if shutil.which(PROGRAM) else None
    recipe = OcrRecipe({"judge": judge})
    try:
        recipe.setup(torch.device("cpu"))
        metrics = recipe.metrics()
        measure(options, recipe, metrics)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(options, metrics)
    return 0


def key(row: Row) -> tuple[Any, ...]:
    """What a row is of."""
    return tuple(
        row[name] for name in ("photo", "crop", "bpp asked", "file", "effort", "outside", "shown")
    )


def rows_of(options: argparse.Namespace, photo: int) -> Iterator[Row]:
    """The rows of a picture, without figures; those of one file follow each other."""
    for bpp in options.bpp:
        for file in (*options.files, *options.match):
            for shown in SHOWN if file in OURS else (file,):
                yield {
                    "photo": photo,
                    "crop": options.crop,
                    "bpp asked": bpp,
                    "file": file,
                    "effort": options.effort if file in OURS[1:] else 0,
                    "outside": options.outside if file == "importance" else None,
                    "shown": shown,
                }


def known(out: Path) -> dict[tuple[Any, ...], Row]:
    """The rows measured so far; a line that was cut off is not one."""
    lines = out.read_text(encoding="utf-8").split("\n")[:-1] if out.exists() else []
    return {key(row): row for row in map(json.loads, lines)}


def pictures(options: argparse.Namespace, recipe: OcrRecipe) -> Sequence[Sample]:
    """The recipe's test pictures, or with ``--crop`` such pictures of the middle of each photo."""
    lettered = recipe.dataset(options.photos, "test", None)
    if options.crop is None:
        return lettered
    photos = [Sample(middle(sample.image, options.crop)) for sample in lettered.photos]
    return Lettered(photos, lettered.fonts, seed=lettered.seed, area=lettered.area)


def middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle of a picture [H, W, 3], of at most ``side`` pixels a side."""
    top, left = (max(0, (whole - side) // 2) for whole in image.shape[:2])
    return image[top : top + side, left : left + side]


def measure(options: argparse.Namespace, recipe: OcrRecipe, metrics: dict[str, Metric]) -> None:
    """Measure what is not known yet, picture by picture."""
    samples = pictures(options, recipe)
    codec = MPACodec.from_pretrained(options.base)
    codec.load_paths(["mse", "ocr"])
    done = known(options.out)
    for photo in range(len(samples))[: options.limit]:
        missing = [row for row in rows_of(options, photo) if key(row) not in done]
        sample = samples[photo] if missing else None
        made: tuple[Any, ...] | None = None
        for row in missing:
            file = row["bpp asked"], row["file"]
            if made is None or made[0] != file:
                start = time.process_time()
                made = file, *coded(codec, sample, row)
                seconds = time.process_time() - start
            _, size, views = made
            row |= {"seconds": seconds, "bpp": bits_per_pixel(size, sample.image.shape[1::-1])}
            row |= judged(metrics, sample, views(row["shown"]))
            with options.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")


def coded(codec: MPACodec, sample: Sample, row: Row) -> tuple[int, Any]:
    """Make a row's file: its size in bytes, and a function: what shows it -> the picture."""
    picture = Image.fromarray(sample.image)
    file, bpp = row["file"], row["bpp asked"]
    if file not in OURS:
        codec_key, _ = classic_codec(file)
        num_bytes = round(bpp * picture.width * picture.height / 8)
        classic = nearest_in_size(picture, codec_key, num_bytes)
        return len(classic.data), lambda _: classic.decode()
    more: dict[str, Any] = {}
    if file == "importance":
        more["importance"] = text_importance(picture, outside=row["outside"])
    elif file == "reader":
        more["reader"] = "ocr"
    data = codec.encode(picture, target_bpp=bpp, effort=row["effort"], **more)
    return len(data), codec.open(data).render


def judged(metrics: dict[str, Metric], sample: Sample, shown: Image.Image) -> Row:
    """What a picture adds to each metric."""
    batch = collate([sample], torch.tensor([1.0]))
    x_hat = to_tensor(np.array(shown))[None]
    return {name: metric.per_picture(x_hat, batch)[0].tolist() for name, metric in metrics.items()}


def show(options: argparse.Namespace, metrics: dict[str, Metric]) -> None:
    """Print a line for each file and what shows it, of the pictures for which all is known."""
    done = known(options.out)
    whole = []
    for photo in sorted({row["photo"] for row in done.values()}):
        wanted = [key(row) for row in rows_of(options, photo)]
        if all(each in done and metrics.keys() <= done[each].keys() for each in wanted):
            whole.append([done[each] for each in wanted])
    names = [name for name in MEASURES if name in metrics]
    columns = [column for name in names for column in (name, f"{name} - {ANCHOR}")]
    table = Table("bpp asked", "file", "shown by", "bpp", "seconds", *columns)
    places = {
        (row["bpp asked"], row["file"], row["shown"]): place
        for place, row in enumerate(whole[0] if whole else [])
    }
    for (bpp, file, shown), place in places.items():
        rows = [found[place] for found in whole]
        cells = []
        for name in names:
            value = as_value(metrics[name])
            cells.append(f"{value(statistics(rows, name).sum(0)):.4g}")
            anchor = places.get((bpp, ANCHOR, ANCHOR))
            other = [found[anchor] for found in whole] if anchor not in (None, place) else None
            cells.append("" if other is None else against(rows, other, name, metrics[name]))
        table.add_row(
            f"{bpp:g}",
            file,
            shown,
            f"{fmean(row['bpp'] for row in rows):.4f}",
            f"{fmean(row['seconds'] for row in rows):.1f}",
            *cells,
        )
    console = Console(highlight=False, width=200)
    console.print(table)
    console.print(
        f"{len(whole)} pictures, effort {options.effort}, {options.threads} threads; differences "
        "with the 95 % interval of resampled pictures"
    )


def statistics(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """A metric's statistics, a row for each picture."""
    return np.array([row[name] for row in rows], dtype=np.float64)


def as_value(metric: Metric) -> Any:
    """A metric's figure as a function of totals in an array."""
    return lambda totals: metric.figure(torch.from_numpy(np.asarray(totals)))


def against(rows: Sequence[Row], other: Sequence[Row], name: str, metric: Metric) -> str:
    """The difference of a metric between two files of the same pictures, with its interval."""
    found: Estimate = difference(statistics(rows, name), statistics(other, name), as_value(metric))
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


if __name__ == "__main__":
    sys.exit(main())
