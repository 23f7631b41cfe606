"""Trees and lists of files: where outputs go, what is reported, and what a second run adds."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec
from mpa_core.cli.batch import jobs
from mpa_core.cli.batch.jobs import Rules, Step, attempt
from mpa_core.cli.common import Job

SUMS = ("done", "skipped", "failed", "total", "left_out")


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones included."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def sums(done) -> dict[str, int]:
    return {key: done.sums[key] for key in SUMS if done.sums[key]}


@pytest.fixture(scope="session")
def codec(base) -> MPACodec:
    return MPACodec.from_pretrained(base)


@pytest.fixture
def encode(mpa, base, tmp_path):
    """``mpa encode … -o OUT/`` with JSON; the outputs are in ``tmp_path / "out"``."""

    def call(*args: object):
        words = ("--base", base, "--format", "json")
        return mpa("encode", *args, "-o", f"{tmp_path}/out/", *words)

    return call


# ---------------------------------------------------------------------- where outputs go


def test_a_tree_is_mirrored(mpa, encode, codec, base, tree, tmp_path):
    done = encode(tree)
    assert done.code == 0, done.err
    out = files_in(tmp_path / "out")
    assert set(out) == {
        "x.mpa", "a/x.mpa", "a/y.mpa", "b/x.mpa", "b/-.mpa", "b/deep/er/x.mpa"
    }  # fmt: skip
    for name in ("a/x", "b/deep/er/x"):
        assert out[name + ".mpa"] == codec.encode(Image.open(tree / f"{name}.png"))
    assert sums(done) == {"done": 6, "total": 6, "left_out": 1}
    assert done.errors == [
        "mpa: left out of the input folders: 1 other suffixes",
        "mpa: 6 inputs: 6 done, 0 skipped, 0 failed",
    ]

    back = tmp_path / "back"
    (tmp_path / "out" / "b" / "stray.png").write_bytes(b"")
    done = mpa("decode", tmp_path / "out", "-o", back, "--base", base, "--suffix", "webp")
    assert done.code == 0, done.err
    assert set(files_in(back)) == {name.replace(".mpa", ".webp") for name in out}


def test_json_is_a_line_for_each_file_and_one_with_the_sums(encode, tree):
    done = encode(tree)
    assert len(done.rows) == 6
    assert "total" in done.sums
    for entry in done.rows:
        assert Path(entry["output"]).stat().st_size == entry["bytes"]


@pytest.mark.parametrize("mark", ["\0", "\n", "\r\n"])
def test_lists_are_read_and_kept_below_the_current_folder(
    encode, tree, tmp_path, monkeypatch, mark
):
    monkeypatch.chdir(tree)
    names = ["a/x.png", f"{tree}/b/x.png", "./b/../x.png"]
    if mark == "\0":
        odd = tmp_path / "list-only"
        odd.mkdir()
        monkeypatch.chdir(odd)
        names = ["line\nbreak.png", "-"]
        for name in names:
            (odd / name).write_bytes((tree / "x.png").read_bytes())
    (tmp_path / "list").write_bytes(mark.join([*names, ""]).encode())
    done = encode("--from-file", tmp_path / "list")
    assert done.code == 0, done.err
    expected = {"a/x.mpa", "b/x.mpa", "x.mpa"} if mark != "\0" else {"line\nbreak.mpa", "-.mpa"}
    assert set(files_in(tmp_path / "out")) == expected


def test_a_list_on_stdin_and_another_root(start, base, tree, tmp_path):
    listed = tmp_path / "list"
    listed.write_text(f"{tree}/b/deep/er/x.png\n{tree}/a/x.png\n")
    words = ("--base", base, "--root", tree.parent, "-o", tmp_path / "out")
    done = start("encode", "--from-file", "-", *words, stdin=listed).wait()
    assert done.code == 0, done.err
    assert set(files_in(tmp_path / "out")) == {
        f"{tree.name}/b/deep/er/x.mpa",
        f"{tree.name}/a/x.mpa",
    }


def test_colliding_names_are_refused_and_can_be_kept_apart(encode, tree, tmp_path):
    (tmp_path / "two").mkdir()
    for suffix in ("png", "webp"):
        Image.new("RGB", (8, 8)).save(tmp_path / "two" / f"x.{suffix}")
    done = encode(tmp_path / "two")
    assert done.code == 2
    assert "x.png and " in done.err
    assert "--keep-suffix" in done.err
    assert not (tmp_path / "out").exists()
    assert encode(tmp_path / "two", "--keep-suffix").code == 0
    assert set(files_in(tmp_path / "out")) == {"x.png.mpa", "x.webp.mpa"}
    # Equal names below two input folders.
    assert encode(tree / "a", tree / "b").code == 2
    assert encode(tree / "a", tree / "b", "--root", tree).code == 0
    assert (tmp_path / "out" / "b" / "deep" / "er" / "x.mpa").is_file()


def test_links_devices_and_loops_in_a_tree(encode, tree, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "link.png").symlink_to(tree / "x.png")
    (source / "nowhere.png").symlink_to(tmp_path / "nothing")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.png")
    done = encode(source)
    assert done.code == 1
    assert set(files_in(tmp_path / "out")) == {"link.mpa"}
    assert done.errors[0].endswith("1 devices and pipes, 1 links in a circle")
    assert "nowhere.png does not exist" in done.errors[1]
    assert sums(done) == {"done": 1, "failed": 1, "total": 2, "left_out": 2}


def test_what_systems_put_between_photos_is_left_out(mpa, base, tree, tmp_path):
    source, good = tmp_path / "in", (tree / "x.png").read_bytes()
    for name in ("a.png", "._a.png", ".thumbnails/a.png", "@eaDir/a.png", "__MACOSX/._a.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"\0\5\26\7" if "._" in name else good)
    (source / "linked").symlink_to(tree / "a")
    words = ("--base", base, "-o", tmp_path / "out", "--format", "json")
    done = mpa("encode", source, *words)
    assert done.code == 0, done.err
    assert set(files_in(tmp_path / "out")) == {"a.mpa", "linked/x.mpa", "linked/y.mpa"}
    reasons = {"hidden files": 1, "hidden folders": 1, "system folders": 2}
    assert done.sums["left_out_by_reason"] == reasons
    assert done.sums["left_out"] == 4
    for why, count in reasons.items():
        assert f"{count} {why}" in done.errors[0]
    # What is named is taken.
    hidden = source / ".thumbnails" / "a.png"
    done = mpa("encode", hidden, source / ".thumbnails", "--keep-suffix", "--root", source, *words)
    assert done.code == 2  # once by its name and once by its folder's
    assert mpa("encode", hidden, "--keep-suffix", *words).sums["done"] == 1

    nothing = mpa("encode", source / "__MACOSX", *words)
    assert nothing.code == 2
    assert "(left out: 1 hidden files)" in nothing.err


def test_outputs_below_their_inputs(mpa, base, tree, tmp_path):
    """The suffix tells what was encoded from what is to be; decoded pictures are pictures."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").write_bytes((tree / "x.png").read_bytes())
    words = ("--base", base, "--format", "json")
    for out in (source, source / "out", source / "out"):
        assert mpa("encode", source, "-o", out, *words, "--resume").sums["total"] == 1
    done = mpa("decode", source, "-o", source, "--suffix", ".webp", *words)
    assert (done.code, done.sums["total"]) == (0, 2)
    done = mpa("encode", source, "-o", source / "out", "--keep-suffix", *words)
    assert (done.code, done.sums["total"]) == (0, 3)


# ---------------------------------------------------------------------- what goes wrong


def test_every_kind_of_failure_is_reported_and_the_rest_is_done(
    encode, start, base, tree, tmp_path, picture
):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "blocked").mkdir(parents=True)
    out.mkdir()
    good = picture.read_bytes()
    for name, data in {
        "0-text.png": b"not a picture",
        "1-half.png": good[: len(good) // 2],
        "2-empty.png": b"",
        "4-taken.png": good,
        "5-folder.png": good,
        "9-good.png": good,
        "blocked/x.png": good,
    }.items():
        (source / name).write_bytes(data)
    (out / "4-taken.mpa").write_bytes(b"precious")
    (out / "5-folder.mpa").mkdir()
    (out / "blocked").write_bytes(b"a file where a folder should be")
    done = encode(source)
    assert done.code == 1
    found = {Path(row["input"]).name: row.get("error", {}) for row in done.rows}
    for name, kind, message in [
        ("0-text.png", "ImageError", "not a picture"),
        ("1-half.png", "ImageError", "damaged or incomplete"),
        ("2-empty.png", "ImageError", "not a picture"),
        ("4-taken.png", "OutputError", "already exists"),
        ("5-folder.png", "OutputError", "it is a folder"),
        ("x.png", "OutputError", "cannot make the folder"),
    ]:
        assert found.pop(name)["type"] == kind
        (line,) = [line for line in done.errors if f"/{name.removesuffix('.png')}" in line]
        assert message in line
    assert found == {"9-good.png": {}}
    assert sums(done) == {"done": 1, "failed": 6, "total": 7}
    assert (out / "4-taken.mpa").read_bytes() == b"precious"
    assert {name for name in files_in(out) if ".tmp" in name} == set()


def test_an_input_that_vanishes_on_the_way(start, base, tree, tmp_path):
    """The list is read before anything is done; one of its files goes meanwhile."""
    source = tmp_path / "in"
    source.mkdir()
    for name, side in {"a": 32, "b": 640, "c": 32}.items():  # the second takes long enough
        Image.open(tree / "x.png").resize((side, side)).save(source / f"{name}.png")
    running = start("encode", source, "-o", tmp_path / "out", "--base", base)
    (source / "c.png").unlink() if _seen(tmp_path / "out" / "a.mpa") else pytest.fail("no output")
    done = running.wait()
    assert done.code == 1
    assert "c.png does not exist" in done.err
    assert set(files_in(tmp_path / "out")) == {"a.mpa", "b.mpa"}


def _seen(file: Path, seconds: float = 900) -> bool:
    tick = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if file.exists():
            return True
        tick.wait(0.005)
    return False


def test_a_full_disk_ends_the_run(encode, tree, tmp_path):
    """``/dev/full`` behind one output: the system's own answer, for every user."""
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "y.mpa").symlink_to("/dev/full")
    done = encode(tree)
    assert done.code == 1
    assert set(files_in(out)) == {"x.mpa", "a/x.mpa"}
    assert "No space left on device" in done.sums["stopped"]
    assert sums(done) == {"done": 2, "failed": 1, "total": 6, "left_out": 1}
    assert done.errors[-1] == (
        "mpa: 6 inputs: 2 done, 0 skipped, 1 failed, 3 not reached: go on with --resume"
    )
    (out / "a" / "y.mpa").unlink()
    again = encode(tree, "--resume")
    assert again.code == 0, again.err
    assert sums(again) == {"done": 4, "skipped": 2, "total": 6, "left_out": 1}


def test_a_really_full_and_a_read_only_file_system(encode, codec, picture, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(out)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        source = tmp_path / "in"
        source.mkdir()
        for number in range(20):
            (source / f"{number:02}.png").write_bytes(picture.read_bytes())
        whole = codec.encode(Image.open(picture))
        done = encode(source)
        assert done.code == 1
        assert 1 < done.sums["done"] < 19
        assert done.sums["failed"] == 1
        assert "No space left" in done.sums["stopped"]
        assert files_in(out) == {f"{n:02}.mpa": whole for n in range(done.sums["done"])}
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        again = encode(source, "--resume")
        assert (again.code, again.sums["skipped"], again.sums["failed"]) == (
            1, done.sums["done"], 1
        )  # fmt: skip
        assert os.strerror(errno.EROFS) in again.sums["stopped"]
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_one_file_that_is_too_large_is_no_reason_to_stop(
    start, base, codec, tree, tmp_path, photos
):
    """RLIMIT_FSIZE: the system refuses one file in the middle of the write."""
    source = tmp_path / "in"
    source.mkdir()
    with Image.open(photos[0]) as photo:
        photo.convert("RGB").crop((0, 0, 256, 256)).save(source / "a.png")
    (source / "b.png").write_bytes((tree / "x.png").read_bytes())
    words = ("--base", base, "-o", tmp_path / "out", "--quality", 8)
    large, small = (
        len(codec.encode(Image.open(source / name).convert("RGB"), 8))
        for name in ("a.png", "b.png")
    )
    assert small < large
    done = start("encode", source, *words, largest=(small + large) // 2).wait()
    assert done.code == 1
    assert "a.mpa: File too large" in done.err
    assert set(files_in(tmp_path / "out")) == {"b.mpa"}


def test_permissions(start, base, tree, tmp_path):
    source = tmp_path / "in"
    (source / "closed").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (source / name).write_bytes((tree / "x.png").read_bytes())
    (source / "a.png").chmod(0)
    (source / "closed").chmod(0)
    words = ("-o", f"{tmp_path}/out/", "--base", base, "--format", "json")
    try:
        done = start("encode", source, *words, unprivileged=True).wait()
    finally:
        (source / "closed").chmod(0o700)
    assert done.code == 1
    assert "cannot list the folder" in done.errors[0]
    assert "may not be read" in done.errors[1]
    assert sums(done) == {"done": 1, "failed": 2, "total": 3}


# ---------------------------------------------------------------------- resuming


def test_resume_adds_what_is_missing(encode, tree, tmp_path):
    out = tmp_path / "out"
    assert encode(tree).code == 0
    before = files_in(out)
    (out / "a" / "x.mpa").unlink()
    kept = (out / "x.mpa").stat().st_mtime_ns
    done = encode(tree, "--resume")
    assert done.code == 0, done.err
    assert sums(done) == {"done": 1, "skipped": 5, "total": 6, "left_out": 1}
    assert [Path(row["output"]).name for row in done.rows if "skipped" not in row] == ["x.mpa"]
    assert (out / "x.mpa").stat().st_mtime_ns == kept
    assert files_in(out) == before


def test_resume_trusts_no_file_it_has_not_looked_at(encode, codec, bases, tree, tmp_path):
    """Without --force what is wrong is named and left; with it exactly that is made again."""
    out, source = tmp_path / "out", tmp_path / "in"
    source.mkdir()
    image = Image.open(tree / "x.png")
    whole = codec.encode(image)
    other = MPACodec.from_pretrained(bases["other"])
    wrong = {
        "cut": (whole[:-1], "is not a whole .mpa file (truncated"),
        "empty": (b"", "is not a whole .mpa file (the file is empty"),
        "flipped": (
            whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
            "is not a whole .mpa file (payload CRC",
        ),
        "based": (other.encode(image), "was not made by the base"),
        "float": (codec.encode(image, profile="float"), "has the entropy profile float, not exact"),
        "low": (codec.encode(image, quality=2), "was made at quality 2, not 4.5"),
        "old": (whole, "is older than"),
    }
    out.mkdir()
    for name, (data, _) in {**wrong, "right": (whole, "")}.items():
        (source / f"{name}.png").write_bytes((tree / "x.png").read_bytes())
        (out / f"{name}.mpa").write_bytes(data)
    os.utime(out / "old.mpa", ns=(1, 1))
    before = files_in(out)

    done = encode(source, "--resume")
    assert done.code == 1
    assert sums(done) == {"skipped": 1, "failed": 7, "total": 8}
    assert files_in(out) == before
    for name, (_, why) in wrong.items():
        (line,) = [line for line in done.errors if f"/{name}.mpa {why}" in line]
        assert "--resume --force" in line

    done = encode(source, "--resume", "--force")
    assert done.code == 0, done.err
    assert sums(done) == {"done": 7, "skipped": 1, "total": 8}
    assert files_in(out) == {f"{name}.mpa": whole for name in [*wrong, "right"]}


def test_resumed_decoding(mpa, base, encoded, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a", "b", "c", "d"):
        (source / f"{name}.mpa").write_bytes(encoded.read_bytes())
    words = ("decode", source, "-o", out, "--base", base, "--format", "json", "--resume")
    assert mpa(*words).sums["done"] == 4
    good = files_in(out)
    (out / "a.png").write_bytes(good["a.png"][:2000])
    (out / "b.png").unlink()
    Image.new("RGB", (3, 3)).save(out / "c.png")
    done = mpa(*words)
    assert done.code == 1
    assert sums(done) == {"done": 1, "skipped": 1, "failed": 2, "total": 4}
    assert "a.png is not a whole picture" in done.err
    assert "c.png is 3x3, not 80x48" in done.err
    assert mpa(*words, "--force").sums["done"] == 2
    assert files_in(out) == good


def test_damage_is_concealed_file_by_file_and_resumed(mpa, base, encoded, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    whole = encoded.read_bytes()
    (source / "a.mpa").write_bytes(whole[:-20])
    (source / "b.mpa").write_bytes(whole)
    words = ("decode", source, "-o", out, "--base", base, "--errors", "conceal")
    text = mpa(*words)
    assert text.code == 0, text.err
    assert text.errors[0].startswith(f"mpa: warning: {source}/a.mpa: ")
    assert text.errors[1:] == ["mpa: 2 inputs: 2 done, 0 skipped, 0 failed"]
    assert [line.split()[0] for line in text.out.splitlines()[1:]] == [
        str(source / "a.mpa"), str(source / "b.mpa")
    ]  # fmt: skip
    again = mpa(*words, "--resume", "--format", "json")
    assert sums(again) == {"skipped": 2, "total": 2}
    forced = mpa(*words, "--force", "--format", "json")
    assert ["damage" in row for row in forced.rows] == [True, False]
    assert forced.errors[:1] == text.errors[:1]


@pytest.mark.parametrize("before", ["make", "write"])
def test_another_run_that_was_faster_is_no_failure(tmp_path, monkeypatch, before):
    """Two runs with --resume share a folder: both have seen that a file is missing."""
    target = tmp_path / "x.mpa"
    if before == "make":
        monkeypatch.setattr(jobs, "make_folder", lambda _: target.write_bytes(theirs))

    class Slower:
        def difference(self, job: Job) -> str | None:
            return None if target.read_bytes() == b"right" else "is wrong"

        def make(self, job: Job, step: Step) -> tuple[bytes, dict[str, int]]:
            assert before == "write"
            target.write_bytes(theirs)  # by the other run
            return b"right", {}

    job = Job("x.png", str(target))
    for theirs, resume, state in [
        (b"right", True, "skipped"),
        (b"wrong", True, "failed"),
        (b"right", False, "failed"),
    ]:
        rules = Rules(force=False, resume=resume, make_folders=True)
        outcome = attempt(Slower(), job, rules, lambda done, steps: True)
        assert outcome.state == state
        assert ("error" in outcome.row) == (state == "failed")
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
            ("x.mpa", theirs)
        ]
        target.unlink()
