"""What goes wrong on the way: one sentence with the next command, and nothing is left half."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpa_core import MPACodec
from mpa_core.checkpoints.publish import Target, push_files
from mpa_core.errors import HubError, MissingDependencyError, MPAError, OutputError

MODEL = r"^/cdn/[0-9a-f]{64}$"


def refusal(call, kind: type[MPAError] = HubError) -> str:
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and "  " not in text
    return text


def pull() -> MPACodec:
    return MPACodec.from_pretrained("lab/base")


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.name.endswith(".incomplete")]


def test_what_cannot_be_found_or_read(hub, published, monkeypatch):
    found = refusal(lambda: MPACodec.from_pretrained("lab/none"))
    assert f"there is no repository lab/none on {hub.endpoint} that you may see" in found
    assert "hf auth login" in found and "write ./lab/none" in found
    found = refusal(lambda: MPACodec.from_pretrained("lab/base@v9"))
    assert f"lab/base on {hub.endpoint} has no revision 'v9'" in found
    hub.repositories["lab/base"].private = True
    assert "if it is private" in refusal(lambda: MPACodec.from_pretrained("lab/base", token=False))
    assert pull().fingerprint == published.fingerprint  # with the token of HF_TOKEN
    hub.repositories["lab/cls"].gated = True
    found = refusal(lambda: MPACodec.from_path("lab/cls", token="hf_reads"))
    assert f"open only to those its author lets in; ask at {hub.endpoint}/lab/cls" in found
    found = refusal(lambda: MPACodec.from_pretrained("lab/other", token="hf_unknown"))
    assert "answers 401, the token is none it knows" in found
    found = refusal(lambda: MPACodec.from_pretrained("lab/a--b"))
    assert "is no name of a repository" in found


def test_what_may_not_be_written(hub, codec, published, sample):
    photo = sample.crop((0, 0, 64, 64))

    def push(**options: object) -> str:
        return refusal(lambda: codec.push_to_hub("lab/base", sample=photo, **options))

    assert "cannot push lab/base: " in push(token="hf_reads")
    found = refusal(lambda: codec.push_to_hub("their/base", sample=photo))
    assert "answers 403, the account may not write to it" in found
    assert "of a member of their: log in with: hf auth login, or set HF_TOKEN" in found
    assert "the token is none it knows" in push(token="hf_unknown")
    changed = {"config.json": b"{}"}
    for status, text in (
        (409, "somebody else wrote to it at the same time"),
        (412, "somebody else wrote to it at the same time"),
        (429, "too many requests"),
        (500, "it is out of order"),
        (413, "check the name and the files"),
    ):
        hub.fail("POST", "/commit/main", status=status)
        found = refusal(lambda: push_files(changed, Target("lab/base"), "base"))
        assert f"answers {status}" in found and text in found
    before = codec.origin
    found = push(card="---\nlicense: No Such\n---\n# Mine\n")
    assert "Invalid metadata in README.md" in found
    assert "no card of the Hub" in push(card="---\n- a\n---\n# Mine\n")
    assert codec.origin == before


def test_a_push_outlasts_trouble_with_large_files(hub, codec, sample):
    hub.fail("PUT", "/lfs/", times=2, status=503)
    codec.push_to_hub("lab/base", sample=sample.crop((0, 0, 64, 64)))
    assert pull().fingerprint == codec.fingerprint
    hub.fail("PUT", "/lfs/", times=99, status=503)
    other = MPACodec.from_preset("mpa-tiny", seed=3)
    found = refusal(lambda: other.push_to_hub("lab/other", sample=sample.crop((0, 0, 64, 64))))
    assert "cannot push lab/other: " in found and "answers 503" in found


def test_a_server_out_of_order(hub, published):
    hub.fail("GET", "/api/models", times=99, status=503)
    assert "answers 503, it is out of order" in refusal(pull)
    hub.faults.clear()
    pull()
    hub.fail("GET", "/api/models", times=99, status=503)
    assert pull().fingerprint == published.fingerprint  # the copy that was made last


def test_no_server(hub, published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    found = refusal(pull)
    assert "no connection with http://127.0.0.1:9 that holds" in found
    assert "check the network, the proxy and HF_ENDPOINT" in found


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, published, monkeypatch):
    # The library keeps what came in pieces of this size, of 10 MiB by default.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    hub.fail("GET", MODEL, times=2, cut=1000)
    assert pull().fingerprint == published.fingerprint
    ranges = [asked for method, path, asked in hub.requests if "/cdn/" in path and method == "GET"]
    assert "bytes=1000-" in ranges


def test_a_connection_that_is_cut_again_and_again(hub, published, tmp_path):
    hub.fail("GET", MODEL, times=99, cut=0)
    found = refusal(pull)
    assert "cannot fetch lab/base: " in found and "run it again: whole files are kept" in found
    assert left_over(tmp_path / "cache") == []
    hub.faults.clear()
    hub.requests.clear()
    assert pull().fingerprint == published.fingerprint
    assert hub.count("GET", r"/resolve/.*/config\.json") == 0  # had arrived whole


def test_a_tampered_file_is_never_loaded(hub, published, process, tmp_path):
    hub.fail("GET", MODEL, times=2, tamper=True)
    found = refusal(pull)
    commit = published.origin.revision
    command = f"mpa hub pull lab/base@{commit} --force"
    assert "is damaged: its hash is " in found and found.endswith(f"fetch it again: {command}")
    assert "is damaged" in refusal(pull)  # it lies in the cache
    done = process(*command.split()[1:], "--cache-dir", tmp_path / "cache")
    assert done.wait(60) == 0, done.stderr.read()
    done.communicate()
    assert pull().fingerprint == published.fingerprint
    # Small files are held to git's hash.
    small = tmp_path / "cache" / "models--lab--base" / "snapshots" / commit / "config.json"
    small.resolve().write_text(small.read_text().replace('"base"', '"Base"'))
    assert f"{small} of a file of lab/base is damaged" in refusal(pull)


def test_a_full_disk(hub, published, process, tmp_path):
    """A small file system where that can be mounted, else a limit on the size of files."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    mounted = sys.platform == "linux" and os.geteuid() == 0
    mounted = mounted and subprocess.run(mount, capture_output=True).returncode == 0
    limit = {} if mounted else {"preexec_fn": _small_files}
    try:
        done = process("hub", "pull", "lab/base", "--cache-dir", small, **limit)
        _, said = done.communicate(timeout=60)
        last = said.splitlines()[-1]
        assert done.returncode == 1
        reason = os.strerror(errno.ENOSPC if mounted else errno.EFBIG)
        assert last.startswith("mpa: error: cannot write") and reason in last, said
        assert "free space or mend its permissions, or name another folder" in last
        assert left_over(small) == []
    finally:
        if mounted:
            subprocess.run(["umount", str(small)], check=True)


def _small_files() -> None:
    import resource  # where there is one

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_cache_that_may_not_be_written(hub, published, tmp_path):
    (tmp_path / "cache").write_text("a file")
    found = refusal(pull, OutputError)
    assert "cannot write" in found and "HF_HUB_CACHE" in found


def test_two_processes_at_once(hub, published, process, tmp_path):
    both = [process("hub", "pull", "lab/cls", "--format", "json") for _ in range(2)]
    outputs = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert outputs[0] == outputs[1]
    cache = tmp_path / "shared-cache"
    assert left_over(cache) == []
    again = MPACodec.from_path("lab/cls", cache_dir=cache, local_files_only=True)
    assert again.fingerprint == published.fingerprint


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr("mpa_core.requirements.version_of", lambda name: None)
    found = refusal(lambda: MPACodec.from_pretrained("lab/base"), MissingDependencyError)
    assert found == (
        "repositories of the Hugging Face Hub need huggingface_hub, which is not installed; "
        'run: pip install "mpa-core[hub]"'
    )
    codec = MPACodec.from_preset("mpa-tiny")
    codec.save_pretrained(tmp_path / "base")
    assert MPACodec.from_pretrained(tmp_path / "base").fingerprint == codec.fingerprint
