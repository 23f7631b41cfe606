"""Files of version 1 are read, and written, as on the day the format was fixed."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import make_golden
import numpy as np
import pytest
import rans_reference

from mpa_core.bitstream.container import pack, unpack
from mpa_core.bitstream.metadata import from_chunks
from mpa_core.bitstream.rangecoder import RangeDecoder

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "bitstream"
CASES = json.loads((FOLDER / "v1.json").read_text(encoding="utf-8"))
# Pinned here as well: the files cannot be replaced without a change to this list.
SHA256 = {
    "chunks": "117835b6cd9db61ef50b92be73c4d8d44efb6f5d43eaf0600065bf6bf1200d4e",
    "compressed": "9ff4e619f4eb129ee89a36e4254e8ee32a946c133a7246b7482e342fbf352362",
    "escapes": "731394e0b01e5d925ef100300da1b8c6a1bce941c6fbfd3cad98bd4f574f7f5e",
    "largest_fields": "99a733b38b249c7fce635387331283f9c29047df80faf8966435af78e254cbeb",
    "plain": "cc2adbe5c9da36da0ce646e2b499a39c66b7d2af881c3f6a1a87b236babf3ecc",
    "smallest": "03a5c549f0fe04202106baf0d70c8779cea49424bf0353ea431549d067ff81f7",
}


def test_no_golden_file_is_missing_or_extra():
    assert {p.name for p in FOLDER.glob("*.mpa")} == {f"v1_{name}.mpa" for name in SHA256}
    assert set(CASES) == set(SHA256)


@pytest.mark.parametrize("name", sorted(SHA256))
def test_bytes_are_pinned(name: str):
    data = (FOLDER / f"v1_{name}.mpa").read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256[name]
    assert make_golden.build(CASES[name]) == data
    assert pack(unpack(data)) == data


@pytest.mark.parametrize("name", sorted(SHA256))
def test_content_is_read(name: str):
    case = CASES[name]
    container = unpack((FOLDER / f"v1_{name}.mpa").read_bytes())
    assert container.fingerprint.hex() == case["fingerprint"]
    assert container.profile == 0
    assert (container.quality, container.width, container.height) == (
        case["quality"],
        case["width"],
        case["height"],
    )
    assert {k.decode(): v.hex() for k, v in container.chunks.items()} == case["chunks"]
    decoded = {}
    rows = [
        rans_reference.Row(cdf[:length], offset)
        for cdf, length, offset in zip(
            make_golden.CDF, make_golden.LENGTH, make_golden.OFFSET, strict=True
        )
    ]
    for key, data in zip("yz", container.streams, strict=True):
        symbols, indexes = case[key]
        decoder = RangeDecoder(data, len(symbols))
        decoded[key] = decoder.decode(np.array(indexes, np.int32), make_golden.tables())
        decoder.finish()
        assert decoded[key].tolist() == symbols
        assert rans_reference.decode(data, indexes, rows) == (symbols, 2**31, 0)
    crc = zlib.crc32(np.concatenate([decoded["z"], decoded["y"]]).astype("<i4").tobytes())
    assert crc == container.symbols_crc


def test_compressed_metadata_are_read():
    container = unpack((FOLDER / "v1_compressed.mpa").read_bytes())
    assert from_chunks(container.chunks) == (b"a profile " * 4, b"II*\0" + bytes(40))


def test_metadata_of_the_first_kind_are_read():
    container = unpack((FOLDER / "v1_chunks.mpa").read_bytes())
    assert from_chunks(container.chunks) == (b"\0\xff\x10", b"II")


def test_the_example_of_the_specification_is_the_golden_file(root: Path):
    text = (root / "docs" / "spec" / "bitstream.md").read_text(encoding="utf-8")
    dump = text.split("## Example")[1].split("```text\n")[1].split("```")[0]
    numbers = [line.split("   ")[0] for line in dump.splitlines()]
    assert bytes.fromhex("".join(numbers)) == (FOLDER / "v1_plain.mpa").read_bytes()
