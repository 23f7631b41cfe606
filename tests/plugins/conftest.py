"""Throw-away distributions: what pip would have installed, in a folder on the module path."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from forks import COMMANDS, ForkServer, Result, fork_server

import mpa_core

PACKAGES = Path(mpa_core.__file__).parents[1]
"""Folder of the SDK that is tested: of its source, or where it is installed."""

SPEC = 'PathSpec(name="{name}", path="{module}.path:{class_name}", summary="For tests.")'


class Site:
    """A folder of installed distributions, seen by processes of their own."""

    def __init__(self, folder: Path, bare: ForkServer) -> None:
        self.folder = folder
        self._bare = bare
        self._calls = 0
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

    def run(
        self, code: str, *, check: bool = True, server: ForkServer | None = None, **env: str
    ) -> Result:
        """Run ``code`` in a process that has not looked for plugins; every warning is an error.

        Without ``server`` it has not imported torch either.
        """
        done = self.fork(server or self._bare, code=textwrap.dedent(code), env=env)
        assert not check or done.code == 0, done.err
        return done

    def fork(self, server: ForkServer, *, env: dict[str, str], **what: Any) -> Result:
        """A process of ``server`` that sees what is installed here."""
        self._calls += 1
        output = self.folder / f"process-{self._calls}"
        output.mkdir()
        places = os.pathsep.join([str(self.folder), str(PACKAGES)])
        env = {"PYTHONPATH": places, **env}
        return server.start(output, env=env, path=[str(self.folder)], **what).wait()

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
        answer = json.loads(self.run(code, **env).out)
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


def _server(imports: str) -> AbstractContextManager[ForkServer]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPA_")}
    env = {**clean, "PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"}
    return fork_server(imports, "-W", "error", env=env)


@pytest.fixture(scope="session")
def _bare() -> Iterator[ForkServer]:
    """What discovery itself imports is imported; torch is not."""
    with _server("import mpa_core.plugins.registry, mpa_core.cli.main") as server:
        yield server


@pytest.fixture(scope="session")
def commands() -> Iterator[ForkServer]:
    """torch is imported, and plugins have not been looked for."""
    with _server(COMMANDS) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, _bare: ForkServer) -> Site:
    return Site(tmp_path, _bare)


def path_named(name: str) -> str:
    """Source of a plain path class."""
    return f'from mpa_core import TaskPath\n\nclass P(TaskPath):\n    name = "{name}"\n'


@pytest.fixture
def troubled(site: Site) -> Site:
    """An import error, a misspelt hook, two claims of a name, a newer SDK, and one of our names."""
    good = hook_returning("new", "newer")
    site.install("mpa-broken", "broken", "import no_such_module_xyz")
    site.install("mpa-misspelt", "misspelt", good.replace("mpa_task_paths", "mpa_task_pahts"))
    for distribution, module in (("mpa-one", "one"), ("mpa-two", "two")):
        site.install_path(distribution, module, "det", path=path_named("det"))
    newer = good.replace('summary="For tests."', 'summary="s", requires=">=99"')
    site.install("mpa-newer", "newer", newer)
    site.install_path("mpa-stranger", "stranger", "mse", path=path_named("mse"))
    return site
