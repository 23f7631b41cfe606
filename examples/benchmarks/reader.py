"""What files made for a reader give it, at equal bytes, and what the eye loses.

The pictures are those that a classifier gets: each photo's short side is resized, and square crops
of that side are taken from end to end. Three kinds of files are made of each: plain ones, ones of
an effort without a task, and ones of the same effort for the reader. The plain ones are made
at many qualities, and the others are compared with what plain files of as many bits would have: by
interpolation, and with intervals by resampling photos with all their crops.

Each file is made once, and its figures go to a file of JSON lines: run it again with the same
``--out`` and it goes on where it was.

    python examples/benchmarks/reader.py --photos PHOTOS/test --reader cls --out cls.jsonl
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from resumed import Figures, Row, add_arguments, numbers, photos_of
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.errors import MPAError
from mpa_core.evaluation.classic import pixels_only
from mpa_core.evaluation.statistics import figures_of_draws, interval, with_counts
from mpa_core.io.distortion import bits_per_pixel, psnr
from mpa_core.io.images import load_image
from mpa_core.tasks.metric import PSNR, Metric
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.tasks.samples import PathBatch, Sample, collate

Array = NDArray[np.float64]
PLAIN = "plain"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256, help="of the crops, in pixels")
    parser.add_argument("--crops", type=int, default=2, help="crops of each photo")
    parser.add_argument("--reader", required=True, help="a bundled path that has a recipe")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--qualities", type=numbers, default=[1, 2, 3])
    parser.add_argument("--plain", type=numbers, default=[1, 1.5, 2, 2.5, 3, 3.5, 4, 5])
    add_arguments(parser)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    figures = Figures(
        options.out,
        {name: getattr(options, name) for name in ("base", "side", "crops", "reader")},
        ("picture", "kind", "quality", "effort"),
    )
    try:
        calls = RecipeCalls(options.reader)
        calls.setup(torch.device("cpu"))
        metrics = dict(calls.metrics())
        metrics.pop(PSNR, None)
        measure(options, figures, calls, metrics)
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(options, figures, metrics)
    return 0


def crops(options: argparse.Namespace) -> Iterator[tuple[str, Image.Image]]:
    """The crops, named by photo and number."""
    photos = photos_of(options)
    side = options.side
    # One crop of each photo before the next, so that a run that is cut off has seen most photos.
    for number in range(options.crops):
        for photo in photos:
            picture = pixels_only(load_image(photo))
            scale = side / min(picture.size)
            size = tuple(max(side, round(scale * each)) for each in picture.size)
            small = picture.resize(size, Image.Resampling.BICUBIC)
            place = 0.5 if options.crops == 1 else number / (options.crops - 1)
            left, top = (round(place * (each - side)) for each in small.size)
            yield (
                f"{photo.stem}-{number}",
                small.crop((left, top, left + side, top + side)),
            )


def photo_of(name: str) -> str:
    """The photo that a crop is of."""
    return name.rpartition("-")[0]


def settings(options: argparse.Namespace) -> list[tuple[str, float, int]]:
    """Kind, quality and effort of all files of a picture."""
    searched = [(kind, q) for kind in ("main", options.reader) for q in options.qualities]
    return [(PLAIN, quality, 0) for quality in options.plain] + [
        (kind, quality, options.effort) for kind, quality in searched
    ]


def measure(
    options: argparse.Namespace,
    figures: Figures,
    calls: RecipeCalls,
    metrics: dict[str, Metric],
) -> None:
    """Measure what is not known yet, picture by picture."""
    codec = MPACodec.from_pretrained(options.base)
    paths = sorted({"mse", options.reader})
    codec.load_paths(paths)
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for name, crop in crops(options):
            crop.save(Path(folder, f"{len(names):05}.png"))
            names.append(name)
        samples = calls.dataset(Path(folder), "test", None)
        for name, sample in zip(names, samples, strict=True):
            for kind, quality, effort in settings(options):
                row: Row = {"picture": name, "kind": kind, "quality": quality, "effort": effort}
                if figures.key(row) in figures.rows:
                    continue
                reader = kind if effort else None
                data = codec.encode(sample.image, quality, effort=effort, reader=reader)
                row |= judged(codec, data, sample, metrics, ["main", *paths])
                figures.add(row)


def judged(
    codec: MPACodec, data: bytes, sample: Sample, metrics: dict[str, Metric], paths: list[str]
) -> Row:
    """The figures of one file: its rate, and by each path PSNR and what the metrics add up."""
    coded = codec.open(data)
    original = Image.fromarray(sample.image)
    batch: PathBatch = collate([sample], torch.tensor([coded.quality]))
    row: Row = {"bpp": bits_per_pixel(len(data), original.size)}
    for path in paths:
        shown = coded.render(path, output="tensor")
        row[f"{PSNR} {path}"] = [psnr(original, coded.render(path)), 1.0]
        for name, metric in metrics.items():
            row[f"{name} {path}"] = metric.per_picture(shown[None], batch)[0].tolist()
    return row


def show(options: argparse.Namespace, figures: Figures, metrics: dict[str, Metric]) -> None:
    """Print a table of the differences at equal bits, of the photos that have all files."""
    rows = figures.rows
    wanted = settings(options)
    names = [name for name, _ in crops(options)]
    names = [name for name in names if all((name, *setting) in rows for setting in wanted)]
    photos = sorted({photo_of(name) for name in names})
    columns: list[tuple[str, Callable[[Array], float], float, int]] = [
        (f"{PSNR} {path}", lambda totals: float(totals[0] / totals[1]), 1.0, 2)
        for path in dict.fromkeys(("main", "mse", options.reader))
    ]
    for name, metric in metrics.items():
        for path in ("main", options.reader):
            value = _value(metric)
            columns.append((f"{name} {path}", value, metric.unit.factor, metric.unit.digits))

    def draws(setting: tuple[str, float, int], column: str, value: Any) -> Array:
        """The value and that of each resample of the photos."""
        found = [
            np.sum(
                [_statistics(rows[(name, *setting)], column) for name in names_of(photo)], axis=0
            )
            for photo in photos
        ]
        return figures_of_draws(np.array(found), value)

    def names_of(photo: str) -> list[str]:
        return [name for name in names if photo_of(name) == photo]

    table = Table("files", "quality", "bpp", *(column for column, *_ in columns))
    bits = {s: draws(s, "bpp", lambda totals: float(totals[0] / totals[1])) for s in wanted}
    for setting in wanted:
        kind, quality, effort = setting
        cells = []
        for column, value, factor, digits in columns:
            found = draws(setting, column, value)
            cell = f"{factor * found[0]:.{digits}f}"
            if effort:
                grid = [each for each in wanted if each[0] == PLAIN]
                curve = np.array([draws(each, column, value) for each in grid])
                rates = np.array([bits[each] for each in grid])
                same = np.array(
                    [
                        np.interp(np.log(bits[setting][i]), np.log(rates[:, i]), curve[:, i])
                        for i in range(len(found))
                    ]
                )
                lead = interval(found[0] - same[0], found[1:] - same[1:])
                low, high = (f"{factor * each:+.{digits}f}" for each in lead[1:])
                cell += f"\n{factor * lead.value:+.{digits}f} ({low} to {high})"
            cells.append(cell)
        table.add_row(f"{kind}, effort {effort}", f"{quality:g}", f"{bits[setting][0]:.3f}", *cells)
    console = Console(highlight=False, width=220)
    console.print(table)
    console.print(
        f"{len(names)} crops of {options.side} pixels of {len(photos)} photos; below a value: lead "
        "over plain files of as many bits by the same path, with its 95 % interval"
    )


def _value(metric: Metric) -> Callable[[Array], float]:
    return lambda totals: metric.figure(torch.from_numpy(totals))


def _statistics(row: Row, column: str) -> Array:
    return with_counts([row["bpp"]])[0] if column == "bpp" else np.array(row[column])


if __name__ == "__main__":
    sys.exit(main())
