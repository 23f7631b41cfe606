"""Look-up, class loading and bundled weights."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from mpa_core.errors import ConfigError, PathNotFoundError, PluginError
from mpa_core.plugins import PathSpec
from mpa_core.plugins.registry import Plugin, RegisteredPath, Registry, registry

FIELDS = {"name": "det", "path": "pkg.path:Det", "summary": "s"}


def holding(*specs: PathSpec, **plugin: str) -> Registry:
    paths = tuple(RegisteredPath(spec, "mpa-plugin-det", "1.0") for spec in specs)
    broken = Plugin("broken-one", "b", "mpa-plugin-b", "0.1", error="ImportError: x")
    return Registry((Plugin("det", "m", "mpa-plugin-det", "1.0", paths), broken))


@pytest.mark.parametrize("name", ["det", "ocr_2", "x"])
def test_good_names(name):
    assert PathSpec(**{**FIELDS, "name": name}).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", bad) for bad in ["", "Det", "2d", "a-b", "a b", "_x", "é", "det\n"]),
        *(("name", bad) for bad in ["main", "regions", "class", "lambda"]),
        *(("path", bad) for bad in ["", "pkg", "pkg:", ":Det", "pkg.:Det", "pkg/x:Det", "p:a.b"]),
        ("recipe", "pkg.recipe"),
        *(("summary", bad) for bad in ["", " ", "two\nlines"]),
        *(("measure", bad) for bad in ["", "PSNR", "a b"]),
        *(("official", bad) for bad in [-1, "one"]),
        *(("weights", bad) for bad in ["", "/etc", "../x", "a/../b", "a\\b"]),
    ],
)
def test_bad_specs(field, value):
    with pytest.raises(ConfigError) as caught:
        PathSpec(**{**FIELDS, field: value})
    assert str(caught.value).startswith(f"not a valid PathSpec: {field}: ")


def test_a_spec_is_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        PathSpec(**FIELDS).name = "other"
    with pytest.raises(ConfigError, match="recipy"):
        PathSpec(**FIELDS, recipy="x:Y")


def test_unknown_names_are_answered_with_the_known_ones():
    found = holding(PathSpec(**FIELDS), PathSpec(**{**FIELDS, "name": "pose"}))
    with pytest.raises(PathNotFoundError) as caught:
        found.get("dett")
    assert str(caught.value) == (
        "no task path 'dett' is installed; known: det, pose; did you mean 'det'?; "
        "did not load, see `mpa plugins ls`: broken-one; write one that `mpa paths ls` shows, or "
        "install the plugin that has it"
    )
    with pytest.raises(PathNotFoundError, match="no task path ':det' is installed"):
        found.get(":det")
    with pytest.raises(PathNotFoundError, match="known: det, pose"):
        found.get("mpa-plugin-ocr:det")
    with pytest.raises(PathNotFoundError, match="known: none"):
        Registry(()).get("det")


def test_select_by_entry_point_or_distribution():
    found = holding(PathSpec(**FIELDS))
    assert found.select() == found.plugins
    assert found.select("broken-one") == found.select("mpa-plugin-b") == found.plugins[1:]
    with pytest.raises(PluginError, match=r"installed: broken-one, det; did you mean 'det'\?"):
        found.select("dte")


CLASSES = """
from mpa_core import PathConfig, TaskPath

class Det(TaskPath):
    name = "det"

class Other(TaskPath):
    name = "other"

class Unnamed(TaskPath):
    pass

class OddConfig(TaskPath):
    name = "det"
    Config = dict

not_a_class = 3

class Unrelated:
    name = "det"
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "det_classes.py").write_text(CLASSES)
    (tmp_path / "det_broken.py").write_text("import no_such_module_xyz")
    monkeypatch.syspath_prepend(tmp_path)
    yield "det_classes"
    sys.modules.pop("det_classes", None)


def test_load_class(module):
    loaded = holding(PathSpec(**{**FIELDS, "path": f"{module}:Det"})).load_class("det")
    assert loaded is sys.modules[module].Det


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("det_classes:Gone", "cannot be imported: AttributeError"),
        ("det_missing:Det", "cannot be imported: ModuleNotFoundError"),
        ("det_broken:Det", r"No module named 'no_such_module_xyz' \(.*/det_broken.py, line 1\)"),
        ("det_classes:not_a_class", "is 3, expected a subclass of mpa_core.TaskPath"),
        ("det_classes:Unrelated", "expected a subclass of mpa_core.TaskPath"),
        ("det_classes:Other", "has name = 'other', expected 'det'"),
        ("det_classes:Unnamed", "expected 'det' as in its PathSpec"),
        ("det_classes:OddConfig", "has a Config that is no"),
    ],
)
def test_load_class_holds_it_to_the_contract(module, target, message):
    found = holding(PathSpec(**{**FIELDS, "path": target}))
    with pytest.raises(PluginError, match=message) as caught:
        found.load_class("det")
    assert str(caught.value).startswith(f"task path 'mpa-plugin-det:det': {target!r}")
    assert "\n" not in str(caught.value)


def test_bundled_weights(tmp_path, monkeypatch):
    weights = tmp_path / "pkg_with_weights" / "inner" / "weights"
    (weights / "mpa-small").mkdir(parents=True)
    (weights / "org--base").mkdir()
    (weights / "README.md").write_text("not a base")
    (tmp_path / "pkg_with_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "single_file.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "weights" / "mpa-small").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)

    spec = PathSpec(**{**FIELDS, "path": "pkg_with_weights.inner.path:Det"})
    assert spec.bundled_weights("mpa-small") == weights / "mpa-small"
    assert spec.bundled_weights("org/base") == weights / "org--base"
    assert spec.bundled_bases() == ("mpa-small", "org/base")
    for absent in ("mpa-base", "..", ".", "", "../weights", "README.md", "/"):
        assert spec.bundled_weights(absent) is None

    elsewhere = {
        "the package has none": {"path": "pkg_with_weights.path:Det"},
        "another folder": {"path": "pkg_with_weights.inner:Det", "weights": "weights/det"},
        "a single file": {"path": "single_file:Det"},
        "no such package": {"path": "no_such_package_xyz.path:Det"},
        "no spec": {"path": "__main__:Det"},
    }
    for reason, fields in elsewhere.items():
        spec = PathSpec(**{**FIELDS, **fields})
        assert spec.bundled_weights("mpa-small") is None, reason
        assert spec.bundled_bases() == (), reason


def test_registry_is_cached_and_sorted():
    assert registry() is registry()
    names = [path.name for path in registry().paths()]
    assert names == sorted(names)
