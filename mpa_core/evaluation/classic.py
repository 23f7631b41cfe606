"""Classic codecs at their best settings for still pictures, to compare a learned codec with.

"Best" is the smallest file at equal PSNR that an encoder makes in seconds; the settings were chosen
on photos on which no results are reported. Each codec records its libraries' versions and its
options.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

from PIL import Image, features

from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.evaluation import vvc
from mpa_core.requirements import missing

ClassicFormat = Literal["JPEG", "WEBP", "AVIF", "JPEG2000", "JXL", "VVC"]


@dataclass(frozen=True)
class ClassicCodec:
    """One classic codec: the functions that write and read its files, and its description."""

    label: str
    suffix: str
    """Suffix of its files, with the dot."""
    settings: tuple[int, ...]
    """All possible settings, smallest file first."""
    curve: tuple[int, ...]
    """Settings of a rate-distortion curve over about 0.1 to 1.5 bpp, smallest file first."""
    write: Callable[[Image.Image, int], bytes]
    version: Callable[[], str]
    """Returns the versions of the libraries that it uses; raises MissingDependencyError where they
    are missing."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fixed options besides the setting, for the record."""
    read: Callable[[bytes, tuple[int, int]], Image.Image] | None = None
    """Converts bytes and (width, height) to the picture; None where Pillow reads it."""


class ClassicFile(NamedTuple):
    """One file of a classic codec."""

    format: ClassicFormat
    setting: int
    """The setting it was written with, one of the codec's ``settings``."""
    data: bytes
    size: tuple[int, int]
    """Width and height of the picture."""

    def decode(self) -> Image.Image:
        """Return the picture in the file, 8-bit RGB."""
        read = CODECS[self.format].read
        if read is not None:
            return read(self.data, self.size)
        with Image.open(io.BytesIO(self.data)) as image:
            decoded: Image.Image = image.convert("RGB")
        return decoded


def pixels_only(image: Image.Image) -> Image.Image:
    """Return ``image`` as 8-bit RGB without EXIF and ICC profile, so that only pixels are coded."""
    rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def classic_codec(name: str) -> tuple[ClassicFormat, ClassicCodec]:
    """Return the key and the codec called ``name``, in upper or lower case.

    Raises:
        ConfigError: there is none of that name.
        MissingDependencyError: its library is not installed.
    """
    for key, codec in CODECS.items():
        if key == name.upper():
            codec.version()
            return key, codec
    known = ", ".join(key.lower() for key in CODECS)
    raise ConfigError(f"no classic codec is called {name!r}; expected one of {known}")


def encode(image: Image.Image, file_format: ClassicFormat, setting: int) -> ClassicFile:
    """Write ``image`` without metadata; ``setting`` is one of the codec's ``settings``."""
    data = CODECS[file_format].write(pixels_only(image), setting)
    return ClassicFile(file_format, setting, data, image.size)


def nearest_in_size(image: Image.Image, file_format: ClassicFormat, num_bytes: int) -> ClassicFile:
    """Return the file whose size is nearest ``num_bytes``, over all settings of the codec."""
    made: dict[int, ClassicFile] = {}

    def size(setting: int) -> int:
        made[setting] = encode(image, file_format, setting)
        return len(made[setting].data)

    return made[nearest_setting(size, CODECS[file_format].settings, num_bytes)]


def nearest_setting(
    size: Callable[[int], int],
    settings: tuple[int, ...],
    num_bytes: int,
    known: Mapping[int, int] | None = None,
) -> int:
    """Return the setting whose file is nearest ``num_bytes`` in size; the smaller file of two.

    Sizes grow along ``settings``, so a bisection finds the pair around the target.

    Args:
        size: writes a file and returns its size in bytes; called once per setting at most.
        settings: smallest file first.
        num_bytes: target size in bytes.
        known: sizes of settings that were written before; they narrow the search.
    """
    sizes = {settings.index(setting): value for setting, value in (known or {}).items()}

    def at(index: int) -> int:
        if index not in sizes:
            sizes[index] = size(settings[index])
        return sizes[index]

    low = max((i for i, value in sizes.items() if value <= num_bytes), default=0)
    high = min(
        (i for i, value in sizes.items() if value > num_bytes and i > low),
        default=len(settings) - 1,
    )
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle) <= num_bytes:
            low = middle
        else:
            high = middle
    return settings[min((low, high), key=lambda index: abs(at(index) - num_bytes))]


def _saver(name: str, options: Mapping[str, Any]) -> Callable[[Image.Image, int], bytes]:
    """Return a function (image, setting) -> bytes that saves with the quality ``setting``."""

    def write(image: Image.Image, setting: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, name, quality=setting, **options)
        return buffer.getvalue()

    return write


def _write_jpeg2000(image: Image.Image, setting: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG2000", quality_layers=[setting], **_JPEG2000)
    return buffer.getvalue()


def _write_jxl(image: Image.Image, setting: int) -> bytes:
    _register_jxl()
    return _saver("JXL", _JXL)(image, setting)


def _read_jxl(data: bytes, _size: tuple[int, int]) -> Image.Image:
    _register_jxl()
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _feature(library: str, feature: str) -> str:
    found = features.version(feature)
    if found is None:
        raise MissingDependencyError(
            f"this build of Pillow has no {library}; install Pillow from its wheels (>= 11.3)"
        )
    return f"{library} {found}, Pillow {version('pillow')}"


def _avif_version() -> str:
    libavif = _feature("libavif", "avif")
    from PIL import _avif

    return f"{_avif.codec_versions()}, {libavif}"


def _jxl_version() -> str:
    _register_jxl()
    return f"libjxl of pillow-jxl-plugin {version('pillow-jxl-plugin')}"


def _register_jxl() -> None:
    try:
        import_module("pillow_jxl")  # which adds the format to Pillow
    except ImportError as error:
        raise missing("JPEG XL needs", "pillow-jxl-plugin", "eval", error) from error


_QUALITIES = tuple(range(1, 101))
# At equal PSNR 4:2:0 takes 9 % fewer bits than 4:4:4 in JPEG; in AVIF 4:4:4 takes 2 % fewer.
_JPEG: dict[str, Any] = {"optimize": True, "progressive": True, "subsampling": "4:2:0"}
_WEBP: dict[str, Any] = {"method": 6}
_AVIF: dict[str, Any] = {
    "codec": "aom",
    "speed": 2,
    "subsampling": "4:4:4",
    "advanced": {"tune": "psnr"},
    "max_threads": 1,
}
_JPEG2000: dict[str, Any] = {
    "quality_mode": "rates",
    "irreversible": True,
    "mct": 1,
    "no_jp2": True,
}
_JXL: dict[str, Any] = {"effort": 9, "num_threads": 1}

CODECS: dict[ClassicFormat, ClassicCodec] = {
    "JPEG": ClassicCodec(
        label="JPEG",
        suffix=".jpg",
        settings=_QUALITIES,
        curve=(2, 5, 8, 12, 18, 26, 38, 52, 68, 82, 92),
        write=_saver("JPEG", _JPEG),
        version=partial(_feature, "libjpeg-turbo", "libjpeg_turbo"),
        options=_JPEG,
    ),
    "WEBP": ClassicCodec(
        label="WebP",
        suffix=".webp",
        settings=_QUALITIES,
        curve=(1, 4, 10, 20, 35, 50, 65, 78, 88, 95),
        write=_saver("WEBP", _WEBP),
        version=partial(_feature, "libwebp", "webp"),
        options=_WEBP,
    ),
    "AVIF": ClassicCodec(
        label="AVIF",
        suffix=".avif",
        settings=_QUALITIES,
        curve=(10, 20, 30, 40, 50, 60, 70, 80),
        write=_saver("AVIF", _AVIF),
        version=_avif_version,
        options=_AVIF,
    ),
    "JPEG2000": ClassicCodec(
        label="JPEG 2000",
        suffix=".j2k",
        settings=tuple(range(400, 7, -1)),
        curve=(240, 160, 110, 75, 50, 34, 23, 16),
        write=_write_jpeg2000,
        version=partial(_feature, "OpenJPEG", "jpg_2000"),
        options={**_JPEG2000, "setting": "compression ratio"},
    ),
    "JXL": ClassicCodec(
        label="JPEG XL",
        suffix=".jxl",
        settings=_QUALITIES,
        curve=(2, 8, 16, 28, 40, 55, 70, 80, 87),
        write=_write_jxl,
        version=_jxl_version,
        options=_JXL,
        read=_read_jxl,
    ),
    "VVC": ClassicCodec(
        label="VVC",
        suffix=".vvc",
        settings=tuple(range(63, -1, -1)),
        curve=(47, 42, 37, 32, 27),
        write=vvc.write,
        version=vvc.version,
        options=vvc.OPTIONS,
        read=vvc.read,
    ),
}
"""All classic codecs, by key."""
