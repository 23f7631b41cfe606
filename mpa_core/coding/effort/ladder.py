"""The ladder of efforts: how long a search takes."""

from __future__ import annotations

from typing import NamedTuple

from mpa_core.arguments import as_whole
from mpa_core.errors import ConfigError

MOST = 9
"""The highest effort."""


class Schedule(NamedTuple):
    """The settings of a search."""

    steps: int
    """Number of steps, each a pass through the decoder and back."""
    rate: float
    """Learning rate of Adam, in rounding steps."""
    first_temperature: float = 0.5
    last_temperature: float = 0.1

    def temperature(self, step: int) -> float:
        """Return the temperature of a step, from 0: it falls geometrically."""
        fraction = step / max(1, self.steps - 1)
        return self.first_temperature * (self.last_temperature / self.first_temperature) ** fraction


_STEPS = {1: 5, 2: 10, 3: 15, 4: 20, 5: 30, 6: 50, 7: 80, 8: 150, MOST: 400}


def schedule_of(effort: int) -> Schedule | None:
    """Return the settings for an effort; None for 0, which searches nothing.

    Raises:
        ConfigError: ``effort`` is no whole number from 0 to 9.
    """
    effort = as_whole(effort, "effort", least=0, most=MOST, error=ConfigError)
    return Schedule(_STEPS[effort], rate=0.02) if effort else None
