"""The page of results, made from stored rows alone, by one command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mpa_core.errors import ConfigError
from mpa_core.evaluation.bands import Band
from mpa_core.evaluation.classic import CODECS
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.plots import sweep_name, write_plots
from mpa_core.evaluation.protocols import Protocol
from mpa_core.evaluation.results import MetricInfo, Results
from mpa_core.evaluation.tables import (
    ANCHORS,
    Table,
    bd_table,
    curve_table,
    difference_table,
    judged,
    photo_sets,
    sweep_table,
    sweeps,
    task_tables,
    to_markdown,
)
from mpa_core.io.files import write_text
from mpa_core.io.folders import claim_output

HOW = (
    "Every figure is of a file written to disk and read back: bits are its size, the picture is "
    "what decoding it gives, 8 bits a channel. Curves are means over the pictures at each setting. "
    "Intervals are 95 %, by drawing the photos again 2000 times, each with all pictures of it; "
    "differences are paired: both sides see the same draws. BD-rate is the mean difference in bits "
    "at equal quality (in brackets: of the figure at equal bits), interpolated by PCHIP over the "
    "range both curves share. That range differs from row to row: two codecs compare best where "
    "one of them is the anchor. Times are of the processor, all threads together, per picture."
)
BANDS = (
    "A mean over a band of rates is that of the differences, interpolated by PCHIP in the "
    "logarithm of the rate."
)


def markdown(
    results: Results,
    *,
    command: str = "",
    plots: Sequence[str] = (),
    bands: Sequence[Band] = (),
) -> str:
    """Return the page as Markdown.

    Args:
        results: the measured results.
        command: the command that makes this page, shown on it.
        plots: files to show, as links.
        bands: bands of rates over which a path's lead at its own task is averaged, too.
    """
    parts = ["# Results", _about(results), HOW]
    if command:
        parts.append(f"This page is made from the raw figures by\n\n```sh\n{command}\n```")
    parts += _photos(results, plots)
    parts += _tasks(results, plots, bands)
    parts += _sweeps(results, plots)
    parts += _points(results)
    parts += _codecs(results)
    return "\n\n".join(part for part in parts if part) + "\n"


def write_report(
    results: Results,
    page: Path,
    *,
    plots: Path | None = None,
    command: str = "",
    bands: Sequence[Band] = (),
) -> list[Path]:
    """Write the page, and its plots into the folder ``plots``.

    A strip of pictures that is in ``plots`` already (it cannot be made from rows) is shown.

    Returns:
        The files written or shown.

    Raises:
        MissingDependencyError: plots are wanted and matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    files: list[Path] = []
    if plots is not None:
        if not plots.is_dir():
            claim_output(plots, (), "--plots")
        files = write_plots(results, plots)
        files += sorted(path for path in plots.glob("*-strip.jpg") if path not in files)
    text = markdown(results, command=command, plots=relative_links(files, page), bands=bands)
    write_text(page, text)
    return [page, *files]


def relative_links(files: Sequence[Path], page: Path) -> list[str]:
    """Return ``files`` as links from ``page``."""
    return [Path(os.path.relpath(file, page.parent)).as_posix() for file in files]


def _about(results: Results) -> str:
    lines = []
    bases = {
        (row.codec, str(row.source["base"])) for row in results.rows.values() if row.mix is not None
    }
    lines += [f"Base `{name}`, fingerprint `{prefix}…`." for name, prefix in sorted(bases)]
    for item in results.sets.values():
        sizes = sorted(set(item.sizes))
        shown = ", ".join(f"{w}x{h}" for w, h in sizes[:3]) + (", …" if len(sizes) > 3 else "")
        lines.append(
            f"Set `{item.name}` by protocol `{item.protocol}`: {item.count}, {shown} pixels."
        )
    lines += [f"By `{text}`, {summary}." for text, summary in _protocols(results)]
    return " ".join(lines)


def _protocols(results: Results) -> Iterator[tuple[str, str]]:
    """Yield each protocol and what it is, but for those that this version does not know."""
    for text in sorted({item.protocol for item in results.sets.values()}):
        with suppress(ConfigError):
            yield text, Protocol.parse(text).summary


def _photos(results: Results, plots: Sequence[str]) -> list[str]:
    parts = []
    metrics = [metric for metric in results.metrics.values() if metric.task is None]
    for item in photo_sets(results):
        parts.append(f"## Rate and distortion: {item.label}")
        parts += [_table(bd_table(results, item, metrics, anchor)) for anchor in ANCHORS]
        parts += _shown(plots, item, metrics)
    return parts


def _points(results: Results) -> list[str]:
    metrics = [metric for metric in results.metrics.values() if metric.task is None]
    parts = []
    for item in photo_sets(results):
        parts += [f"## Every point: {item.label}", _table(curve_table(results, item, metrics))]
    return parts


def _tasks(results: Results, plots: Sequence[str], bands: Sequence[Band]) -> list[str]:
    found = judged(results)
    tables = task_tables(results, found)
    if not tables:
        return []
    parts = [
        "## Each path at its own task",
        "The paper's table 2 on these weights: one file per picture and quality, read by every "
        "path; classic codecs at the setting nearest in bytes, picture by picture. The best of a "
        "row is bold." + (f" {BANDS}" if bands else ""),
    ]
    for quality, table in tables.items():
        parts += [f"### Quality {quality:g}", _table(table)]
    for item in found:
        differences = difference_table(results, item, bands)
        if differences:
            title = f"### {item.metric.heading}, {item.pictures.label}: paired differences"
            parts += [title, _table(differences)]
        parts += _shown(plots, item.pictures, [] if item.metric.task is None else [item.metric])
    return parts


def _sweeps(results: Results, plots: Sequence[str]) -> list[str]:
    parts = []
    for sweep in sweeps(results):
        parts.append(
            f"## From {sweep.first} to {sweep.last}\n\nQuality {sweep.quality:g}, "
            f"{sweep.pictures.label}: the same files, with a growing share of tokens through "
            f"`{sweep.last}`."
        )
        shown = [plot for plot in plots if sweep_name(sweep) in plot]
        parts += [f"![{Path(plot).stem}]({plot})" for plot in shown]
        parts.append(_table(sweep_table(results, sweep)))
    return parts


def _codecs(results: Results) -> list[str]:
    lines = []
    for key, codec in CODECS.items():
        sources = {
            str(row.source["version"]): row.source["options"]
            for row in results.rows.values()
            if row.codec == key
        }
        for version, options in sources.items():
            shown = ", ".join(f"{name} {value}" for name, value in options.items())
            lines.append(f"- {codec.label}: {version}; {shown}")
    return ["## Classic codecs", "\n".join(lines)] if lines else []


def _shown(plots: Sequence[str], item: PictureSet, metrics: Sequence[MetricInfo]) -> list[str]:
    found = []
    for metric in metrics:
        end = f"{item.slug}-{metric.name.replace('/', '-')}.png"
        found += [f"![{metric.heading}]({plot})" for plot in plots if Path(plot).name == end]
    return found


def _table(table: Table) -> str:
    return to_markdown(table) if table else ""
