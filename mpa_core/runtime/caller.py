"""Warnings that point at the line of the program that called the SDK; imports no torch."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_DECORATORS = ("contextlib", "torch.utils._contextlib")
"""Modules whose frames lie between a decorated function and its caller."""


def warn_caller(warning: Warning) -> None:
    """Issue ``warning`` at the line outside the SDK that called it, however deep the call is.

    Python shows a warning once per line, so one that points inside the SDK would be shown for the
    first caller alone. If no code outside the SDK is on the stack, as in a command of the SDK, the
    warning points at the outermost frame.
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename, frame.f_globals):
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)


def _is_ours(filename: str, names: dict[str, object]) -> bool:
    return filename.startswith(_PACKAGE) or names.get("__name__") in _DECORATORS
