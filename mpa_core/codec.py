"""MPACodec: what a user holds. Pictures to ``.mpa`` bytes, bytes to pictures, paths in and out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from mpa_core import checkpoints
from mpa_core.arguments import (
    as_choice,
    as_device,
    as_flag,
    as_limit,
    as_metadata,
    as_quality,
    as_sequence,
    as_text,
    as_whole,
    expect,
    shown,
)
from mpa_core.base.gains import Quality
from mpa_core.base.tinylic.exact.fixed import Format
from mpa_core.bitstream.container import (
    MAX_PIXELS,
    STREAM_NAMES,
    Container,
    pack,
    quantize_quality,
)
from mpa_core.bitstream.metadata import Metadata, from_chunks, to_chunks
from mpa_core.coding.model import MPAModel
from mpa_core.coding.opened import open_file
from mpa_core.coding.profiles import NUMBERS, EntropyProfiles, Profile
from mpa_core.errors import (
    ConfigError,
    DamageWarning,
    PathNotFoundError,
)
from mpa_core.io.icc import means_srgb
from mpa_core.io.images import ImageLike, to_pil, to_rgb_tensor
from mpa_core.io.orientation import mix_as_stored, orientation_of, upright, upright_exif
from mpa_core.mix import Mix
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.hookspecs import RESERVED_NAMES
from mpa_core.plugins.registry import registry
from mpa_core.presets import preset
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults

if TYPE_CHECKING:
    from mpa_core.checkpoints.meta import StorageType

Output = Literal["pil", "tensor", "array"]


class MPACodec:
    """A base codec and the task paths loaded on it.

    Make one with :meth:`from_pretrained` or :meth:`from_preset`.

    Args:
        model: float32, with CDF tables (``model.update()``); it is put in eval mode. Once its
            weights change, they are another base and take a codec of their own.
        name: what messages and paths call this base.
        formats: of the exact profile (``mpa exact`` finds them on photos); None takes those that
            fit any input.

    Raises:
        CheckpointError: ``formats`` are not for this base, or the model has no CDF tables or
            tensors of a type that no base has.
        ConfigError: ``model`` is no :class:`MPAModel`, or ``name`` no text.
    """

    @usual_defaults()
    @normal_tensors()
    def __init__(
        self, model: MPAModel, *, name: str, formats: Mapping[str, Format] | None = None
    ) -> None:
        expect(model, MPAModel, "model", "an MPAModel", ConfigError)
        self.model = model.eval()
        self.name = as_text(name, "name")
        self.profiles = EntropyProfiles(model, name, formats)
        """Entropy profiles: formats and fingerprint of the exact one."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the base: paths belong to it; of the weights as they are.

        Raises :class:`CheckpointError` for a type that no base has (after ``model.half()``).
        """
        return self.profiles.fingerprint_of(self.model)

    # ------------------------------------------------------------------ making and keeping

    @classmethod
    @normal_tensors()
    def from_pretrained(cls, id_or_folder: str | Path) -> Self:
        """Load a bundled base (``"mpa-small"``) or a folder that :meth:`save_pretrained` wrote.

        Raises:
            CheckpointError: nothing there, or files that are damaged or of another version.
        """
        loaded = checkpoints.load_base(id_or_folder)
        return cls(loaded.model, name=loaded.name, formats=loaded.formats)

    @classmethod
    @normal_tensors()
    def from_preset(cls, name: str, *, seed: int = 0) -> Self:
        """Random weights at a named size; the same seed gives the same weights.

        Raises:
            ConfigError: there is no such preset, or ``seed`` is no whole number from 0
                to 2**63 - 1.
        """
        config = preset(name)
        seed = as_whole(seed, "seed", least=0, most=2**63 - 1, error=ConfigError)
        with making_weights(seed):
            model = MPAModel(config)
            model.update()
        return cls(model, name=f"{name}-random-{seed}")

    def save_pretrained(
        self, folder: str | Path, *, dtype: StorageType = "float32", card: str | None = None
    ) -> None:
        """Write the base as a checkpoint folder (``docs/spec/checkpoint.md``); paths are separate.

        Raises:
            ModelChangedError: the weights are no longer those of this base.
            CheckpointError: weights that are not finite, or too large for ``dtype``.
            OutputError: the folder cannot be written; what was there is untouched.
        """
        model = self.model
        self.profiles.require_unchanged(model, coding=False)
        checkpoints.save_base(
            folder,
            model.config,
            model.frozen_state(),
            name=self.name,
            formats=self.profiles.formats,
            card=card,
            dtype=dtype,
        )

    @normal_tensors()
    def to(self, device: str | torch.device) -> Self:
        """Move base and paths to ``device``, a device of this machine such as ``"cuda:0"``.

        Raises:
            ConfigError: no device, or none that is here; nothing was moved. Element types are none:
                a codec computes in float32, since files and paths are for these very weights.
        """
        self.model.to(as_device(device))
        self.profiles.moved()
        return self

    # ------------------------------------------------------------------ paths

    @property
    def paths(self) -> tuple[str, ...]:
        """Local names of the side paths loaded; the main path is always there."""
        return tuple(self.model.paths)

    @normal_tensors()
    def load_path(self, source: str | Path, name: str | None = None) -> str:
        """Load a path's weights: by registered name (``"cls"``, ``"dist:cls"``), or from a folder.

        Args:
            source: a bare name whose plugin bundles weights for this base, or a path folder, said
                with a separator in it (``"./cls"``) or as a ``Path``.
            name: local name; None takes the path's own.

        Returns:
            The local name.

        Raises:
            PathNotFoundError: no such path, or its plugin has no weights for this base.
            BaseMismatchError: trained on another base.
            ModelChangedError: the codec's weights are no longer those of its base.
            CheckpointError, PluginError: weights or code that do not load, or a folder without a
                path in it.
        """
        loaded = checkpoints.load_path(checkpoints.resolve(source, checkpoints.path_on(self.name)))
        self.profiles.require_unchanged(self.model, coding=False)
        loaded.require_base(self.name, self.profiles.fingerprint)
        found = registry().load_class(f"{loaded.meta.plugin.distribution}:{loaded.meta.path_type}")
        return self.attach_path(loaded.build(found), name)

    def load_paths(self, sources: Sequence[str]) -> list[str]:
        """Load ``SOURCE`` or ``NAME=SOURCE`` each, as the command line says it; the local names.

        A source is what :meth:`load_path` takes, and it raises what that raises.
        """
        names = []
        for source in as_sequence(sources, "sources", "SOURCE or NAME=SOURCE", ConfigError):
            text = as_text(source, "a source")
            name, equals, place = text.partition("=")
            # A folder may have an equals sign in its name, too: "runs/lr=3".
            named = equals and name.isidentifier()
            names.append(self.load_path(place, name) if named else self.load_path(text))
        return names

    @normal_tensors()
    def attach_path(self, path: TaskPath, name: str | None = None) -> str:
        """Attach a path that is in memory, under ``name`` (its own if None); returns the name.

        Raises:
            ModelChangedError: the codec's weights are no longer those of its base.
            ConfigError: the name is taken or no identifier, or the path was built for other
                stages than this base has.
        """
        expect(path, TaskPath, "path", "a TaskPath", ConfigError)
        local = path.name if name is None else as_text(name, "name") or path.name
        reserved = local in RESERVED_NAMES or hasattr(self.model.paths, local)
        if not local.isidentifier() or (reserved and local not in self.model.paths):
            raise ConfigError(
                f"{local!r} cannot name a path: use an identifier such as 'det' "
                f"(taken by the SDK: {', '.join(sorted(RESERVED_NAMES))})"
            )
        if local in self.model.paths:
            raise ConfigError(
                f"a path {local!r} is loaded already; unload_path({local!r}) first, "
                "or load this one under another name"
            )
        found, offered = path.layout, self.model.config.decoder_path_stages
        if found != offered:
            built, needed = (", ".join(map(str, stages)) for stages in (found, offered))
            raise ConfigError(
                f"path {local!r} was built for stages {built}, this base offers {needed} "
                "(stage: width x depth); build it from model.config.decoder_path_stages"
            )
        self.profiles.require_unchanged(self.model, coding=False)
        self.model.paths[local] = path.eval().to(self.model.base.y_gains.gain)
        return local

    def unload_path(self, name: str) -> None:
        """Remove a path; the base is as it was.

        Raises:
            PathNotFoundError: it is not loaded.
        """
        if not isinstance(name, str) or name not in self.model.paths:
            loaded = ", ".join(self.paths) or "none"
            raise PathNotFoundError(f"no path {shown(name)} is loaded (loaded: {loaded})")
        del self.model.paths[name]

    def status(self) -> dict[str, Any]:
        """What is loaded, as plain data: base, fingerprint, parameters, paths, device.

        ``changed`` is None, or says what of the base has changed; it has no fingerprint then.
        """
        changed = self.profiles.change(self.model)
        count = sum(p.numel() for p in self.model.parameters())
        paths = {
            name: {
                "type": cast(TaskPath, path).name,
                "parameters": sum(p.numel() for p in path.parameters()),
            }
            for name, path in self.model.paths.items()
        }
        return {
            "base": self.name,
            "changed": changed,
            "fingerprint": None if changed else self.profiles.fingerprint,
            "exact_fingerprint": None if changed else self.profiles.exact_fingerprint,
            "parameters": count - sum(int(p["parameters"]) for p in paths.values()),  # type: ignore[call-overload]
            "quality_levels": self.model.config.quality_levels,
            "device": str(self._device),
            "paths": paths,
        }

    @property
    def _device(self) -> torch.device:
        return self.model.device

    # ------------------------------------------------------------------ coding

    @usual_defaults()
    @torch.inference_mode()
    def encode(
        self,
        image: ImageLike,
        quality: float = 4.5,
        *,
        profile: Profile = "exact",
        reproducible: bool = False,
        icc_profile: bytes | None = None,
        exif: bytes | None = None,
        orient: bool = True,
    ) -> bytes:
        """Compress one picture to the bytes of an ``.mpa`` file.

        Args:
            image: PIL image, array ``[H, W, 3]`` uint8, or float tensor ``[3, H, W]`` or
                ``[1, 3, H, W]`` in [0, 1]; any size from 1x1. Other modes: see
                :mod:`mpa_core.io.images`.
            quality: 1 (fewest bits) to 8, real; kept to 1/4096. A number of Python, numpy or a
                tensor without dimensions; text and True are none.
            profile: ``"exact"``: any machine decodes the same. ``"float"``: the streams of the
                paper's code, which decode on the kind of machine that wrote them.
            reproducible: compute the latents in float64, so that every machine writes the same
                bytes, too, but for latents within about 1e-12 of a rounding boundary. Without it a
                few symbols in a million may differ between machines; every file decodes the same
                everywhere either way. ICC profile and EXIF are not compressed then.
            icc_profile, exif: to carry along; None takes those of ``image``, ``b""`` leaves them
                out (:mod:`mpa_core.io.stripping` does so without changing how the picture looks). A
                profile that means sRGB is not stored: a file without a profile is sRGB.
            orient: turn the picture upright by the orientation its EXIF states (``exif`` if that
                states one, else its own), so that every reader sees it upright. False codes pixels
                and EXIF as they are.

        Raises:
            ImageError: not a picture, or one we refuse to guess about.
            QualityError: outside the base's levels, or no number.
            ModelChangedError: its weights are not this base's any more, or it is in training mode.
            ConfigError: another argument is none of what it may be.
        """
        self.profiles.require_unchanged(self.model)
        networks = self.profiles.networks(profile)
        quality = quantize_quality(as_quality(quality, self.model.config.quality_levels))
        icc_profile = as_metadata(icc_profile, "icc_profile")
        source = to_rgb_tensor(image, exif=as_metadata(exif, "exif"), orient=orient)
        x = source.tensor.to(self._device)
        height, width = x.shape[-2:]
        stride = self.model.config.hyper_stride
        # Repeating the last row and column costs fewest bits and never shows.
        x = F.pad(x, (0, -width % stride, 0, -height % stride), mode="replicate")
        analysis = self.profiles.precise() if as_flag(reproducible, "reproducible") else None
        coded = self.model.compress(x, quality, networks=networks, analysis=analysis)
        number = NUMBERS[profile]
        streams = {name: strings[0] for name, strings in zip("yz", coded["strings"], strict=True)}
        icc = source.icc_profile if icc_profile is None else icc_profile
        # A file without a profile is sRGB.
        metadata = Metadata(None if icc and means_srgb(icc) else icc, source.exif)
        return pack(
            Container(
                fingerprint=self.profiles.prefix(profile),
                profile=number,
                quality=quality,
                width=width,
                height=height,
                streams=tuple(streams[name] for name in STREAM_NAMES[number]),
                symbols_crc=coded["symbols_crc"][0],
                # What zlib makes of it depends on the machine.
                chunks=to_chunks(metadata, compress=not reproducible),
            )
        )

    @usual_defaults()
    @normal_tensors()
    def decode(
        self,
        data: bytes,
        mix: Mix | str | Mapping[str, float] | None = None,
        *,
        output: Output = "pil",
        errors: Literal["strict", "conceal"] = "strict",
        max_pixels: int | None = MAX_PIXELS,
        orient: bool = True,
    ) -> Any:
        """Reconstruct a picture from the bytes of an ``.mpa`` file.

        Args:
            data: the whole file.
            mix: which paths the features take: a :class:`Mix`, or what is short for one, a path's
                name (``"cls"``) or shares by path (``{"cls": 0.4}``); None is the main path.
            output: ``"pil"`` (with ICC profile and EXIF in ``info``), ``"array"`` uint8
                ``[H, W, 3]``, or ``"tensor"`` float ``[3, H, W]`` in [0, 1] on the codec's device.
            errors: what a damaged file gives: an error (``"strict"``), or the best picture that
                can be had of it and a :class:`mpa_core.errors.DamageWarning` (``"conceal"``).
            max_pixels: most pixels (width x height) to decode; None for no limit. Lower it for
                files from strangers: decoding takes some hundred bytes per pixel.
            orient: turn picture, array and tensor upright if the file's EXIF states that they are
                stored otherwise, and take region masks of ``mix`` on the upright view. False
                leaves pixels, EXIF and masks as stored.

        Raises:
            BitstreamError: not an ``.mpa`` file, or damaged.
            BaseMismatchError: encoded by another base, or the weights have changed.
            DesyncError: the decoded symbols are not those that were coded.
            MixError, PathNotFoundError: ``mix`` does not fit the picture or the paths loaded.
            ConfigError: another argument is none of what it may be.
        """
        as_choice(output, "output", ("pil", "tensor", "array"))
        as_choice(errors, "errors", ("strict", "conceal"))
        as_limit(max_pixels, "max_pixels")
        mix = None if mix is None else Mix.of(mix)
        self.profiles.require_unchanged(self.model)
        opened = open_file(data, self.profiles, errors=errors, max_pixels=max_pixels)
        container, damage = opened.container, opened.damage
        icc_profile, exif = from_chunks(container.chunks, damage)
        height, width = container.height, container.width
        orientation = orientation_of(exif) if orient else 1
        mix = mix_as_stored(mix, orientation, height, width)
        x_hat = self.model.decompress(
            **opened.coded, mix=mix, image_size=(height, width), damage=damage
        )["x_hat"][0, :, :height, :width]
        x_hat = upright(x_hat, orientation)
        if damage:
            warnings.warn(DamageWarning("; ".join(damage)), stacklevel=4)
        if output == "tensor":
            return x_hat
        picture = to_pil(x_hat)
        if output == "array":
            return np.array(picture)
        if icc_profile is not None:
            picture.info["icc_profile"] = icc_profile
        if exif is not None:
            picture.info["exif"] = upright_exif(exif) if orient else exif
        return picture

    @usual_defaults()
    @normal_tensors()
    def decode_latents(self, data: bytes) -> tuple[Container, Quality, Tensor]:
        """What all paths have in common: the file, its quality, and ``y_hat`` ``[1, M, h, w]``.

        ``model.base.synthesise(y_hat, quality, router)`` makes the padded picture of it.

        Raises:
            BitstreamError, BaseMismatchError, DesyncError: as :meth:`decode`.
        """
        self.profiles.require_unchanged(self.model)
        opened = open_file(data, self.profiles)
        quality, y_hat = self.model.decode_latents(**opened.coded)
        return opened.container, quality, y_hat
