"""Output of all rows with their metrics and units as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from mpa_core.evaluation.results import MetricInfo, Results
from mpa_core.evaluation.tables import mean_seconds


def to_csv(results: Results) -> str:
    """Return one line per row of ``results``, below a line of names.

    A metric's value is that of all pictures, in the unit that follows the metric's name in
    brackets: ``psnr (dB)``, ``cls/agreement (%)``.
    """
    out = io.StringIO()
    metrics = list(results.metrics.values())
    writer = csv.writer(out, lineterminator="\n")
    columns = [
        "set",
        "protocol",
        "codec",
        "mix",
        "setting",
        "matched_quality",
        "bpp",
        "encode_cpu_s",
        "decode_cpu_s",
        "encoder_macs",
        "decoder_macs",
    ]
    writer.writerow([*columns, *map(_column, metrics)])
    for row in results.rows.values():
        macs = row.macs_per_pixel or {}
        cells: list[Any] = [
            results.sets[row.pictures].name,
            results.sets[row.pictures].protocol,
            row.codec,
            row.mix,
            row.setting,
            (row.match or {}).get("quality"),
            f"{results.bpp(row):.5f}",
            mean_seconds(row.encode_seconds),
            mean_seconds(row.decode_seconds),
            macs.get("encoder"),
            macs.get("decoder"),
        ]
        writer.writerow([*cells, *(_value(results.figure(row, m.name), m) for m in metrics)])
    return out.getvalue()


def _column(metric: MetricInfo) -> str:
    symbol = metric.unit.symbol
    return f"{metric.name} ({symbol})" if symbol else metric.name


def _value(value: float | None, metric: MetricInfo) -> float | None:
    # Without the rounding error of the product: 57 rather than 56.99999999999999.
    return None if value is None else float(f"{metric.unit.factor * value:.15g}")
