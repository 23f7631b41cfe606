"""The package as a whole: what importing it costs, and what is in the wheel."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import mpa_core
from mpa_core import tasks

MAX_WHEEL_BYTES = 16 * 2**20


@pytest.mark.parametrize("package", [mpa_core, tasks], ids=lambda package: package.__name__)
def test_the_public_names_are_there(package: ModuleType):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match=f"{package.__name__}' has no attribute 'Mixx'"):
        package.Mixx  # noqa: B018


def test_a_public_name_is_that_of_its_home():
    for name, home in mpa_core._HOMES.items():
        assert getattr(mpa_core, name) is getattr(importlib.import_module(home), name)
    homes = {name: home for home, names in tasks._MODULES.items() for name in names}
    assert sorted(homes) == sorted(tasks.__all__)
    for name, home in homes.items():
        assert getattr(tasks, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize(
    "module",
    [
        "mpa_core",
        "mpa_core.cli.main",
        "mpa_core.plugins",
        "mpa_core.checkpoints",
        "mpa_core.tasks",
    ],
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


def test_plugins_are_named_in_examples_alone(root: Path):
    """No case of the SDK is special to a path: what it must know of one, the plugin says."""
    names = {e.name for e in entry_points(group="mpa.plugins") if e.dist.name == "mpa-core"}
    named = re.compile(rf"\b({'|'.join(sorted(names))})\b")
    found = []
    for file in sorted((root / "mpa_core").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        # Documentation, and quantities such as {"mse": …}, which is no path.
        left_out = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        left_out |= {id(node.slice) for node in nodes if isinstance(node, ast.Subscript)}
        left_out |= {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
        found += [
            f"{file.relative_to(root)}:{node.lineno}: {node.value}"
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in left_out
            if named.search(node.value) and not re.search("such as|for example", node.value)
        ]
    assert names and found == []


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
