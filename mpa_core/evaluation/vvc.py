"""VVC intra: one picture as an H.266 stream, by the ffmpeg that comes with imageio-ffmpeg.

libvvenc codes only 4:2:0 at 10 bits, so colour is halved in both directions before it is coded: at
high rates this, not the coder, limits the PSNR of the RGB picture.
"""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib.metadata import version as package_version

from PIL import Image

from mpa_core.errors import BitstreamError, MissingDependencyError
from mpa_core.requirements import missing

PRESET = "medium"
SCALER = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
"""Options by which ffmpeg converts RGB to 4:2:0 and back."""
OPTIONS = {
    "preset": PRESET,
    "pixels": "yuv420p10le",
    "perceptual adaptation": False,
    "frames": 1,
    "setting": "QP",
}
_MAX_SECONDS = 900


def write(image: Image.Image, qp: int) -> bytes:
    """Code an RGB picture at a QP of 0 (most bits) to 63; the result is a whole raw stream.

    Raises:
        MissingDependencyError: there is no ffmpeg with libvvenc.
        BitstreamError: the encoder failed.
    """
    # The coder takes even sizes only; the last row or column is repeated.
    width, height = image.size
    padded = Image.new("RGB", (width + width % 2, height + height % 2))
    for left in {0, padded.width - width}:
        for top in {0, padded.height - height}:
            padded.paste(image, (left, top))
    padded.paste(image, (0, 0))
    size = f"{padded.width}x{padded.height}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i", "-", "-frames:v", "1"]
    pixels = ["-sws_flags", SCALER, "-pix_fmt", "yuv420p10le"]
    encoder = ["-c:v", "libvvenc", "-preset", PRESET, "-qp", str(qp), "-qpa", "0", "-threads", "1"]
    return _run([*source, *pixels, *encoder, "-f", "vvc", "-"], padded.tobytes())


def read(data: bytes, size: tuple[int, int]) -> Image.Image:
    """Decode a stream of :func:`write` to a picture of ``size`` (width, height).

    Raises:
        MissingDependencyError: there is no ffmpeg.
        BitstreamError: it is no such stream.
    """
    width, height = size
    even = width + width % 2, height + height % 2
    source = ["-f", "vvc", "-i", "-", "-frames:v", "1", "-sws_flags", SCALER]
    pixels = _run([*source, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], data)
    if len(pixels) != 3 * even[0] * even[1]:
        raise BitstreamError(
            f"the VVC stream decodes to {len(pixels)} bytes, expected a picture of "
            f"{width}x{height}; the stream is damaged"
        )
    return Image.frombytes("RGB", even, pixels).crop((0, 0, width, height))


@lru_cache(maxsize=1)
def version() -> str:
    """Return the version of ffmpeg, whose build fixes the version of libvvenc in it.

    Raises:
        MissingDependencyError: there is no ffmpeg with libvvenc.
    """
    encoders = _run(["-encoders"], b"").decode()
    if "libvvenc" not in encoders:
        raise MissingDependencyError(
            f"{_ffmpeg()} has no encoder libvvenc; unset IMAGEIO_FFMPEG_EXE to use the ffmpeg of "
            "imageio-ffmpeg, or leave vvc out"
        )
    first = _run(["-version"], b"").decode().split("\n", 1)[0]
    number = first.split()[2]
    return f"libvvenc of ffmpeg {number}, imageio-ffmpeg {package_version('imageio-ffmpeg')}"


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise missing("VVC needs", "imageio-ffmpeg", "eval", error, "leave vvc out") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingDependencyError(
            "imageio-ffmpeg has no ffmpeg for this machine; install it from a wheel, "
            "or leave vvc out"
        ) from error


def _run(arguments: list[str], data: bytes) -> bytes:
    command = [_ffmpeg(), "-hide_banner", "-v", "error", *arguments]
    # No shell, a program of an installed package, and arguments that are all our own.
    done = subprocess.run(  # noqa: S603
        command, input=data, capture_output=True, check=False, timeout=_MAX_SECONDS
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BitstreamError(f"ffmpeg failed: {said[-1]}; check the picture or stream given to it")
    return done.stdout
