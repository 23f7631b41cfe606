"""What extras need and what is missing, by the metadata of installations; the texts that say so."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mpa_core.errors import MissingDependencyError, MPAError
from mpa_core.requirements import DISTRIBUTION, Need, missing, needs, version_of

Installed = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Writes a distribution's metadata where Python looks first, as installers do."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, version: str, *lines: str) -> Path:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}", *lines]
        (folder / "METADATA").write_text("\n".join(text) + "\n", encoding="utf-8")
        return folder

    return write


def mpa_core_needs(installed: Installed, extras: str, *requirements: str) -> None:
    lines = [f"Provides-Extra: {extra}" for extra in extras.split()]
    installed(DISTRIBUTION, "9.9", *lines, *(f"Requires-Dist: {text}" for text in requirements))


def test_what_is_missing_and_what_does_not_fit(installed):
    mpa_core_needs(
        installed,
        "big small",
        "there-a>=1",
        "nowhere>=2,<3",
        'there-b>=2; extra == "small"',
        'unmet; extra == "small"',
    )
    installed("there-a", "1.5+cpu")
    installed("there-b", "1.9")
    assert needs() == {
        DISTRIBUTION: [
            Need("nowhere", "<3,>=2", None, fits=False),
            Need("there-a", ">=1", "1.5+cpu", fits=True),
        ],
        f"{DISTRIBUTION}[big]": [],
        f"{DISTRIBUTION}[small]": [
            Need("there-b", ">=2", "1.9", fits=False),
            Need("unmet", "", None, fits=False),
        ],
    }


def test_extras_that_name_extras_are_followed_and_bounds_meet(installed):
    mpa_core_needs(
        installed,
        "a b c",
        "there>=1",
        'there>=3; extra == "a"',
        'mpa-core[b,c]; extra == "a"',
        'there<5; extra == "b"',
        'mpa-core[a]; extra == "c"',  # round and round
        'only-c; extra == "c"',
    )
    installed("there", "2.0")
    found = needs()
    assert found[DISTRIBUTION] == [Need("there", ">=1", "2.0", fits=True)]
    whole = [Need("only-c", "", None, fits=False), Need("there", "<5,>=3", "2.0", fits=False)]
    assert found[f"{DISTRIBUTION}[a]"] == found[f"{DISTRIBUTION}[c]"] == whole
    assert found[f"{DISTRIBUTION}[b]"] == [Need("there", "<5", "2.0", fits=True)]


def test_what_another_python_or_platform_needs_is_not_missing(installed):
    mpa_core_needs(
        installed,
        "more",
        'old; python_version < "3"',
        'elsewhere; sys_platform == "nothing" and extra == "more"',
        'here; python_version >= "3" and extra == "more"',
    )
    names = {name: [need.name for need in group] for name, group in needs().items()}
    assert names == {DISTRIBUTION: [], f"{DISTRIBUTION}[more]": ["here"]}


def test_versions_before_a_release_and_strange_ones(installed):
    mpa_core_needs(installed, "", "early>=2.0.dev0", "strange>=1")
    installed("early", "2.1.dev20260101+cu132")
    installed("strange", "one.and.a.half")
    assert [need.fits for need in needs()[DISTRIBUTION]] == [True, False]


@pytest.mark.parametrize("line", ["Requires-Dist: ???", "Requires-Dist: a; extra = 1"])
def test_damaged_metadata_is_an_error_in_a_line(installed, line):
    installed(DISTRIBUTION, "9.9", line)
    with pytest.raises(MPAError, match=r"metadata of mpa-core cannot be read .*; reinstall it$"):
        needs()


def test_damaged_metadata_of_a_library_is_that_library_missing(installed):
    mpa_core_needs(installed, "", "broken>=1")
    folder = installed("broken", "1.0")
    (folder / "METADATA").write_bytes(b"\xff\xfe\xfa")
    assert needs()[DISTRIBUTION] == [Need("broken", ">=1", None, fits=False)]
    (folder / "METADATA").unlink()
    assert version_of("broken") is None


def test_our_own_installation_is_told_as_pip_check_does():
    found = needs()
    assert found[DISTRIBUTION]
    assert [need for need in found[DISTRIBUTION] if not need.fits] == []
    assert f"{DISTRIBUTION}[eval]" in found
    train = {need.name for need in found[f"{DISTRIBUTION}[train]"]}
    assert "timm" in train
    assert train < {need.name for need in found[f"{DISTRIBUTION}[eval]"]}
    assert all(need.name != DISTRIBUTION for group in found.values() for need in group)


# ------------------------------------------------------------------------------- from the source


def test_mpa_env_of_a_source_tree(root: Path, tmp_path: Path):
    """Not installed, not compiled, without torch: everything is said, and nothing warned of."""
    unwanted = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "weights")
    for package in ("mpa_core", "mpa_plugins"):
        shutil.copytree(root / package, tmp_path / "source" / package, ignore=unwanted)
    libraries = tmp_path / "libraries"  # all that this Python has, but us and torch
    libraries.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"mpa_|_*editable|torch(-|$)|.*\.pth$", path.name):
            (libraries / path.name).symlink_to(path)
    done = [
        subprocess.run(
            [sys.executable, "-S", "-m", "mpa_core.cli", "env", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{tmp_path / 'source'}{os.pathsep}{libraries}"},
            capture_output=True,
            text=True,
        )
        for arguments in ([], ["--format", "json"])
    ]
    assert [(one.returncode, one.stderr) for one in done] == [(0, ""), (0, "")]
    said = "mpa-core runs from its source, without being installed"
    assert said in done[0].stdout
    data = json.loads(done[1].stdout)
    assert said in data["requirements"]["error"]
    assert data["range_coder"]["loops"] == "Python, slower"
    assert data["packages"]["numpy"] == metadata.version("numpy")
    assert data["packages"]["torch"] is None
    assert "ModuleNotFoundError" in data["torch"]["error"]


# ------------------------------------------------------------------------------------- the texts


def test_the_text_for_a_missing_library(installed):
    error = missing("plots need", "nowhere-lib", "eval", ImportError("x"), "use --no-plots")
    assert isinstance(error, MissingDependencyError)
    assert str(error) == (
        "plots need nowhere-lib, which is not installed; "
        'run: pip install "mpa-core[eval]", or use --no-plots'
    )
    installed("nowhere-lib", "1.0")
    assert str(missing("it needs", "nowhere-lib", "eval", ImportError("no libx.so.3"))) == (
        "it needs nowhere-lib, which is installed and cannot be imported (no libx.so.3); "
        "run: pip install --force-reinstall --no-deps nowhere-lib"
    )


def calls_of_missing(root: Path) -> set[tuple[str, str]]:
    """Library and extra, as every ``raise missing(…)`` of ours has them."""
    found = set()
    for package in ("mpa_core", "mpa_plugins"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                    continue
                if isinstance(node.exc.func, ast.Name) and node.exc.func.id == "missing":
                    library, extra = (ast.literal_eval(value) for value in node.exc.args[1:3])
                    found.add((library, extra))
    return found


def test_the_extra_that_a_text_names_brings_the_library(root: Path):
    calls = calls_of_missing(root)
    assert len(calls) >= 10
    brought = {
        (Requirement(text).name, text.partition('extra == "')[2].rstrip('"'))
        for text in metadata.requires(DISTRIBUTION) or []
    }
    assert {call for call in calls if call not in brought} == set()
