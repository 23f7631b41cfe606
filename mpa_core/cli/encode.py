"""The command ``mpa encode``: pictures to ``.mpa`` files."""

from __future__ import annotations

import argparse
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.cli.common import (
    DEFAULT_BASE,
    STREAM,
    Job,
    add_job_arguments,
    add_strip_arguments,
    fetched,
    metadata_difference,
    noting,
    read_input,
)
from mpa_core.errors import BitstreamError, ImageError
from mpa_core.runtime.streams import stdin

if TYPE_CHECKING:
    from mpa_core.codec import MPACodec
    from mpa_core.coding.profiles import Profile
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
    parser.add_argument(
        "-q",
        "--quality",
        type=float,
        default=4.5,
        metavar="Q",
        help="1 (smallest file) to 8 (best), fractions allowed (%(default)s)",
    )
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


def run(args: argparse.Namespace) -> int:
    """Encode every input, and return the exit code."""
    from mpa_core.checkpoints.sources import BASE
    from mpa_core.cli.batch.job_list import make_job_list
    from mpa_core.cli.batch.run import run_jobs
    from mpa_core.io.folders import picture_suffixes

    job_list = make_job_list(args, ".mpa", picture_suffixes())
    settings = EncoderSettings(
        fetched(args.base, BASE) or args.base,
        args.quality,
        args.frame,
        args.profile,
        args.reproducible,
        args.strip,
        args.orient,
    )
    return run_jobs(args, job_list, settings)


@dataclass(frozen=True)
class EncoderSettings:
    """The settings for encoding every picture."""

    base: str
    quality: float
    frame: int | None
    profile: Profile
    reproducible: bool
    strip: What | None
    orient: bool

    def start(self) -> Encoder:
        """Load the base; torch takes seconds, so this comes after the job list has been checked."""
        from mpa_core.bitstream.container import quantize_quality
        from mpa_core.codec import MPACodec

        codec = MPACodec.from_pretrained(self.base)
        return Encoder(codec, replace(self, quality=quantize_quality(self.quality)))

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
        self.codec = codec
        self.settings = settings

    def difference(self, job: Job) -> str | None:
        """Describe how the existing file differs from that of :meth:`make`; None if it does not.

        Its checksums, base, quality and age tell; the picture is not decoded.
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
        if found.quality != self.settings.quality:
            return f"was made at quality {found.quality:g}, not {self.settings.quality:g}"
        if self.settings.orient and file.orientation != 1:
            return "was made with --no-orient"
        return metadata_difference(file.metadata, self.settings.strip) or age_difference(job)

    def make(self, job: Job) -> tuple[bytes, dict[str, Any]]:
        """Encode one picture, and return the file's bytes and figures to report."""
        from mpa_core.bitstream.parsed import parse_file
        from mpa_core.io.images import load_image
        from mpa_core.io.stripping import strip_what

        source = stdin(ImageError) if job.source == STREAM else job.source
        settings = self.settings
        figures: dict[str, Any] = {}
        with noting(figures):
            image = strip_what(load_image(source, frame=settings.frame), settings.strip)
            data = self.codec.encode(
                image,
                settings.quality,
                profile=settings.profile,
                reproducible=settings.reproducible,
                orient=settings.orient,
            )
        file = parse_file(data, max_pixels=None)
        return data, {
            "width": file.container.width,
            "height": file.container.height,
            "quality": settings.quality,
            **file.size_figures,
            **figures,
        }


def age_difference(job: Job) -> str | None:
    """Describe that the output is older than its input; None if it is not.

    An input that no longer exists has not changed.
    """
    with suppress(FileNotFoundError):
        if Path(job.source).stat().st_mtime_ns > Path(job.target).stat().st_mtime_ns:
            return f"is older than {job.source}"
    return None
