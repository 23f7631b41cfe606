"""Recovery of damaged ``.mpa`` files, in pure Python, without torch or numpy.

:func:`salvage` is for users who prefer a part of a picture to none. One wrong byte is corrected,
since a CRC-32 tells where it is; bytes after the end are cut off; of a file that is cut short, the
remaining part of each stream is returned.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass

from mpa_core.bitstream.container import (
    MAX_PIXELS,
    Buffer,
    Container,
    Header,
    as_bytes,
    check_pixels,
    cut,
    header_size,
    peek_header,
    read_fields,
)
from mpa_core.errors import BitstreamError

_COUNTS_AT = 32
"""Offset in the header of the numbers of chunks and streams, one byte each."""
_CRC_BYTES = 4


@dataclass(frozen=True)
class Salvage:
    """The result of :func:`salvage`."""

    container: Container
    """The contents; streams may be shorter than they were, even empty, or hold wrong bytes."""
    problems: tuple[str, ...]
    """One sentence for each fault of the file; empty for a file that :func:`unpack` accepts.

    Only the checksum of the symbols, once they are decoded, tells whether a byte was corrected
    rightly."""


def salvage(data: Buffer, *, max_pixels: int | None = MAX_PIXELS) -> Salvage:
    """Parse a file that may be damaged: one wrong byte, bytes missing at its end, or too many.

    The time is proportional to the size of the file, about half a second per MB if it is damaged.

    Args:
        data: all bytes that are left of the file.
        max_pixels: largest number of pixels (width x height) to accept; None for no limit.

    Raises:
        BitstreamError: the header is cut short or too damaged to use, or the picture is larger than
            ``max_pixels``.
    """
    data = as_bytes(data)
    data, header, problems = _believable(data)
    check_pixels(header, max_pixels)
    missing = header.file_size - len(data)
    if missing > 0:
        problems.append(f"the last {missing} of {header.file_size} bytes are missing")
    elif missing < 0:
        problems.append(f"{-missing} bytes after the last stream were left out")
        data = data[: header.file_size]
    if missing <= 0:
        syndrome = zlib.crc32(memoryview(data)[header.size :]) ^ header.payload_crc
        changes = _changes(syndrome, len(data) - header.size) if syndrome else []
        if len(changes) == 1:
            data, text = _put_right(data, header.size + changes[0][0], changes[0][1])
            problems.append(text)
        elif syndrome:
            problems.append("the payload CRC-32 is wrong by more than one byte")
    container = cut(data, header)
    whole = {k: v for k, v in container.chunks.items() if len(v) == header.chunk_lengths[k]}
    if len(whole) < len(container.chunks):
        lost = ", ".join(sorted(name.decode() for name in container.chunks.keys() - whole.keys()))
        problems.append(f"metadata cut short and left out: {lost}")
    return Salvage(dataclasses.replace(container, chunks=whole), tuple(problems))


def _believable(data: bytes) -> tuple[bytes, Header, list[str]]:
    """Return the file with its header corrected, the header, and the faults found."""
    try:
        return data, peek_header(data), []
    except BitstreamError as error:
        refusal = error
    for repaired, text in _header_repairs(data):
        try:
            return repaired, peek_header(repaired), [text]
        except BitstreamError:
            continue  # the checksum agrees but the fields are invalid: not the original header
    # More than one byte is wrong. A file exactly as long as its tables say has the right tables.
    try:
        header = read_fields(data, header_size(data))
    except BitstreamError:
        raise refusal from None
    if header.file_size != len(data):
        raise refusal
    found, _, _ = str(refusal).partition(";")
    return data, header, [f"{found}; its fields were believed all the same"]


def _header_repairs(data: bytes) -> list[tuple[bytes, str]]:
    """Return the one-byte change that makes the header agree with its checksum, and a message.

    The list is empty where no change, or more than one, does so.
    """
    if len(data) <= _COUNTS_AT:
        return []
    repairs = []
    # The number of chunks decides where the checksum is, so it is tried rather than found.
    for count in range(256):
        crc_at = _COUNTS_AT + 2 + 8 * count + 8
        if len(data) < crc_at + _CRC_BYTES:
            break
        stored = int.from_bytes(data[crc_at : crc_at + _CRC_BYTES], "little")
        if count != data[_COUNTS_AT]:
            tried = data[:_COUNTS_AT] + bytes([count]) + data[_COUNTS_AT + 1 :]
            if zlib.crc32(memoryview(tried)[:crc_at]) == stored:
                repairs.append(_put_right(data, _COUNTS_AT, data[_COUNTS_AT] ^ count))
            continue
        if syndrome := zlib.crc32(memoryview(data)[:crc_at]) ^ stored:
            changes = _changes(syndrome, crc_at)
            # Or the checksum itself has the wrong byte.
            for i in range(_CRC_BYTES):
                if not syndrome & ~(0xFF << 8 * i):
                    changes.append((crc_at + i, syndrome >> 8 * i))
            repairs += [_put_right(data, offset, mask) for offset, mask in changes]
    return repairs if len(repairs) == 1 else []


def _put_right(data: bytes, offset: int, mask: int) -> tuple[bytes, str]:
    value = data[offset] ^ mask
    text = f"byte {offset} was {data[offset]:02x}, put right to {value:02x} by the CRC-32"
    return data[:offset] + bytes([value]) + data[offset + 1 :], text


# A CRC is linear: the XOR of the right and the wrong CRC, the syndrome, is the CRC of the change
# alone, and a step of the table can be undone, because its entries differ in their highest byte.
_TABLE = [zlib.crc32(bytes([0xFF ^ byte])) ^ 0xFF000000 for byte in range(256)]
_BY_HIGHEST = bytes(
    byte for _, byte in sorted((entry >> 24, byte) for byte, entry in enumerate(_TABLE))
)


def _changes(syndrome: int, length: int) -> list[tuple[int, int]]:
    """Return (offset, XOR mask) of every change of one byte that explains ``syndrome``."""
    found = []
    for offset in range(length - 1, -1, -1):
        byte = _BY_HIGHEST[syndrome >> 24]
        syndrome = (syndrome ^ _TABLE[byte]) << 8 | byte
        if syndrome < 256:
            found.append((offset, syndrome))
    return found
