"""The plugin of docs/write-a-plugin.md, typed in as it stands there."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from public_names import SPECIFICATION, documented, public_names
from second_base import plugin_source

import mpa_core
import mpa_plugins
from mpa_core import Metric, PathBatch, Recipe, Sample, paths, tasks
from mpa_core.plugins import hookspecs
from mpa_core.plugins.hookspecs import RESERVED_NAMES, PathSpec
from mpa_core.plugins.scaffold import new_plugin
from mpa_core.testing import all_checks

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODULES = ("__init__.py", "path.py", "recipe.py")
TUTORIAL = (DOCS / "write-a-plugin.md").read_text(encoding="utf-8")


def file_in_tutorial(name: str) -> str:
    found = re.search(rf"^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.M | re.S)
    assert found, f"{name} is not in the tutorial"
    return found[1]


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory) -> Path:
    """What the tutorial's ``mpa plugins new`` writes."""
    (command,) = re.findall(r"^\$ mpa plugins new (.*)$", TUTORIAL, re.M)
    name, option, summary = shlex.split(command)
    assert option == "--summary"
    return new_plugin(name, tmp_path_factory.mktemp("new") / "plugin", summary=summary)


def install_the_tutorial(site, scaffold: Path) -> Path:
    """The package's folder."""
    files = {file: (scaffold / "mpa_plugin_det" / file).read_text() for file in MODULES}
    package = site.install(
        "mpa-plugin-det",
        "mpa_plugin_det",
        files["__init__.py"],
        path=files["path.py"],
        entry="det = mpa_plugin_det",
        version="0.1.0",
    )
    (package / "recipe.py").write_text(files["recipe.py"])
    return package


def test_the_tutorial_shows_what_is_written(scaffold: Path):
    for name in ("pyproject.toml", *(f"mpa_plugin_det/{file}" for file in MODULES)):
        assert file_in_tutorial(name) == (scaffold / name).read_text(), name
    tree = TUTORIAL.partition("mpa-plugin-det/\n")[2].partition("```")[0]
    lines = [re.sub(r" {3,}.*", "", line.lstrip("│├└─ ")) for line in tree.splitlines()]
    named = {name.rstrip("/") for line in lines for name in line.split()}
    written = {str(path.relative_to(scaffold)) for path in scaffold.rglob("*")}
    assert {"pyproject.toml", "__init__.py", "py.typed", "tests"} <= named
    assert all(any(path.endswith(name) for path in written) for name in named)


def test_the_tutorials_path_decodes(site, scaffold: Path):
    package = install_the_tutorial(site, scaffold)
    weights = re.search(r"^mpa_plugin_det/(weights/mpa-small)/path_config.json$", TUTORIAL, re.M)
    assert weights
    (package / weights[1]).mkdir(parents=True)
    assert site.discover()["det"]["error"] is None
    use = re.search(r"^## 4.*?^```python\n(.*?)^```$", TUTORIAL, re.M | re.S)
    assert use
    code = f"""
import json, sys, warnings
from mpa_core.plugins.registry import registry
bases = registry().get("det").spec.bundled_bases()
assert "torch" not in sys.modules
warnings.simplefilter("default")  # from here on other libraries are imported
import numpy as np
image = np.full((40, 50, 3), 99, dtype=np.uint8)
{use[1]}
print(json.dumps([bases, list(for_detector.shape)]))
"""
    assert json.loads(site.run(code).out) == [["mpa-small"], [3, 40, 50]]


def test_the_tutorial_trains_its_path(site, scaffold, sample, tmp_path):
    """Its two recipes and its commands, on a few small photos and the smallest base, and a file
    for the path."""
    section = re.search(r"^## 5\. Write the recipe$(.*?)^## 7", TUTORIAL, re.M | re.S)
    assert section
    install_the_tutorial(site, scaffold)
    for folder in ("PHOTOS", "VALIDATION"):
        (tmp_path / folder).mkdir()
        sample.crop((80, 40, 300, 260)).save(tmp_path / folder / "7.png")
    (other,) = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", section[1], re.M | re.S)
        if "LabelledRecipe" in block
    ]
    commands = re.findall(r"^\$ mpa (.*)$", section[1], re.M)
    encode = re.search(r"^## 7\. Encode.*?^```python\n(.*?)^```$", TUTORIAL, re.M | re.S)
    assert encode
    assert [command.split()[:2] for command in commands] == [["train", "path"], ["train", "export"]]
    code = f"""
import os, shlex, warnings
warnings.simplefilter("default")  # other libraries are imported
from pathlib import Path
os.chdir({str(tmp_path)!r})
from mpa_core import MPACodec
from mpa_core.cli.main import main
codec = MPACodec.from_preset("mpa-tiny")
codec.save_pretrained("tiny")
quick = ["--steps", "1", "--threads", "1", "--set", "data.crop=64", "--set", "data.batch=1"]
train, export = (shlex.split(line.replace("mpa-small", "./tiny", 1)) for line in {commands!r})
assert main([*train[:-2], *quick]) == 0
assert main(export) == 0
assert codec.load_path(Path("det-for-small")) == "det"
{other}
crops = LabelledRecipe().dataset(Path("PHOTOS"), "train", 64)
assert len(crops) == 4 and crops[3].target["label"] == 7
assert LabelledRecipe().dataset(Path("PHOTOS"), "val", None)[0].target["label"] == 7
from PIL import Image
image = Image.open("PHOTOS/7.png")
{encode[1].replace('"mpa-small"', '"./tiny"')}
assert codec.decode(data, "det", output="tensor").shape == (3, 220, 220)
"""
    text = site.run(code).out
    assert "det-for-small: path" in text
    validation = (tmp_path / "runs" / "det" / "metrics.jsonl").read_text().splitlines()[-2]
    levels = json.loads(validation)["levels"]
    assert all({"psnr", "features", "main_features"} <= level.keys() for level in levels)


def imported(code: str) -> list[tuple[str, str]]:
    """(module, name) of every import of ours in ``code``; the name is empty for ``import x``."""
    nodes = list(ast.walk(ast.parse(code)))
    plain = [(alias.name, "") for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    named = [
        (n.module or "", alias.name)
        for n in nodes
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
    ]
    return [(module, name) for module, name in plain + named if module.split(".")[0] == "mpa_core"]


def test_the_specification_lists_what_a_plugin_may_import():
    listed = [name for group in documented("of `mpa_core.tasks` | for") for name in group.split()]
    assert sorted(name.strip("`,") for name in listed) == sorted(tasks.__all__)
    for module, names in public_names().items():
        assert all(hasattr(import_module(module), name) for name in names), module
    table = documented("module | names")
    assert set(table["`mpa_core`"]) <= set(mpa_core.__all__)
    assert set(table["`mpa_core.paths`"]) <= set(paths.__all__)


@pytest.mark.parametrize(
    "code",
    [
        *re.findall(r"^```python\n(.*?)^```$", TUTORIAL, re.M | re.S),
        *(
            file.read_text(encoding="utf-8")
            for file in sorted(Path(mpa_plugins.__file__).parent.rglob("*.py"))
        ),
        *plugin_source.MODULES.values(),
    ],
    ids=lambda code: code.strip().splitlines()[0][:40],
)
def test_plugins_and_the_tutorial_import_public_names_only(code: str):
    public = public_names()
    for module, name in imported(code):
        assert name in public.get(module, ()), f"{module}.{name} is not public"


def test_every_check_is_in_the_reference_as_it_says_itself():
    text = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(check_\w+)` \| (.*) \|$", text, re.M)
    said = {check.name: check.purpose.rstrip(".") for check in all_checks()}
    assert {name: asks[0].upper() + asks[1:] for name, asks in rows} == said


def test_the_specification_lists_every_field_and_hook():
    for field in PathSpec.model_fields:
        assert f"| `{field}` |" in SPECIFICATION
    hooks = [name for name in vars(hookspecs) if name.startswith(hookspecs.HOOK_PREFIX)]
    assert hooks == re.findall(r"^\| `(mpa_\w+)\(\)` \|", SPECIFICATION, re.M)
    for name in RESERVED_NAMES:
        assert f"`{name}`" in SPECIFICATION
    members = [name for name in vars(Recipe) if not name.startswith("_")]
    for name in members:
        assert re.search(rf"^\| `{name}[`(]", SPECIFICATION, re.M), name
    for record in (Sample, PathBatch, Metric, tasks.Unit):
        row = re.search(rf"^\| `{record.__name__}` \| (.*)$", SPECIFICATION, re.M)
        assert row
        assert all(f"`{field.name}" in row[1] for field in fields(record))
