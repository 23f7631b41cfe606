"""Try an installed mpa-core: one photo through every bundled path, by the compiled range coder.

    python .ci/try_installed.py

For a wheel in a fresh environment; what it needs beside mpa-core comes with mpa-core. It ends with
an error if it would try the source beside it, or if anything else is not as it should be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import mpa_core
from mpa_core import MPACodec
from mpa_core.bitstream import rans
from mpa_core.plugins.registry import registry

SOURCE = Path(__file__).resolve().parents[1]
LEAST_PSNR = 25.0
"""In dB, of every path at the default quality; it tells a wrong picture, not a worse one."""


def main() -> None:
    where = Path(mpa_core.__file__).resolve()
    assert SOURCE not in where.parents, f"{where} is the source, not an installation"
    assert rans.COMPILED, "the wheel has no compiled range coder"
    with resources.as_file(resources.files("mpa_core") / "assets" / "chelsea.png") as photo:
        original = Image.open(photo).convert("RGB")
        with tempfile.TemporaryDirectory() as folder:
            coded, decoded = Path(folder, "photo.mpa"), Path(folder, "photo.png")
            mpa("encode", photo, "-o", coded)
            mpa("decode", coded, "-o", decoded)
            data = coded.read_bytes()
            say("mpa decode", Image.open(decoded), original)
    codec = MPACodec.from_pretrained("mpa-small")
    names = [path.name for path in registry().paths() if path.distribution == "mpa-core"]
    assert names == ["cls", "mse", "seg"], names
    for name in names:
        codec.load_path(name)
        say(name, codec.decode(data, name), original)
    print(f"mpa-core {mpa_core.__version__} of {where.parent}: as it should be")


def mpa(*arguments: object) -> None:
    command = [sys.executable, "-m", "mpa_core.cli", *map(str, arguments)]
    subprocess.run(command, check=True)  # noqa: S603 -- our own command


def say(what: str, decoded: Image.Image, original: Image.Image) -> None:
    assert decoded.size == original.size, f"{what}: {decoded.size} is not {original.size}"
    difference = np.asarray(decoded, float) - np.asarray(original, float)
    psnr = 10 * np.log10(255**2 / np.mean(difference**2))
    print(f"{what:12}{psnr:6.2f} dB")
    assert psnr > LEAST_PSNR, f"{what}: {psnr:.2f} dB is below {LEAST_PSNR}"


if __name__ == "__main__":
    main()
