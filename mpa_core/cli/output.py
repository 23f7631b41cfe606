"""Output of commands: data on stdout, as text or JSON; messages and errors on stderr, in lines."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpa_core.cli.streams import stdout
from mpa_core.errors import MPAError
from mpa_core.runtime.foreign import text_of


def emit(args: argparse.Namespace, data: Any, text: str | Callable[[], str]) -> None:
    """Print a command's result on stdout.

    Args:
        args: parsed arguments; ``args.format`` chooses.
        data: the result for ``--format json``, in values that JSON can hold.
        text: the same for people, or a function that makes it (called only if needed).
    """
    if args.format == "json":
        print(json.dumps(data, indent=2), file=stdout())
        return
    shown = text if isinstance(text, str) else text()
    if shown:
        print(shown, file=stdout())


def emit_line(data: Mapping[str, Any]) -> None:
    """Print ``data`` as a line of JSON on stdout, at once: a result that others follow."""
    print(json.dumps(data), file=stdout(), flush=True)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out rows under their keys; numbers to the right, ``None`` as a dash.

    A row that lacks a key of another has a dash there. No rows make an empty text.
    """
    if not rows:
        return ""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    right = [
        all(isinstance(row.get(key), (int, float, type(None))) for row in rows) for key in keys
    ]
    widths = [max(len(line[i]) for line in [keys, *cells]) for i in range(len(keys))]
    lines = (
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [keys, *cells]
    )
    return "\n".join(lines)


def facts(values: Mapping[str, object]) -> str:
    """Lay out ``key  value`` lines; a nested mapping is indented under its key."""
    lines: list[str] = []
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            lines.append(key)
            lines += [f"  {line}" for line in facts(value).splitlines()]
        else:
            lines.append(f"{key.ljust(width)}  {_cell(value)}".rstrip())
    return "\n".join(lines)


def describe_error(error: BaseException, about: str | None = None) -> dict[str, str]:
    """Return ``type`` and one-line ``message`` of an error.

    Errors that are not the SDK's own are bugs (or faults of the machine), and their message says
    how to see more. ``about``, a file's name, is put in front unless the message has it already.
    """
    message = " ".join(text_of(error).split())
    if not isinstance(error, MPAError):
        message = (
            f"unexpected {type(error).__name__}: {message}; {_suspects()}"
            "set MPA_DEBUG=1 to see where it comes from"
        )
    if about and about not in message:
        message = f"{about}: {message}"
    return {"type": type(error).__name__, "message": message}


def _suspects() -> str:
    """Describe faults of the installation that may have caused an error that is not ours."""
    from mpa_core.plugins.entries import damaged_folders

    folders = damaged_folders()
    if not folders:
        return ""
    return (
        f"torch cannot be imported beside damaged metadata, as in {', '.join(folders)}: reinstall "
        "that distribution or delete the folder; "
    )


def report_error(error: BaseException, about: str | None = None) -> dict[str, str]:
    """Print one line about ``error`` on stderr, with ``MPA_DEBUG=1`` after the traceback.

    Returns the result of :func:`describe_error`.
    """
    described = describe_error(error, about)
    trace = "".join(traceback.format_exception(error)) if debugging() else None
    say_error(described, trace)
    return described


def say_error(described: Mapping[str, str], trace: str | None = None) -> None:
    """Print the result of :func:`describe_error`, after the traceback if there is one."""
    if trace is not None:
        print(trace, end="", file=sys.stderr)
    print(f"mpa: error: {described['message']}", file=sys.stderr)


def debugging() -> bool:
    """Return whether ``MPA_DEBUG`` asks for tracebacks."""
    return os.environ.get("MPA_DEBUG", "") not in ("", "0")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items()) or "-"
    return str(value)
