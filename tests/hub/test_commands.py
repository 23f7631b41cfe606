"""``mpa hub``, and repositories where other commands take a base or a path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_decode_by_a_path_of_the_hub(hub, published, mpa, sample, tmp_path, monkeypatch):
    photo = sample.crop((0, 0, 70, 50))
    photo.save(tmp_path / "photo.png")
    coded, shown = tmp_path / "photo.mpa", tmp_path / "shown.png"
    done = mpa("encode", tmp_path / "photo.png", "-o", coded, "--base", "lab/base", "-q", "3")
    assert done.code == 0, done.err
    done = mpa("decode", coded, "-o", shown, "--path", "lab/cls")
    assert done.code == 0, done.err
    want = published.decode(coded.read_bytes(), "cls")
    with Image.open(shown) as picture:
        assert picture.convert("RGB").tobytes() == want.tobytes()
    # Everything is here now: with no server it is the same.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = mpa("decode", coded, "-o", tmp_path / "mix.png", "--base", "lab/base",
               "--load", "mine=lab/cls@main", "--mix", "mine=1")  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "mix.png").read_bytes() == shown.read_bytes()


def test_pull_and_list(hub, published, mpa):
    done = mpa("hub", "pull", "lab/cls", "--format", "json")
    assert done.code == 0, done.err
    found = done.data
    assert (found["kind"], found["path"], found["base"]) == ("path", "cls", "lab/base")
    assert found["base_revision"] == published.origin.revision
    assert found["plugin"].endswith("(not needed to decode)")
    assert (Path(found["base_folder"]) / "model.safetensors").is_file()
    (Path(found["folder"]).parents[1] / "snapshots" / "x").mkdir()
    listed = mpa("hub", "ls", "--format", "json").data
    assert [(row["repository"], row["kind"], row["base"]) for row in listed] == [
        ("lab/base", "base", None),
        ("lab/cls", "path", "lab/base"),
    ]
    assert "lab/cls" in mpa("hub", "ls").out
    hub.repositories["lab/cls"].refs["v1"] = hub.repositories["lab/cls"].refs["main"]
    assert mpa("hub", "pull", "lab/cls@v1").code == 0
    assert mpa("hub", "pull", "lab/cls@v1", "--revision", "v2").code == 2
    assert mpa("hub", "pull", "mpa-small").code == 2
    there = mpa("hub", "ls", "lab", "--format", "json").data
    assert [(row["repository"], row["kind"]) for row in there] == [
        ("lab/base", "base"),
        ("lab/cls", "path"),
    ]
    assert mpa("hub", "ls", "nobody").out == "nobody has published nothing that is tagged mpa\n"


def test_list_what_a_newer_version_wrote(hub, published, mpa):
    """And nothing of a repository that is somebody else's, whatever its config.json says."""
    pulled = mpa("hub", "pull", "lab/cls", "--format", "json").data
    config = Path(pulled["folder"]) / "path_config.json"
    said = json.loads(config.read_text())
    config.unlink()  # a link to what the cache keeps
    config.write_text(json.dumps({**said, "requires": ">=99"}))
    for name, text in (("bert", '{"model_type": "bert"}'), ("numbers", "[1]"), ("odd", "{")):
        other = Path(pulled["folder"]).parents[2] / f"models--lab--{name}" / "snapshots" / "0" / "x"
        other.parent.mkdir(parents=True)
        other.with_name("config.json").write_text(text)
    row = mpa("hub", "ls", "--format", "json").data[1]
    assert (row["repository"], row["kind"], row["name"]) == ("lab/cls", "path", None)
    assert "requires mpa-core >=99" in row["problem"]
    done = mpa("hub", "ls")
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"lab/cls: {row['problem']}"
    for name in ("bert", "numbers", "odd"):
        assert name not in done.out


def test_list_an_empty_cache(hub, mpa, tmp_path):
    nothing = "no base and no path of the Hub is in the cache\n"
    assert mpa("hub", "ls", "--cache-dir", tmp_path / "none").out == nothing


def test_what_is_no_checkpoint_no_cache_and_no_account(hub, mpa, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for words in (
        ["hub", "push", tmp_path / "empty", "lab/x"],
        ["hub", "card", tmp_path / "empty"],
    ):
        done = mpa(*words)
        assert (done.code, len(done.errors)) == (1, 1)
        assert (
            "empty has no checkpoint in it, expected the folder of a base (with config.json) or of "
            "a path (with path_config.json); give one that" in done.err
        )
    assert "none is no folder, expected the folder" in mpa("hub", "card", tmp_path / "none").err
    done = mpa("hub", "ls", "--cache-dir", tmp_path / "file")
    assert (done.code, len(done.errors)) == (1, 1)
    assert f"{tmp_path / 'file'} is a file, expected the folder of the Hub's cache" in done.err
    done = mpa("hub", "ls", "")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "the account is empty, expected its name" in done.err


def test_push_a_folder(hub, published, mpa, tmp_path):
    published.save_pretrained(tmp_path / "base", license="mit")
    done = mpa("hub", "push", tmp_path / "base", "lab/second", "--private", "--format", "json")
    assert done.code == 0, done.err
    assert done.data["commit"] == hub.repositories["lab/second"].refs["main"]
    assert hub.repositories["lab/second"].private
    assert [text.split(":")[0] for text in done.data["card_lacks"]] == [
        "no figures",
        "no sample picture",
    ]
    assert MPACodec.from_pretrained("lab/second").fingerprint == published.fingerprint
    published.save_path("cls", tmp_path / "cls")
    shutil.rmtree(tmp_path / "base")
    done = mpa("hub", "push", tmp_path / "cls", "lab/third", "--branch", "try", "--message", "Hi")
    assert done.code == 0, done.err
    assert "the card has no licence: --license ID" in done.out
    assert MPACodec.from_path("lab/third@try").paths == ("cls",)
    assert mpa("hub", "push", tmp_path, "lab/third").code == 1
    assert mpa("hub", "push", tmp_path / "cls", "lab/third@try").code == 1


def test_complete_a_card(hub, published, mpa, sample, tmp_path):
    folder = tmp_path / "cls"
    published.save_path("cls", folder)
    done = mpa("hub", "card", folder, "--format", "json")
    assert done.code == 0, done.err
    assert len(done.data["lacks"]) == 3
    sample.crop((0, 0, 64, 64)).save(tmp_path / "photo.png")
    done = mpa("hub", "card", folder, "--license", "mit", "--sample", tmp_path / "photo.png",
               "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    assert done.data["metadata"]["license"] == "mit"
    assert done.data["metadata"]["base_model_relation"] == "adapter"
    assert done.data["lacks"] == ["no figures: --results results.json, of mpa eval"]
    with Image.open(folder / "sample.png") as picture:
        assert picture.size == (3 * 64 + 2 * 6, 64)
    done = mpa("hub", "card", "lab/cls")
    assert done.code == 0 and done.out.startswith("---\nlicense: mit\n")
    assert mpa("hub", "card", "lab/cls", "--license", "mit").code == 2
    assert mpa("hub", "card", folder, "--results", tmp_path / "none.json").code == 1
