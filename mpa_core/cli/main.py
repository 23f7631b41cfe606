"""Entry point of the ``mpa`` command, which parses arguments and returns an exit code.

The exit code is 0 for success, 1 for failure, 2 for wrong usage, 130 for an interrupt. ``mpa
--help`` imports neither torch nor any other library: a group's module may import only what
:func:`register` needs.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mpa_core.cli.common import STREAM, UsageError
from mpa_core.cli.machine import LoadMeter
from mpa_core.cli.output import emit_line, report_error
from mpa_core.cli.streams import own_streams, stdout
from mpa_core.cli.threads import computing
from mpa_core.errors import AmbiguousNameWarning

GROUPS = (
    "encode",
    "decode",
    "info",
    "paths",
    "plugins",
    "train",
    "eval",
    "import_official",
    "exact",
    "hub",
    "env",
)
"""Modules of this package, each with ``register(subparsers, common)``."""


_STDOUT_FILES = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of the stdout that a command was started with."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line; every leaf sets ``run(args) -> exit code``."""
    parser = _Parser(
        prog="mpa",
        description="Learned image coding for people and machines: one file, many readers.",
        epilog="Results go to stdout, everything else to stderr. "
        "MPA_DEBUG=1 shows the traceback of an error.",
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="how to print the result (default: text)",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        import_module(f"mpa_core.cli.{group}").register(subparsers, common)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mpa`` with ``argv`` (default: the process's arguments) and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may have characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
    meter = LoadMeter()
    # If the caller gives arguments, the process goes on afterwards.
    with own_streams(for_good=argv is None):
        args = argparse.Namespace(format="text")
        parsed = False
        try:
            build_parser().parse_args(argv, args)
            parsed = True
            if getattr(args, "output", None) in _STDOUT_FILES:
                args.output = STREAM
            with _warnings_in_a_line(), computing(args, meter):
                code: int = args.run(args)
            stdout().flush()
            return code
        except UsageError as error:
            report_error(error)
            return 2
        except KeyboardInterrupt:
            print("mpa: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # our output's reader is gone, as with `| head`
            return 1
        except BaseException as error:  # the last resort: one line, no traceback
            if isinstance(error, SystemExit) and not parsed:  # argparse has said why
                raise
            described = report_error(error)
            if args.format == "json":
                emit_line({"error": described})
            return 1


class _Parser(argparse.ArgumentParser):
    """A parser that prints help on the commands' stdout, with their errors if that fails."""

    def print_help(self, file: Any = None) -> None:
        """Print the help text."""
        print(self.format_help(), end="", file=file or stdout(), flush=True)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Print each :class:`AmbiguousNameWarning` once, in the form of the command's messages."""
    show, said = warnings.showwarning, set()

    def say(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, AmbiguousNameWarning):
            show(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            print(f"mpa: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", AmbiguousNameWarning)
        warnings.showwarning = say  # type: ignore[assignment]
        yield


class _Version(argparse.Action):
    """The option ``--version``, whose text is made only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from mpa_core import __version__

        print(f"mpa {__version__}", file=stdout(), flush=True)
        parser.exit()
