"""Warnings that point at the line of the program that called the SDK. No torch here."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_DECORATORS = ("contextlib", "torch.utils._contextlib")
"""Modules whose frames stand between a decorated function and its caller."""


def warn_caller(warning: Warning) -> None:
    """Issue ``warning`` where code outside of the SDK called in, however deep this is.

    Python shows a warning once per line, so one that points inside of the SDK is shown for the
    first caller alone. Where no code outside is on the stack, as in a command of the SDK, it
    points at the outermost frame.
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename, frame.f_globals):
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)


def _is_ours(filename: str, names: dict[str, object]) -> bool:
    return filename.startswith(_PACKAGE) or names.get("__name__") in _DECORATORS
