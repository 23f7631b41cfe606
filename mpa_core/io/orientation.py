"""The EXIF orientation, and turning pictures, tensors and masks by it.

The rule of the SDK is that a user gives and sees upright pictures. A picture is turned before it is
coded, and its EXIF then says 1; a file that holds an unturned one is turned when it is decoded, and
its region masks are drawn on the upright view. ``orient=False`` leaves pixels, EXIF and masks as
they are stored.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mpa_core.mix import Mix

_ORIENTATION = 0x0112
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_SHORT, _LONG = 3, 4

# From stored to upright: from 5 on rows become columns, and then these axes are reversed.
_FLIPS: dict[int, tuple[int, ...]] = {
    1: (),
    2: (-1,),
    3: (-2, -1),
    4: (-2,),
    5: (),
    6: (-1,),
    7: (-2, -1),
    8: (-2,),
}


def orientation_of(exif: bytes | None) -> int:
    """Return the EXIF orientation, 1 to 8, of a block from its TIFF header on; 1 without one."""
    return stated_orientation(exif) or 1


def stated_orientation(exif: bytes | None) -> int | None:
    """Return the orientation a block states, 1 to 8; None without one, or if it is damaged."""
    found = _find(exif or b"")
    return found[1] if found else None


def upright_exif(exif: bytes) -> bytes:
    """Return the block with orientation 1, and without the thumbnail of an unturned picture.

    Nothing else moves: a rebuilt block would lose data that makers store by offset. A thumbnail
    lies as the picture did, and would be shown on its side from now on.
    """
    found = _find(exif)
    if found is None or found[1] == 1:
        return exif
    place, _, kind = found
    block = bytearray(exif)
    order = _byte_order(exif)
    struct.pack_into(order + ("H" if kind == _SHORT else "L"), block, place, 1)
    return _without_thumbnail(block, order)


def upright(x: Tensor, orientation: int) -> Tensor:
    """Turn a stored picture [..., H, W] upright."""
    turned = x.mT if orientation >= 5 else x
    return turned.flip(_FLIPS[orientation]).contiguous()


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width of the upright view of a stored ``height`` and ``width``."""
    return (width, height) if orientation >= 5 else (height, width)


def mix_as_stored(mix: Mix | None, orientation: int, height: int, width: int) -> Mix | None:
    """Return ``mix`` with its masks turned from the upright view to the stored [height, width].

    Raises:
        MixError: a mask does not have the size of the upright view.
    """
    if mix is None or orientation == 1 or not mix.regions:
        return mix
    seen = mix.region_masks(*upright_size(height, width, orientation))
    shares: dict[str, Any] = mix.shares
    return type(mix)(regions={name: _as_stored(mask, orientation) for name, mask in seen}, **shares)


def _as_stored(mask: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    # No NumPy is imported here: ``mpa info`` reads orientations without it.
    steps = [-1 if axis in _FLIPS[orientation] else 1 for axis in (-2, -1)]
    turned = mask[:: steps[0], :: steps[1]]
    return (turned.T if orientation >= 5 else turned).copy()


def _byte_order(exif: bytes | bytearray) -> str:
    return {b"II*\0": "<", b"MM\0*": ">"}[bytes(exif[:4])]


def _find(exif: bytes) -> tuple[int, int, int] | None:
    """Return place, value and type of the orientation in the first directory."""
    try:
        order = _byte_order(exif)
        entries, _ = _directory(exif, order, *struct.unpack_from(order + "L", exif, 4))
        place, kind = entries[_ORIENTATION]
        (value,) = struct.unpack_from(order + {_SHORT: "H", _LONG: "L"}[kind], exif, place)
    except (struct.error, KeyError):
        return None
    return (place, value, kind) if value in _FLIPS else None


def _directory(
    block: bytes | bytearray, order: str, start: int
) -> tuple[dict[int, tuple[int, int]], int]:
    """Return place and type of the value of every tag, and the place of the next pointer."""
    (count,) = struct.unpack_from(order + "H", block, start)
    entries: dict[int, tuple[int, int]] = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        entries.setdefault(tag, (entry + 8, kind))
    return entries, start + 2 + 12 * count


def _without_thumbnail(block: bytearray, order: str) -> bytes:
    """Unlink the second directory, and cut its picture off or overwrite it with zeros."""
    try:
        _, pointer = _directory(block, order, *struct.unpack_from(order + "L", block, 4))
        (second,) = struct.unpack_from(order + "L", block, pointer)
        if second == 0:
            return bytes(block)
        struct.pack_into(order + "L", block, pointer, 0)
        entries, _ = _directory(block, order, second)
        places = entries[_THUMBNAIL_OFFSET][0], entries[_THUMBNAIL_LENGTH][0]
        start, length = (struct.unpack_from(order + "L", block, place)[0] for place in places)
    except (struct.error, KeyError):
        return bytes(block)
    end = start + length
    # Only a JPEG file is certain to be the thumbnail.
    if block[start : start + 2] != b"\xff\xd8" or end > len(block):
        return bytes(block)
    if end == len(block):
        return bytes(block[:start])
    block[start:end] = bytes(length)
    return bytes(block)
