"""Commands: their argument parser, and how the smaller ones run beside ``mpa``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from mpa_core.errors import MPAError
from mpa_core.runtime.streams import own_streams, stdout

_GIVEN = "_given"
"""Attribute of what is parsed: the names of the options that were given."""


class Parser(argparse.ArgumentParser):
    """Prints help to :func:`stdout`, so that a failed write is reported as for results.

    An option that takes a value and is given twice, with different values, is wrong usage: argparse
    would take the last.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def print_help(self, file: Any = None) -> None:
        """Print the help text."""
        print(self.format_help(), end="", file=file or stdout(), flush=True)


def run_command(name: str, command: Callable[[], int], *, for_good: bool) -> int:
    """Run a command of its own module with its own streams; returns its exit code.

    Errors of the SDK are a line on stderr, which ``name`` begins, and exit code 1. A reader of
    stdout that is gone is exit code 1 without a line, an interrupt 130.

    Args:
        name: name of the command.
        command: parses its arguments, writes its results to :func:`stdout` and returns an exit
            code.
        for_good: as for :func:`own_streams`.
    """
    with own_streams(for_good=for_good):
        try:
            code = command()
            stdout().flush()
            return code
        except MPAError as error:
            print(f"{name}: error: {error}", file=sys.stderr)
        except BrokenPipeError:
            pass
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return 130
        return 1


class _StoreOnce(argparse._StoreAction):
    """Stores the value of an option, which may be given again with the same value alone."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        # Noted with what is parsed, for a parser may be used again.
        given = vars(namespace).setdefault(_GIVEN, set())
        if option_string is not None and self.dest in given:
            before = getattr(namespace, self.dest)
            if before != values:
                raise argparse.ArgumentError(
                    self, f"given twice, as {_shown(before)} and {_shown(values)}; give it once"
                )
        given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
