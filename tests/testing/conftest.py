"""A plugin of wrong paths, installed while these tests run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpa_core import checkpoints
from mpa_core.plugins.registry import registry
from mpa_core.testing import PathUnderTest

HERE = Path(__file__).parent

METADATA = """Metadata-Version: 2.4
Name: {name}
Version: 1.0
License-Expression: MIT
{more}"""


def install(site: Path, module: str, *, more: str = "Requires-Dist: mpa-core>=0.1,<0.2\n") -> None:
    """The metadata that pip would have written for the package ``module``."""
    name = module.replace("_", "-")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=name, more=more))
    (info / "entry_points.txt").write_text(f"[mpa.plugins]\n{name} = {module}\n")


TOP = """
from mpa_core import PathSpec, hookimpl
{more}

@hookimpl
def mpa_task_paths():
    return [PathSpec(name="{name}", path="{module}.path:P", summary="For tests.")]
"""


@pytest.fixture(scope="session", autouse=True)
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its site folder. Beside it ``mpa-weighty``, whose top module imports what is heavy, and
    ``mpa-boundless``, which does not say what it needs."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "wrong" / "mpa_wrong", site / "mpa_wrong")
    install(site, "mpa_wrong")
    for module, more, rest in (
        ("mpa_weighty", "import torch", "Requires-Dist: mpa-core>=0.1,<0.2\n"),
        ("mpa_boundless", "", "Requires-Dist: mpa-core>=0.1\n"),
    ):
        (site / module).mkdir()
        name = module.removeprefix("mpa_")
        (site / module / "__init__.py").write_text(TOP.format(module=module, name=name, more=more))
        install(site, module, more=rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry(refresh=True)
        ship(site / "mpa_wrong")
        yield site
    registry(refresh=True)
    for name in [name for name in sys.modules if name.startswith("mpa_wrong")]:
        del sys.modules[name]


def ship(package: Path) -> None:
    """Weights for the tiny base: of one path where those for another belong, of one without a
    card that says anything."""
    for name, base in (("misplaced", "mpa-small"), ("uncarded", "tiny-0")):
        path = PathUnderTest(name)
        checkpoints.save_path(
            package / f"{name}_weights" / base,
            path.build(),
            base_name="tiny-0",
            base_fingerprint=path.reference.fingerprint,
            plugin=checkpoints.PluginRef(distribution="mpa-wrong", version=">=1.0"),
            card="---\ntags: [mpa]\n---\nHere you are.\n" if name == "uncarded" else None,
        )
