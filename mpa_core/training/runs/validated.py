"""The last validation of a path's run, for its card: as a table, and as the Hub's ``model-index``.

Nothing of the Hub is needed: huggingface_hub reads the figures from the card as ``EvalResult`` when
it is published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpa_core.checkpoints.cards import PICTURES, PIPELINE
from mpa_core.training.engine.loop import METRICS_FILE

_DIGITS = 6


def last_validation(folder: Path) -> dict[str, Any] | None:
    """Return the last validation in the metrics of the run in ``folder``; None if there is none."""
    try:
        text = (folder / METRICS_FILE).read_text(encoding="utf-8")
    except OSError:
        return None  # only the run's checkpoints were kept
    events = [json.loads(line) for line in text.splitlines() if '"validation"' in line]
    found = [event for event in events if event["event"] == "validation" and event["levels"]]
    return found[-1] if found else None


def validation_table(event: Mapping[str, Any]) -> str:
    """Return a validation as Markdown."""
    levels: Sequence[Mapping[str, Any]] = event["levels"]
    names = list(levels[0])
    rows = [names, ["---"] * len(names), *([f"{row[n]:g}" for n in names] for row in levels)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"Last validation of the run, at step {event['step']}, before any rounding of the weights; "
        "`main_…` is the base's own path at the same quality, and `bpp` the entropy model's "
        f"estimate.\n\n{table}"
    )


def validation_results(
    event: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]] | None:
    """Return the ``results`` of a ``model-index``: each metric of the path at each quality.

    Args:
        event: the validation.
        meta: of the checkpoint whose weights are exported. What it says of the validation gives the
            data a name and the metrics their units.

    Returns:
        None where the validation is not of these weights, or of data without a name, as in runs of
        earlier versions.
    """
    about = meta.get("validation")
    if not about or not about["data"] or event["step"] != meta["step"]:
        return None
    return [
        {
            "task": {"type": PIPELINE},
            "dataset": {
                "name": f"{about['data']} ({about['digest']})",
                "type": about["data"],
                "split": "validation",
                "args": {PICTURES: row["pictures"]},
            },
            "metrics": [
                {
                    "type": name,
                    "name": metric["label"],
                    "value": _rounded(row[name] * metric["factor"]),
                    "args": {
                        "quality": row["quality"],
                        "bpp": _rounded(row["bpp"]),
                        "bits": "estimated",
                    },
                }
                for name, metric in about["metrics"].items()
                if math.isfinite(row[name])
            ],
        }
        for row in event["levels"]
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
