"""The command ``mpa encode``: pictures to ``.mpa`` files."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.arguments import DEFAULT_QUALITY
from mpa_core.cli.common import (
    STREAM,
    Job,
    add_job_arguments,
    add_strip_arguments,
    fetched,
    metadata_difference,
    noting,
    read_input,
)
from mpa_core.cli.readers import add_reader_arguments, asked_readers
from mpa_core.codecs import DEFAULT_BASE, load_needed
from mpa_core.errors import BitstreamError, ConfigError, ImageError
from mpa_core.runtime.streams import stdin

if TYPE_CHECKING:
    from PIL import Image

    from mpa_core.bitstream.parsed import ParsedFile
    from mpa_core.cli.batch.jobs import Step
    from mpa_core.codec import MPACodec
    from mpa_core.coding.profiles import Profile
    from mpa_core.coding.targets.target import Goal, Target
    from mpa_core.io.stripping import What


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa encode`` to the command line."""
    parser = subparsers.add_parser(
        "encode", parents=[common], help="compress pictures to .mpa files"
    )
    add_job_arguments(parser, "pictures of any format Pillow reads", "pictures")
    parser.add_argument(
        "--base",
        default=DEFAULT_BASE,
        metavar="ID",
        help="bundled base, folder, or org/repo of the Hub (%(default)s)",
    )
    _add_goal_arguments(parser)
    parser.add_argument(
        "--effort",
        type=int,
        choices=range(10),
        default=0,
        metavar="N",
        help="0 to 9: time to spend on a search for a smaller or better file (%(default)s: none)",
    )
    parser.add_argument(
        "--importance",
        metavar="MASK",
        help="a grey picture of the same size: with an effort, bits go where it is bright",
    )
    add_reader_arguments(parser)
    parser.add_argument(
        "--frame", type=int, metavar="N", help="frame of an animation or multi-page file, from 0"
    )
    parser.add_argument(
        "--profile",
        choices=("exact", "float"),
        default="exact",
        help="exact: every machine decodes the same; float: as the paper's code (%(default)s)",
    )
    parser.add_argument(
        "--reproducible",
        action="store_true",
        help="every machine writes the same bytes, too; encoding takes about twice as long",
    )
    add_strip_arguments(parser)
    parser.add_argument(
        "--no-orient",
        dest="orient",
        action="store_false",
        help="code pixels and EXIF orientation as they are stored, not the upright picture",
    )
    parser.set_defaults(run=run)


def _add_goal_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the quality and the targets in its place; the one that is given is ``goal``."""
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "-q",
        "--quality",
        dest="goal",
        type=float,
        default=DEFAULT_QUALITY,
        metavar="Q",
        help="1 (smallest file) to 8 (best), fractions allowed (%(default)s)",
    )
    for name, metavar, text in (
        (
            "size",
            "SIZE",
            "in place of a quality, the most bytes of the file with its metadata; also 40k (40,000 "
            "bytes), 40KiB, 1.5M",
        ),
        ("bpp", "BPP", "likewise, the most bits of the file per pixel"),
        ("psnr", "DB", "in place of a quality, the least PSNR of the picture by the main path"),
        ("ms-ssim", "M", "likewise, the least MS-SSIM, below 1"),
    ):
        goal.add_argument(
            f"--target-{name}", dest="goal", type=_target(name), metavar=metavar, help=text
        )


def _target(name: str) -> Callable[[str], Target]:
    """Return the function that reads the value of ``--target-NAME``."""

    def read(text: str) -> Target:
        from mpa_core.coding.targets.target import as_goal

        try:
            value = _size(text) if name == "size" else float(text)
            target: Target = as_goal(**{f"target_{name.replace('-', '_')}": value})
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return target

    read.__name__ = "number"  # "invalid number value", says argparse
    return read


def _size(text: str) -> int:
    """Read a number of bytes, alone or with a unit of 1000 (k, MB) or of 1024 (KiB)."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; give bytes (40000), or a number with a unit: 40k, 40KiB, 1.5M"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Encode every input, and return the exit code."""
    from mpa_core.checkpoints.sources import BASE
    from mpa_core.cli.batch.job_list import make_job_list
    from mpa_core.cli.batch.run import run_jobs
    from mpa_core.io.folders import picture_suffixes

    job_list = make_job_list(args, ".mpa", picture_suffixes())
    reader, load = asked_readers(args.reader, args.load)
    settings = EncoderSettings(
        base=fetched(args.base, BASE) or args.base,
        goal=args.goal,
        effort=args.effort,
        importance=args.importance,
        reader=reader,
        load=load,
        frame=args.frame,
        profile=args.profile,
        reproducible=args.reproducible,
        strip=args.strip,
        orient=args.orient,
    )
    return run_jobs(args, job_list, settings)


@dataclass(frozen=True)
class EncoderSettings:
    """The settings for encoding every picture."""

    base: str
    goal: Goal
    """The quality, or the target that each picture has to meet."""
    effort: int
    importance: str | None
    """A grey picture."""
    reader: Mapping[str, float] | None
    """Weights of the paths that the files are made for, by their plain names."""
    load: tuple[str, ...]
    """Paths to load first."""
    frame: int | None
    profile: Profile
    reproducible: bool
    strip: What | None
    orient: bool

    def start(self) -> Encoder:
        """Load base and paths; as torch takes seconds, after the job list has been checked."""
        from mpa_core.bitstream.container import quantize_quality
        from mpa_core.codec import MPACodec
        from mpa_core.coding.targets.fidelity import require_library
        from mpa_core.coding.targets.target import Target
        from mpa_core.mix import MAIN

        if isinstance(self.goal, Target):
            require_library(self.goal)
            settings = self
        else:
            settings = replace(self, goal=quantize_quality(self.goal))
        codec = MPACodec.from_pretrained(self.base)
        load_needed(codec, self.load, [name for name in self.reader or () if name != MAIN])
        return Encoder(codec, settings)

    def pixels(self, job: Job) -> int:
        """Return width times height of a picture without decoding it."""
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shown when the picture is encoded
            with Image.open(job.source) as image:
                return image.width * image.height


class Encoder:
    """Encodes one picture after the other."""

    def __init__(self, codec: MPACodec, settings: EncoderSettings) -> None:
        from mpa_core.io.images import load_image

        self.codec = codec
        self.settings = settings
        mask = settings.importance
        self.importance = None if mask is None else load_image(mask)

    def difference(self, job: Job) -> str | None:
        """Describe how the existing file differs from that of :meth:`make`; None if it does not.

        Its checksums, base, quality or size, and age tell; the picture is not decoded.
        """
        from mpa_core.bitstream.container import PROFILES
        from mpa_core.bitstream.parsed import parse_file

        try:
            file = parse_file(read_input(job.target))
        except BitstreamError as error:
            return f"is not a whole .mpa file ({error})"
        found, profile = file.container, self.settings.profile
        if PROFILES[found.profile] != profile:
            return f"has the entropy profile {PROFILES[found.profile]}, not {profile}"
        if found.fingerprint != self.codec.profiles.prefix(profile):
            return f"was not made by the base {self.codec.name} as it is now"
        missed = goal_difference(self.settings.goal, file, self.codec.model.config.quality_levels)
        if missed is not None:
            return missed
        if self.settings.orient and file.orientation != 1:
            return "was made with --no-orient"
        return metadata_difference(file.metadata, self.settings.strip) or age_difference(job)

    def make(self, job: Job, step: Step) -> tuple[bytes, dict[str, Any]]:
        """Encode one picture, and return the file's bytes and figures to report."""
        from mpa_core.bitstream.parsed import parse_file
        from mpa_core.coding.targets.target import as_arguments
        from mpa_core.io.images import load_image
        from mpa_core.io.stripping import strip_what

        source = stdin(ImageError) if job.source == STREAM else job.source
        settings = self.settings
        figures: dict[str, Any] = {}
        with noting(figures):
            image = strip_what(load_image(source, frame=settings.frame), settings.strip)
            data = self.codec.encode(
                image,
                **as_arguments(settings.goal),
                effort=settings.effort,
                importance=self.importance,
                reader=settings.reader,
                progress=step,
                profile=settings.profile,
                reproducible=settings.reproducible,
                orient=settings.orient,
            )
        file = parse_file(data, max_pixels=None)
        return data, {
            "width": file.container.width,
            "height": file.container.height,
            "quality": file.container.quality,
            **self._fidelity(image, data),
            **file.size_figures,
            **figures,
        }

    def _fidelity(self, image: Image.Image, data: bytes) -> dict[str, float]:
        """Return what the file reached of the measure that was a target; empty for any other."""
        from mpa_core.coding.targets.fidelity import MEASURES
        from mpa_core.coding.targets.target import Target
        from mpa_core.io.images import to_pil, to_rgb_tensor

        goal = self.settings.goal
        if not isinstance(goal, Target) or goal.of_size:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # noted when the picture was encoded
            original = to_pil(to_rgb_tensor(image, orient=self.settings.orient).tensor)
        decoded = self.codec.decode(data, orient=False, max_pixels=None)
        value = MEASURES[goal.kind](original, decoded)
        assert value is not None  # such a target is refused
        return {goal.kind: round(value, 5)}


def goal_difference(goal: Goal, file: ParsedFile, levels: int) -> str | None:
    """Describe how a file misses the quality or the size asked for; None if it does not.

    A fidelity is not in a file, so of such a target nothing is said.
    """
    from mpa_core.coding.targets.target import Target

    if isinstance(goal, Target):
        return goal.difference(file, levels)
    quality = file.container.quality
    return None if quality == goal else f"was made at quality {quality:g}, not {goal:g}"


def age_difference(job: Job) -> str | None:
    """Describe that the output is older than its input; None if it is not.

    An input that no longer exists has not changed.
    """
    with suppress(FileNotFoundError):
        if Path(job.source).stat().st_mtime_ns > Path(job.target).stat().st_mtime_ns:
            return f"is older than {job.source}"
    return None
