"""A container that the tests of this folder start from."""

from mpa_core.bitstream.container import Container

PLAIN = Container(
    fingerprint=bytes(range(8)),
    profile=0,
    quality=4.5,
    width=768,
    height=512,
    streams=(b"the y stream....", b"the z stream"),
    symbols_crc=0xDEADBEEF,
    chunks={b"ICCP": b"profile", b"EXIF": b"II*\0"},
)
