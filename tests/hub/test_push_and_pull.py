"""Bases and paths to the Hub and back, by the real client over real HTTP."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
import torch

from mpa_core import Mix, MPACodec, TaskPath, checkpoints
from mpa_core.checkpoints import Origin
from mpa_core.errors import BaseMismatchError, ConfigError, HubError
from mpa_plugins.cls.path import ClsPath

FILES = {"config.json", "model.safetensors", "exact.safetensors", "README.md"}


def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_base_comes_back_as_it_was(hub, codec, sample):
    photo = sample.crop((0, 0, 70, 50))
    url = codec.push_to_hub("lab/base", private=True, license="mit", sample=photo)
    repository = hub.repositories["lab/base"]
    commit = repository.refs["main"]
    assert url == f"{hub.endpoint}/lab/base/commit/{commit}"
    assert codec.origin == Origin("lab/base", commit)
    assert repository.private
    kinds = {name: blob.lfs for name, blob in repository.commits[commit].items()}
    assert kinds.pop(".gitattributes") is False
    assert kinds == {
        name: name.endswith((".safetensors", ".png")) for name in {*FILES, "sample.png"}
    }
    assert hub.count("POST", r"/commit/main$") == 1

    again = MPACodec.from_pretrained("lab/base")
    assert (again.fingerprint, again.name) == (codec.fingerprint, codec.name)
    assert again.origin == codec.origin
    assert again.profiles.exact_fingerprint == codec.profiles.exact_fingerprint
    assert again.encode(photo, 2) == codec.encode(photo, 2)
    # The picture of the card is not fetched, and a config of the root is: it counts downloads.
    assert hub.count("GET", r"/resolve/.*sample\.png") == 0
    assert hub.count("GET", rf"^/lab/base/resolve/{commit}/config\.json$") == 1


def test_nothing_is_sent_or_fetched_twice(hub, published, sample):
    before = published.origin
    published.push_to_hub("lab/base", license="mit", sample=sample.crop((0, 0, 64, 64)))
    assert published.origin == before
    assert (hub.count("PUT", "/lfs/"), hub.count("POST", "/commit/")) == (0, 0)
    MPACodec.from_pretrained("lab/base")
    hub.requests.clear()
    MPACodec.from_pretrained("lab/base")
    assert [(m, p) for m, p, _ in hub.requests] == [("GET", "/api/models/lab/base/revision/main")]
    hub.requests.clear()
    MPACodec.from_pretrained("lab/base", revision=hub.repositories["lab/base"].refs["main"])
    assert hub.requests == []


def test_revisions(hub, published, tmp_path):
    first = published.origin.revision
    other = MPACodec.from_preset("mpa-tiny", seed=7)
    other.push_to_hub("lab/base", branch="next", commit_message="Other weights")
    hub.repositories["lab/base"].refs["v1"] = first
    fingerprints = {published.fingerprint: "first", other.fingerprint: "second"}

    def loaded(name: str, **options: object) -> str:
        return fingerprints[MPACodec.from_pretrained(name, **options).fingerprint]

    assert loaded("lab/base") == loaded("lab/base@v1") == "first"
    assert loaded("lab/base@next") == loaded("lab/base", revision="next") == "second"
    assert loaded("lab/base", revision=first, cache_dir=tmp_path / "elsewhere") == "first"
    with pytest.raises(ConfigError, match=r"at revision 'v1' and at 'next'; give one of them"):
        loaded("lab/base@v1", revision="next")
    with pytest.raises(ConfigError, match=r"which is no repository of the Hub; leave it out"):
        loaded("mpa-small", revision="v1")
    with pytest.raises(ConfigError, match=r"expected a branch, a tag or a commit"):
        loaded("lab/base", revision="../../x")


def test_a_path_finds_its_base(hub, published, sample):
    photo = sample.crop((0, 0, 70, 50))
    data = published.encode(photo, 3)
    want = published.decode(data, "cls", output="tensor")
    meta = checkpoints.read_path_meta(
        checkpoints.resolve("lab/cls", checkpoints.path_on("whatever"))
    )
    assert meta.base.repo_id == "lab/base"
    assert meta.base.revision == published.origin.revision
    # The base's main branch goes on; the path stays with the commit that it names.
    MPACodec.from_preset("mpa-tiny", seed=7).push_to_hub("lab/base")
    codec = MPACodec.from_path("lab/cls")
    assert codec.paths == ("cls",)
    assert torch.equal(codec.decode(data, Mix(cls=1.0), output="tensor"), want)
    renamed = MPACodec.from_path("lab/cls@main", name="mine")
    assert renamed.paths == ("mine",)
    base = MPACodec.from_pretrained("lab/base", revision=meta.base.revision)
    assert base.load_path("lab/cls") == "cls"
    with pytest.raises(BaseMismatchError) as error:
        MPACodec.from_pretrained("lab/base").load_path("lab/cls")
    line = f'MPACodec.from_pretrained("lab/base", revision="{meta.base.revision}")'
    assert str(error.value).endswith(f"load the right one: {line}")


def test_a_path_of_a_bundled_base_needs_no_base_from_the_hub(hub, sample):
    codec = MPACodec.from_pretrained("mpa-small")
    codec.load_path("cls")
    codec.push_path_to_hub(
        "cls", "lab/cls-small", dtype="float16", sample=sample.crop((0, 0, 64, 64))
    )
    again = MPACodec.from_path("lab/cls-small")
    assert (again.name, again.origin, again.paths) == ("mpa-small", None, ("cls",))


def test_a_path_whose_base_nobody_could_load_is_not_published(hub, codec):
    with pytest.raises(HubError, match=r"publish the base first, codec\.push_to_hub"):
        codec.push_path_to_hub("cls", "lab/cls")
    assert hub.requests == []


def test_a_path_in_memory_keeps_to_its_base(hub, published):
    path = TaskPath.from_pretrained("lab/cls")
    assert isinstance(path, ClsPath)
    assert isinstance(ClsPath.from_pretrained("lab/cls@main"), ClsPath)
    base = MPACodec.from_pretrained("lab/base")
    assert base.attach_path(path) == "cls"
    other = MPACodec.from_preset("mpa-tiny", seed=7)
    with pytest.raises(BaseMismatchError, match=r'from_pretrained\("lab/base", revision='):
        other.attach_path(TaskPath.from_pretrained("lab/cls"))


def test_each_kind_has_a_repository_of_its_own(hub, published):
    with pytest.raises(HubError, match=r"lab/base has config\.json, so it is no repository for a "):
        published.push_path_to_hub("cls", "lab/base")
    with pytest.raises(HubError, match=r"lab/cls has path_config\.json"):
        published.push_to_hub("lab/cls")
    with pytest.raises(checkpoints.meta.CheckpointError, match=r"is a path folder .*load_path"):
        MPACodec.from_pretrained("lab/cls")
    hub.repositories["lab/cls"].commit("empty", {})
    with pytest.raises(HubError, match=r"it is no base and no path of the MPA SDK"):
        MPACodec.from_pretrained("lab/cls@empty")


def test_a_pull_request_changes_nothing(hub, published):
    before = dict(hub.repositories["lab/base"].refs)
    url = MPACodec.from_preset("mpa-tiny", seed=7).push_to_hub("lab/base", create_pr=True)
    assert url == f"{hub.endpoint}/lab/base/discussions/1"
    refs = hub.repositories["lab/base"].refs
    assert {name: refs[name] for name in before} == before
    changed = MPACodec.from_pretrained("lab/base@refs/pr/1")
    assert changed.fingerprint != published.fingerprint


def test_no_network_for_saving_coding_and_what_is_cached(
    hub, published, sample, tmp_path, monkeypatch
):
    photo = sample.crop((0, 0, 70, 50))
    MPACodec.from_path("lab/cls")
    no_sockets(monkeypatch)
    # A codec that is loaded asks nobody for anything.
    data = published.encode(photo, 3)
    want = published.decode(data, "cls", output="tensor")
    published.save_pretrained(tmp_path / "base")
    published.save_path("cls", tmp_path / "cls")
    assert MPACodec.from_path(tmp_path / "cls", local_files_only=True).paths == ("cls",)
    # Nor does one that comes from the cache, where that is said.
    cached = MPACodec.from_path("lab/cls", local_files_only=True)
    assert torch.equal(cached.decode(data, "cls", output="tensor"), want)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = MPACodec.from_path("lab/cls")
    assert torch.equal(offline.decode(data, "cls", output="tensor"), want)
    for call, text in (
        (lambda: MPACodec.from_pretrained("lab/new"), "HF_HUB_OFFLINE=1 asks no server"),
        (lambda: offline.push_to_hub("lab/base"), r"cannot push lab/base under HF_HUB_OFFLINE=1"),
    ):
        with pytest.raises(HubError, match=text):
            call()
    shutil.rmtree(tmp_path / "cache" / "models--lab--base")
    with pytest.raises(HubError, match=r"local_files_only=True asks no server.*mpa hub pull lab/"):
        MPACodec.from_path("lab/cls", local_files_only=True)


def test_a_cache_in_which_a_blob_is_shared(hub, published, tmp_path):
    """As the library keeps what comes by Xet: blobs of a repository lead to those of the cache."""
    folder = checkpoints.resolve("lab/base", checkpoints.BASE)
    blob = (folder / "model.safetensors").resolve()
    store = tmp_path / "cache" / "blobs" / "ab"
    store.mkdir(parents=True)
    blob.rename(store / "shared")
    blob.symlink_to(Path("..", "..", "blobs", "ab", "shared"))
    assert MPACodec.from_pretrained("lab/base").fingerprint == published.fingerprint
