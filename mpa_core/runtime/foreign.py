"""Calls of other people's code, such as a plugin's, that turn its exceptions into one error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpa_core.errors import ConfigError, MPAError, PluginError


@contextmanager
def foreign_code(
    problem: str, *, passed: tuple[type[MPAError], ...] = (MPAError,)
) -> Iterator[None]:
    """Run a plugin's code in the block, and turn its exceptions into :class:`PluginError`.

    Every exception counts as the plugin's failure, ``sys.exit()`` and other kinds of
    ``BaseException`` included, with three exceptions: ``KeyboardInterrupt``, which the user causes;
    lack of memory, which the machine causes; and errors of the SDK, which a plugin raises on
    purpose.

    Args:
        problem: beginning of the message, as in ``"task path 'det' cannot be built"``.
        passed: classes of the SDK's errors that are not turned.

    Raises:
        PluginError: another exception was raised, which is its cause.
    """
    passing: tuple[type[BaseException], ...] = (KeyboardInterrupt, MemoryError, *passed)
    try:
        yield
    except passing:
        raise
    except BaseException as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            raise
        raise PluginError(f"{problem}: {describe(error)}; repair or upgrade the plugin") from error


def text_of(error: BaseException) -> str:
    """Return the text of ``error``; empty where making the text fails, too."""
    try:
        return str(error)
    except KeyboardInterrupt:  # pressed by the user
        raise
    except BaseException:  # noqa: BLE001 -- code of others, as the error is
        return ""


def describe(error: BaseException) -> str:
    """Return one line with type and text of ``error``, and the file and line that raised it.

    Errors of the SDK are described by their text alone, or without their type.
    """
    text = text_of(error)
    if isinstance(error, PluginError):
        return text
    if not isinstance(error, ConfigError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in _OURS
    ]
    place = ""
    if frames and not isinstance(error, SyntaxError):  # its text has the place already
        file = "/".join(Path(frames[-1].filename).parts[-2:])
        place = f" ({file}, line {frames[-1].lineno})"
    return " ".join(f"{text}{place}".split())


_PLUGINS = Path(__file__).parents[1] / "plugins"
_OURS = {__file__, str(_PLUGINS / "registry.py"), str(_PLUGINS / "discovery.py")}
"""Files that call other people's code: as the place of an error they tell nothing."""
