"""Encoding of pictures to ``.mpa`` bytes: preparation one by one, coding as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mpa_core.arguments import as_flag, as_metadata, as_quality
from mpa_core.base.padding import pad
from mpa_core.bitstream.container import STREAM_NAMES, Container, pack, quantize_quality
from mpa_core.bitstream.metadata import Metadata, to_chunks
from mpa_core.coding.latents import CodedLatents
from mpa_core.coding.model import MPAModel
from mpa_core.coding.profiles import NUMBERS, EntropyProfiles, Profile
from mpa_core.io.icc import means_srgb
from mpa_core.io.images import ImageLike, to_rgb_tensor


class Prepared(NamedTuple):
    """A picture ready to be coded."""

    x: Tensor
    """``[1, 3, H, W]`` in [0, 1], padded to the stride, on the model's device."""
    height: int
    width: int
    """Width; like the height, in pixels and without the padding."""
    metadata: Metadata


class PictureEncoder:
    """Encodes pictures with one set of options; the arguments are those of ``codec.encode``.

    Raises:
        QualityError: the quality is no number, or outside the base's levels.
        ModelChangedError: the weights are no longer those of the base, or the model is in training
            mode.
        ConfigError: another argument has a value that is not allowed.
    """

    def __init__(
        self,
        model: MPAModel,
        profiles: EntropyProfiles,
        quality: float,
        *,
        profile: Profile,
        reproducible: bool,
        icc_profile: bytes | None,
        exif: bytes | None,
        orient: bool,
    ) -> None:
        profiles.require_unchanged(model)
        self.model = model
        self.networks = profiles.networks(profile)
        self.prefix = profiles.prefix(profile)
        self.number = NUMBERS[profile]
        self.quality = quantize_quality(as_quality(quality, model.config.quality_levels))
        self.reproducible = as_flag(reproducible, "reproducible")
        self.analysis = profiles.precise() if self.reproducible else None
        self.icc_profile = as_metadata(icc_profile, "icc_profile")
        self.exif = as_metadata(exif, "exif")
        self.orient = orient

    def prepare(self, image: ImageLike) -> Prepared:
        """Convert one picture to the model's input, padded to the stride.

        Raises:
            ImageError: not a picture, or one whose meaning is ambiguous.
        """
        source = to_rgb_tensor(image, exif=self.exif, orient=self.orient)
        x = source.tensor.to(self.model.device)
        height, width = x.shape[-2:]
        x = pad(x, self.model.config.hyper_stride)
        icc = source.icc_profile if self.icc_profile is None else self.icc_profile
        # A file without a profile is sRGB.
        metadata = Metadata(None if icc and means_srgb(icc) else icc, source.exif)
        return Prepared(x, height, width, metadata)

    def encode(self, pictures: Sequence[Prepared]) -> list[bytes]:
        """Code pictures of one padded size as one batch, and return the file of each."""
        x = pictures[0].x if len(pictures) == 1 else torch.cat([each.x for each in pictures])
        coded = self.model.code(x, self.quality, self.networks, self.analysis)
        return [self._file(each, latents) for each, latents in zip(pictures, coded, strict=True)]

    def _file(self, picture: Prepared, latents: CodedLatents) -> bytes:
        assert latents.symbols_crc is not None
        return pack(
            Container(
                fingerprint=self.prefix,
                profile=self.number,
                quality=self.quality,
                width=picture.width,
                height=picture.height,
                streams=tuple(getattr(latents, name) for name in STREAM_NAMES[self.number]),
                symbols_crc=latents.symbols_crc,
                # The output of zlib differs between machines.
                chunks=to_chunks(picture.metadata, compress=not self.reproducible),
            )
        )
