"""Encoding of pictures to ``.mpa`` bytes: preparation one by one, coding as a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mpa_core.arguments import as_flag, as_metadata, as_quality
from mpa_core.base.padding import pad, unpad
from mpa_core.bitstream.container import STREAM_NAMES, Container, pack, quantize_quality
from mpa_core.bitstream.metadata import Metadata, to_chunks
from mpa_core.bitstream.parsed import parse_file
from mpa_core.coding.effort.annealing import Progress, search, without_gradients
from mpa_core.coding.effort.distortion import Distortion, pixel_weights
from mpa_core.coding.effort.ladder import Schedule, schedule_of
from mpa_core.coding.effort.readers import MAIN_READER, Reader
from mpa_core.coding.latents import CodedLatents, encode_latents
from mpa_core.coding.model import MPAModel
from mpa_core.coding.picture import CodedPicture
from mpa_core.coding.profiles import NUMBERS, EntropyProfiles, Profile
from mpa_core.coding.targets.fidelity import Fidelity, measure_against, require_library
from mpa_core.coding.targets.reach import reach
from mpa_core.coding.targets.target import Goal, Target
from mpa_core.errors import ConfigError, TargetError
from mpa_core.io.icc import means_srgb
from mpa_core.io.images import ImageLike, to_pil, to_rgb_tensor

_MOST_SEARCHES = 4
"""Number of searches of symbols for one target."""


class Prepared(NamedTuple):
    """A picture ready to be coded."""

    x: Tensor
    """``[1, 3, H, W]`` in [0, 1], padded to the stride, on the model's device."""
    height: int
    width: int
    """Width; like the height, in pixels and without the padding."""
    metadata: Metadata
    importance: Tensor | None
    """Weight of each pixel, ``[1, 1, H, W]``, 0 in the padding; None where nothing is searched."""


class PictureEncoder:
    """Encodes pictures with one set of options.

    Args:
        model, profiles: the base.
        goal: the quality, or a target that each picture has to meet.
        effort, importance, progress, profile, reproducible, icc_profile, exif, orient: as in
            ``codec.encode``.
        readers: the readers that a search is for; None is the main path's.

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
        goal: Goal,
        *,
        effort: int = 0,
        readers: Sequence[Reader] | None = None,
        importance: Any = None,
        progress: Progress | None = None,
        profile: Profile,
        reproducible: bool,
        icc_profile: bytes | None,
        exif: bytes | None,
        orient: bool,
    ) -> None:
        profiles.require_unchanged(model)
        self.model = model
        self.profiles = profiles
        self.networks = profiles.networks(profile)
        self.prefix = profiles.prefix(profile)
        self.number = NUMBERS[profile]
        self.levels = model.config.quality_levels
        if isinstance(goal, Target):
            require_library(goal)
            self.goal: Goal = goal
        else:
            self.goal = quantize_quality(as_quality(goal, self.levels))
        self.reproducible = as_flag(reproducible, "reproducible")
        self.schedule = schedule_of(effort)
        self.importance = importance
        self.progress = progress
        self.readers = (MAIN_READER,) if readers is None else readers
        for name, value in (("reader", readers), ("importance", importance)):
            if self.schedule is None and value is not None:
                raise ConfigError(
                    f"{name} is given, but effort is 0, which takes the symbols as they come; give "
                    "effort=1 to 9 with it"
                )
        if self.schedule is not None and self.reproducible:
            raise ConfigError(
                f"reproducible=True is given with effort={effort}, but a search ends elsewhere on "
                "another machine; give effort=0, or leave reproducible out (every file decodes the "
                "same everywhere)"
            )
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
        importance = None
        if self.schedule is not None:
            importance = pixel_weights(x, height, width, self.importance)
        return Prepared(x, height, width, metadata, importance)

    @property
    def batches(self) -> bool:
        """Whether pictures are coded together; where anything is searched, it is one by one."""
        return not isinstance(self.goal, Target) and self.schedule is None

    def encode(self, pictures: Sequence[Prepared]) -> list[bytes]:
        """Code pictures of one padded size as one batch, and return the file of each.

        Raises:
            TargetError: a picture cannot meet the target.
            ImageError: a picture is too small for the target's measure.
        """
        if isinstance(self.goal, Target):
            return [self._reach(self.goal, picture) for picture in pictures]
        if self.schedule is not None:
            return [self._search(self.schedule, picture, self.goal) for picture in pictures]
        return self._code(pictures, self.goal)

    def _code(self, pictures: Sequence[Prepared], quality: float) -> list[bytes]:
        x = pictures[0].x if len(pictures) == 1 else torch.cat([each.x for each in pictures])
        coded = self.model.code(x, quality, self.networks, self.analysis)
        return [
            self._file(each, latents, quality)
            for each, latents in zip(pictures, coded, strict=True)
        ]

    def _search(self, schedule: Schedule, picture: Prepared, quality: float) -> bytes:
        # Gradients need ordinary tensors, whatever mode the caller is in.
        with torch.inference_mode(False), torch.no_grad():
            assert picture.importance is not None
            x, importance = picture.x.clone(), picture.importance.clone()
            model = without_gradients(self.model)
            size = picture.height, picture.width
            distortion = Distortion(model, x, importance, size, self.readers)
            y, z = search(distortion, model, x, quality, schedule, self.progress)
        at = self.model.base.quality(quality, y)
        (coded,) = encode_latents(self.model.base, y, z, at, self.networks)
        return self._file(picture, coded, quality)

    def _reach(self, target: Target, picture: Prepared) -> bytes:
        """Reach the target without a search of symbols first, which finds about the quality."""
        measure = None if target.of_size else self._measure(target, picture)
        pixels = picture.width * picture.height

        def plain(quality: float) -> bytes:
            return self._code([picture], quality)[0]

        found = reach(target, plain, measure, pixels=pixels, levels=self.levels)
        schedule = self.schedule
        if schedule is None:
            return found
        first = parse_file(found, max_pixels=None).container.quality
        with suppress(TargetError):
            searched = reach(
                target,
                lambda quality: self._search(schedule, picture, quality),
                measure,
                pixels=pixels,
                levels=self.levels,
                first=first,
                most=_MOST_SEARCHES,
            )
            if target.of_size or len(searched) < len(found):
                found = searched
        return found

    def _measure(self, target: Target, picture: Prepared) -> Callable[[bytes], float]:
        """Return a function that measures what the main path makes of a file."""
        original = to_pil(unpad(picture.x, picture.height, picture.width))
        measure = measure_against(original, cast(Fidelity, target.kind))

        def of_file(data: bytes) -> float:
            coded = CodedPicture(parse_file(data, max_pixels=None), self)
            return measure(coded.render(orient=False))

        return of_file

    def _file(self, picture: Prepared, latents: CodedLatents, quality: float) -> bytes:
        assert latents.symbols_crc is not None
        return pack(
            Container(
                fingerprint=self.prefix,
                profile=self.number,
                quality=quality,
                width=picture.width,
                height=picture.height,
                streams=tuple(getattr(latents, name) for name in STREAM_NAMES[self.number]),
                symbols_crc=latents.symbols_crc,
                # The output of zlib differs between machines.
                chunks=to_chunks(picture.metadata, compress=not self.reproducible),
            )
        )
