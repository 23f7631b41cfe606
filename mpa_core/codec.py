"""The codec that a user works with: pictures to ``.mpa`` bytes, bytes to pictures, task paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from typing_extensions import Self

from mpa_core.arguments import as_choice, as_device, as_limit, as_text, as_whole, expect
from mpa_core.base.capabilities import Formats
from mpa_core.bitstream.container import MAX_PIXELS
from mpa_core.bitstream.parsed import Errors, ParsedFile, parse_file
from mpa_core.coding import many
from mpa_core.coding.effort.annealing import Progress
from mpa_core.coding.effort.tasks import ReaderTasks
from mpa_core.coding.encoding import PictureEncoder
from mpa_core.coding.model import MPAModel
from mpa_core.coding.picture import CodedPicture, MixLike, Output
from mpa_core.coding.profiles import EntropyProfiles, Profile
from mpa_core.coding.stored import StoredCodec
from mpa_core.coding.targets.target import as_goal
from mpa_core.errors import ConfigError, MPAError
from mpa_core.io.images import ImageLike
from mpa_core.paths.path import TaskPath
from mpa_core.presets import preset
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults


class MPACodec(StoredCodec):
    """A base codec and the task paths loaded on it.

    Make one with :meth:`from_pretrained` or :meth:`from_preset`.

    Args:
        model: float32, with CDF tables (``model.update()``); it is put in eval mode. If its weights
            change, they are another base and need a codec of their own.
        name: name of the base in messages and in paths that refer to it.
        formats: formats of the exact profile, by layer (``mpa exact`` finds them on photos); None
            takes those that fit any input.

    Raises:
        CheckpointError: ``formats`` are not for this base, or the model has no CDF tables or
            tensors of a type that no base has.
        ConfigError: ``model`` is no :class:`MPAModel`, ``name`` is no text, or ``formats`` are
            given for a base without an exact profile.
    """

    @usual_defaults()
    @normal_tensors()
    def __init__(
        self,
        model: MPAModel,
        *,
        name: str,
        formats: Formats | None = None,
        _fingerprints: tuple[str | None, str | None] = (None, None),
    ) -> None:
        expect(model, MPAModel, "model", "an MPAModel", ConfigError)
        self.model = model.eval()
        self.name = as_text(name, "name")
        self.profiles = EntropyProfiles(model, name, formats, _fingerprints)
        """The entropy profiles, with formats and fingerprints."""
        self._tasks = ReaderTasks()

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the base by its present weights; paths name it.

        Raises:
            CheckpointError: the weights are of a type that no base has (after ``model.half()``).
        """
        return self.profiles.fingerprint_of(self.model)

    # ------------------------------------------------------------------ making

    @classmethod
    @normal_tensors()
    def from_preset(cls, name: str, *, seed: int = 0) -> Self:
        """Make a codec with random weights at a named size; the same seed gives the same weights.

        Raises:
            ConfigError: there is no such preset, or ``seed`` is no whole number from 0 to 2**63 -
                1.
        """
        config = preset(name)
        seed = as_whole(seed, "seed", least=0, most=2**63 - 1, error=ConfigError)
        with making_weights(seed):
            model = MPAModel(config)
            model.update()
        return cls(model, name=f"{name}-random-{seed}")

    @normal_tensors()
    def to(self, device: str | torch.device) -> Self:
        """Move base and paths to ``device``, a device of this machine such as ``"cuda:0"``.

        Raises:
            ConfigError: ``device`` is no device, or does not exist here; nothing was moved. Element
                types are refused, too: a codec computes in float32, since files and paths are for
                these very weights.
        """
        self.model.to(as_device(device))
        self.profiles.moved()
        return self

    # ------------------------------------------------------------------ what it is

    def status(self) -> dict[str, Any]:
        """Return facts about what is loaded: base, fingerprint, parameters, paths, device.

        ``changed`` is None, or describes how the base has changed; the fingerprints are None then.
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
            "device": str(self.model.device),
            "paths": paths,
        }

    # ------------------------------------------------------------------ coding

    @usual_defaults()
    @torch.inference_mode()
    def encode(
        self,
        image: ImageLike,
        quality: float | None = None,
        *,
        target_size: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        target_ms_ssim: float | None = None,
        effort: int = 0,
        reader: str | Mapping[str, float] | None = None,
        importance: Any = None,
        progress: Progress | None = None,
        profile: Profile = "exact",
        reproducible: bool = False,
        icc_profile: bytes | None = None,
        exif: bytes | None = None,
        orient: bool = True,
    ) -> bytes:
        """Compress one picture to the bytes of an ``.mpa`` file.

        Args:
            image: PIL image, array ``[H, W, 3]`` uint8, or float tensor ``[3, H, W]`` or ``[1, 3,
                H, W]`` in [0, 1]; any size from 1x1. Other modes: see :mod:`mpa_core.io.images`.
            quality: real, from 1 (fewest bits) to the base's number of levels (8 at most); rounded
                to 1/4096. A number of Python or numpy or a tensor without dimensions; text and True
                are refused. None is 4.5, if no target is given.
            target_size, target_bpp: in place of ``quality``, the most that the whole file may have:
                bytes, or bits per pixel (at most 24). The file is at most 2 % or 64 bytes smaller,
                or of the highest quality. A search of at most eight encodings finds its quality,
                which ``codec.open(data).quality`` says.
            target_psnr, target_ms_ssim: likewise the least PSNR in dB or MS-SSIM of the 8-bit
                picture that the main path decodes. It is at most 0.05 dB better (of MS-SSIM,
                of ``-10 log10(1 - MS-SSIM)``) unless the file is of quality 1, or the measure jumps
                from one quality to the next, as that of small flat pictures does.
            effort: 0 codes the symbols as the analysis gives them; 1 to 9 search longer and longer,
                by gradients through the decoder, for fewer bits at the same squared error of the
                main path's picture. docs/how-to/sizes-and-effort.md has the costs. The same picture
                gives the same file on one machine with one number of threads.
            reader: for an ``effort`` of at least 1, the path that will read the file: the local
                name of a loaded one, or ``"main"``, which None means; or several with weights above
                0, relative to each other, as ``{"main": 1, "cls": 0.5}``. The search is for the
                picture that the path shows and, where its plugin has a loss for it
                (:meth:`mpa_core.tasks.Recipe.reader_loss`), for the task that reads it. Every path
                decodes the file.
            importance: for an ``effort`` of at least 1, the weight of each pixel's error, at least
                0: an array ``[H, W]``, tensor or PIL image of the upright picture's size.
            progress: called after each step of a search with the steps done and all steps; if it
                returns False, the search ends there and what was found is coded.
            profile: ``"exact"``: any machine decodes the same. ``"float"``: the streams of the
                paper's code, which decode on the kind of machine that wrote them.
            reproducible: compute the latents in float64, so that every machine also writes the same
                bytes, except for latents within about 1e-12 of a rounding boundary. Without it a
                few symbols in a million may differ between machines; every file decodes the same
                everywhere either way. With it, ICC profile and EXIF are not compressed.
            icc_profile, exif: metadata to store; None takes those of ``image``, ``b""`` leaves them
                out (:mod:`mpa_core.io.stripping` does so without changing how the picture looks). A
                profile that means sRGB is not stored: a file without a profile is sRGB.
            orient: turn the picture upright by the orientation its EXIF states (``exif`` if that
                states one, else its own), so that every reader sees it upright. False codes pixels
                and EXIF as they are.

        Returns:
            The whole file.

        Raises:
            ImageError: not a picture, or one whose meaning is ambiguous.
            QualityError: the quality is no number, or outside the base's levels.
            TargetError: the picture cannot be as small or as good as the target.
            PathNotFoundError: a reader is no path that is loaded.
            PluginError: the plugin of a reader's path fails.
            MissingDependencyError: the library of MS-SSIM, or what a reader's task needs, is not
                installed.
            ModelChangedError: the weights are no longer those of this base, or the model is in
                training mode.
            ConfigError: another argument has a value that is not allowed, or two are given of
                quality and targets.
        """
        encoder = PictureEncoder(
            self.model,
            self.profiles,
            as_goal(
                quality,
                target_size=target_size,
                target_bpp=target_bpp,
                target_psnr=target_psnr,
                target_ms_ssim=target_ms_ssim,
            ),
            effort=effort,
            readers=self._tasks.readers(reader, self.model),
            importance=importance,
            progress=progress,
            profile=profile,
            reproducible=reproducible,
            icc_profile=icc_profile,
            exif=exif,
            orient=orient,
        )
        return encoder.encode([encoder.prepare(image)])[0]

    @usual_defaults()
    @torch.inference_mode()
    def encode_many(
        self,
        images: Iterable[ImageLike],
        quality: float | None = None,
        *,
        target_size: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        target_ms_ssim: float | None = None,
        effort: int = 0,
        reader: str | Mapping[str, float] | None = None,
        profile: Profile = "exact",
        reproducible: bool = False,
        icc_profile: bytes | None = None,
        exif: bytes | None = None,
        orient: bool = True,
        batch_pixels: int | None = many.BATCH_PIXELS,
    ) -> list[bytes | MPAError]:
        """Compress many pictures, those of one padded size as one batch.

        The latents of a batch are those of :meth:`encode` within rounding: a few symbols in a
        million may differ, and so may the file, which nevertheless decodes the same everywhere.

        Args:
            images: a list or iterator of pictures that :meth:`encode` takes, or one array ``[N, H,
                W, 3]`` uint8 or tensor ``[N, 3, H, W]``. An iterator is read as pictures are
                needed.
            quality, target_size, target_bpp, target_psnr, target_ms_ssim: for each picture, as in
                :meth:`encode`; with a target, pictures are coded one by one.
            effort, reader: as in :meth:`encode`; with an effort, pictures are coded one by one.
            profile, reproducible, icc_profile, exif, orient: for all pictures, as in
                :meth:`encode`.
            batch_pixels: largest number of pixels in a batch, each side padded to a multiple of 64;
                a larger picture runs alone, None is no limit. Memory follows it: some hundred bytes
                a pixel, and 12 for each of up to four times as many pixels that wait for a full
                batch.

        Returns:
            One entry per picture, in order: the bytes of its file, or the error (an
                :class:`mpa_core.errors.MPAError`) that :meth:`encode` would raise for it. An error
                of another library, such as lack of memory, is wrapped in one.

        Raises:
            QualityError, PathNotFoundError, PluginError, MissingDependencyError: as :meth:`encode`,
                for arguments that concern all pictures.
            ModelChangedError, ConfigError: likewise.
        """
        encoder = PictureEncoder(
            self.model,
            self.profiles,
            as_goal(
                quality,
                target_size=target_size,
                target_bpp=target_bpp,
                target_psnr=target_psnr,
                target_ms_ssim=target_ms_ssim,
            ),
            effort=effort,
            readers=self._tasks.readers(reader, self.model),
            profile=profile,
            reproducible=reproducible,
            icc_profile=icc_profile,
            exif=exif,
            orient=orient,
        )
        as_limit(batch_pixels, "batch_pixels")
        return many.encode_many(encoder, many.as_items(images, "images", "pictures"), batch_pixels)

    @usual_defaults()
    def open(
        self,
        data: bytes | ParsedFile,
        *,
        errors: Errors = "strict",
        max_pixels: int | None = MAX_PIXELS,
    ) -> CodedPicture:
        """Parse and check an ``.mpa`` file once, to read its header and render it many times.

        ``codec.open(data).render("cls")`` is ``codec.decode(data, "cls")``. The latents are decoded
        when they are first needed, and only once.

        Args:
            data: the whole file; or one that :func:`mpa_core.bitstream.parsed.parse_file` has
                parsed, with arguments of its own.
            errors: result for a damaged file: an error (``"strict"``), or the best possible picture
                (``"conceal"``). Then :attr:`CodedPicture.damage` says what is wrong, and the first
                rendering warns with a :class:`mpa_core.errors.DamageWarning`.
            max_pixels: largest number of pixels (width x height) to decode; None for no limit.
                Lower it for files from strangers: decoding takes some hundred bytes per pixel.

        Raises:
            BitstreamError: not an ``.mpa`` file, or damaged.
            BaseMismatchError: the file was encoded by another base, or the weights have changed.
            ConfigError: another argument has a value that is not allowed.
        """
        self.profiles.require_unchanged(self.model)
        return self._opened(data, errors, max_pixels)

    @usual_defaults()
    @normal_tensors()
    def decode(
        self,
        data: bytes,
        mix: MixLike | None = None,
        *,
        output: Output = "pil",
        errors: Errors = "strict",
        max_pixels: int | None = MAX_PIXELS,
        orient: bool = True,
    ) -> Any:
        """Reconstruct a picture from the bytes of an ``.mpa`` file.

        Args:
            data, errors, max_pixels: as in :meth:`open`; ``"conceal"`` warns with a
                :class:`mpa_core.errors.DamageWarning`.
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
            BitstreamError: not an ``.mpa`` file, or damaged.
            BaseMismatchError: the file was encoded by another base, or the weights have changed.
            DesyncError: the decoded symbols are not those that were coded.
            MixError, PathNotFoundError: ``mix`` does not fit the picture or the paths loaded.
            ConfigError: another argument has a value that is not allowed.
        """
        # Rendering checks that the weights have not changed.
        return self._opened(data, errors, max_pixels).render(mix, output=output, orient=orient)

    @usual_defaults()
    @normal_tensors()
    def decode_many(
        self,
        datas: Iterable[bytes],
        mix: MixLike | Sequence[MixLike | None] | None = None,
        *,
        output: Output = "pil",
        errors: Errors = "strict",
        max_pixels: int | None = MAX_PIXELS,
        orient: bool = True,
        batch_pixels: int | None = many.BATCH_PIXELS,
    ) -> Any:
        """Reconstruct the pictures of many files, those of one padded size as one batch.

        Pictures are those of :meth:`decode` within rounding; in the exact profile their latents are
        the same to the bit.

        Args:
            datas: a list or iterator of whole files.
            mix: one for all, as in :meth:`decode`, or a list with one per file. Files with region
                masks share a batch up to their latents, and are reconstructed one by one.
            output, errors, max_pixels, orient: as in :meth:`decode`. ``max_pixels`` applies to each
                file.
            batch_pixels: as in :meth:`encode_many`.

        Returns:
            One entry per file, in order: the result of :meth:`decode`, or the error (an
                :class:`mpa_core.errors.MPAError`) that it would raise. An error of another library
                is wrapped in one. For ``output="tensor"``, if no file failed and all sizes agree,
                one tensor ``[N, 3, H, W]`` on the codec's device in place of the list.

        Raises:
            ModelChangedError, ConfigError: as :meth:`decode`, for arguments that concern all files.
            MixError, PathNotFoundError: one ``mix`` for all that is not valid or needs a path that
                is not loaded, or a list that does not have one mix per file.

        Warns:
            DamageWarning: for each damaged file of which ``errors="conceal"`` made a picture.
        """
        as_choice(output, "output", ("pil", "tensor", "array"))
        as_choice(errors, "errors", ("strict", "conceal"))
        limits = as_limit(max_pixels, "max_pixels"), as_limit(batch_pixels, "batch_pixels")
        files = list(many.as_items(datas, "datas", "files, as bytes"))
        mixes = many.mixes_of(mix, len(files), self.model)
        self.profiles.require_unchanged(self.model)
        return many.decode_many(
            self, files, mixes, many.Rendering(output, errors, limits[0], orient, limits[1])
        )

    def _opened(
        self, data: bytes | ParsedFile, errors: Errors, max_pixels: int | None
    ) -> CodedPicture:
        if not isinstance(data, ParsedFile):
            data = parse_file(data, errors=errors, max_pixels=max_pixels)
        return CodedPicture(data, self)
