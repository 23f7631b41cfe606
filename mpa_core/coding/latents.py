"""The part of coding that all paths share: latents to streams and back.

Inside the SDK a coded picture is one :class:`CodedLatents`. CompressAI's nested lists of streams
exist at the surface of :class:`mpa_core.coding.model.MPAModel` alone; :func:`as_strings` and
:func:`from_strings` convert.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mpa_core.arguments import as_sequence, as_whole, expect
from mpa_core.base.api import Base
from mpa_core.base.gains import Quality
from mpa_core.base.networks import EntropyNetworks
from mpa_core.base.symbols import Symbols
from mpa_core.errors import BitstreamError, DesyncError


class CodedLatents(NamedTuple):
    """The latents of one picture as streams."""

    y: bytes
    z: bytes
    shape: tuple[int, int]
    """Height and width of ``z``."""
    symbols_crc: int | None
    """CRC-32 of the symbols; with None, a decoder that loses sync goes unnoticed."""


class DecodedLatents(NamedTuple):
    """The latents that :func:`decode_latents` decoded from the streams of a batch."""

    y_hat: Tensor
    """``[B, M, h, w]``, in the type and on the device of the base."""
    damage: list[tuple[str, ...]]
    """For each picture, one sentence per fault of its streams; empty without faults, and always
    empty where damage raises an error."""


def encode_latents(
    base: Base,
    y: Tensor,
    z: Tensor,
    quality: Quality,
    networks: EntropyNetworks | None = None,
) -> list[CodedLatents]:
    """Code the latents of a batch.

    Args:
        base: the base that computed them.
        y: ``[B, M, h, w]``, at the scale of the rounding step.
        z: ``[B, C, h', w']``, likewise.
        quality: quality of each picture.
        networks: arithmetic of the entropy model; None is float32 (profile 0).

    Returns:
        One record per picture.

    Raises:
        CheckpointError: the entropy model has no CDF tables.
    """
    networks = networks or base.float_networks()
    symbols, z_streams, z_symbols = base.entropy.encode_z(z)
    with networks.alike():
        # The latents may have been computed in another type than the base's.
        symbols = symbols.to(networks.device, base.dtype)
        params = networks.hyper_synthesise(symbols, quality)
        _, y_streams, y_symbols = base.entropy.encode_y(y.to(params), params, networks)
    shape = (z.shape[-2], z.shape[-1])
    crcs = map(_crc_of_symbols, z_symbols, y_symbols)
    return [
        CodedLatents(y_stream, z_stream, shape, crc)
        for y_stream, z_stream, crc in zip(y_streams, z_streams, crcs, strict=True)
    ]


def decode_latents(
    base: Base,
    pictures: Sequence[CodedLatents],
    quality: float | Tensor,
    networks: EntropyNetworks | None = None,
    *,
    conceal: bool = False,
) -> DecodedLatents:
    """Decode pictures of one shape as a batch.

    Args:
        base: the base that coded them.
        pictures: at least one; all shapes are the same.
        quality: quality of the pictures, from 1 to the base's number of levels: one number, or one
            per picture (``[B]``).
        networks: the arithmetic used to encode; None is float32 (profile 0).
        conceal: set symbols that a damaged stream has lost to 0, their expected value, and report
            the damage. Without it, damage is an error.

    Raises:
        BitstreamError: streams that are not valid, or not of this size.
        DesyncError: the decoded symbols are not those that were coded.
        QualityError: a quality that the base does not have.
    """
    networks = networks or base.float_networks()
    entropy, like, shape = base.entropy, base.like, pictures[0].shape
    y_streams = [picture.y for picture in pictures]
    if not conceal:
        entropy.check_y_streams(y_streams, base.latent_shape(shape))
    z = entropy.decode_z([picture.z for picture in pictures], shape, like, conceal=conceal)
    # Without the right z every symbol of y is read by a wrong table: noise, no picture.
    y_streams = [
        stream if wrong is None else b"" for stream, wrong in zip(y_streams, z.damage, strict=True)
    ]
    q = base.quality(quality, z.values)
    with networks.alike():
        params = networks.hyper_synthesise(z.values.to(networks.device), q)
        y = entropy.decode_y(y_streams, params, networks, conceal=conceal)
    damage = []
    for i, picture in enumerate(pictures):
        desync = _desync(picture, z.symbols[i], y.symbols[i])
        if desync is not None and not conceal:
            raise DesyncError(f"{desync}: {networks.desync_advice}")
        reports = (z.damage[i], y.damage[i], desync)
        damage.append(tuple(report for report in reports if report is not None))
    return DecodedLatents(y.values.to(like), damage)


def _crc_of_symbols(*symbols: Symbols) -> int:
    """Return the CRC-32 of int32 symbols as little-endian bytes, ``z`` before ``y``."""
    crc = 0
    for array in symbols:
        crc = zlib.crc32(np.ascontiguousarray(array, dtype="<i4").tobytes(), crc)
    return crc


def _desync(picture: CodedLatents, *symbols: Symbols) -> str | None:
    """Describe a mismatch of the symbols' CRC-32; None if it matches or was not stored."""
    if picture.symbols_crc is None:
        return None
    found = _crc_of_symbols(*symbols)
    if found == picture.symbols_crc:
        return None
    return f"the decoded symbols have CRC {found:08x}, the encoder wrote {picture.symbols_crc:08x}"


# ---------------------------------------------------------------------- CompressAI's conventions


def as_strings(pictures: Iterable[CodedLatents]) -> dict[str, Any]:
    """Convert to ``strings`` (the streams of ``y``, then ``z``), ``shape`` and ``symbols_crc``."""
    y_streams, z_streams, shapes, crcs = zip(*pictures, strict=True)
    return {
        "strings": [list(y_streams), list(z_streams)],
        "shape": shapes[0],
        "symbols_crc": list(crcs),
    }


def from_strings(
    strings: Sequence[Sequence[bytes]],
    shape: tuple[int, int],
    symbols_crc: Sequence[int] | None = None,
) -> list[CodedLatents]:
    """Convert the values that :func:`as_strings` returns back to one record per picture.

    Args:
        strings: the streams of ``y`` and the streams of ``z``, one each per picture.
        shape: height and width of ``z``.
        symbols_crc: one CRC-32 per picture, or None where they are not known.

    Raises:
        BitstreamError: an argument is not what :func:`as_strings` returns, or the numbers of
            streams and checksums differ.
    """
    y_streams, z_streams = _two_lists_of_streams(strings)
    height_and_width = as_two_sizes(shape, "shape")
    count = len(z_streams)
    if len(y_streams) != count or not count:
        raise BitstreamError(
            f"found {len(y_streams)} y streams for {count} z streams, expected one of each per "
            "picture, and at least one picture; pass strings as compress returned it"
        )
    if symbols_crc is None:
        crcs: Sequence[int | None] = [None] * count
    else:
        crcs = as_sequence(symbols_crc, "symbols_crc", "one CRC-32 per picture", BitstreamError)
        if len(crcs) != count:
            raise BitstreamError(
                f"found {len(crcs)} symbols_crc for {count} pictures, expected one each; pass "
                "symbols_crc as compress returned it"
            )
        crcs = [
            as_whole(crc, "a symbols_crc", least=0, most=2**32 - 1, error=BitstreamError)
            for crc in crcs
        ]
    return [
        CodedLatents(y, z, height_and_width, crc)
        for y, z, crc in zip(y_streams, z_streams, crcs, strict=True)
    ]


def as_two_sizes(value: Any, name: str) -> tuple[int, int]:
    """Check a height and a width, at least 1 each, and return them.

    Raises:
        BitstreamError: ``value`` is anything else; the message calls it ``name``.
    """
    sides = as_sequence(value, name, "height and width", BitstreamError)
    if len(sides) != 2:
        raise BitstreamError(
            f"{name} has {len(sides)} entries, expected height and width; give these two"
        )
    height, width = (as_whole(side, name, least=1, error=BitstreamError) for side in sides)
    return height, width


def _two_lists_of_streams(strings: Any) -> tuple[Sequence[bytes], Sequence[bytes]]:
    what = "the streams of y and of z, a list of bytes each"
    lists = [
        as_sequence(each, "strings", what, BitstreamError)
        for each in as_sequence(strings, "strings", what, BitstreamError)
    ]
    if len(lists) != 2:
        raise BitstreamError(
            f"strings has {len(lists)} entries, expected {what}; pass it as compress returned it"
        )
    for stream in (*lists[0], *lists[1]):
        expect(stream, bytes, "a stream", "bytes, as compress returned them", BitstreamError)
    return lists[0], lists[1]
