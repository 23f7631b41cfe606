"""What a folder of a newer SDK says to this one: what it is, what is known here, and to upgrade."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_checkpoints import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

import mpa_core
from mpa_core import MPACodec, TaskPath, checkpoints
from mpa_core.checkpoints.meta import BASE_CONFIG, PATH_CONFIG
from mpa_core.errors import CheckpointError, MPAError

HERE = f"{mpa_core.__version__}"
UPGRADE = 'run: pip install --upgrade "mpa-core>=0.1"'
NEWER_BUNDLES = "or, if a newer mpa-core brings it, run: pip install --upgrade mpa-core"
FOLDERS = {"base": BASE_CONFIG, "plain": PATH_CONFIG, "own": PATH_CONFIG}


@pytest.fixture(params=FOLDERS)
def folder(request, tmp_path) -> Path:
    """A copy of a golden folder."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FOLDERS[folder.name]).read_text("utf-8"))


def refusal(folder: Path, config: dict[str, Any]) -> str:
    """What reading ``folder`` with another config says, in one line."""
    file = folder / FOLDERS[folder.name]
    file.write_text(json.dumps(config))
    load = MPACodec.from_pretrained if folder.name == "base" else TaskPath.from_pretrained
    with pytest.raises(MPAError) as caught:
        load(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(file) in text or str(folder) in text
    return text


@pytest.mark.parametrize("number", [2, 3, 10**6])
def test_a_format_above_ours(folder, number):
    file = folder / FOLDERS[folder.name]
    config = {**config_of(folder), "format": number, "shiny": 1, "kind_of_blue": {"a": [2]}}
    assert refusal(folder, config) == (
        f"{file} is of checkpoint format {number} and has the unknown keys kind_of_blue, shiny, "
        f"mpa-core {HERE} reads up to 1; {UPGRADE}"
    )


@pytest.mark.parametrize("asked", [">=99", ">=0.1,>=2.5", "~=7.1", "==12.0", ">0.1"])
def test_an_sdk_newer_than_this(folder, asked):
    """Asked before anything else, whatever else the folder has."""
    file = folder / FOLDERS[folder.name]
    config = {"kind": config_of(folder)["kind"], "requires": asked, "format": "2b", "weights": []}
    assert refusal(folder, config) == (
        f"{file} requires mpa-core {asked} and has the unknown keys weights, this is {HERE}; "
        f'run: pip install --upgrade "mpa-core{asked}"'
    )


@pytest.mark.parametrize("kind", ["ensemble", "adapter"])
def test_a_kind_that_is_not_known(folder, kind):
    file = folder / FOLDERS[folder.name]
    config = {**config_of(folder), "kind": kind}
    expected = "base" if folder.name == "base" else "path"
    assert refusal(folder, config) == (
        f"{file} is of kind {kind!r}, mpa-core {HERE} knows 'base' and 'path', expected "
        f"{expected!r}; restore the file from its source, or, if a newer version wrote it, run: "
        "pip install --upgrade mpa-core"
    )
    newer = refusal(folder, {**config, "requires": ">=99"})
    assert newer.endswith('run: pip install --upgrade "mpa-core>=99"')


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every object of the config in which there can be one more key."""
    if isinstance(value, dict):
        yield at
        for key, each in value.items():
            yield from places(each, (*at, key))
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*at, index))


PLACES = [
    (name, place)
    for name, file in FOLDERS.items()
    for place in places(json.loads((GOLDEN / name / file).read_text("utf-8")))
    if place != ("config",)  # the plugin's, below
]


@given(
    where=st.sampled_from(PLACES),
    key=st.from_regex(r"[a-z][a-z_]{0,20}_", fullmatch=True),
    value=st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just([{"a": {}}]),
)
@settings(max_examples=60, deadline=None)
def test_a_key_that_only_a_newer_sdk_knows(tmp_path_factory, where, key, value):
    """At whatever depth: never passed over, and never taken for damage alone."""
    name, place = where
    folder = tmp_path_factory.mktemp("newer") / name
    folder.mkdir()
    for file in (GOLDEN / name).glob("*.safetensors"):
        (folder / file.name).symlink_to(file)
    config = json.loads((GOLDEN / name / FOLDERS[name]).read_text("utf-8"))
    inner = config
    for step in place:
        inner = inner[step]
    inner[key] = value
    text = refusal(folder, config)
    assert re.search(rf"{key}: there is no such key.*; it asks for mpa-core>=0\.1", text)
    assert text.endswith(
        f"this is {HERE}: restore the file from its source, or, if a newer version wrote it, run: "
        "pip install --upgrade mpa-core"
    )


@pytest.mark.parametrize("value", ["bfloat16", "float8_e4m3", "int8"])
def test_an_element_type_that_is_not_known(folder, value):
    text = refusal(folder, {**config_of(folder), "dtype": value})
    expected = f"dtype: Input should be 'float32' or 'float16', found {value!r}"
    assert f"{expected}; it asks for mpa-core>=0.1" in text
    assert text.endswith("run: pip install --upgrade mpa-core")


@pytest.fixture
def base(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / "base", tmp_path / "base"))


def test_an_architecture_format_above_ours(base):
    config = config_of(base)
    config["architecture"] = {"format": 2, "experts": 4}
    assert refusal(base, config) == (
        f"{base / BASE_CONFIG} is of architecture format 2, mpa-core {HERE} reads up to 1; "
        f"{UPGRADE}"
    )


@pytest.mark.parametrize(
    ("type_", "cure"),
    [
        ("tinylic2", "mpa-core, or install the plugin that has it; did you mean 'tinylic'?"),
        ("mpa-core:waves", "mpa-core"),
        ("mpa-plugin-waves:waves", "mpa-plugin-waves"),
    ],
)
def test_a_type_of_base_that_is_not_known(base, type_, cure):
    config = config_of(base)
    config["architecture"] = {"type": type_, "format": 7, "bands": 3}
    assert refusal(base, config) == (
        f"{base / BASE_CONFIG}: base type {type_!r} is of no plugin that is installed (known: "
        f"tinylic); run: pip install --upgrade {cure}"
    )


@pytest.mark.parametrize("distribution", ['x"; rm -rf ~; "', "two\nlines", "-r", "a b"])
def test_a_distribution_that_could_do_harm_in_a_line_to_paste(base, distribution):
    config = config_of(base)
    config["architecture"] = {"type": f"{distribution}:waves"}
    text = refusal(base, config)
    assert text.endswith("and no distribution can be called so; write distribution:name")
    assert "pip" not in text


@pytest.fixture
def plain(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / "plain", tmp_path / "plain"))


def test_a_path_of_a_newer_sdk(plain):
    """Of one of its own classes: one that is here in an older version, and one that is not."""
    mine = {"distribution": "mpa-core", "version": ">=99"}
    config = {**config_of(plain), "plugin": mine, "path_type": "cls"}
    assert refusal(plain, config) == (
        f"{plain / PATH_CONFIG} needs mpa-core >=99, installed is {HERE}; "
        'run: pip install "mpa-core>=99"'
    )
    config |= {"path_type": "depth", "plain": False}
    text = refusal(plain, config)
    assert text.startswith(
        f"path 'depth' in {plain} needs the code of its plugin; mpa-core {HERE} is installed and "
        "offers no path of that name"
    )
    assert text.endswith('look at mpa plugins ls, or run: pip install "mpa-core>=99"')


def test_a_setting_of_a_newer_plugin(plain):
    config = config_of(plain)
    config["config"]["sharpness"] = 1
    text = refusal(plain, config)
    assert "sharpness: there is no such key" in text
    assert text.endswith("the path was written for mpa-plugin-golden>=1.2: install that version")


def test_a_base_that_only_a_newer_sdk_bundles(mpa, tmp_path):
    """By its name, as the base of a path, and as the base that made a file."""
    for load in (
        lambda: MPACodec.from_pretrained("mpa-small-2"),
        lambda: MPACodec.from_path(GOLDEN / "plain"),
    ):
        with pytest.raises(CheckpointError, match=r"bundled") as caught:
            load()
        assert str(caught.value).endswith(NEWER_BUNDLES)
    done = mpa("decode", GOLDEN / "exact.mpa", "-o", tmp_path / "a.png")
    (line,) = done.errors
    assert "is not bundled (bundled: mpa-small " in line
    assert line.endswith(f"name the folder of that base with --base, {NEWER_BUNDLES}")


def test_other_files_of_a_newer_folder_are_passed_over(folder):
    (folder / "tokenizer.json").write_text("{}")
    (folder / "experts.safetensors").write_bytes(b"\0" * 9)
    if folder.name == "base":
        assert checkpoints.load_base(folder).name == "golden"
    else:
        assert checkpoints.load_path(folder).meta.base.repo_id == "golden"
