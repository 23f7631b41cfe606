"""The package as a whole: its floors, what importing it costs, and what is in the wheel."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.version import Version

import mpa_core

# Ground up. A module may import from its own floor and from those below.
FLOORS = (
    (
        "errors",
        "config",
        "presets",
        "arguments",
        "mix",
        "quiet",
        "files",
        "folders",
        "fingerprint",
        "images",
        "image_colour",
        "image_errors",
        "image_header",
        "image_metadata",
        "image_profile",
        "location",
        "saving",
        "stripping",
        "image_orientation",
        "image_output",
        "requirements",
        "normal_tensors",
        "seal",
        "py.typed",
        "assets",
    ),
    ("base", "paths", "bitstream"),
    (
        "model",
        "codec",
        "profiles",
        "opened",
        "conversion",
        "plugins",
        "hub",
        "importer",
        "official_keys",
        "weights",
    ),
    ("training", "evaluation"),
    ("cli", "demo"),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MAX_WHEEL_BYTES = 16 * 2**20


def imports_of(source: str) -> Iterator[str]:
    """Dotted names of our own modules that ``source`` imports, at any depth, typing included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("mpa_core", "mpa_plugins"))


def part_of(dotted: str) -> str | None:
    """``mpa_core.base.gains`` -> ``base``; a public name counts as the module it lives in."""
    name = dotted.split(".")[1]
    home = mpa_core._HOMES.get(name)
    if home:
        return home.split(".")[1]
    return None if name == "__version__" else name


def wrong_imports(part: str, source: str) -> list[str]:
    """Imports in ``source``, which belongs to ``mpa_core.<part>``, that go up or across."""
    wrong = []
    for name in imports_of(source):
        if name.startswith("mpa_plugins"):
            wrong.append(name)
            continue
        other = part_of(name)
        sideways = part == "base" and other == "paths"
        if other is not None and (FLOOR[other] > FLOOR[part] or sideways):
            wrong.append(name)
    return wrong


def test_every_module_has_a_floor(root: Path):
    found = {p.stem if p.suffix == ".py" else p.name for p in (root / "mpa_core").iterdir()}
    assert found - {"__init__", "__pycache__"} <= set(FLOOR)


def test_no_import_goes_up(root: Path):
    package = root / "mpa_core"
    sources = [p for p in package.rglob("*.py") if p != package / "__init__.py"]
    assert len(sources) > 30
    wrong = {}
    for path in sources:
        inside = path.relative_to(package)
        part = inside.parts[0].removesuffix(".py")
        if found := wrong_imports(part, path.read_text(encoding="utf-8")):
            wrong[str(inside)] = found
    assert wrong == {}


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("errors", "from mpa_core.config import BaseConfig\nimport mpa_core.base.gains"),
        ("base", "def f():\n    from mpa_core.paths.path import TaskPath"),
        ("base", "from mpa_core import TaskPath"),
        ("paths", "if x:\n    import mpa_core.model"),
        ("codec", "from mpa_core import evaluation"),
        ("cli", "import mpa_plugins.cls"),
    ],
)
def test_the_walk_sees_wrong_imports(part: str, source: str):
    assert len(wrong_imports(part, source)) == 1


def test_the_public_names_are_there():
    for name in mpa_core.__all__:
        assert getattr(mpa_core, name) is not None
        assert name in dir(mpa_core)
    for name, home in mpa_core._HOMES.items():
        assert getattr(mpa_core, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'Mixx'"):
        mpa_core.Mixx  # noqa: B018


@pytest.mark.parametrize(
    "module", ["mpa_core", "mpa_core.cli.main", "mpa_core.plugins", "mpa_core.hub"]
)
def test_light_imports(module: str):
    code = f"import sys, {module}; print(sorted({{'torch', 'compressai'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_nothing_but_its_own_evaluation_needs_compressai(root: Path):
    found = {
        str(path.relative_to(root))
        for package in ("mpa_core", "mpa_plugins", "examples")
        for path in (root / package).rglob("*.py")
        if re.search(r"^\s*(import|from) compressai\b", path.read_text(encoding="utf-8"), re.M)
    }
    assert found == {str(Path("mpa_core", "evaluation", "compressai_eval.py"))}


def test_first_party_paths_are_entry_points():
    own = {e.name: e.value for e in entry_points(group="mpa.plugins") if e.dist.name == "mpa-core"}
    assert own == {name: f"mpa_plugins.{name}" for name in ("mse", "cls", "seg")}


def test_the_wheel_has_everything_and_nothing_else(root: Path, tmp_path: Path):
    source = tmp_path / "source"  # a build writes beside its sources
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    for package in ("mpa_core", "mpa_plugins"):
        shutil.copytree(root / package, source / package, ignore=unwanted)
    for file in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(root / file, source)
    code = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    assert built.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
    version = Version(mpa_core.__version__)
    info = f"mpa_core-{version}.dist-info"
    assert {name.split("/")[0] for name in names} == {"mpa_core", "mpa_plugins", info}
    assert f"{info}/licenses/LICENSE" in names
    packaged = {
        str(path.relative_to(root))
        for package in ("mpa_core", "mpa_plugins")
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".c", ".so", ".pyd")
    }
    assert packaged <= names
    compiled = {name for name in names if name.startswith("mpa_core/bitstream/_rans.")}
    assert {name for name in names - packaged if not name.startswith(info)} == compiled
    assert len(compiled) == 1
    assert {"mpa_core/py.typed", "mpa_core/assets/chelsea.png"} <= packaged
