"""Plots of results: metrics against rate, metrics along a sweep, and a strip of its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mpa_core.evaluation.classic import CODECS
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.results import MetricInfo, Results, Row
from mpa_core.evaluation.tables import SweepRows, label_of, ordered, sweeps
from mpa_core.io.files import write_bytes
from mpa_core.requirements import missing
from mpa_core.tasks.metric import PSNR

DPI = 120
_SIZE = (6.0, 4.2)  # inches
STRIP_SIDE = 192
_MAX_BPP = 1.6
_MARGIN, _LINE, _FONT = 6, 18, 13
_AXIS_WIDTH = 48
"""Points between an axis at the right and the next one."""


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write a PNG per set and metric (``photos-psnr.png``) and per sweep.

    Names of files name the protocol where it is not that of whole photos.

    Returns:
        The files written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    written = []
    for pictures in results.sets.values():
        for metric in results.metrics.values():
            curves = rate_curves(results, pictures, metric)
            if curves:
                path = folder / f"{pictures.slug}-{metric.name.replace('/', '-')}.png"
                _write(path, rate_plot(pictures, metric, curves))
                written.append(path)
    for sweep in sweeps(results):
        path = folder / f"{sweep_name(sweep)}.png"
        figure = sweep_plot(results, sweep)
        if figure is not None:
            _write(path, figure)
            written.append(path)
    return written


def sweep_name(sweep: SweepRows) -> str:
    """Return the beginning of the names of the files about a sweep."""
    return f"{sweep.pictures.slug}-sweep-{sweep.first}-{sweep.last}-q{sweep.quality:g}"


def strip(
    original: Image.Image, pictures: Sequence[tuple[str, Image.Image]], side: int = STRIP_SIDE
) -> Image.Image:
    """Draw the middle ``side`` pixels of the original and of each picture in a captioned row."""
    parts = [("original", original), *pictures]
    width, height = min(side, original.width), min(side, original.height)
    left, top = (original.width - width) // 2, (original.height - height) // 2
    step = width + _MARGIN
    sheet = Image.new("RGB", (len(parts) * step + _MARGIN, height + _LINE + 2 * _MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for place, (caption, picture) in enumerate(parts):
        x = _MARGIN + place * step
        pen.text((x, _MARGIN), caption, fill="black", font=font)
        crop = picture.crop((left, top, left + width, top + height))
        sheet.paste(crop, (x, _MARGIN + _LINE))
    return sheet


# ---------------------------------------------------------------------- plots

_Points = list[tuple[float, float]]


def rate_curves(
    results: Results, pictures: PictureSet, metric: MetricInfo
) -> list[tuple[str, _Points]]:
    """Return label and points of every curve with at least two points.

    For a codec whose own settings were not measured by the metric, the points are those of the rows
    matched to our files.
    """
    curves: list[tuple[str, Sequence[Row]]] = list(ordered(results, pictures))
    for codec in CODECS:
        matched = [
            row
            for row in results.rows.values()
            if row.codec == codec and row.pictures == pictures.key and row.match is not None
        ]
        curves.append((codec, matched))
    found: dict[str, _Points] = {}
    for name, rows in curves:
        points = list(results.curve(rows, metric.name))
        if len(points) > 1:
            found.setdefault(name, points)
    return list(found.items())


def rate_plot(
    pictures: PictureSet, metric: MetricInfo, curves: Sequence[tuple[str, _Points]]
) -> Any:
    """Draw a matplotlib figure of the metric, in its unit, against the bits per pixel of files."""
    figure, axes = _new()
    factor = metric.unit.factor
    for name, points in curves:
        shown = [(rate, factor * value) for rate, value in points if rate <= _MAX_BPP]
        if not shown:
            continue
        style = {"linestyle": "--", "linewidth": 1.0} if name in CODECS else {"linewidth": 1.8}
        axes.plot(
            *zip(*shown, strict=True), marker="o", markersize=3, label=label_of(name), **style
        )
    axes.set_xlabel("bits per pixel (from files)")
    axes.set_ylabel(metric.full_label + ("" if metric.higher_is_better else ", lower is better"))
    axes.set_title(f"{pictures.count} ({pictures.label})", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def sweep_plot(results: Results, sweep: SweepRows) -> Any:
    """Draw a matplotlib figure of the metrics along a sweep; None if no metric has all its rows.

    PSNR is on the left axis and the tasks' metrics are on the right, with an axis for each of their
    units.
    """
    figure, axes = _new()
    right: dict[str, Any] = {}
    lines = []
    colours = iter(f"C{number}" for number in range(10))
    for metric in results.metrics.values():
        values = [results.figure(row, metric.name) for row in sweep.rows]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or (metric.task is None and metric.name != PSNR):
            continue
        unit = metric.unit
        if metric.task is None:
            side = axes
            axes.set_ylabel(metric.full_label)
        elif unit.symbol in right:
            side = right[unit.symbol]
        else:
            side = right[unit.symbol] = axes.twinx()
            side.spines["right"].set_position(("outward", _AXIS_WIDTH * (len(right) - 1)))
            side.set_ylabel("task metrics" + (f" ({unit.symbol})" if unit.symbol else ""))
        lines += side.plot(
            sweep.shares,
            [unit.factor * value for value in known],
            marker="o",
            markersize=3,
            color=next(colours),
            label=metric.full_label,
        )
    if not lines:
        return None
    axes.set_xlabel(f"share of tokens through {sweep.last} (the rest through {sweep.first})")
    axes.grid(alpha=0.3)
    axes.set_title(
        f"quality {sweep.quality:g} ({sweep.pictures.label}), the same files throughout", fontsize=9
    )
    # There is seldom room beside the curves: two axes fill both corners of either side.
    figure.legend(handles=lines, fontsize=8, ncols=2, loc="outside lower center")
    return figure


def _new() -> tuple[Any, Any]:
    """Make a figure and its axes, without a display and without changing pyplot's state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("plots need", "matplotlib", "eval", error, "use --no-plots") from error
    figure = Figure(figsize=_SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _write(path: Path, figure: Any) -> None:
    buffer = io.BytesIO()
    # Without a date and version the same results give the same file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
