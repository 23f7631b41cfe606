"""How much disk an installation takes, with each extra: the figures of docs/install.md.

``python examples/benchmarks/install_size.py dist/mpa_core-*.whl`` makes a fresh environment for
each (uv must be there) and adds up its ``site-packages``. What follows ``--`` goes to ``uv pip
install``, such as ``-- --torch-backend cpu``.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

EXTRAS = ("", "demo", "hub", "train", "eval", "test", "lint", "docs")


def uv(*arguments: str) -> None:
    subprocess.run(["uv", "--quiet", *arguments], check=True)  # noqa: S603, S607 -- the caller's


def occupied(folder: Path) -> int:
    """Bytes of the files below ``folder``; one with several names counts once."""
    sizes = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def measure(wheel: Path, extra: str, python: str, rest: list[str]) -> tuple[int, int, int]:
    """Packages, bytes, and how many of the bytes are those of NVIDIA's libraries and Triton."""
    with tempfile.TemporaryDirectory() as folder:
        what = f"mpa-core[{extra}] @ {wheel.resolve().as_uri()}" if extra else str(wheel)
        uv("venv", "--python", python, folder)
        uv("pip", "install", "--python", f"{folder}/bin/python", what, *rest)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        cuda = sum(occupied(packages / name) for name in ("nvidia", "triton"))
        return len(list(packages.glob("*.dist-info"))), occupied(packages), cuda


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default="3.12", help="as uv takes it (default: 3.12)")
    parser.add_argument("--extras", nargs="+", default=EXTRAS, help="default: all but fuzz")
    parser.add_argument("rest", nargs="*", help="after --, for uv pip install")
    args = parser.parse_args()
    print(f"{'extra':8}{'packages':>10}{'MB':>8}{'of these CUDA':>16}", flush=True)
    for extra in args.extras:
        packages, size, cuda = measure(args.wheel, extra, args.python, args.rest)
        name = extra or "(none)"
        print(f"{name:8}{packages:10}{size / 1e6:8.0f}{cuda / 1e6:16.0f}", flush=True)


if __name__ == "__main__":
    main()
