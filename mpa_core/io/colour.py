"""Conversion of colours to sRGB, by tone-curve tables and ICC profiles, and new ICC profiles.

Gray, CMYK and LAB are converted: three channels of R = G = B in another tone curve have no name.
RGB in other primaries keeps its numbers and carries a profile: nothing outside of sRGB is lost. RGB
in the primaries of sRGB and another tone curve is converted: nothing would be lost, a profile costs
bytes, and networks that read the picture know sRGB's curve.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mpa_core.errors import ImageError
from mpa_core.io.header import Header, Primaries

GRAY_MODES = ("1", "L", "LA", "La", "I")
"""Gray modes of Pillow; those that begin with ``I;16`` are gray, too."""
_SPACES = {"CMYK": b"CMYK", "LAB": b"Lab "}
_KINDS = (b"scnr", b"mntr", b"prtr", b"spac")
"""Profile classes (bytes 12 to 15) that define the colours of a picture."""
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# Its tables of few points halve the shadows of a steep curve.
_EXACT = _FLAGS | ImageCms.Flags.NOOPTIMIZE
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True)
class Colour:
    """The conversion that a picture's numbers need."""

    table: NDArray[np.float64] | None = None
    """sRGB level in [0, 255] for each of 256 levels, the same for every colour channel."""
    source: bytes | None = None
    """Profile to convert from, for CMYK and LAB."""
    carried: bytes | None = None
    """RGB profile to keep with the picture."""
    ignored: tuple[str, ...] = ()
    """Statements of the file about its colours that cannot be followed."""


def colour_of(mode: str, header: Header) -> Colour:
    """Return how to convert a picture of ``mode`` to sRGB, or to RGB with a profile.

    Raises:
        ImageError: CMYK or LAB without a profile of that kind.
    """
    profile = header.icc_profile
    ignored = header.ignored
    gray = mode in GRAY_MODES or mode.startswith("I;16")
    spaces = {_SPACES[mode]} if mode in _SPACES else {b"RGB ", b"GRAY"} if gray else {b"RGB "}
    problem = _problem(profile, frozenset(spaces)) if profile is not None else None
    if problem is not None:
        profile, ignored = None, (*ignored, problem)
    if mode in _SPACES:
        if profile is None:
            found = f" (it has {problem})" if problem else ""
            raise ImageError(
                f"the image is {mode} without a profile that says its colours{found}, expected RGB "
                "or gray; convert it first (PIL.ImageCms.profileToProfile, or any picture editor)"
            )
        return Colour(source=profile, ignored=ignored)
    if profile is not None:
        if profile[16:20] == b"RGB ":
            return Colour(carried=profile, ignored=ignored)
        return Colour(table=_gray_table(profile), ignored=ignored)
    if not gray and header.primaries is not None:
        return Colour(carried=matrix_profile(header.primaries, header.gamma), ignored=ignored)
    table = None if header.gamma is None else _power_table(header.gamma)
    return Colour(table=table, ignored=ignored)


def convert_to_srgb(
    image: Image.Image,
    profile: bytes,
    flags: ImageCms.Flags = _FLAGS,
    intent: ImageCms.Intent = ImageCms.Intent.RELATIVE_COLORIMETRIC,
) -> Image.Image:
    """Convert a picture in ``profile`` to sRGB, by default with black point compensation.

    Raises:
        ImageCms.PyCMSError, OSError, ValueError: the profile cannot be read or used.
    """
    converted = ImageCms.profileToProfile(
        image,
        _opened(profile),
        ImageCms.createProfile("sRGB"),
        renderingIntent=intent,
        outputMode="RGB",
        flags=flags,
    )
    if converted is None:  # it is None only for conversion in place
        raise TypeError
    return converted


def apply_table(image: Image.Image, table: NDArray[np.float64]) -> Image.Image:
    """Apply ``table`` to the colour channels of an RGB or RGBA image; alpha does not change."""
    levels = table.round().astype(int).tolist()
    alpha = list(range(256)) if image.mode == "RGBA" else []
    return image.point(3 * levels + alpha)


def _problem(profile: bytes, spaces: frozenset[bytes]) -> str | None:
    """Explain why a profile cannot be used for these colour spaces; None if it can."""
    space, kind = profile[16:20], profile[12:16]
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return "a damaged ICC profile"
    # Little CMS calls its profile of LAB an abstract one.
    if kind not in _KINDS and (kind, space) != (b"abst", b"Lab "):
        return f"an ICC profile of the class {_text(kind)}, which describes no picture"
    if space not in spaces:
        return f"an ICC profile for {_text(space)}"
    return None if _works(profile) else "a damaged ICC profile"


@lru_cache(maxsize=32)
def _works(profile: bytes) -> bool:
    mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}[profile[16:20]]
    try:
        ImageCms.buildTransform(
            _opened(profile), ImageCms.createProfile("sRGB"), mode, "RGB", flags=_EXACT
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return True


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _text(signature: bytes) -> str:
    text = "".join(map(chr, signature))
    return text.strip() if text.isascii() and text.isprintable() else signature.hex()


@lru_cache(maxsize=32)
def _gray_table(profile: bytes) -> NDArray[np.float64]:
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    green: Any = convert_to_srgb(ramp, profile, _EXACT).getchannel("G")
    return np.asarray(green, np.float64)[0]


def _power_table(gamma: float) -> NDArray[np.float64]:
    light = np.linspace(0.0, 1.0, 256) ** gamma
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(255.0 * curve, np.float64)


# ---------------------------------------------------------------------- making a profile


def matrix_profile(primaries: Primaries, gamma: float | None) -> bytes:
    """Make an ICC profile, version 4, of RGB in ``primaries``.

    Args:
        primaries: x and y of white, red, green, blue.
        gamma: light is the number to this power; None is the curve of sRGB.
    """
    points = np.array(primaries).reshape(4, 2)
    white, *columns = ([x / y, 1.0, (1 - x - y) / y] for x, y in points)
    to_xyz = np.array(columns).T
    to_xyz *= np.linalg.solve(to_xyz, np.array(white))
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ np.array(white))
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    columns_d50 = (adapt @ to_xyz).T
    curve = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if gamma is None else (0, gamma)
    trc = b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + _fixed(curve[1:])
    name = "sRGB curve" if gamma is None else f"gamma {gamma:.4g}"
    tags = {
        b"desc": _localised(f"RGB, {name}"),
        b"cprt": _localised("CC0"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adapt.ravel()),
        b"rXYZ": _xyz(columns_d50[0]),
        b"gXYZ": _xyz(columns_d50[1]),
        b"bXYZ": _xyz(columns_d50[2]),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc),
    }
    place, table, body, shared = 128 + 4 + 12 * len(tags), b"", b"", {}
    for key, data in tags.items():
        if data not in shared:
            shared[data] = place + len(body)
            body += data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += struct.pack(">4s2L", key, shared[data], len(data))
    head = struct.pack(
        ">L4sL4s4s4s12s4s4sL4s4sQL12s",
        *(place + len(body), b"", 0x04300000, b"mntr", b"RGB ", b"XYZ "),
        # A fixed date: the same picture makes the same file.
        *(struct.pack(">6H", 2000, 1, 1, 0, 0, 0), b"acsp", b"", 0, b"", b"", 0, 1, _fixed(_D50)),
    )
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body


def _fixed(values: Any) -> bytes:
    """Encode values as s15Fixed16 numbers."""
    return b"".join(struct.pack(">l", round(float(v) * 65536)) for v in values)


def _xyz(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _localised(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">2L4sLL", 1, 12, b"enUS", len(data), 28) + data
