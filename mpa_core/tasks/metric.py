"""Figures that reconstructions are judged by, and the units they are written in."""

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
"""The name of the metric that every path has, and that evaluation measures of every picture."""


MAX_PSNR = 120.0
"""The PSNR in dB of equal pictures, which has no bound."""


@dataclass(frozen=True)
class Unit:
    """How the values of a metric are written: in tables, on the axes of plots, in spreadsheets.

    ``Unit("px", digits=1)`` writes 3.14159 as 3.1, below a heading that ends in "(px)".

    Raises:
        ConfigError: ``digits`` is no whole number from 0 to 15, or ``factor`` no positive number.
    """

    symbol: str = ""
    """``"dB"``, ``"px"``, ``"ms"``; empty for a plain number."""
    digits: int = 4
    """Digits behind the point, 0 to 15."""
    factor: float = 1.0
    """A value is multiplied by this before it is written: 100 for a share in percent."""
    of_differences: str = ""
    """Symbol of a difference of two values, where it is another one: points for percent."""
    after_values: bool = False
    """Whether the symbol follows each value in a table of many metrics (``49.3 %``), rather than
    standing in the heading of the column alone."""

    def __post_init__(self) -> None:
        """Refuse what no value could be written with, before anything is measured."""
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
        """``value`` as a number of this unit, without the symbol; ``sign`` writes a plus, too."""
        plus = "+" if sign else ""
        return f"{self.factor * value:{plus}.{self.digits}f}"

    @property
    def difference(self) -> str:
        """The symbol of a difference of two values."""
        return self.of_differences or self.symbol


PLAIN = Unit()
"""A number without a unit, such as a feature distance or MS-SSIM."""
DECIBEL = Unit("dB", digits=2)
PERCENT = Unit("%", digits=1, factor=100.0, of_differences="points", after_values=True)
"""A share: the metric's value lies in [0, 1] and is written in percent."""


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
    """A figure about reconstructions that is additive over pictures, up to a last step.

    Additive, so that one pass over the pictures serves the figure, its confidence interval (by
    drawing pictures again) and the paired difference of two codecs.

    All but the first are given by keyword::

        Metric(statistics, higher_is_better=True, unit=PERCENT, label="boxes found")

    Raises:
        TrainingError: one of them is of another type.
    """

    statistics: Callable[[Tensor, PathBatch], Tensor]
    """(x_hat [B, 3, H, W] in [0, 1], batch) -> [B, K], what each picture adds to the totals; [B]
    is short for (value, 1), whose default ``value`` is the mean over pictures."""
    _: KW_ONLY
    higher_is_better: bool
    unit: Unit
    """Its unit: :data:`PERCENT` for a share in [0, 1], :data:`DECIBEL`, ``Unit("px")``, or
    :data:`PLAIN` for a number without one."""
    value: Callable[[Tensor], float] = _mean
    """Totals [K] -> the figure."""
    label: str = ""
    """For tables and plots, without the unit: ``"top-1 agreement (EfficientNet-Lite0)"``."""

    def __post_init__(self) -> None:
        """Refuse what no figure could be made or written with."""
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
        """What messages call it: ``metric`` and its label."""
        return f"metric {self.label}" if self.label else "metric without a label"

    @property
    def is_mean(self) -> bool:
        """Whether the figure is the plain mean, ``totals[0] / totals[1]``."""
        return self.value is _mean

    def per_picture(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """:attr:`statistics` as float64 [B, K] on the CPU, without gradients.

        Raises :class:`TrainingError` if they are of another shape, and :class:`PluginError` if
        they cannot be computed.
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
        """:attr:`value` of ``totals`` [K]; raises :class:`PluginError` if it cannot be computed."""
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
    """Mean squared error on the 0-255 scale: images [B, 3, H, W] in [0, 1], twice, to [B]."""
    return (x - x_hat).square().flatten(1).mean(1) * 255.0**2


def psnr_metric() -> Metric:
    """Mean over pictures of the PSNR in dB, of values in [0, 1]; at most 120 dB each."""
    smallest = 10 ** (-MAX_PSNR / 10)

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        error = squared_error_255(batch.images, x_hat.clamp(0, 1)).double() / 255.0**2
        return -10 * torch.log10(error.clamp_min(smallest))

    return Metric(statistics, higher_is_better=True, label="PSNR", unit=DECIBEL)
