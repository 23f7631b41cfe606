"""Throw-away distributions: what pip would have installed, in a folder on the module path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

SPEC = 'PathSpec(name="{name}", path="{module}.path:{class_name}", summary="For tests.")'


class Site:
    """A folder of installed distributions, seen by a fresh interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.distributions = {"mpa-core"}

    def install(
        self,
        distribution: str,
        module: str,
        top: str,
        *,
        path: str | None = None,
        entry: str | None = None,
        version: str = "1.2.0",
    ) -> Path:
        """Lay out package ``module`` (source ``top``, and ``path.py``) and its metadata."""
        self.distributions.add(distribution)
        package = self.folder / module
        package.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(top))
        if path is not None:
            (package / "path.py").write_text(textwrap.dedent(path))
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(
            f"[mpa.plugins]\n{entry or f'{distribution} = {module}'}\n"
        )
        return package

    def install_path(self, distribution: str, module: str, name: str, path: str = "") -> Path:
        """A plugin that keeps the contract at discovery, with one path of class ``P``."""
        return self.install(distribution, module, hook_returning(name, module), path=path)

    def run(self, code: str, *, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in a fresh interpreter in which every warning is an error."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MPA_")}
        places = os.pathsep.join([str(self.folder), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            env={**clean, "PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1", **env},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def discover(self, **env: str) -> dict[str, dict[str, Any]]:
        """What a fresh registry says of our plugins, by entry point.

        Plugins that happen to be installed on this machine besides are left out.
        """
        code = """
            import json, sys
            from mpa_core.plugins.registry import registry
            plugins = {
                p.name: {
                    "distribution": p.distribution,
                    "version": p.version,
                    "paths": [path.name for path in p.paths],
                    "error": p.error,
                    "imports_torch": p.imports_torch,
                }
                for p in registry().plugins
            }
            print(json.dumps({"plugins": plugins, "torch": "torch" in sys.modules}))
        """
        answer = json.loads(self.run(code, **env).stdout)
        assert answer["torch"] == any(p["imports_torch"] for p in answer["plugins"].values())
        return {
            name: plugin
            for name, plugin in answer["plugins"].items()
            if plugin["distribution"] in self.distributions
        }


def hook_returning(name: str, module: str) -> str:
    """Source of a top module that offers one path."""
    spec = SPEC.format(name=name, module=module, class_name="P")
    return (
        "from mpa_core import PathSpec, hookimpl\n\n"
        f"@hookimpl\ndef mpa_task_paths():\n    return [{spec}]\n"
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
