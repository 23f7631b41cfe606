"""Discovery over real distributions, each test in processes that have not looked yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

FIRST_PARTY = {"cls", "mse", "seg"}


def test_first_party_paths_come_from_entry_points(site):
    found = site.discover()
    assert set(found) == FIRST_PARTY
    for name, plugin in found.items():
        assert plugin["paths"] == [name]
        assert plugin["distribution"] == "mpa-core"
        assert plugin["error"] is None


def test_a_third_party_is_found_without_importing_its_path(site):
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det", path="raise SystemExit('no')")
    found = site.discover()
    assert set(found) == {*FIRST_PARTY, "mpa-plugin-det"}
    assert found["mpa-plugin-det"] == {
        "distribution": "mpa-plugin-det",
        "version": "1.2.0",
        "paths": ["det"],
        "error": None,
        "imports_torch": False,
    }


HEAD = "from mpa_core import PathSpec, hookimpl\n"
GOOD = 'PathSpec(name="det", path="bad.path:P", summary="s")'
HOOK = HEAD + "@hookimpl\ndef mpa_task_paths():\n    return "

BROKEN = {
    "import error": ("import no_such_module_xyz", "No module named 'no_such_module_xyz'"),
    "place of the error": (
        "x = 1\n1 / 0",
        "ZeroDivisionError: division by zero (bad/__init__.py, line 2)",
    ),
    "syntax error": ("def f(:\n", "SyntaxError"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "another BaseException": ("class E(BaseException): ...\nraise E('no')", "E: no"),
    "GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
    "hook ends the program": (HOOK + "exit(2)", "SystemExit: 2"),
    "a generator": (HOOK + "(1 / 0 for _ in [1])", "an object of type 'generator'"),
    "warning": ("import warnings\nwarnings.warn('old', DeprecationWarning)", "old"),
    "misspelt hook": (
        HEAD + "@hookimpl\ndef mpa_task_pahts():\n    return []",
        "'mpa_task_pahts' in bad is no hook of this version; "
        "known: mpa_task_paths, mpa_bases; did you mean 'mpa_task_paths'?",
    ),
    "misspelt hook without the mark": (
        HOOK + "[]\ndef mpa_task_pathes():\n    return []",
        "'mpa_task_pathes' in bad is no hook",
    ),
    "marked, other name": (
        HEAD + "@hookimpl\ndef task_paths():\n    return []",
        "'task_paths' in bad is no hook",
    ),
    "mark forgotten": ("def mpa_task_paths():\n    return []", "is not marked @hookimpl"),
    "unknown argument": (
        HEAD + "@hookimpl\ndef mpa_task_paths(config):\n    return []",
        "config",
    ),
    "no hook": ("x = 1", "implements no hook"),
    "hook raises": (HOOK + "[][0]", "IndexError"),
    "None": (HOOK + "None", "returned None; expected a list of PathSpec"),
    "one spec": (HOOK + GOOD, "returned an object of type 'PathSpec'; expected a list"),
    "list of names": (HOOK + "['det']", "with an object of type 'str' in it"),
    "twice in one plugin": (HOOK + f"[{GOOD}, {GOOD}]", "two paths named 'det'"),
    "invalid spec": (
        HOOK + 'PathSpec(name="Det", path="bad", sumary="")',
        "not a valid PathSpec: name: 'Det' is not a lowercase identifier",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_recorded_and_stops_nothing(site, case):
    source, message = BROKEN[case]
    site.install("mpa-plugin-bad", "bad", source)
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det")
    found = site.discover()
    broken = found.pop("mpa-plugin-bad")
    assert message in broken["error"]
    assert "\n" not in broken["error"]
    assert broken["paths"] == []
    assert (broken["distribution"], broken["version"]) == ("mpa-plugin-bad", "1.2.0")
    assert set(found) == {*FIRST_PARTY, "mpa-plugin-det"}
    assert [plugin["error"] for plugin in found.values()] == [None] * 4


def test_an_entry_point_must_be_a_module(site):
    site.install("mpa-plugin-bad", "bad", "plugin = 1", entry="bad = bad:plugin")
    assert "must be a module" in site.discover()["bad"]["error"]


def test_a_missing_module_is_recorded(site):
    site.install("mpa-plugin-bad", "bad", "", entry="bad = gone_since")
    assert "No module named 'gone_since'" in site.discover()["bad"]["error"]


def test_strict_makes_a_broken_plugin_fatal(site):
    site.install("mpa-plugin-bad", "bad", "import no_such_module_xyz")
    code = "from mpa_core.plugins.registry import registry; registry()"
    done = site.run(code, check=False, MPA_STRICT_PLUGINS="1")
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("mpa_core.errors.PluginError: plugin 'mpa-plugin-bad'")
    assert "no_such_module_xyz" in last
    # The cause is chained, for who has to repair it.
    assert "ModuleNotFoundError" in done.err
    site.run(code, MPA_STRICT_PLUGINS="0")


def test_the_filter_loads_only_what_is_named(site):
    site.install_path("Mpa.Plugin-Det", "mpa_plugin_det", "det")
    site.install("mpa-plugin-bad", "bad", "raise RuntimeError")
    assert set(site.discover(MPA_PLUGINS="cls, mse")) == {"cls", "mse"}
    # A distribution may be named, too, as installers spell it.
    assert set(site.discover(MPA_PLUGINS="mpa-plugin-det")) == {"Mpa.Plugin-Det"}
    assert set(site.discover(MPA_PLUGINS="mpa-core")) == FIRST_PARTY
    assert site.discover(MPA_PLUGINS="") == {}


def test_the_filter_refuses_a_name_that_is_not_installed(site):
    code = "from mpa_core.plugins.registry import registry; registry()"
    done = site.run(code, check=False, MPA_PLUGINS="cls,mce")
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith(
        "mpa_core.errors.PluginError: MPA_PLUGINS names 'mce', which is not installed; installed: "
    )
    assert last.endswith(
        "; did you mean 'mse'?; write one of these, or its distribution, or install it"
    )


def test_one_name_claimed_by_two_distributions(site):
    site.install_path("mpa-plugin-det", "det_one", "det")
    site.install_path("other-det", "det_two", "det")
    code = """
        from mpa_core.errors import PathNotFoundError
        from mpa_core.plugins.registry import registry
        found = registry()
        print("det" in found.conflicts(), "cls" in found.conflicts())
        print(found.get("mpa-plugin-det:det").spec.path, found.get("Other_Det:det").spec.path)
        try:
            found.get("det")
        except PathNotFoundError as error:
            print(error)
    """
    assert site.run(code).out.splitlines() == [
        "True False",
        "det_one.path:P det_two.path:P",
        "task path 'det' is claimed by mpa-plugin-det 1.2.0 and other-det 1.2.0; "
        "ask for 'mpa-plugin-det:det' or 'other-det:det', or uninstall all but one",
    ]


def test_a_plugin_that_imports_torch_is_noticed(site):
    site.install("mpa-plugin-heavy", "heavy", "import torch\n" + HOOK + "[]")
    found = site.discover()
    assert {name for name, plugin in found.items() if plugin["imports_torch"]} == {
        "mpa-plugin-heavy"
    }


def test_refresh_finds_what_was_installed_meanwhile(site):
    site.install_path("mpa-plugin-late", "late", "late")
    info = site.folder / "mpa_plugin_late-1.2.0.dist-info"
    hidden = info.rename(site.folder / "hidden")
    code = f"""
        from pathlib import Path
        from mpa_core.plugins.registry import registry
        before = registry()
        Path({str(hidden)!r}).rename({str(info)!r})
        assert registry() is before
        print([
            "late" in [path.name for path in found.paths()]
            for found in (before, registry(), registry(refresh=True))
        ])
    """
    assert site.run(code).out.strip() == "[False, False, True]"


DAMAGED = {
    "no METADATA": ("METADATA", None, "no Name and no Version"),
    "no Name": ("METADATA", b"Metadata-Version: 2.1\nVersion: 1.2.0\n", "has no Name in"),
    "no Version": ("METADATA", b"Metadata-Version: 2.1\nName: mpa-plugin-bad\n", "no Version in"),
    "entry points": ("entry_points.txt", b"[mpa.plugins]\nno value\n", "cannot be read"),
    "bytes": ("entry_points.txt", b"[mpa.plugins]\nbad = \xff\xfe\n", "cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_metadata_is_listed_with_its_folder(site, case):
    file, content, message = DAMAGED[case]
    site.install_path("mpa-plugin-bad", "bad", "bad")
    info = site.folder / "mpa_plugin_bad-1.2.0.dist-info"
    if content is None:
        (info / file).unlink()
    else:
        (info / file).write_bytes(content)
    site.distributions.add("mpa_plugin_bad")  # as the folder has it
    found = site.discover()
    assert {name for name, plugin in found.items() if plugin["error"] is None} == FIRST_PARTY
    (broken,) = (plugin for plugin in found.values() if plugin["error"] is not None)
    assert message in broken["error"]
    assert str(info) in broken["error"]
    strict = "from mpa_core.plugins.registry import registry; registry()"
    done = site.run(strict, check=False, MPA_STRICT_PLUGINS="1")
    assert str(info) in done.err.splitlines()[-1]


def leftover(site, version: str, *, entries: bool = True, metadata: str | None = None) -> Path:
    """What is left of another version of ``mpa-plugin-det``: its folder, and perhaps its files."""
    info = site.folder / f"mpa_plugin_det-{version}.dist-info"
    info.mkdir()
    if entries:
        (info / "entry_points.txt").write_text("[mpa.plugins]\ndet = no_such_module\n")
    if metadata is not None:
        (info / "METADATA").write_text(metadata)
    site.distributions.add("mpa_plugin_det")  # as the folder has it
    return info


LISTING = """
import json
from mpa_core.plugins.registry import registry
found = [p for p in registry().plugins if "det" in p.name]
print(json.dumps([[p.distribution, p.version, p.error] for p in found]))
"""


@pytest.mark.parametrize("version", ["0.9", "9.9"])
@pytest.mark.parametrize("metadata", [None, "", "Summary: x\n"])
def test_a_leftover_without_a_name_hides_nothing(site, version, metadata):
    """In whatever order the system lists the two folders."""
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det")
    info = leftover(site, version, metadata=metadata)
    whole, broken = json.loads(site.run(LISTING).out)
    assert whole == ["mpa-plugin-det", "1.2.0", None]
    assert broken[:2] == ["mpa_plugin_det", version]
    assert f"in {info}; reinstall the distribution or delete the folder" in broken[2]


@pytest.mark.parametrize("version", ["0.9", "9.9"])
def test_an_empty_leftover_hides_nothing(site, version):
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det")
    leftover(site, version, entries=False)
    assert json.loads(site.run(LISTING).out) == [["mpa-plugin-det", "1.2.0", None]]


@pytest.mark.parametrize("name", ["mpa_plugin_det", "mpa-plugin-det", "MPA.Plugin_Det", "det"])
def test_two_without_a_name_are_told_apart_by_their_folders(site, name):
    folders = [leftover(site, version) for version in ("0.8", "0.9")]
    found = json.loads(site.run(LISTING, MPA_PLUGINS=name).out)
    assert [each[:2] for each in found] == [["mpa_plugin_det", "0.8"], ["mpa_plugin_det", "0.9"]]
    for folder, (_, _, error) in zip(folders, found, strict=True):
        assert f"no Name and no Version in {folder};" in error


def test_of_a_distribution_installed_twice_the_first_counts(site):
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det")
    second = site.folder / "second"
    second.mkdir()
    shutil.copytree(site.folder / "mpa_plugin_det", second / "mpa_plugin_det")
    other = leftover(site, "0.9", metadata="Name: MPA_Plugin.Det\nVersion: 0.9\n")
    other.rename(second / other.name)
    listed = f"import sys; sys.path.append({str(second)!r})\n{LISTING}"
    assert json.loads(site.run(listed).out) == [["mpa-plugin-det", "1.2.0", None]]
    first = f"import sys; sys.path.insert(0, {str(second)!r})\n{LISTING}"
    assert [each[:2] for each in json.loads(site.run(first).out)] == [["MPA_Plugin.Det", "0.9"]]


def test_eggs_are_told_apart(site):
    """The metadata of each are in a folder that is called ``EGG-INFO``."""
    eggs = []
    for name in ("one", "two"):
        info = site.folder / f"{name}-1.0-py3.egg" / "EGG-INFO"
        info.mkdir(parents=True)
        (info / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mpa.plugins]\ndet-{name} = no_such_module\n")
        eggs.append(str(info.parent))
    found = json.loads(site.run(f"import sys; sys.path += {eggs!r}\n{LISTING}").out)
    assert [each[:2] for each in found] == [["one", "1.0"], ["two", "1.0"]]


@pytest.mark.parametrize("content", [b"[x]\nno value\n", b"no section\n", b"[x]\na = \xff\n"])
def test_a_damaged_stranger_is_passed_over(site, content):
    site.install("stranger", "stranger", "")
    (site.folder / "stranger-1.2.0.dist-info" / "entry_points.txt").write_bytes(content)
    assert set(site.discover()) == FIRST_PARTY


def test_where_torch_fails_for_a_damaged_stranger_the_command_says_whose(site, sample, tmp_path):
    """torch looks at all entry points, too, when it is imported."""
    site.install("stranger", "stranger", "")
    info = site.folder / "stranger-1.2.0.dist-info"
    (info / "entry_points.txt").write_bytes(b"no section\n\xff")
    assert site.run("import torch", check=False).code != 0
    sample.resize((64, 64)).save(tmp_path / "a.png")
    words = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.mpa")]
    code = f"from mpa_core.cli.main import main; raise SystemExit(main({words!r}))"
    done = site.run(code, check=False)
    (line,) = done.err.splitlines()
    assert done.code == 1
    assert f"as in {info}: reinstall that distribution or delete the folder" in line
    listed = site.run("from mpa_core.cli.main import main; raise SystemExit(main(['paths', 'ls']))")
    assert "cls" in listed.out


def test_a_recipe_that_ends_the_program_is_an_error(site, commands):
    package = site.install(
        "mpa-plugin-det",
        "mpa_plugin_det",
        """
        from mpa_core import PathSpec, hookimpl

        @hookimpl
        def mpa_task_paths():
            recipe = "mpa_plugin_det.recipe:R"
            return [PathSpec(name="det", path="mpa_plugin_det.path:P", recipe=recipe, summary="x")]
        """,
    )
    (package / "recipe.py").write_text("raise SystemExit(3)")
    code = """
import warnings
warnings.simplefilter("default")
from mpa_core.errors import PluginError
from mpa_core.tasks.recipe import load_recipe
try:
    load_recipe("det")
except PluginError as error:
    print(error)
"""
    text = site.run(code, server=commands).out
    assert "cannot be imported: SystemExit: 3 (mpa_plugin_det/recipe.py, line 1)" in text


def test_ctrl_c_during_discovery_ends_the_program(site):
    site.install("mpa-plugin-bad", "bad", "raise KeyboardInterrupt")
    code = "from mpa_core.plugins.registry import registry; registry()"
    assert "KeyboardInterrupt" in site.run(code, check=False).err.splitlines()[-1]
