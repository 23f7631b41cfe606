"""The readers that a file is made for: ways to decode it, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from mpa_core.arguments import number, shown
from mpa_core.errors import ConfigError, PathNotFoundError
from mpa_core.mix import MAIN, Mix

TaskLoss = Callable[[Tensor], Tensor]
"""A function of decoded pictures ``[B, 3, H, W]``, not clamped, that returns a task's loss of each,
``[B]``, differentiable and the same each time."""
TaskLossOf = Callable[[Tensor], TaskLoss | None]
"""A function of the originals ``[B, 3, H, W]`` in [0, 1] that returns the task's loss of what is
decoded of them; None where it has none."""


class Reader(NamedTuple):
    """A way to decode the file, and how much it counts."""

    mix: Mix | None
    """The paths that reconstruct, without regions; None is the main path."""
    weight: float
    """Above 0; those of all readers sum to 1."""
    task: TaskLossOf | None = None
    """The loss of the task that reads the picture, without labels; None for the eye."""


MAIN_READER = Reader(None, 1.0)
"""The main path alone."""


def as_weights(reader: Any, loaded: Collection[str]) -> dict[str, float]:
    """Check the argument ``reader`` of ``codec.encode``, and return the readers' weights by name.

    Args:
        reader: a name, or a mapping of names to weights above 0, relative to each other.
        loaded: local names of the loaded paths.

    Returns:
        Weights that sum to 1.

    Raises:
        ConfigError: ``reader`` is anything else.
        PathNotFoundError: a name is neither ``"main"`` nor that of a loaded path.
    """
    named = {reader: 1.0} if isinstance(reader, str) else reader
    expected = 'a name such as "cls", or names with weights above 0 such as {"main": 1, "cls": 0.5}'
    if not isinstance(named, Mapping) or not named:
        found = shown(reader) if not isinstance(named, Mapping) else "a mapping without names"
        raise ConfigError(f"reader is {found}, expected {expected}")
    weights = {}
    for name, value in named.items():
        if name != MAIN and name not in loaded:
            known = ", ".join((MAIN, *loaded))
            raise PathNotFoundError(
                f"reader {shown(name)} is no path that is loaded (known: {known}); load it with "
                "codec.load_path first"
            )
        weight = number(value)
        if weight is None or not 0 < weight < math.inf:
            raise ConfigError(f"reader {name!r} has the weight {shown(value)}, expected {expected}")
        weights[name] = weight
    largest = max(weights.values())  # the sum of the largest floats is no float
    total = math.fsum(weight / largest for weight in weights.values())
    return {name: weight / largest / total for name, weight in weights.items()}
