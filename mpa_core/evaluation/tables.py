"""Tables of results: curves, BD-rates, and the paper's table 2 with intervals and differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mpa_core.evaluation.bands import Band, band_difference
from mpa_core.evaluation.classic import CODECS
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.results import PHOTOS, MetricInfo, Results, Row
from mpa_core.evaluation.statistics import (
    Array,
    Estimate,
    bd_metric,
    bd_rate,
    difference,
)
from mpa_core.mix import MAIN, Mix
from mpa_core.plugins.registry import registry
from mpa_core.tasks.metric import PSNR

ANCHORS = ("JPEG", "WEBP", "AVIF")
SAME_RATE = 0.02
"""Largest relative difference from our rate at which a classic codec's rate counts as the same."""
Table = list[list[str]]
"""Rows of cells; the first row is the head."""


def label_of(name: str) -> str:
    """Return the label of a column or curve: a path's name, a classic codec's label, or the mix."""
    for key, codec in CODECS.items():
        if key == name:
            return codec.label
    path = single_path(name)
    return path if path is not None else name


def single_path(mix: str | None) -> str | None:
    """Return ``cls`` for ``cls=1``; None for a mix of several paths."""
    name, equals, share = (mix or "").partition("=")
    return name if equals and share == "1" else None


def ordered(results: Results, pictures: PictureSet) -> list[tuple[str, list[Row]]]:
    """Return the curves of a set that have several points: ours first, main before the paths."""
    found = [
        (name, rows)
        for name, rows in results.curves(pictures.key)
        if name in CODECS or single_path(name) is not None
    ]
    rank = {MAIN: 0}
    return sorted(
        found, key=lambda item: (item[0] in CODECS, rank.get(label_of(item[0]), 1), item[0])
    )


def photo_sets(results: Results) -> list[PictureSet]:
    """Return the sets of plain photos."""
    return [item for item in results.sets.values() if item.name == PHOTOS]


# ---------------------------------------------------------------------- rate and distortion


def bd_table(
    results: Results, pictures: PictureSet, metrics: Sequence[MetricInfo], anchor: str
) -> Table:
    """Return BD-rate and BD-metric of every other curve against ``anchor``; empty without it."""
    curves = ordered(results, pictures)
    anchors = dict(curves).get(anchor)
    if anchors is None:
        return []
    table = [[f"against {label_of(anchor)}", *(metric.heading for metric in metrics)]]
    for name, rows in curves:
        if name != anchor:
            cells = [_bd_cell(results, anchors, rows, metric) for metric in metrics]
            table.append([label_of(name), *cells])
    return table


def _bd_cell(
    results: Results, anchors: Sequence[Row], rows: Sequence[Row], metric: MetricInfo
) -> str:
    anchor, test = (results.curve(each, metric.name) for each in (anchors, rows))
    rate = bd_rate(anchor, test, higher_is_better=metric.higher_is_better)
    gain = bd_metric(anchor, test, higher_is_better=metric.higher_is_better)
    if rate is None or gain is None:
        return "-"
    return f"{rate:+.1f} % ({metric.unit.factor * gain:+.3g})"


def curve_table(results: Results, pictures: PictureSet, metrics: Sequence[MetricInfo]) -> Table:
    """Return one row per codec or mix and setting."""
    head = ["codec", "setting", "bpp", *(m.heading for m in metrics)]
    table = [[*head, "encode CPU s", "decode CPU s", "MACs/pixel"]]
    for name, rows in ordered(results, pictures):
        for row in rows:
            figures = [number(results.figure(row, m.name), m) for m in metrics]
            table.append(
                [
                    label_of(name),
                    f"{row.setting:g}" if row.setting is not None else "-",
                    f"{results.bpp(row):.3f}",
                    *figures,
                    mean_seconds(row.encode_seconds),
                    mean_seconds(row.decode_seconds),
                    _macs(row),
                ]
            )
    return table


def mean_seconds(values: Sequence[float | None]) -> str:
    """Return the mean of the recorded times, as text."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else "-"


def _macs(row: Row) -> str:
    if row.macs_per_pixel is None:
        return "-"
    return " + ".join(f"{row.macs_per_pixel[p] / 1000:.1f}" for p in ("encoder", "decoder")) + " K"


# ---------------------------------------------------------------------- the paper's table 2


class Judged(NamedTuple):
    """One metric on one set, for every single path and every classic codec at the same bytes."""

    metric: MetricInfo
    pictures: PictureSet
    columns: dict[str, dict[float, Row]]
    """By name and quality the row; paths first."""

    @property
    def own(self) -> str | None:
        """The column of the path that this metric is for: the task's, or one that names it."""
        task = self.metric.task
        names = paths_for_measures().get(self.metric.name, []) if task is None else [task]
        # Results of earlier versions have tasks as distribution:name; paths have plain names.
        columns = (f"{name.rpartition(':')[2]}=1" for name in names)
        return next((column for column in columns if column in self.columns), None)


def paths_for_measures() -> dict[str, list[str]]:
    """Return the installed paths by the measure that they are for, as their plugins state."""
    found: dict[str, list[str]] = {}
    for path in registry().paths():
        if path.spec.measure is not None:
            found.setdefault(path.spec.measure, []).append(path.name)
    return found


def judged(results: Results) -> list[Judged]:
    """Return PSNR and other paths' measures on the photos, then each task's metrics on its set."""
    wanted = {PSNR, *paths_for_measures()}
    measures = [m for m in results.metrics.values() if m.task is None and m.name in wanted]
    pairs = [(item, metric) for item in photo_sets(results) for metric in measures]
    for metric in results.metrics.values():
        if metric.task is not None:
            sets = {row.pictures for row in results.rows.values() if metric.name in row.values}
            pairs += [(item, metric) for key, item in results.sets.items() if key in sets]
    found = [Judged(metric, item, _columns(results, item, metric)) for item, metric in pairs]
    return [item for item in found if len(item.columns) > 1]


def task_tables(results: Results, found: Sequence[Judged]) -> dict[float, Table]:
    """Return, by quality, the paper's table 2: a row per metric, a column per path and codec."""
    names = list(dict.fromkeys(name for item in found for name in item.columns))
    names.sort(key=lambda name: name in CODECS)
    tables: dict[float, Table] = {}
    for quality in sorted({q for item in found for rows in item.columns.values() for q in rows}):
        table = [["metric", "set", "bpp", *map(label_of, names)]]
        for item in found:
            at = {name: rows[quality] for name, rows in item.columns.items() if quality in rows}
            ours = [row for name, row in at.items() if name not in CODECS]
            if not ours or len(at) < 2:
                continue
            table.append(_judged_line(results, item, at, names, results.bpp(ours[0])))
        if len(table) > 1:
            tables[quality] = table
    return tables


def _judged_line(
    results: Results, item: Judged, at: dict[str, Row], names: Sequence[str], rate: float
) -> list[str]:
    metric = item.metric
    figures = {name: results.estimate(row, metric.name) for name, row in at.items()}
    best = _best(figures, metric)
    return [
        metric.full_label,
        f"{item.pictures.label}: {_count(results, item, next(iter(at.values())))}",
        f"{rate:.3f}",
        *(
            _cell(figures.get(name), metric, name in best) + _rate(results, at.get(name), rate)
            for name in names
        ),
    ]


def _count(results: Results, item: Judged, row: Row) -> str:
    """Return the number of pictures that a mean is over, or of views if there are more."""
    found = results.per_photo(row, item.metric.name)
    pictures = len(item.pictures.digests)
    text = item.pictures.count if item.pictures.photos else str(pictures)
    if found is not None and item.metric.value is None and found[:, 1].sum() > pictures:
        return f"{found[:, 1].sum():.0f} views of {text}"
    return text


def difference_table(results: Results, item: Judged, bands: Sequence[Band] = ()) -> Table:
    """Return the paired differences of the metric's own path from every other column.

    There is a line per quality, and one for each of ``bands`` that the qualities span.
    """
    if item.own is None:
        return []
    others = [name for name in item.columns if name != item.own]
    symbol = item.metric.unit.difference
    unit = f" ({symbol})" if symbol else ""
    own = label_of(item.own)
    table = [["quality", "bpp", *(f"{own} − {label_of(name)}{unit}" for name in others)]]
    for quality, row in sorted(item.columns[item.own].items()):
        pairs = (
            _paired(results, item.metric, row, item.columns[name].get(quality)) for name in others
        )
        cells = [_difference(pair, item.metric) for pair in pairs]
        if set(cells) != {"-"}:
            table.append([f"{quality:g}", f"{results.bpp(row):.3f}", *cells])
    for band in bands:
        means = [_band_mean(results, item, item.own, name, band) for name in others]
        if any(mean is not None for mean in means):
            cells = [_difference(mean, item.metric) for mean in means]
            table.append(["mean", f"{band.low:g} to {band.high:g}", *cells])
    return table if len(table) > 1 else []


def _band_mean(results: Results, item: Judged, own: str, other: str, band: Band) -> Estimate | None:
    """Return the lead of path ``own`` over column ``other``, at the qualities that both have."""
    points = []
    for quality, row in sorted(item.columns[own].items()):
        pair = _pair(results, item.metric, row, item.columns[other].get(quality))
        if pair is not None:
            points.append((results.bpp(row), *pair))
    return band_difference(band, points, item.metric.function())


def _rate(results: Results, row: Row | None, wanted: float) -> str:
    """Return a codec's own rate as text where it could not match the bytes; else empty."""
    rate = wanted if row is None else results.bpp(row)
    return "" if abs(rate - wanted) <= SAME_RATE * wanted else f" at {rate:.3f} bpp"


def _columns(
    results: Results, pictures: PictureSet, metric: MetricInfo
) -> dict[str, dict[float, Row]]:
    """Return the rows by column and quality: of single paths, and of matched classic codecs."""
    found: dict[str, dict[float, Row]] = {}
    for row in results.rows.values():
        if row.pictures != pictures.key or results.per_photo(row, metric.name) is None:
            continue
        if row.match is not None:
            found.setdefault(row.codec, {})[float(row.match["quality"])] = row
        elif row.mix is not None and single_path(row.mix) and row.setting is not None:
            found.setdefault(row.mix, {})[row.setting] = row
    # Main, then the paths for measures of every picture, then those for tasks.
    general = {name for names in paths_for_measures().values() for name in names}

    def place(name: str) -> tuple[bool, bool, bool, str]:
        path = single_path(name)
        return (name in CODECS, path != MAIN, path not in general, name)

    return {name: found[name] for name in sorted(found, key=place)}


def _best(found: dict[str, Estimate | None], metric: MetricInfo) -> set[str]:
    """Return the columns with the best value, as shown."""
    known = {name: _cell(e, metric, False).split()[0] for name, e in found.items() if e is not None}
    choose = max if metric.higher_is_better else min
    best = choose(map(float, known.values()), default=0.0)
    return {name for name, text in known.items() if float(text) == best}


def _paired(results: Results, metric: MetricInfo, row: Row, other: Row | None) -> Estimate | None:
    pair = _pair(results, metric, row, other)
    return None if pair is None else difference(*pair, metric.function())


def _pair(
    results: Results, metric: MetricInfo, row: Row, other: Row | None
) -> tuple[Array, Array] | None:
    """Return the statistics of each picture in both rows; None where one has none."""
    first = results.per_photo(row, metric.name)
    second = None if other is None else results.per_photo(other, metric.name)
    return None if first is None or second is None else (first, second)


# ---------------------------------------------------------------------- the sweep


class SweepRows(NamedTuple):
    """Rows of one set and quality along the shares of two paths."""

    pictures: PictureSet
    quality: float
    first: str
    last: str
    shares: list[float]
    """The shares of ``last``, ascending."""
    rows: list[Row]


def sweeps(results: Results) -> Iterator[SweepRows]:
    """Yield every sweep: mixes of the same two paths with at least three shares."""
    found: dict[tuple[str, float, str], dict[float, Row]] = {}
    for row in results.rows.values():
        if row.mix is None or row.setting is None:
            continue
        mix = Mix.parse(row.mix)
        parts = {**mix.shares, **({MAIN: mix.main} if mix.main else {})}
        if len(parts) == 2:
            first, last = sorted(parts, key=lambda name: (name != MAIN, name))
            key = (row.pictures, row.setting, f"{first}:{last}")
            found.setdefault(key, {})[parts[last]] = row
    for (pictures, quality, pair), by_share in found.items():
        first, _, last = pair.partition(":")
        for share, end in ((0.0, first), (1.0, last)):
            for row in results.rows.values():
                same = row.pictures == pictures and row.setting == quality
                if same and single_path(row.mix) == end:
                    by_share[share] = row
        if len(by_share) >= 3:
            shares = sorted(by_share)
            rows = [by_share[share] for share in shares]
            yield SweepRows(results.sets[pictures], quality, first, last, shares, rows)


def sweep_table(results: Results, sweep: SweepRows) -> Table:
    """Return a table with a row per share and a column per metric."""
    metrics = [
        metric
        for metric in results.metrics.values()
        if all(results.per_photo(row, metric.name) is not None for row in sweep.rows)
    ]
    head = [f"share of {label_of(sweep.last)}", "MACs/pixel", *(m.heading for m in metrics)]
    return [
        head,
        *(
            [f"{share:.3g}", _macs(row), *(number(results.figure(row, m.name), m) for m in metrics)]
            for share, row in zip(sweep.shares, sweep.rows, strict=True)
        ),
    ]


# ---------------------------------------------------------------------- cells


def number(value: float | None, metric: MetricInfo) -> str:
    """Return a value as text."""
    return "-" if value is None else metric.text(value)


def _cell(found: Estimate | None, metric: MetricInfo, best: bool) -> str:
    if found is None:
        return "-"
    value, low, high = map(metric.unit.text, found)
    text = f"**{value}**" if best else value
    return f"{text} [{low}, {high}]"


def _difference(found: Estimate | None, metric: MetricInfo) -> str:
    if found is None:
        return "-"
    value, low, high = (metric.unit.text(part, sign=True) for part in found)
    return f"{value} [{low}, {high}]"


def to_markdown(table: Table) -> str:
    """Return a Markdown table; numbers are not aligned, as Markdown does that."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
