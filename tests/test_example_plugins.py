"""Each plugin below examples/ passes its own tests, from its own folder, as an installed one would.

Nothing is installed: a folder with the metadata that an installation would write stands for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mpa_core

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest's own on Python 3.10

EXAMPLES = Path(__file__).parent.parent / "examples"
PLUGINS = sorted(path.parent for path in EXAMPLES.glob("mpa-plugin-*/pyproject.toml"))


def write_metadata(plugin: Path, site: Path) -> None:
    project = tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    said = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    said += [f"License-Expression: {project['license']}", f"Summary: {project['description']}"]
    said += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (info / "METADATA").write_text("\n".join(said) + "\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_passes_its_own_tests(plugin, tmp_path):
    write_metadata(plugin, tmp_path)
    packages = Path(mpa_core.__file__).parents[1]  # the SDK that is tested, source or installed
    path = [str(tmp_path), str(plugin), str(packages), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "MPA_PLUGINS"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests"],
        cwd=plugin, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # The SDK's checks were among them: that the weights are for the base that they lie under, and
    # that the recipe trains.
    for check in ("check_bundled_weights", "check_wrong_base", "check_card", "check_loss_falls"):
        assert re.search(rf"test_conformance\[.*{check}.*\] PASSED", done.stdout), check
