"""Recognition of files that are not ``.mpa`` files, for the message that refuses them."""

from __future__ import annotations

from mpa_core.errors import BitstreamError

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyp", "a HEIF picture or a video"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL \r\n\x87\n", "a JPEG XL picture"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
)
_PICTURE = "a picture is compressed with `mpa encode`"


def check_magic(head: bytes, magic: bytes) -> None:
    """Refuse a file that does not begin with ``magic``, or, if cut short, with a part of it.

    Args:
        head: the first bytes of the file, some hundred of them.
        magic: first bytes of an ``.mpa`` file.

    Raises:
        BitstreamError: the message says what the file seems to be.
    """
    if not head:
        raise BitstreamError("the file is empty, expected an .mpa file; copy or encode it again")
    if magic.startswith(head) or head.startswith(magic):
        return
    raise BitstreamError(f"not an .mpa file: {_looks_like(head, magic)}")


def _looks_like(head: bytes, magic: bytes) -> str:
    for offset, signature, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return f"it looks like {name}" + (f"; {_PICTURE}" if name.endswith("picture") else "")
    if b"MPA" in head[1:6]:
        return (
            f"it starts with {head[:6].hex(' ')}, expected {magic.hex(' ')}; it is an .mpa file "
            "damaged by a transfer as text: copy it again in binary mode"
        )
    if _is_text(head):
        return "it looks like text; an .mpa file is made by `mpa encode`"
    return (
        f"it starts with {head[:4].hex(' ')}, expected {magic.hex(' ')}; "
        "an .mpa file is made by `mpa encode`"
    )


def _is_text(head: bytes) -> bool:
    try:
        # The head may end inside a character: up to 3 bytes of UTF-8 are missing then.
        text = head[: max(1, len(head) - 3)].decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t\ufeff" for character in text)
