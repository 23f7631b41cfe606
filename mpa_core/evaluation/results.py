"""Measured results, kept per picture: rows of a set of pictures, in one JSON file.

A row is one way of coding (codec and setting; for ours quality and mix) on every picture of a set.
Everything reported (means, intervals, paired differences, BD-rates) is computed from rows.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpa_core.errors import ConfigError
from mpa_core.evaluation.kept import key_of
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.statistics import (
    Array,
    Curve,
    Estimate,
    Value,
    estimate,
    mean_value,
    with_counts,
)
from mpa_core.io.files import write_text
from mpa_core.plugins.registry import load_target, registry
from mpa_core.runtime.foreign import foreign_code
from mpa_core.tasks.metric import DECIBEL, PERCENT, PLAIN, PSNR, Metric, Unit

FORMAT = 3
"""Version of the file; version 1, which had no units, and version 2, which had no protocols (all
were of whole photos), can be read, too."""
FILE = "results.json"
PHOTOS = "photos"
"""Name of the set of plain photos."""
_DIGITS = 6


@dataclass(frozen=True)
class MetricInfo:
    """The description of a column of the rows."""

    name: str
    """Name such as ``"psnr"``, or with the name of its task: ``"cls/agreement"``."""
    label: str
    """Name for tables and plots, without the unit."""
    higher_is_better: bool
    value: str | None = None
    """``module:function`` from totals to the value; None is the mean."""
    source: dict[str, Any] = field(default_factory=dict)
    """The options that it was measured with; another source makes another column."""
    unit: Unit = PLAIN
    task: str | None = None
    """Name of the path whose recipe has it; None for a measure of every picture."""

    @classmethod
    def of(
        cls,
        name: str,
        metric: Metric,
        *,
        source: dict[str, Any] | None = None,
        task: str | None = None,
    ) -> MetricInfo:
        """Return the description of a column of ``metric``'s statistics.

        Raises:
            ConfigError: its function ``value`` cannot be found again by name.
        """
        return cls(
            name,
            metric.label or name,
            metric.higher_is_better,
            None if metric.is_mean else value_reference(metric.value),
            source or {},
            metric.unit,
            task,
        )

    @property
    def full_label(self) -> str:
        """The label and, in brackets, the unit: for an axis, or for values without a symbol."""
        return self.unit.label(self.label)

    @property
    def heading(self) -> str:
        """The label, with the unit unless that follows each value."""
        return self.label if self.unit.after_values else self.full_label

    def text(self, value: float) -> str:
        """Return the text of a value that stands below :attr:`heading`."""
        unit = self.unit
        return unit.text(value) + (f" {unit.symbol}" if unit.after_values else "")

    def function(self) -> Value:
        """Return the function from totals [K] to the value.

        Raises:
            ConfigError: the function is of no installed plugin.
            PluginError: it cannot be imported.
        """
        if self.value is None:
            return mean_value
        _check_allowed(self.value.partition(":")[0])
        where = f"value {self.value!r} of metric {self.name!r}"
        function = load_target(self.value, where)

        def figure(totals: Any) -> float:
            with foreign_code(f"{where} fails"):
                return float(function(torch.from_numpy(np.asarray(totals))))

        return figure


@dataclass(frozen=True)
class Row:
    """One way of coding, on every picture of a set."""

    pictures: str
    """``PictureSet.key`` of its set."""
    codec: str
    """Key of a classic codec, or the name of our base."""
    setting: float | None
    """Setting or quality; None where each picture has its own (``match``)."""
    mix: str | None
    """Text of the mix, for ours; None for a classic codec."""
    source: dict[str, Any]
    """Version and options, or fingerprints, which fix the bits and pixels."""
    bytes: list[int]
    encode_seconds: list[float | None]
    """Processor time of each picture; None where it was not recorded."""
    decode_seconds: list[float]
    values: dict[str, list[Any]] = field(default_factory=dict)
    """By column: for each picture a number, or the K statistics of a task's metric; null where
    there is none (MS-SSIM of a small picture)."""
    match: dict[str, Any] | None = None
    """For a classic codec at the size of our files: ``base`` (fingerprint), ``quality``."""
    settings: list[int] | None = None
    """With ``match``, the setting of each picture."""
    macs_per_pixel: dict[str, float] | None = None
    """Multiply-adds per pixel of ``encoder`` and ``decoder``."""

    @property
    def key(self) -> str:
        """16 hex digits that identify the row, independent of the measured values."""
        return key_of(
            {
                "pictures": self.pictures,
                "codec": self.codec,
                "setting": self.setting,
                "mix": self.mix,
                "source": self.source,
                "match": self.match,
            }
        )


class Results:
    """Rows, and the sets and columns that they refer to."""

    def __init__(self) -> None:
        self.sets: dict[str, PictureSet] = {}
        self.metrics: dict[str, MetricInfo] = {}
        self.rows: dict[str, Row] = {}
        self.about: dict[str, Any] = {}
        """Versions, machine and command, for the record only."""

    def add(self, row: Row) -> None:
        """Add a row; it takes over columns that only an older row of the same key has."""
        older = self.rows.get(row.key)
        values = {**older.values, **row.values} if older else row.values
        self.rows[row.key] = Row(**{**vars(row), "values": values})

    def define(self, metric: MetricInfo) -> None:
        """Register a column; values of another metric under its name are dropped."""
        older = self.metrics.get(metric.name)
        if older is not None and older.source != metric.source:
            for row in self.rows.values():
                row.values.pop(metric.name, None)
        self.metrics[metric.name] = metric

    # ------------------------------------------------------------------ reading rows

    def bits(self, row: Row) -> list[float]:
        """Return the bits per pixel of each picture's file."""
        sizes = self.sets[row.pictures].sizes
        return [8 * n / (w * h) for n, (w, h) in zip(row.bytes, sizes, strict=True)]

    def bpp(self, row: Row) -> float:
        """Return the mean over pictures of the bits per pixel."""
        return float(np.mean(self.bits(row)))

    def per_photo(self, row: Row, metric: str) -> Array | None:
        """Return a column, [photos, K] (K = 2 for means); None where it was not measured.

        Pictures of one photo are not independent, so that their statistics are added up:
        intervals come of drawing photos.
        """
        values = row.values.get(metric)
        if values is None or any(value is None for value in values):
            return None
        found = np.asarray(values, dtype=np.float64)
        if found.ndim == 1:
            found = with_counts(found)
        return self.sets[row.pictures].by_photo(found)

    def figure(self, row: Row, metric: str) -> float | None:
        """Return a metric's value in a row, over all pictures; None where it was not measured."""
        found = self.per_photo(row, metric)
        return None if found is None else self.metrics[metric].function()(found.sum(0))

    def estimate(self, row: Row, metric: str) -> Estimate | None:
        """Return a metric's value with its 95 % interval over photos, or None."""
        found = self.per_photo(row, metric)
        return None if found is None else estimate(found, self.metrics[metric].function())

    def curve(self, rows: Sequence[Row], metric: str) -> Curve:
        """Return (bpp, value) of the rows that have the metric, ascending in rate."""
        points = [(self.bpp(row), self.figure(row, metric)) for row in rows]
        return sorted((rate, found) for rate, found in points if found is not None)

    def curves(self, pictures: str) -> Iterator[tuple[str, list[Row]]]:
        """Yield name and rows of every codec and mix of a set that has settings of its own."""
        found: dict[str, list[Row]] = {}
        for row in self.rows.values():
            if row.pictures == pictures and row.match is None:
                found.setdefault(row.mix or row.codec, []).append(row)
        yield from ((name, sorted(rows, key=self.bpp)) for name, rows in found.items())

    # ------------------------------------------------------------------ the file

    def save(self, path: Path) -> None:
        """Write everything as JSON, with one row per line.

        Raises:
            OutputError: the file cannot be written.
        """
        head = {
            "format": FORMAT,
            "about": self.about,
            "sets": [asdict(item) for item in self.sets.values()],
            "metrics": [asdict(item) for item in self.metrics.values()],
        }
        lines = [_dumps({k: v for k, v in vars(row).items() if v is not None}) for row in
                 self.rows.values()]  # fmt: skip
        text = json.dumps(head, indent=1, ensure_ascii=False)
        body = ",\n".join(lines)
        write_text(path, f'{text[:-2]},\n "rows": [\n{body}\n ]\n}}\n')

    @classmethod
    def load(cls, *paths: Path) -> Results:
        """Read one or several files; a later file's rows replace those of the same key.

        Raises:
            ConfigError: a file is missing, or no results of this version.
        """
        results = cls()
        for path in paths:
            data = _read(path)
            try:
                for item in data["sets"]:
                    sizes = [(int(w), int(h)) for w, h in item["sizes"]]
                    found = PictureSet(**{**item, "sizes": sizes})
                    results.sets[found.key] = found
                for item in data["metrics"]:
                    results.define(_metric_info(item, data["format"]))
                for item in data["rows"]:
                    results.add(Row(**{"setting": None, "mix": None, **item}))
                results.about = data["about"]
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{path}: not results of mpa eval ({type(error).__name__}: {error}); give a "
                    f"{FILE} that it wrote"
                ) from error
        return results


def rounded(value: float) -> float:
    """Round a value to the digits that are stored."""
    return float(f"{value:.{_DIGITS}g}")


def value_reference(function: Any) -> str:
    """Return ``module:function`` of a function at the top of a module.

    Raises:
        ConfigError: it cannot be found again by that name, so results could not be read later.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    module = importlib.import_module(function.__module__)
    if getattr(module, function.__qualname__, None) is not function:
        raise ConfigError(
            f"a metric's value is {name}, expected a function at the top of its module, so that "
            "it can be found again when results are read; move it there"
        )
    return name


def _check_allowed(module: str) -> None:
    """Refuse modules other than the SDK's and installed plugins', since results are only data."""
    own = {"mpa_core"} | {
        target.partition(".")[0].partition(":")[0]
        for path in registry().paths()
        for target in (path.spec.path, path.spec.recipe or "")
    }
    if module.partition(".")[0] not in own:
        raise ConfigError(
            f"the results name a function of {module!r}, which is no installed plugin; install "
            "the plugin they were measured with"
        )


def _metric_info(item: dict[str, Any], version: int) -> MetricInfo:
    if version > 1:
        return MetricInfo(**{**item, "unit": Unit(**item["unit"])})
    # All metrics of tasks were written as shares, and PSNR had its unit in the label.
    task, slash, _ = item["name"].partition("/")
    unit = PERCENT if slash else DECIBEL if item["name"] == PSNR else PLAIN
    label = item["label"].removesuffix(f" ({unit.symbol})")
    return MetricInfo(**{**item, "label": label}, unit=unit, task=task if slash else None)


def _dumps(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as results: {error}; give a {FILE} that mpa eval wrote"
        ) from error
    if not isinstance(data, dict) or data.get("format") not in range(1, FORMAT + 1):
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ConfigError(
            f"{path}: results of format {found!r}, expected 1 to {FORMAT}; measure again with "
            "mpa eval, or use the version of mpa-core that wrote it"
        )
    return data
