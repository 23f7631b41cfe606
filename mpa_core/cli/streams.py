"""The standard streams of commands: stdout is for results alone, and any stream may be closed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

from mpa_core.errors import MPAError, OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Results:
    """The stream for results while a command runs, one per process; None is ``sys.stdout``."""

    stream: TextIO | None = None


def stdout() -> TextIO:
    """Return the stream for results; only a command's result may be written there.

    Writing raises :class:`OutputError` if it fails (a full disk, a closed stdout), and
    ``BrokenPipeError`` if the reader is gone: once, and after that all output is dropped.
    """
    return sys.stdout if _Results.stream is None else _Results.stream


def stdin(error: type[MPAError]) -> BinaryIO:
    """Return the binary stdin of the command; raises ``error`` if it is closed."""
    if sys.stdin is None:
        raise error("cannot read from stdin: it is closed; give a file, or a pipe to read from")
    return sys.stdin.buffer


@contextmanager
def own_streams(*, for_good: bool) -> Iterator[None]:
    """Reserve stdout for :func:`stdout`; all other writing to it goes to stderr.

    This concerns what plugins, recipes and libraries print, and what their C code and the processes
    they start write to file descriptor 1. If stderr is closed, it is dropped.

    Args:
        for_good: redirect other writing after the block, too: code of others also runs when the
            process exits.
    """
    before = sys.stdout, sys.stderr
    _occupy_standard_descriptors()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    descriptor = _descriptor_of(sys.stdout)
    ours = sys.stdout if descriptor is None and sys.stdout is not None else _wrap(descriptor)
    if descriptor is not None:
        os.dup2(2, 1)
    _Results.stream, sys.stdout = ours, sys.stderr
    try:
        yield
    finally:
        _Results.stream = None
        if not for_good:
            if sys.stderr is not before[1]:
                sys.stderr.close()
            sys.stdout, sys.stderr = before
            if descriptor is not None:
                os.dup2(descriptor, 1)
        if ours is not before[0]:
            with suppress(OSError):  # the command has flushed it and reported any error
                ours.close()


def _occupy_standard_descriptors() -> None:
    """Open the null device for descriptors 0, 1 and 2 that are closed.

    Otherwise the next file opened would get such a number, and what a library prints would be
    written into that file.
    """
    with suppress(OSError):  # a system without the null device
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


def _descriptor_of(stream: TextIO | None) -> int | None:
    """Return a copy of descriptor 1 if ``stream`` writes there, as one in memory does not."""
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()  # type: ignore[union-attr]
        if stream.fileno() == 1:  # type: ignore[union-attr]
            return os.dup(1)
    return None


def _wrap(descriptor: int | None) -> TextIO:
    like = sys.stdout
    return io.TextIOWrapper(
        io.BufferedWriter(_Closed() if descriptor is None else _Open(descriptor, "wb")),
        encoding="utf-8" if like is None else like.encoding,
        errors="backslashreplace" if like is None else like.errors,
        line_buffering=like is not None and like.isatty(),
    )


class _Open(io.FileIO):
    """A stdout that fails once: the command then ends, and the rest of its buffers is dropped."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        """Write ``data``; raises the errors described at :func:`stdout`."""
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            raise _output_error(error.strerror or str(error), error.errno) from error


class _Closed(io.RawIOBase):
    """A stdout that was closed before the command began."""

    _failed = False

    def writable(self) -> bool:
        """Return True, so that writing is tried and fails."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Raise the error described at :func:`stdout`."""
        if self._failed:
            return memoryview(data).nbytes
        self._failed = True
        raise _output_error("it is closed", None)


def _output_error(reason: str, number: int | None) -> OutputError:
    failure = OutputError(
        f"cannot write to stdout: {reason}; give a stdout that can be written, such as > FILE"
    )
    failure.errno = number
    return failure
