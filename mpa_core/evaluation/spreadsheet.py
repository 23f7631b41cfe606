"""Every row with its figures as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from mpa_core.evaluation.results import Results
from mpa_core.evaluation.tables import mean_seconds


def to_csv(results: Results) -> str:
    """A line per row of ``results``, below a line of names; figures are those of all pictures."""
    out = io.StringIO()
    names = list(results.metrics)
    writer = csv.writer(out, lineterminator="\n")
    columns = [
        "set",
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
    writer.writerow([*columns, *names])
    for row in results.rows.values():
        macs = row.macs_per_pixel or {}
        cells: list[Any] = [
            results.sets[row.pictures].name,
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
        writer.writerow([*cells, *(results.figure(row, name) for name in names)])
    return out.getvalue()
