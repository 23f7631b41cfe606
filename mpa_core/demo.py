"""One real photo through the codec, beside JPEG and WebP files of the same size.

``python -m mpa_core.demo [IMAGE]`` encodes the picture at three qualities, decodes each file by
every path that has weights, prints a table and writes the files and one side-by-side PNG.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from mpa_core.cli.machine import LoadMeter
from mpa_core.cli.threads import add_threads_argument, computing
from mpa_core.errors import BaseMismatchError
from mpa_core.evaluation.classic import ClassicFormat, nearest_in_size
from mpa_core.io.files import write_bytes
from mpa_core.io.folders import claim_output
from mpa_core.plugins.registry import registry
from mpa_core.runtime.commands import Parser, run_command
from mpa_core.runtime.streams import stdout

# Modules that import torch are imported where needed, after the threads are chosen.
if TYPE_CHECKING:
    from mpa_core.codec import MPACodec

BASE = "mpa-small"
QUALITIES = (2.0, 4.5, 7.0)
SAMPLE = "chelsea.png"
"""Photo of the cat Chelsea by Stéfan van der Walt, CC0."""
COMPARISON = "comparison.png"

_CLASSICS: tuple[tuple[ClassicFormat, str, str], ...] = (
    ("JPEG", "JPEG", "jpg"),
    ("WEBP", "WebP", "webp"),
)
_MARGIN = 8
_LINE = 20
_FONT_SIZE = 14
_MIN_CELL = 260  # the captions fit, however small the picture


class Result(NamedTuple):
    """One picture decoded from one file."""

    label: str
    file: str
    """Name of the file that it was decoded from."""
    data: bytes
    image: Image.Image
    bpp: float
    psnr: float
    """PSNR in dB on 8-bit RGB."""
    ms_ssim: float | None


def load_bundled_paths(codec: MPACodec) -> None:
    """Attach every registered path that has weights for this base; print those that do not fit."""
    found = registry()
    for path in found.paths():
        if found.name_of(path) != path.name or path.spec.bundled_weights(codec.name) is None:
            continue
        try:
            codec.load_path(path.name)
        except BaseMismatchError as error:
            print(f"without path {path.name}: {error}", file=sys.stderr)


def compare(codec: MPACodec, original: Image.Image, quality: float) -> Iterator[Result]:
    """Yield the picture by each path of one ``.mpa`` file, then JPEG and WebP of that size."""
    from mpa_core.io.distortion import bits_per_pixel, ms_ssim, psnr

    def result(label: str, file: str, data: bytes, image: Image.Image) -> Result:
        bpp = bits_per_pixel(len(data), original.size)
        return Result(
            label, file, data, image, bpp, psnr(original, image), ms_ssim(original, image)
        )

    data = codec.encode(original, quality=quality)
    coded = codec.open(data)
    for path in ("main", *codec.paths):
        decoded = coded.render(path)
        yield result(f"mpa {quality:g}, {path} path", f"mpa-{quality:g}.mpa", data, decoded)
    for file_format, label, suffix in _CLASSICS:
        classic = nearest_in_size(original, file_format, len(data))
        name = f"near-mpa-{quality:g}.{suffix}"
        yield result(f"{label} {classic.setting}", name, classic.data, classic.decode())


def table(groups: Sequence[Sequence[Result]]) -> Table:
    """Build a table of the results, with one group of rows per quality."""
    shown = Table("picture", "file", box=None, pad_edge=False)
    for heading in ("bytes", "bpp", "PSNR dB", "MS-SSIM"):
        shown.add_column(heading, justify="right")
    for number, group in enumerate(groups):
        if number:
            shown.add_section()
            shown.add_row()
        for row in group:
            similarity = "-" if row.ms_ssim is None else f"{row.ms_ssim:.4f}"
            figures = (f"{row.bpp:.3f}", f"{row.psnr:.2f}", similarity)
            shown.add_row(row.label, row.file, str(len(row.data)), *figures)
    return shown


def draw(original: Image.Image, groups: Sequence[Sequence[Result]]) -> Image.Image:
    """Draw the pictures side by side in their own pixels: a row per quality, original first."""
    width = max(original.width, _MIN_CELL) + _MARGIN
    height = original.height + 2 * _LINE + _MARGIN
    columns = 1 + max(len(group) for group in groups)
    sheet = Image.new("RGB", (columns * width + _MARGIN, len(groups) * height + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)

    def place(row: int, column: int, image: Image.Image, lines: tuple[str, str]) -> None:
        left, top = _MARGIN + column * width, _MARGIN + row * height
        for number, line in enumerate(lines):
            pen.text((left, top + number * _LINE), line, fill="black", font=font)
        sheet.paste(image, (left, top + 2 * _LINE))

    for row, group in enumerate(groups):
        place(row, 0, original, ("original", f"{original.width} x {original.height}"))
        for column, item in enumerate(group, start=1):
            figures = f"{len(item.data)} bytes, {item.bpp:.3f} bpp, {item.psnr:.2f} dB"
            place(row, column, item.image, (item.label, figures))
    return sheet


def run(image: Path | None, base: str, qualities: Sequence[float], out: Path) -> None:
    """Compare, print the table and write the files into ``out``.

    Raises:
        MPAError: a bad picture, base or quality, or a folder that cannot be written.
    """
    from mpa_core.codec import MPACodec
    from mpa_core.io.images import load_image, to_pil, to_rgb_tensor

    with resources.as_file(resources.files("mpa_core") / "assets" / SAMPLE) as sample:
        original = to_pil(to_rgb_tensor(load_image(image or sample)).tensor)
    codec = MPACodec.from_pretrained(base)
    load_bundled_paths(codec)
    claim_output(out, ())
    groups = [list(compare(codec, original, quality)) for quality in qualities]
    for item in (item for group in groups for item in group):
        write_bytes(out / item.file, item.data)
    sheet = io.BytesIO()
    draw(original, groups).save(sheet, "PNG")
    write_bytes(out / COMPARISON, sheet.getvalue())
    name = image.name if image else SAMPLE
    console = Console(file=stdout(), highlight=False)
    console.print(f"{name}, {original.width} x {original.height}, base {codec.name}\n")
    console.print(table(groups))
    console.print(f"\nSide by side: {out / COMPARISON}", soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments and run; returns 0 for success, 1 after one line on stderr otherwise."""
    meter = LoadMeter()
    parser = Parser(prog="python -m mpa_core.demo", description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, help="a photo (default: a bundled one)")
    parser.add_argument("--base", default=BASE, help="bundled base or folder (%(default)s)")
    parser.add_argument(
        "--quality", type=float, nargs="+", default=QUALITIES, help="levels, 1 to 8 (2 4.5 7)"
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder (%(default)s)")
    add_threads_argument(parser)

    def command() -> int:
        options = parser.parse_args(argv)
        with computing(options, meter):
            run(options.image, options.base, options.quality, options.out)
        return 0

    return run_command("mpa_core.demo", command, for_good=argv is None)


if __name__ == "__main__":
    sys.exit(main())
