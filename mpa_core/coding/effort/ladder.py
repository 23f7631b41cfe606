"""The ladder of efforts: how long a search takes."""

from __future__ import annotations

from typing import NamedTuple

from mpa_core.arguments import as_whole
from mpa_core.errors import ConfigError


class Schedule(NamedTuple):
    """The settings of a search."""

    steps: int
    """Number of steps, each a pass through the decoder and back."""
    rate: float
    """Learning rate of Adam, in rounding steps."""
    first_temperature: float
    last_temperature: float = 0.1

    def temperature(self, step: int) -> float:
        """Return the temperature of a step, from 0: it falls geometrically."""
        fraction = step / max(1, self.steps - 1)
        return self.first_temperature * (self.last_temperature / self.first_temperature) ** fraction


# By pilots on validation photos: few steps want to begin colder, many want to be smaller.
_LADDER = {
    1: Schedule(5, 0.04, 0.3),
    2: Schedule(10, 0.03, 0.3),
    3: Schedule(15, 0.03, 0.4),
    4: Schedule(20, 0.03, 0.4),
    5: Schedule(30, 0.03, 0.5),
    6: Schedule(50, 0.03, 0.5),
    7: Schedule(80, 0.03, 0.5),
    8: Schedule(150, 0.02, 0.5),
    9: Schedule(400, 0.015, 0.5),
}


def schedule_of(effort: int) -> Schedule | None:
    """Return the settings for an effort; None for 0, which searches nothing.

    Raises:
        ConfigError: ``effort`` is no whole number from 0 to 9.
    """
    effort = as_whole(effort, "effort", least=0, most=max(_LADDER), error=ConfigError)
    return _LADDER.get(effort)
