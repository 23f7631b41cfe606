"""Whose a name is, which SDK a plugin needs, and what `mpa plugins ls` says to do about each."""

from __future__ import annotations

import json

import pytest

from mpa_core.errors import ConfigError, PathNotFoundError, PluginError
from mpa_core.plugins import PathSpec
from mpa_core.plugins.registry import Plugin, RegisteredPath, Registry

FIELDS = {"path": "pkg.path:Det", "summary": "s"}
NEWER = 'needs mpa-core>=99, this is 0.1.0; run: pip install --upgrade "mpa-core>=99"'


def plugin(distribution: str, name: str, **fields: str) -> Plugin:
    path = RegisteredPath(PathSpec(name=name, **FIELDS, **fields), distribution, "1.0")
    return Plugin(name, "m", distribution, "1.0", (path,))


def test_a_name_of_ours_is_ours_and_a_strangers_has_to_be_qualified():
    ours, stranger = plugin("mpa-core", "cls"), plugin("mpa-plugin-x", "cls")
    found = Registry((ours, stranger))
    assert found.get("cls") == ours.paths[0]
    assert found.get("mpa-plugin-x:cls") == stranger.paths[0]
    assert [found.name_of(each.paths[0]) for each in (ours, stranger)] == [
        "cls",
        "mpa-plugin-x:cls",
    ]
    assert found.advice(stranger) == ("'cls' is claimed by mpa-core, too: write mpa-plugin-x:cls")


def test_two_strangers_have_to_be_qualified_both():
    found = Registry((plugin("a", "det"), plugin("b", "det"), plugin("b", "pose")))
    assert [found.name_of(path) for path in found.paths()] == ["a:det", "b:det", "pose"]
    with pytest.raises(PathNotFoundError, match="ask for 'a:det' or 'b:det'"):
        found.get("det")


def test_a_need_of_another_sdk_is_said_where_the_path_is_used():
    newer = plugin("mpa-plugin-x", "det", requires=">=99")
    found = Registry((newer,))
    assert found.get("det").spec.requires == ">=99"
    with pytest.raises(PluginError) as caught:
        found.load_class("det")
    assert str(caught.value) == f"task path 'det' of mpa-plugin-x 1.0 {NEWER}"
    assert found.advice(newer) == f"'det' {NEWER}"
    fitting = plugin("mpa-plugin-x", "det", requires=">=0.1,<99")
    assert Registry((fitting,)).advice(fitting) is None


def test_fields_that_only_a_newer_sdk_knows_are_answered_with_it():
    with pytest.raises(ConfigError) as caught:
        PathSpec(name="det", **FIELDS, requires=">=99", colour="red")
    assert str(caught.value) == f"'det' {NEWER}"
    with pytest.raises(ConfigError, match="colour: there is no such key"):
        PathSpec(name="det", **FIELDS, requires=">=0.1", colour="red")
    with pytest.raises(ConfigError, match="requires: 'new' is no range of versions such as"):
        PathSpec(name="det", **FIELDS, requires="new")


COMMANDS = """
from mpa_core.cli.main import main
for words in {commands!r}:
    assert main(words) == 0, words
"""


def test_with_every_kind_of_trouble_installed_ls_says_what_to_do_and_names_mean_what_they_say(
    troubled, commands, sample, tmp_path
):
    site = troubled
    sample.crop((0, 0, 64, 64)).save(tmp_path / "a.png")
    picture, coded = str(tmp_path / "a.png"), str(tmp_path / "a.mpa")
    listed = site.fork(commands, words=["plugins", "ls", "--format", "json"], env={})
    assert listed.code == 0, listed.err
    told = {row["distribution"]: row["error"] or row["advice"] for row in json.loads(listed.out)}
    advice = {row["distribution"]: row["advice"] for row in json.loads(listed.out)}
    assert "No module named 'no_such_module_xyz'" in told["mpa-broken"]
    assert advice["mpa-broken"].startswith("repair it, or run: pip install --upgrade mpa-broken")
    assert "did you mean 'mpa_task_paths'?" in told["mpa-misspelt"]
    assert told["mpa-one"] == "'det' is claimed by mpa-two, too: write mpa-one:det"
    assert told["mpa-newer"].endswith('run: pip install --upgrade "mpa-core>=99"')
    assert told["mpa-stranger"] == "'mse' is claimed by mpa-core, too: write mpa-stranger:mse"
    words = [
        ["paths", "info", "mpa-one:det"], ["encode", picture, "-o", coded],
        ["decode", coded, "-o", str(tmp_path / "b.png"), "--path", "mse"],
        ["decode", coded, "-o", str(tmp_path / "c.png"), "--path", "mpa-core:mse"],
        ["decode", coded, "-o", str(tmp_path / "d.png"), "--mix", "mpa-core:mse=0.5,cls=0.5"],
    ]  # fmt: skip
    code = "import warnings; warnings.simplefilter('default')\n" + COMMANDS.format(commands=words)
    done = site.run(code, check=False, server=commands)
    assert done.code == 0, done.err
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    used = site.fork(commands, words=["paths", "info", "new"], env={})
    assert (used.code, len(used.errors)) == (1, 1)
    assert 'run: pip install --upgrade "mpa-core>=99"' in used.errors[0]


def test_a_broken_plugin_whose_pip_requirement_is_not_met_says_so(site):
    site.install("mpa-plugin-bad", "bad", "from mpa_core import not_there_yet")
    metadata = site.folder / "mpa_plugin_bad-1.2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: mpa-core>=99\n")
    error = site.discover()["mpa-plugin-bad"]["error"]
    assert "not_there_yet" in error
    assert error.endswith(f"; mpa-plugin-bad {NEWER}")
