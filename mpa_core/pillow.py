"""``.mpa`` files for Pillow, and for all that opens pictures with it: ``import mpa_core.pillow``.

After the import ``Image.open("x.mpa")`` reads them and ``image.save("x.mpa", quality=4.5)`` writes
them. A picture opened tells its size, ICC profile and EXIF from the header alone. Its pixels are
decoded when they are first used, by the paths that :func:`decode_by` or the environment variable
``MPA_MIX`` names. torch is imported then, and not before.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from mpa_core.bitstream.container import MAGIC, Header, check_pixels, cut, peek_header
from mpa_core.bitstream.metadata import Metadata, salvage_chunks
from mpa_core.bitstream.parsed import Errors, ParsedFile, parse_file
from mpa_core.codecs import DEFAULT_BASE, Codecs, FileDecoder, bundled_folder, load_needed
from mpa_core.errors import (
    BaseMismatchError,
    BitstreamError,
    ImageError,
    MetadataWarning,
    MixError,
    ModelChangedError,
)
from mpa_core.io.orientation import orientation_of, upright_exif, upright_size
from mpa_core.mix import MAIN, Mix

if TYPE_CHECKING:
    from mpa_core.codec import MPACodec

__all__ = ["FORMAT", "MIME_TYPE", "MPAImageFile", "decode_by"]

FORMAT = "MPA"
"""Pillow's name of the format."""
MIME_TYPE = "image/x-mpa"
"""The MIME type; it is not registered with IANA, as the ``x-`` says."""

_MIX, _BASE = "MPA_MIX", "MPA_BASE"
_BLOCK = 4096
"""Bytes that are read at a time; the header of a file with 255 chunks is shorter."""
_ENCODE_OPTIONS = (
    *("quality", "target_size", "target_bpp", "target_psnr", "target_ms_ssim", "effort", "reader"),
    *("importance", "progress", "profile", "reproducible", "icc_profile", "exif", "orient"),
)


class _Decoders:
    """What decodes: as the program has said, or else one for each state of the environment."""

    said: FileDecoder | None = None
    by_environment: dict[tuple[str | None, str | None], FileDecoder] = {}  # noqa: RUF012


_encoders = Codecs()


def decode_by(
    mix: Mix | str | Mapping[str, float] | None = None,
    *,
    base: str | Path | None = None,
    load: Sequence[str] = (),
) -> None:
    """Choose the paths by which Pillow decodes ``.mpa`` files, for all threads, from now on.

    Pictures that were opened and not yet decoded follow it, too. A child that is forked inherits
    the choice; one that is started afresh (``spawn``) knows the environment alone.

    Args:
        mix: as ``codec.decode`` takes it, for example ``"cls"`` or ``{"cls": 0.4}``; None takes
            what the environment variable ``MPA_MIX`` says, or else the main path.
        base: the base of all files, as ``MPACodec.from_pretrained`` takes it; None takes what
            ``MPA_BASE`` says, or else the bundled base that made a file.
        load: paths to load first, each ``SOURCE`` or ``NAME=SOURCE``, as ``codec.load_paths`` takes
            them. Installed paths with weights for the base load by themselves.

    Raises:
        MixError: ``mix``, or the value of ``MPA_MIX``, is not valid.
        ConfigError, PathNotFoundError: paths that would be called the same, or are not installed.
    """
    _Decoders.said = _decoder(
        mix if mix is not None else _mix_of_environment(),
        base if base is not None else os.environ.get(_BASE) or None,
        load,
    )


def _decoder(mix: Any, base: str | Path | None, load: Sequence[str] = ()) -> FileDecoder:
    named_by = f"{_BASE} or decode_by(base=…)"
    return FileDecoder(mix, base=base, load=load, named_by=named_by)


def _mix_of_environment() -> Mix | None:
    text = os.environ.get(_MIX)
    if not text:
        return None
    try:
        return Mix.of(text)
    except MixError as error:
        raise MixError(f"the environment variable {_MIX}: {error}") from error


def _current_decoder() -> FileDecoder:
    if _Decoders.said is not None:
        return _Decoders.said
    key = os.environ.get(_MIX), os.environ.get(_BASE)
    found = _Decoders.by_environment.get(key)
    if found is None:
        made = _decoder(_mix_of_environment(), key[1] or None)
        # Of two threads that make one at the same time, both take the first.
        found = _Decoders.by_environment.setdefault(key, made)
    return found


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what is wrong with a file as Pillow's callers expect it."""
    try:
        yield
    except ModelChangedError:  # a mistake of the program, not of the file
        raise
    except (BitstreamError, BaseMismatchError) as error:
        raise OSError(str(error)) from error


class MPAImageFile(ImageFile.ImageFile):
    """An ``.mpa`` file that ``Image.open`` has opened: upright, of mode RGB.

    ``info`` has ``icc_profile`` and ``exif``, whose orientation is 1, as the SDK's decoder gives
    them. Opening reads the header and the metadata; :meth:`load` reads all and decodes.

    If ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is set, a damaged file gives the best picture to be
    had of it and a :class:`mpa_core.errors.DamageWarning`.
    """

    format = FORMAT
    format_description = "MPA, learned image coding for people and machines"

    def _open(self) -> None:
        assert self.fp is not None
        with _as_os_error():
            try:
                header, metadata = _read_beginning(self.fp)
            except BitstreamError:
                if _errors() == "strict":
                    raise
                self.fp.seek(0)
                file = parse_file(self.fp.read(), errors="conceal", max_pixels=_max_pixels())
                self._describe(file.container.width, file.container.height, file.metadata)
            else:
                _check_pixels(header)
                self._describe(header.width, header.height, metadata)

    def _describe(self, width: int, height: int, metadata: Metadata) -> None:
        self._mode = "RGB"
        height, width = upright_size(height, width, orientation_of(metadata.exif))
        self._size = (width, height)
        if metadata.icc_profile is not None:
            self.info["icc_profile"] = metadata.icc_profile
        if metadata.exif is not None:
            self.info["exif"] = upright_exif(metadata.exif)
        self.tile = [("raw", (0, 0, *self._size), 0, self._mode)]  # type: ignore[list-item]

    def load(self) -> Any:
        """Decode the pixels, if that is not done yet.

        Raises:
            OSError: the file is damaged, or its base is neither bundled nor named; the message is
                the SDK's line about it.
            MixError, PathNotFoundError, CheckpointError: the paths or the base that were chosen
                cannot be used.
        """
        if self.tile:
            with _as_os_error():
                file = self._parsed(_errors())
                decoder = _current_decoder()
                codec = decoder.codecs.for_fingerprint(file.container.fingerprint)
                picture = codec.open(file).render(decoder.mix)
            # Of a damaged file the header may have been put right meanwhile.
            self._describe(file.container.width, file.container.height, file.metadata)
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = io.BytesIO(picture.tobytes())
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Do nothing: the decoded pixels begin where reading begins.

        That it exists tells ``ImageFile.Parser`` to wait for the whole file.
        """

    def verify(self) -> None:
        """Check the whole file but the symbols in it, without decoding, and close it.

        Raises:
            OSError: the file is damaged.
        """
        with _as_os_error():
            self._parsed("strict")
        super().verify()

    def _parsed(self, errors: Errors) -> ParsedFile:
        if self.fp is None:
            raise ValueError("operation on a closed image: open it again")
        self.fp.seek(0)
        return parse_file(self.fp.read(), errors=errors, max_pixels=_max_pixels())


def _read_beginning(file: IO[bytes]) -> tuple[Header, Metadata]:
    """Read the header and the metadata behind it, as far as they are there, and no more."""
    data = bytearray(file.read(_BLOCK))
    header = peek_header(data)
    end = header.size + sum(header.chunk_lengths.values())
    # In blocks, since a hostile header may promise more than there is memory.
    while len(data) < end and (block := file.read(16 * _BLOCK)):
        data += block
    chunks = {
        name: value
        for name, value in cut(bytes(data[:end]), header).chunks.items()
        if len(value) == header.chunk_lengths[name]
    }
    # Of damage, decoding tells; a picture without its metadata can still be described.
    metadata, _ = salvage_chunks(chunks)
    return header, metadata


def _errors() -> Errors:
    return "conceal" if ImageFile.LOAD_TRUNCATED_IMAGES else "strict"


def _max_pixels() -> int | None:
    """Return the pixels beyond which Pillow refuses a picture; from half as many on it warns."""
    return None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _check_pixels(header: Header) -> None:
    """Refuse pictures that are too large with the padding that decoding them needs.

    ``Image.open`` itself counts the pixels without it.
    """
    try:
        check_pixels(header, _max_pixels())
    except BitstreamError as error:
        raise Image.DecompressionBombError(
            f"the picture is {header.width}x{header.height} pixels, with its padding too many for "
            f"PIL.Image.MAX_IMAGE_PIXELS, {Image.MAX_IMAGE_PIXELS}; raise that if you trust the "
            "file"
        ) from error


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


# ---------------------------------------------------------------------- writing


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:  # noqa: ARG001
    said = image.encoderinfo
    options = {name: said[name] for name in _ENCODE_OPTIONS if name in said}
    if isinstance(options.get("exif"), Image.Exif):
        options["exif"] = options["exif"].tobytes() if len(options["exif"]) else b""
    for name in ("icc_profile", "exif"):
        if name in options and options[name] is None:
            options[name] = b""  # as Pillow's writers mean it
    if said.get("xmp"):
        warnings.warn(
            MetadataWarning("an .mpa file has no place for XMP; it was left out"), stacklevel=4
        )
    codec = _encoder(said.get("base"), options.get("reader"))
    try:
        data = codec.encode(image, **options)
    except ImageError as error:
        raise OSError(f"cannot write the picture as {FORMAT}: {error}") from error
    file.write(data)


def _encoder(base: str | Path | None, reader: Any) -> MPACodec:
    """Return the codec of a base, with the paths of the readers."""
    if isinstance(base, Path):
        base = str(base.absolute())
    codec = _encoders.for_base(base or os.environ.get(_BASE) or bundled_folder(DEFAULT_BASE))
    names = (reader,) if isinstance(reader, str) else reader if isinstance(reader, Mapping) else ()
    load_needed(codec, (), [name for name in names if name != MAIN])
    return codec


Image.register_open(FORMAT, MPAImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".mpa")
Image.register_mime(FORMAT, MIME_TYPE)
