"""The plugin with the second base is installed while these tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from second_base.plugin_source import DISTRIBUTION, MODULES

from mpa_core.plugins.registry import registry


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would have put on the module path."""
    folder = tmp_path_factory.mktemp("site")
    package = folder / "mpa_plugin_plain"
    package.mkdir()
    for name, text in MODULES.items():
        (package / f"{name}.py").write_text(text)
    info = folder / "mpa_plugin_plain-0.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {DISTRIBUTION}\nVersion: 0.3.0\nLicense-Expression: MIT\n"
        "Requires-Dist: mpa-core>=0.1,<0.2\n"
    )
    (info / "entry_points.txt").write_text("[mpa.plugins]\nplain = mpa_plugin_plain\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def plugin(site: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry(refresh=True)
        yield DISTRIBUTION
    registry(refresh=True)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, sample: Image.Image) -> Path:
    """Three pieces, 96 x 80, of the bundled photo."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        box = (60 * index, 40 * index, 60 * index + 96, 40 * index + 80)
        sample.crop(box).save(folder / f"piece-{index}.png")
    return folder
