"""No change of a file goes unseen: every byte to every value, every truncation, every extension."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from mpa_mutations import Parts

from mpa_core import MPACodec
from mpa_core.bitstream.container import peek_header, unpack
from mpa_core.errors import BitstreamError, DesyncError

ADVICE = ("copy", "encode it again", "upgrade", "mpa encode", "raise the limit", "never writes")
"""What a text has to say besides what is wrong: what to do, or that the file was forged."""


def refusal(read: Callable[[bytes], object], data: bytes) -> str:
    """The text of the error that ``data`` is refused with."""
    with pytest.raises(BitstreamError) as caught:
        read(data)
    text = str(caught.value)
    assert "\n" not in text and len(text) > 30
    return text


@pytest.fixture(params=["unpack", "decode"])
def read(request: pytest.FixtureRequest, tiny: MPACodec) -> Callable[[bytes], object]:
    return unpack if request.param == "unpack" else tiny.decode


def test_every_change_of_one_byte(read, real_file):
    """Decoding unpacks first: there the change of each single bit is enough."""
    bits = [1 << bit for bit in range(8)]
    changes = range(1, 256) if read is unpack else bits
    for position in range(len(real_file)):
        changed = bytearray(real_file)
        for change in changes:
            changed[position] = real_file[position] ^ change
            text = refusal(read, bytes(changed))
            assert any(words in text for words in ADVICE), text


def test_every_truncation(read, real_file):
    for length in range(len(real_file)):
        text = refusal(read, real_file[:length])
        assert "the file is empty" in text if not length else f"found {length} bytes" in text
        assert "again" in text


def test_every_extension(read, real_file):
    tails = [bytes([value]) for value in range(256)]
    tails += [bytes(count) for count in range(2, 300)] + [real_file, real_file[:-1], b"\r\n"]
    for tail in tails:
        text = refusal(read, real_file + tail)
        assert f"found {len(tail)} bytes after the last stream, expected none" in text


def test_what_is_put_before_the_file(read, real_file):
    for value in range(256):
        assert "not an .mpa file" in refusal(read, bytes([value]) + real_file)


def test_transfers_as_text(read, real_file):
    refusal(read, real_file.replace(b"\n", b"\r\n") + b"\r\n")
    for encoding in ("latin-1", "cp437"):
        refusal(read, real_file.decode(encoding).encode("utf-8"))


# ---------------------------------------------------------------------- behind the checksums


def test_streams_forged_with_right_checksums(tiny, real_file):
    """One byte of the streams changed, all checksums of the file made right.

    The end of the stream tells, or the symbols do: no two streams have the same.
    """
    rng = random.Random(0)
    for i, stream in enumerate(Parts.of(real_file).streams):
        for position in range(len(stream)):
            forged = Parts.of(real_file)
            changed = bytearray(stream)
            changed[position] ^= rng.randrange(1, 256)
            forged.streams[i] = bytes(changed)
            with pytest.raises(BitstreamError, match=r"damaged|forged"):
                tiny.decode(forged.join())
    assert sum(peek_header(real_file).stream_lengths) > 88


def test_a_forged_checksum_of_the_symbols(tiny, real_file):
    forged = Parts.of(real_file)
    for bit in range(32):
        forged.symbols_crc = Parts.of(real_file).symbols_crc ^ 1 << bit
        with pytest.raises(DesyncError):
            tiny.decode(forged.join())


def test_a_forged_quality(tiny, real_file):
    # It scales what the networks see, so other symbols come out: refused, or the very same ones.
    for quality in (4096, 18431, 18433, 32768):
        forged = Parts.of(real_file)
        forged.quality = quality
        try:
            tiny.decode(forged.join())
        except BitstreamError as error:
            assert "symbols" in str(error)


def test_a_forged_size_of_the_same_padding_is_another_crop(tiny, real_file):
    # Nothing but the header's own checksum holds the true size: a forger may crop.
    forged = Parts.of(real_file)
    forged.width, forged.height = 64, 64
    assert tiny.decode(forged.join()).size == (64, 64)
    forged.width = 65
    assert "stream" in refusal(tiny.decode, forged.join())
