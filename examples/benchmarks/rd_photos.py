"""Rate and distortion of a base on a folder of photos, beside JPEG and WebP, from real files.

Every figure is of a file written to disk and read back: bits are its size, the picture is what
decoding it gives. Curves are means over the photos at each setting, BD-rates are against JPEG.

    python examples/benchmarks/rd_photos.py PHOTOS --json docs/results/mpa-small.json \
        --markdown docs/results.md
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bjontegaard
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mpa_core import MPACodec, __version__
from mpa_core.errors import ImageError, MPAError
from mpa_core.evaluation.classic import ClassicFile, ClassicFormat, encode, pixels_only
from mpa_core.evaluation.metrics import bits_per_pixel, ms_ssim, psnr
from mpa_core.images import load_image
from mpa_core.mix import Mix

SETTINGS: dict[ClassicFormat, tuple[int, ...]] = {
    "JPEG": (2, 5, 8, 12, 18, 26, 38, 52, 68, 82, 92),
    "WEBP": (1, 4, 10, 20, 35, 50, 65, 78, 88, 95),
}
"""Quality settings of the classic curves: about 0.1 to 3 bpp on photos."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ANCHOR = "JPEG"

Encode = Callable[[Image.Image], bytes]
Decode = Callable[[bytes], Image.Image]
Point = dict[str, float]


def measure(original: Image.Image, write: Encode, read: Decode, file: Path) -> Point:
    """Write one file, read it back, and compare; seconds are of encoding and of decoding."""
    start = time.perf_counter()
    data = write(original)
    middle = time.perf_counter()
    file.write_bytes(data)
    stored = file.read_bytes()
    again = time.perf_counter()
    decoded = read(stored)
    end = time.perf_counter()
    similarity = ms_ssim(original, decoded)
    if similarity is None:
        raise ImageError(
            f"a photo is {original.width}x{original.height}, MS-SSIM needs 161 pixels a side; "
            "leave it out"
        )
    return {
        "bpp": bits_per_pixel(file.stat().st_size, original.size),
        "psnr": psnr(original, decoded),
        "ms_ssim": similarity,
        "encode_seconds": middle - start,
        "decode_seconds": end - again,
    }


def settings(
    codec: MPACodec, qualities: Sequence[float], mix: Mix
) -> list[tuple[str, float, Encode, Decode]]:
    """Every curve's name and setting, with the function each way."""

    def ours(quality: float) -> tuple[str, float, Encode, Decode]:
        return (
            codec.name,
            quality,
            lambda image: codec.encode(image, quality=quality),
            lambda data: codec.decode(data, mix),
        )

    def classic(name: ClassicFormat, setting: int) -> tuple[str, float, Encode, Decode]:
        return (
            name,
            setting,
            lambda image: encode(image, name, setting).data,
            lambda data: ClassicFile(name, setting, data).decode(),
        )

    return [ours(quality) for quality in qualities] + [
        classic(name, setting) for name, steps in SETTINGS.items() for setting in steps
    ]


def curves(
    photos: Sequence[Path], todo: Sequence[tuple[str, float, Encode, Decode]]
) -> dict[str, list[dict[str, Any]]]:
    """Return, per codec, one entry per setting: the means, and the figures of each photo."""
    points: dict[tuple[str, float], dict[str, Point]] = {step[:2]: {} for step in todo}
    with tempfile.TemporaryDirectory() as folder:
        for path in track(photos, "photos", console=Console(stderr=True)):
            original = pixels_only(load_image(path))
            for name, setting, write, read in todo:
                point = measure(original, write, read, Path(folder, "file"))
                points[name, setting][path.name] = point
    result: dict[str, list[dict[str, Any]]] = {}
    for (name, setting), by_photo in points.items():
        keys = next(iter(by_photo.values()))
        means = {key: statistics.mean(p[key] for p in by_photo.values()) for key in keys}
        result.setdefault(name, []).append({"setting": setting, **means, "photos": by_photo})
    return result


def bd_rate(anchor: list[dict[str, Any]], test: list[dict[str, Any]], metric: str) -> float | None:
    """Mean difference in rate at equal quality, in percent; None where the curves do not meet.

    Points where a curve turns back (more bits, no better) are left out: the interpolation needs
    quality to grow with rate.
    """

    def rising(curve: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
        rates: list[float] = []
        values: list[float] = []
        for point in sorted(curve, key=lambda p: p["bpp"]):
            if not values or point[metric] > values[-1]:
                rates.append(point["bpp"])
                values.append(point[metric])
        return rates, values

    (rate_a, value_a), (rate_t, value_t) = rising(anchor), rising(test)
    low, high = max(value_a[0], value_t[0]), min(value_a[-1], value_t[-1])
    if low >= high or min(len(value_a), len(value_t)) < 4:
        return None
    with warnings.catch_warnings():
        # It warns where the curves share less than three quarters; the range is in the result.
        warnings.simplefilter("ignore", UserWarning)
        return float(
            bjontegaard.bd_rate(
                rate_a, value_a, rate_t, value_t, method="akima", require_matching_points=False
            )
        )


def table(found: dict[str, list[dict[str, Any]]]) -> Table:
    """Lay out the means, a row per setting."""
    shown = Table("codec", box=None, pad_edge=False)
    for heading in ("setting", "bpp", "PSNR dB", "MS-SSIM", "encode s", "decode s"):
        shown.add_column(heading, justify="right")
    for name, curve in found.items():
        for p in curve:
            seconds = (f"{p['encode_seconds']:.3f}", f"{p['decode_seconds']:.3f}")
            quality = (f"{p['psnr']:.2f}", f"{p['ms_ssim']:.4f}")
            shown.add_row(name, f"{p['setting']:g}", f"{p['bpp']:.4f}", *quality, *seconds)
        shown.add_row()
    return shown


def markdown(report: dict[str, Any], photos: int) -> str:
    """The page of a report: how it was made, BD-rates, and a row per setting."""
    base = report["base"]
    lines = [
        "# Results",
        "",
        f"`{base['base']}` (fingerprint `{base['fingerprint'][:16]}…`), mix `{report['mix']}`, on "
        f"{photos} photos that no training saw, each 768x512 or 512x768. Every figure is of a file "
        "written to disk and read back; JPEG and WebP are Pillow's. Curves are means over the "
        "photos at each setting. This page is made from raw figures by",
        "",
        "```sh",
        "python examples/benchmarks/rd_photos.py PHOTOS --json docs/results/mpa-small.json \\",
        "    --markdown docs/results.md",
        "```",
        "",
        "BD-rate: mean difference in bits at equal quality (Akima interpolation).",
        "",
        "| BD-rate against JPEG | by PSNR | by MS-SSIM |",
        "| --- | --- | --- |",
    ]
    rates = report["bd_rate_against_jpeg_percent"]
    for name in rates["psnr"]:
        cells = ("-" if r is None else f"{r:+.1f} %" for r in (rates[m][name] for m in rates))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| codec | setting | bpp | PSNR, dB | MS-SSIM |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, curve in report["curves"].items():
        lines += [
            f"| {name} | {p['setting']:g} | {p['bpp']:.3f} | {p['psnr']:.2f} | {p['ms_ssim']:.4f} |"
            for p in curve
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; exit code 1 with one line on stderr on bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--base", default="mpa-small", help="bundled base or folder")
    parser.add_argument("--path", action="append", default=[], help="path to load; repeatable")
    parser.add_argument("--mix", default="main=1", help="decode by, for example cls=0.4,mse=0.2")
    parser.add_argument("--quality", type=float, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--limit", type=int, help="only the first N photos, by name")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--markdown", type=Path, help="write a page of the results here")
    options = parser.parse_args(argv)
    photos = sorted(p for p in options.photos.glob("*") if p.suffix.lower() in SUFFIXES)
    photos = photos[: options.limit]
    if not photos:
        parser.error(f"no photos ({', '.join(SUFFIXES)}) in {options.photos}")
    try:
        codec = MPACodec.from_pretrained(options.base).to(options.device)
        for path in options.path:
            codec.load_path(path)
        found = curves(photos, settings(codec, options.quality, Mix.parse(options.mix)))
    except MPAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rates = {
        metric: {
            name: bd_rate(found[ANCHOR], curve, metric)
            for name, curve in found.items()
            if name != ANCHOR
        }
        for metric in ("psnr", "ms_ssim")
    }
    console = Console(highlight=False)
    console.print(f"{len(photos)} photos of {options.photos.name}, {options.mix}\n")
    console.print(table(found))
    for metric, by_codec in rates.items():
        for name, rate in by_codec.items():
            text = "no overlap" if rate is None else f"{rate:+.1f} %"
            console.print(f"BD-rate ({metric}) of {name} against {ANCHOR}: {text}")
    report = {
        "mpa_core": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": options.device,
        "base": codec.status(),
        "mix": options.mix,
        "bd_rate_against_jpeg_percent": rates,
        "curves": found,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(report, len(photos)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
