"""Metrics of reconstructions, and the units in which their values are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from mpa_core.arguments import number, shown
from mpa_core.errors import ConfigError, TrainingError
from mpa_core.runtime.foreign import foreign_code
from mpa_core.tasks.samples import PathBatch

PSNR = "psnr"
"""Name of the metric that every path has, and that evaluation measures of every picture."""


MAX_PSNR = 120.0
"""PSNR in dB that stands for equal pictures, whose PSNR is infinite."""


@dataclass(frozen=True)
class Unit:
    """The notation of a metric's values in tables, on the axes of plots and in spreadsheets.

    ``Unit("px", digits=1)`` writes 3.14159 as 3.1, below a heading that ends in "(px)".

    Raises:
        ConfigError: ``digits`` is no whole number from 0 to 15, or ``factor`` no positive number.
    """

    symbol: str = ""
    """Symbol such as ``"dB"``, ``"px"`` or ``"ms"``; empty for a plain number."""
    digits: int = 4
    """Digits after the point, 0 to 15."""
    factor: float = 1.0
    """Factor by which a value is multiplied before it is written: 100 for a share in percent."""
    of_differences: str = ""
    """Symbol of a difference of two values, if it is another one: points for percent."""
    after_values: bool = False
    """Whether the symbol follows each value in a table of many metrics (``49.3 %``), rather than
    standing in the heading of the column alone."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be written, before anything is measured."""
        if self.digits not in range(16):
            raise ConfigError(
                f"unit {self.symbol!r}: digits is {self.digits!r}, expected a whole number from 0 "
                "to 15; write for example digits=1"
            )
        if not 0 < self.factor < math.inf:
            raise ConfigError(
                f"unit {self.symbol!r}: factor is {self.factor!r}, expected a positive number; "
                "write for example factor=100 for percent"
            )

    def text(self, value: float, *, sign: bool = False) -> str:
        """Return ``value`` as a number of this unit, without the symbol.

        With ``sign``, a positive number has a plus sign.
        """
        plus = "+" if sign else ""
        return f"{self.factor * value:{plus}.{self.digits}f}"

    def label(self, name: str) -> str:
        """Return ``name`` with the symbol in brackets, if there is one."""
        return f"{name} ({self.symbol})" if self.symbol else name

    @property
    def difference(self) -> str:
        """The symbol of a difference of two values."""
        return self.of_differences or self.symbol


PLAIN = Unit()
"""Unit of a number without a unit, such as a feature distance or MS-SSIM."""
DECIBEL = Unit("dB", digits=2)
"""Unit of a PSNR, or of another ratio in decibels."""
PERCENT = Unit("%", digits=1, factor=100.0, of_differences="points", after_values=True)
"""Unit of a share: the metric's value lies in [0, 1] and is written in percent."""


_EXAMPLES = {
    "statistics": "statistics",
    "value": "mean_iou",
    "higher_is_better": "True",
    "label": '"boxes found"',
    "unit": "PERCENT",
}


def _mean(totals: Tensor) -> float:
    return float(totals[0] / totals[1])


@dataclass(frozen=True)
class Metric:
    """A measure of reconstructions that is additive over pictures, up to a last step.

    Since it is additive, one pass over the pictures serves its value, its confidence interval (by
    resampling pictures) and the paired difference of two codecs.

    All but the first are given by keyword::

        Metric(statistics, higher_is_better=True, unit=PERCENT, label="boxes found")

    Raises:
        TrainingError: one of them is of another type.
    """

    statistics: Callable[[Tensor, PathBatch], Tensor]
    """(x_hat [B, 3, H, W] in [0, 1], batch) -> [B, K], the amount each picture adds to the totals;
    [B] is short for (value, 1), whose default ``value`` is the mean over pictures."""
    _: KW_ONLY
    higher_is_better: bool
    unit: Unit
    """Unit of the value: :data:`PERCENT` for a share in [0, 1], :data:`DECIBEL`, ``Unit("px")``, or
    :data:`PLAIN` for a number without one."""
    value: Callable[[Tensor], float] = _mean
    """Totals [K] -> the value of the metric."""
    label: str = ""
    """Name for tables and plots, without the unit: ``"top-1 agreement (EfficientNet-Lite0)"``."""

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        for name, right, expected in (
            ("statistics", callable(self.statistics), "a function of (x_hat, batch)"),
            ("value", callable(self.value), "a function of the totals"),
            ("higher_is_better", isinstance(self.higher_is_better, bool), "True or False"),
            ("label", isinstance(self.label, str), "text"),
            ("unit", isinstance(self.unit, Unit), 'a mpa_core.tasks.Unit such as Unit("px")'),
        ):
            if not right:
                raise TrainingError(
                    f"{self.name}: {name} is {shown(getattr(self, name))}, expected {expected}; "
                    f"write for example {name}={_EXAMPLES[name]}"
                )

    @property
    def name(self) -> str:
        """Name of the metric in messages: ``metric`` and its label."""
        return f"metric {self.label}" if self.label else "metric without a label"

    @property
    def is_mean(self) -> bool:
        """Whether the value is the plain mean, ``totals[0] / totals[1]``."""
        return self.value is _mean

    def per_picture(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Return :attr:`statistics` as float64 [B, K] on the CPU, without gradients.

        Raises:
            TrainingError: they have another shape.
            PluginError: they cannot be computed.
        """
        with self._computing(), torch.no_grad():
            found = self.statistics(x_hat, batch)
        if not isinstance(found, Tensor):
            raise TrainingError(
                f"{self.name}: statistics are {shown(found)}, expected a tensor [B] or [B, K]; "
                "return what each picture adds to the totals"
            )
        found = found.detach().double().cpu()
        if found.ndim == 1:
            found = torch.stack([found, torch.ones_like(found)], dim=1)
        if found.ndim != 2 or len(found) != len(x_hat):
            raise TrainingError(
                f"{self.name}: statistics of shape "
                f"{tuple(found.shape)} for {len(x_hat)} pictures; expected [B] or [B, K]"
            )
        return found

    def figure(self, totals: Tensor) -> float:
        """Return :attr:`value` of ``totals`` [K].

        Raises:
            PluginError: it cannot be computed.
            TrainingError: it is not a number.
        """
        with self._computing():
            found = self.value(totals)
        figure = number(found)
        if figure is None:
            raise TrainingError(
                f"{self.name}: value gave {shown(found)}, expected one number; return a float"
            )
        return figure

    def _computing(self) -> AbstractContextManager[None]:
        return foreign_code(f"{self.name} fails")


def squared_error_255(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return the mean squared error on the 0-255 scale, [B].

    ``x`` and ``x_hat`` are images [B, 3, H, W] in [0, 1].
    """
    return (x - x_hat).square().flatten(1).mean(1) * 255.0**2


def psnr_metric() -> Metric:
    """Return the metric of the mean over pictures of the PSNR in dB, at most 120 dB each.

    Reconstructions are clamped to [0, 1].
    """
    smallest = 10 ** (-MAX_PSNR / 10)

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        error = squared_error_255(batch.images, x_hat.clamp(0, 1)).double() / 255.0**2
        return -10 * torch.log10(error.clamp_min(smallest))

    return Metric(statistics, higher_is_better=True, label="PSNR", unit=DECIBEL)
