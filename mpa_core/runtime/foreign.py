"""Code of others, such as a plugin's, called so that whatever it raises is an error of its own."""

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
    """Run a plugin's code inside the block.

    What it raises is its own failure, ``sys.exit()`` and other kinds of ``BaseException`` included.
    Three things pass as they are: ``KeyboardInterrupt``, which is the user's; what says that memory
    is short, which is the machine's; and errors of the SDK, which a plugin raises on purpose.

    Args:
        problem: what to say before the error, as in ``"task path 'det' cannot be built"``.
        passed: kinds of the SDK's errors that pass.

    Raises:
        PluginError: anything else was raised; its cause is that.
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
    """The text of ``error``; empty where even making that fails."""
    try:
        return str(error)
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException:  # noqa: BLE001 -- code of others, as the error is
        return ""


def describe(error: BaseException) -> str:
    """One line: kind and text of ``error`` and, unless it is ours, the file and line it rose in."""
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
    if frames and not isinstance(error, SyntaxError):  # whose text has the place already
        file = "/".join(Path(frames[-1].filename).parts[-2:])
        place = f" ({file}, line {frames[-1].lineno})"
    return " ".join(f"{text}{place}".split())


_PLUGINS = Path(__file__).parents[1] / "plugins"
_OURS = {__file__, str(_PLUGINS / "registry.py"), str(_PLUGINS / "discovery.py")}
"""Files that call code of others: that an error rose there says nothing."""
