"""A coded picture: one ``.mpa`` file, parsed and checked once, rendered as often as wanted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from mpa_core import checkpoints
from mpa_core.arguments import as_choice
from mpa_core.base.padding import padded_size, unpad
from mpa_core.bitstream.container import Container
from mpa_core.bitstream.parsed import ParsedFile
from mpa_core.coding.latents import CodedLatents, DecodedLatents, decode_latents
from mpa_core.coding.model import MPAModel
from mpa_core.coding.profiles import EntropyProfiles, Profile, profile_of
from mpa_core.errors import BaseMismatchError, BitstreamError, CheckpointError, DamageWarning
from mpa_core.io.images import to_pil
from mpa_core.io.orientation import mix_as_stored, upright, upright_exif
from mpa_core.mix import Mix
from mpa_core.runtime.caller import warn_caller
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import usual_defaults

Output = Literal["pil", "tensor", "array"]
"""Kind of a rendered picture: a PIL image, a float tensor or an array of bytes."""
MixLike = Mix | str | Mapping[str, float]
"""Values that :meth:`mpa_core.mix.Mix.of` takes."""


class Decoder(Protocol):
    """The parts of a codec that a coded picture needs to decode itself."""

    model: MPAModel
    profiles: EntropyProfiles


class CodedPicture:
    """A picture in an ``.mpa`` file, as ``codec.open`` returns it.

    The facts of the header are available at once. The latents are decoded on first use and kept, so
    that every further rendering costs the synthesis alone. Several threads may use one coded
    picture at the same time.

    Args:
        file: the parsed file.
        codec: the codec that decodes it. The paths loaded and the device are those at the time of
            each call.

    Raises:
        BaseMismatchError: the file was encoded by another base.
        BitstreamError: the file's quality is above the base's number of levels.
    """

    def __init__(self, file: ParsedFile, codec: Decoder) -> None:
        _check_origin(file.container, codec.profiles)
        self.file = file
        """The parsed file: header, streams and metadata."""
        self._codec = codec
        self._latents: DecodedLatents | None = None
        self._warned = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"CodedPicture({self.width}x{self.height}, quality={self.quality:g}, "
            f"{self.file_size} bytes)"
        )

    # ------------------------------------------------------------------ what the file says

    @property
    def width(self) -> int:
        """Width of the picture in pixels, as shown upright."""
        return self.file.upright_size[1]

    @property
    def height(self) -> int:
        """Height of the picture in pixels, as shown upright."""
        return self.file.upright_size[0]

    @property
    def quality(self) -> float:
        """The quality of the encoding, from 1 to the base's number of levels."""
        return self.file.container.quality

    @property
    def profile(self) -> Profile:
        """The entropy profile, ``"exact"`` or ``"float"``."""
        return profile_of(self.file.container.profile)

    @property
    def orientation(self) -> int:
        """EXIF orientation of the stored pixels, from 1 (upright) to 8."""
        return self.file.orientation

    @property
    def icc_profile(self) -> bytes | None:
        """ICC profile of the colours; None for sRGB."""
        return self.file.metadata.icc_profile

    @property
    def exif(self) -> bytes | None:
        """The stored EXIF block, beginning with its TIFF header; None if the file has none."""
        return self.file.metadata.exif

    @property
    def file_size(self) -> int:
        """Size of the whole file in bytes."""
        return self.file.file_size

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel of the picture."""
        return 8 * self.file_size / (self.width * self.height)

    @property
    def damage(self) -> tuple[str, ...]:
        """One sentence for each fault of the file that was found so far.

        Empty for an intact file, and where damage is an error (``errors="strict"``). Faults of the
        symbols in the streams are known only after the latents were decoded.
        """
        found = self._latents
        return self.file.damage if found is None else (*self.file.damage, *found.damage[0])

    # ------------------------------------------------------------------ decoding

    @usual_defaults()
    @normal_tensors()
    def render(
        self, mix: MixLike | None = None, *, output: Output = "pil", orient: bool = True
    ) -> Any:
        """Reconstruct the picture.

        Args:
            mix: which paths the features take: a :class:`Mix`, a path's name (``"cls"``) or shares
                by path (``{"cls": 0.4}``); None is the main path.
            output: ``"pil"`` (with ICC profile and EXIF in ``info``), ``"array"`` uint8 ``[H, W,
                3]``, or ``"tensor"`` float ``[3, H, W]`` in [0, 1] on the codec's device.
            orient: turn the result upright if the file's EXIF states another orientation, and take
                region masks of ``mix`` on the upright view. False leaves pixels, EXIF and masks as
                stored.

        Returns:
            The picture, of the kind that ``output`` names.

        Raises:
            DesyncError: the decoded symbols are not those that were coded.
            BitstreamError: the streams are damaged or do not belong to this picture.
            ModelChangedError: the codec's weights are no longer those of its base.
            MixError, PathNotFoundError: ``mix`` does not fit the picture or the paths loaded.
            ConfigError: another argument has a value that is not allowed.

        Warns:
            DamageWarning: the file is damaged and was opened with ``errors="conceal"``; only the
                first rendering warns.
        """
        as_choice(output, "output", ("pil", "tensor", "array"))
        stored = self.stored_mix(mix, orient=orient)
        model = self._codec.model
        self._codec.profiles.require_unchanged(model)
        size = (self.file.container.height, self.file.container.width)
        latents = self._decoded()
        with torch.inference_mode():  # the result is a new tensor
            y_hat = latents.y_hat.to(model.device)
            quality = model.base.quality(self.quality, y_hat)
            x_hat = model.reconstruct(y_hat, quality, stored, image_size=size)[0]
        self.warn_of_damage()
        return self.presented(x_hat, output=output, orient=orient)

    @usual_defaults()
    @normal_tensors()
    def latents(self) -> Tensor:
        """Return a copy of ``y_hat`` ``[1, M, h, w]``, from which all paths reconstruct.

        Raises:
            DesyncError, BitstreamError, ModelChangedError: as :meth:`render`.
        """
        self._codec.profiles.require_unchanged(self._codec.model)
        return self._decoded().y_hat.to(self._codec.model.device, copy=True)

    # ------------------------------------------------------------------ for batches of pictures

    @property
    def coded(self) -> CodedLatents:
        """The streams, with the shape and the checksum that decoding them needs."""
        container = self.file.container
        stride = self._codec.profiles.config.hyper_stride
        height, width = padded_size(container.height, container.width, stride)
        streams = container.named_streams
        return CodedLatents(
            streams["y"], streams["z"], (height // stride, width // stride), container.symbols_crc
        )

    def stored_mix(self, mix: MixLike | None, *, orient: bool) -> Mix | None:
        """Return ``mix`` for the pixels as stored, its region masks turned as the picture is.

        Args:
            mix: as :meth:`render` takes it.
            orient: whether the masks of ``mix`` are given on the upright view.

        Raises:
            MixError: ``mix`` is not valid, or a mask does not have the size of the upright view.
        """
        container = self.file.container
        return mix_as_stored(
            None if mix is None else Mix.of(mix),
            self.orientation if orient else 1,
            container.height,
            container.width,
        )

    def keep(self, latents: DecodedLatents) -> None:
        """Keep latents of this picture alone that were decoded elsewhere, in a batch."""
        self._latents = latents

    def presented(self, x_hat: Tensor, *, output: Output, orient: bool) -> Any:
        """Convert ``x_hat`` ``[3, H, W]``, as synthesised, to the result of :meth:`render`."""
        container = self.file.container
        x_hat = unpad(x_hat, container.height, container.width)
        if self.damage:
            x_hat = x_hat.nan_to_num(0.5)  # wrong symbols can be of any size
        x_hat = upright(x_hat, self.orientation if orient else 1)
        if output == "tensor":
            return x_hat
        picture = to_pil(x_hat)
        if output == "array":
            return np.array(picture)
        if self.icc_profile is not None:
            picture.info["icc_profile"] = self.icc_profile
        if self.exif is not None:
            picture.info["exif"] = upright_exif(self.exif) if orient else self.exif
        return picture

    def warn_of_damage(self, name: str = "") -> None:
        """Warn of :attr:`damage` once, at the line that called the SDK, beginning with ``name``."""
        damage = self.damage
        if damage and not self._warned:
            self._warned = True
            warn_caller(DamageWarning(name + "; ".join(damage)))

    def _decoded(self) -> DecodedLatents:
        # Inference mode is faster; a caller that returns the latents to the user copies them.
        with self._lock, torch.inference_mode():
            if self._latents is None:
                codec = self._codec
                self._latents = decode_latents(
                    codec.model.base,
                    [self.coded],
                    self.quality,
                    codec.profiles.networks(self.profile),
                    conceal=self.file.errors == "conceal",
                )
            return self._latents


def _check_origin(container: Container, profiles: EntropyProfiles) -> None:
    own = profiles.prefix(profile_of(container.profile))
    if container.fingerprint != own:
        identity = f"{own.hex()}…" if own else "which has no exact profile"
        raise BaseMismatchError(
            f"the file was encoded by base {container.fingerprint.hex()}…, this codec is "
            f"{profiles.name!r} ({identity}); decode it with the base that encoded it"
            + _known_base(container.fingerprint)
        )
    if container.quality > profiles.config.quality_levels:
        raise BitstreamError(
            f"the file has quality {container.quality:g}, the base ends at "
            f"{profiles.config.quality_levels}; the file is damaged"
        )


def _known_base(prefix: bytes) -> str:
    """Return a hint on how to load the bundled base with this fingerprint; empty without one."""
    name = None
    with suppress(CheckpointError):  # this message is not about a damaged installation
        name = checkpoints.bundled_base_of(prefix)
    return f': MPACodec.from_pretrained("{name}")' if name else ""
