"""Source distributions and wheels, built and unpacked as an installer would, without an index."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

# What a source distribution is made of.
FOLDERS = ("docs", "docs_hooks", "examples", "mpa_core", "mpa_plugins", "tests")
FILES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "constraints.txt",
    "mkdocs.yml",
    "pyproject.toml",
    "setup.py",
)


def build_sdk(root: Path, folder: Path) -> tuple[Path, Path]:
    """The source distribution of the repository, unpacked, and the wheel that is built of it."""
    source = folder / "source"  # a build writes beside its sources
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", ".*")
    for name in FOLDERS:
        shutil.copytree(root / name, source / name, ignore=unwanted)
    for name in FILES:
        shutil.copy(root / name, source)
    packed = build("sdist", source, folder)
    shutil.unpack_archive(packed, folder, filter="data")
    unpacked = folder / packed.name.removesuffix(".tar.gz")
    return unpacked, build("wheel", unpacked, folder)


def build(what: str, source: Path, folder: Path) -> Path:
    """The ``"sdist"`` or ``"wheel"`` of a project of setuptools, in ``folder``."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}({str(folder)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return folder / done.stdout.splitlines()[-1]


def install(wheel: Path, site: Path) -> None:
    """Unpack ``wheel`` into ``site``, which is all that installing without requirements does."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
