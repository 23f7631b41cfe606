"""The plugin of docs/write-a-plugin.md, typed in as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mpa_core.plugins import hookspecs
from mpa_core.plugins.hookspecs import RESERVED_NAMES, PathSpec

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIAL = (DOCS / "write-a-plugin.md").read_text(encoding="utf-8")
SPECIFICATION = (DOCS / "spec" / "plugin-api.md").read_text(encoding="utf-8")


def file_in_tutorial(name: str) -> str:
    found = re.search(rf"^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.M | re.S)
    assert found, f"{name} is not in the tutorial"
    return found[1]


def test_the_tutorial_makes_a_plugin_that_passes_the_check(site):
    entry = re.search(
        r'^\[project.entry-points."mpa.plugins"\]\n(\w+) = "(\w+)"$',
        file_in_tutorial("pyproject.toml"),
        re.M,
    )
    assert entry
    package = site.install(
        "mpa-plugin-det",
        "mpa_plugin_det",
        file_in_tutorial("mpa_plugin_det/__init__.py"),
        path=file_in_tutorial("mpa_plugin_det/path.py"),
        entry=f"{entry[1]} = {entry[2]}",
        version="0.1.0",
    )
    weights = re.search(r"^mpa_plugin_det/(weights/mpa-small)/path_config.json$", TUTORIAL, re.M)
    assert weights
    (package / weights[1]).mkdir(parents=True)
    assert site.discover()["det"]["error"] is None
    use = re.search(r"^## 5.*?^```python\n(.*?)^```$", TUTORIAL, re.M | re.S)
    assert use
    code = f"""
import json, sys, warnings
from mpa_core.plugins.registry import registry
found = registry()
bases = found.get("det").spec.bundled_bases()
assert "torch" not in sys.modules
warnings.simplefilter("default")  # from here on other libraries are imported
from mpa_core.plugins.check import check_plugin
problems = [check_plugin(found, plugin) for plugin in found.select("det")]
import numpy as np
image = np.full((40, 50, 3), 99, dtype=np.uint8)
{use[1]}
print(json.dumps([bases, problems, list(for_detector.shape)]))
"""
    assert json.loads(site.run(code).stdout) == [["mpa-small"], [[]], [3, 40, 50]]


def test_the_specification_lists_every_field_and_hook():
    for field in PathSpec.model_fields:
        assert f"| `{field}` |" in SPECIFICATION
    hooks = [name for name in vars(hookspecs) if name.startswith(hookspecs.HOOK_PREFIX)]
    assert hooks == re.findall(r"^\| `(mpa_\w+)\(\)` \|", SPECIFICATION, re.M)
    for name in RESERVED_NAMES:
        assert f"`{name}`" in SPECIFICATION
