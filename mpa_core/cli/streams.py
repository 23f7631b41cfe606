"""The standard streams as commands have them: stdout is theirs alone, and any may be closed."""

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
    """Where results go while a command runs; None: to ``sys.stdout``. Of the process, as that."""

    stream: TextIO | None = None


def stdout() -> TextIO:
    """Where results go; nothing but a command's result may be written there.

    Writing raises :class:`OutputError` where it fails (a full disk, a closed stdout), and
    ``BrokenPipeError`` where the reader is gone: once, and then what is written is dropped.
    """
    return sys.stdout if _Results.stream is None else _Results.stream


def stdin(error: type[MPAError]) -> BinaryIO:
    """The bytes that a command is given; raises ``error`` where stdin is closed."""
    if sys.stdin is None:
        raise error("cannot read from stdin: it is closed; give a file, or a pipe to read from")
    return sys.stdin.buffer


@contextmanager
def own_streams(*, for_good: bool) -> Iterator[None]:
    """Keep stdout for :func:`stdout`; what anybody else writes there goes to stderr.

    That is what plugins, recipes and libraries print, and what their C code and the processes they
    start write to file descriptor 1. Where stderr is closed, it goes nowhere.

    Args:
        for_good: what others write goes to stderr after the block, too: their code also runs when
            the process exits.
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
            with suppress(OSError):  # the command has flushed it, and reported what came of that
                ours.close()


def _occupy_standard_descriptors() -> None:
    """Let those of 0, 1 and 2 that are closed lead nowhere, or the next file opened would be one.

    What a library prints would then be written into that file.
    """
    with suppress(OSError):  # a system without the null device
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


def _descriptor_of(stream: TextIO | None) -> int | None:
    """A copy of descriptor 1 if ``stream`` writes there, as one in memory does not."""
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
    """A stdout that fails once: the command ends, and what is in its buffers then is dropped."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        """Write ``data``; raises what :func:`stdout` says."""
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
        """As far as anybody asks."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Raise what :func:`stdout` says."""
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
