"""The package as a whole: what importing it costs, and what is in its distributions."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution, distributions, entry_points
from pathlib import Path
from types import ModuleType

import pytest
from distributions import FILES, FOLDERS
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

import mpa_core
from mpa_core import checkpoints, tasks, testing

MAX_WHEEL_BYTES = 16 * 2**20
INFO = f"mpa_core-{Version(mpa_core.__version__)}.dist-info"


LAZY = pytest.mark.parametrize(
    "package", [mpa_core, tasks, checkpoints, testing], ids=lambda package: package.__name__
)


@LAZY
def test_the_public_names_are_there(package: ModuleType):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match=f"{package.__name__}' has no attribute 'Mixx'"):
        package.Mixx  # noqa: B018


@LAZY
def test_a_public_name_is_that_of_its_home(package: ModuleType):
    homes = {name: home for home, names in package._MODULES.items() for name in names}
    assert homes.keys() <= set(package.__all__)
    for name, home in homes.items():
        assert getattr(package, name) is getattr(importlib.import_module(home), name)


def test_all_of_tasks_is_imported_when_used():
    assert sorted(name for names in tasks._MODULES.values() for name in names) == sorted(
        tasks.__all__
    )


@pytest.mark.parametrize(
    "module",
    [
        "mpa_core",
        "mpa_core.cli.main",
        "mpa_core.plugins",
        "mpa_core.checkpoints",
        "mpa_core.pillow",
        "mpa_core.tasks",
        "mpa_core.testing",
        "mpa_core.testing.pytest_plugin",
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


def files_below(folder: Path) -> set[str]:
    """Relative paths of the files below ``folder`` but compiled ones."""
    compiled = (".pyc", ".so", ".pyd")
    found = (p for p in folder.rglob("*") if p.is_file() and p.suffix not in compiled)
    return {str(path.relative_to(folder)) for path in found}


def test_the_source_distribution_has_what_the_repository_has(root: Path, distributions):
    unpacked, _ = distributions
    for name in FOLDERS:
        assert files_below(root / name) == files_below(unpacked / name), name
    assert {name for name in FILES if not (unpacked / name).is_file()} == set()


def test_the_wheel_has_everything_and_nothing_else(root: Path, distributions):
    _, built = distributions
    assert built.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
    assert {name.split("/")[0] for name in names} == {"mpa_core", "mpa_plugins", INFO}
    assert f"{INFO}/licenses/LICENSE" in names
    packaged = {
        f"{package}/{name}"
        for package in ("mpa_core", "mpa_plugins")
        for name in files_below(root / package)
        if not name.endswith(".c")
    }
    assert packaged <= names
    compiled = {name for name in names if name.startswith("mpa_core/bitstream/_rans.")}
    assert {name for name in names - packaged if not name.startswith(INFO)} == compiled
    assert len(compiled) == 1
    assert {"mpa_core/py.typed", "mpa_core/assets/chelsea.png"} <= packaged


def test_the_wheel_says_what_it_is(root: Path, distributions):
    _, built = distributions
    name, version, _, tags = parse_wheel_filename(built.name)
    assert (name, version) == ("mpa-core", Version(mpa_core.__version__))
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert {(tag.interpreter, tag.abi) for tag in tags} == {("cp310", "abi3")}
    with zipfile.ZipFile(built) as wheel:
        found = Metadata.from_email(wheel.read(f"{INFO}/METADATA"), validate=True)
    assert (found.license_expression, found.license_files) == ("Apache-2.0", ["LICENSE"])
    assert found.description == (root / "README.md").read_text(encoding="utf-8")
    assert found.description_content_type == "text/markdown"
    assert found.requires_python == SpecifierSet(">=3.10")
    prefix = "Programming Language :: Python :: 3."
    minors = [text for text in found.classifiers if text.startswith(prefix)]
    assert minors == [f"{prefix}{minor}" for minor in range(10, 10 + len(minors))]
    conditional = {
        requirement.name: [
            f"3.{minor}"
            for minor in range(10, 15)
            if requirement.marker.evaluate({"python_version": f"3.{minor}", "extra": ""})
        ]
        for requirement in found.requires_dist
        if requirement.marker and "extra" not in str(requirement.marker)
    }
    assert conditional == {"compressai": ["3.10", "3.11", "3.12"]}


USE = """
import json, sys
from pathlib import Path
sys.modules.update(dict.fromkeys(json.loads(sys.argv[2])))
from PIL import Image
import mpa_core
from mpa_core import Mix, MPACodec
assert Path(mpa_core.__file__).is_relative_to(sys.argv[1]), mpa_core.__file__
assets = Path(mpa_core.__file__).parent / "assets"
picture = Image.open(assets / "chelsea.png").crop((90, 60, 218, 124))
codec = MPACodec.from_pretrained("mpa-small")
data = codec.encode(picture, quality=3)
seen = [codec.decode(data)]
for name in ("mse", "cls", "seg"):
    codec.load_path(name)
    seen.append(codec.decode(data, name))
seen.append(codec.decode(data, Mix(cls=0.4, seg=0.2)))
print(len({image.tobytes() for image in seen}), {image.size for image in seen})
"""


def not_required() -> list[str]:
    """Modules that are installed here and that no requirement without an extra brings, compressai's
    own requirements among them: importing one is an error of a user who has the wheel alone."""
    required: set[str] = set()
    new = {"mpa-core"}
    while new:
        required |= new
        new = {
            canonicalize_name(requirement.name)
            for name in new
            for requirement in map(Requirement, distribution(name).requires or ())
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        } - {*required, "compressai"}
    modules: dict[bool, set[str]] = {True: set(), False: set()}
    for installed in distributions():
        firsts = {file.parts[0] for file in installed.files or () if file.suffix in {".py", ".so"}}
        names = {first.partition(".")[0] for first in firsts - {"..", "__pycache__"}}
        modules[canonicalize_name(installed.metadata["Name"]) in required] |= names
    return sorted(modules[False] - modules[True])


def test_the_wheel_alone_codes_by_every_bundled_path(distributions, tmp_path: Path):
    blocked = not_required()
    assert {"timm", "torchvision"} <= set(blocked)
    _, built = distributions
    site = tmp_path / "site"
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(site)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE, str(site), json.dumps(blocked)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("5 {(128, 64)}", "")
