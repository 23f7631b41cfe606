"""Learning-rate schedules as functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math

from mpa_core.training.settings.base import ScheduleSettings


def budget_fraction(step: int, elapsed: float, steps: int | None, hours: float | None) -> float:
    """Return the fraction of the budget that is spent, in [0, 1]: the larger of steps and time.

    Args:
        step: number of steps done.
        elapsed: seconds of training, resumptions included.
        steps, hours: the budget; None is no limit.
    """
    by_steps = step / steps if steps else 0.0
    by_time = elapsed / (hours * 3600.0) if hours else 0.0
    return min(1.0, max(by_steps, by_time))


def lr_factor(settings: ScheduleSettings, fraction: float) -> float:
    """Return the factor on the learning rate, in [0, 1], at ``fraction`` of the budget."""
    if fraction < settings.warmup:
        # Never 0: the first step of a run counted in hours happens at fraction 0.
        return max(fraction / settings.warmup, 1e-3)
    if settings.kind == "milestones":
        return settings.gamma ** sum(fraction >= at for at in settings.milestones)
    if settings.kind == "cosine":
        spent = (fraction - settings.warmup) / (1.0 - settings.warmup)
        return settings.floor + (1.0 - settings.floor) * 0.5 * (1.0 + math.cos(math.pi * spent))
    spent = max(0.0, (fraction - settings.decay_from) / (1.0 - settings.decay_from))
    return 1.0 - (1.0 - settings.floor) * spent
