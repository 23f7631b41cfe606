"""``mpa encode`` and ``mpa decode`` on real files: what is written is what the codec makes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from pathlib import Path

import icc_profiles
import numpy as np
import pytest
from PIL import Image

from mpa_core import Mix, MPACodec, checkpoints
from mpa_core.checkpoints import bundled, sources
from mpa_core.cli.main import main


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def test_there_and_back(mpa, base, picture, tmp_path):
    file, out = tmp_path / "a.mpa", tmp_path / "a.png"
    done = mpa("encode", picture, "-o", file, "--base", base, "--quality", 3, "--format", "json")
    assert (done.code, done.err) == (0, "")
    (entry,) = done.rows
    codec = MPACodec.from_pretrained(base)
    assert file.read_bytes() == codec.encode(Image.open(picture), quality=3)
    assert entry["bytes"] == file.stat().st_size
    assert entry["bpp"] == pytest.approx(8 * entry["bytes"] / (80 * 48), abs=1e-5)
    assert (entry["width"], entry["height"], entry["quality"]) == (80, 48, 3)

    done = mpa("decode", file, "-o", out, "--base", base)
    assert (done.code, done.err) == (0, "")
    assert str(out) in done.out
    assert np.array_equal(pixels(out), np.asarray(codec.decode(file.read_bytes())))


def test_many_inputs_into_a_new_folder(mpa, base, sample, tmp_path):
    small = [tmp_path / f"{name}.png" for name in "abc"]
    for turn, file in enumerate(small):
        sample.rotate(90 * turn).resize((40, 30)).save(file)
    done = mpa("encode", *small, "-o", tmp_path / "new" / "mpa", "--base", base)
    assert done.code == 0
    files = sorted((tmp_path / "new" / "mpa").iterdir())
    assert [file.stem for file in files] == sorted(file.stem for file in small)
    done = mpa("decode", *files, "-o", tmp_path / "back", "--base", base, "--suffix", "webp")
    assert done.code == 0
    assert sorted(f.name for f in (tmp_path / "back").iterdir()) == [
        f.stem + ".webp" for f in files
    ]
    assert all(size(file) == (40, 30) for file in (tmp_path / "back").iterdir())


def test_one_input_into_a_folder(mpa, base, picture, tmp_path):
    assert mpa("encode", picture, "-o", f"{tmp_path}/new/", "--base", base).code == 0
    assert mpa("encode", picture, "-o", tmp_path, "--base", base).code == 0
    assert (tmp_path / "new" / "photo.mpa").read_bytes() == (tmp_path / "photo.mpa").read_bytes()


def test_bad_files_do_not_stop_the_others(mpa, base, picture, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    out = tmp_path / "out"
    inputs = [tmp_path / "bad.png", picture, tmp_path / "missing.jpg"]
    done = mpa("encode", *inputs, "-o", out, "--base", base, "--format", "json")
    assert done.code == 1
    assert [file.name for file in out.iterdir()] == ["photo.mpa"]
    assert len(done.errors) == 3
    assert "bad.png is not a picture" in done.errors[0]
    assert "missing.jpg does not exist" in done.errors[1]
    assert done.errors[2] == "mpa: 3 inputs: 1 done, 0 skipped, 2 failed"
    assert done.sums["failed"] == 2
    assert [entry.get("error", {}).get("type") for entry in done.rows] == [
        "ImageError",
        None,
        "ImageError",
    ]


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_nothing_is_overwritten_without_force(mpa, base, picture, encoded, tmp_path, command):
    source, out = (picture, "out.mpa") if command == "encode" else (encoded, "out.png")
    out = tmp_path / out
    out.write_bytes(b"precious")
    done = mpa(command, source, "-o", out, "--base", base)
    assert done.code == 1
    assert len(done.errors) == 1
    assert "already exists" in done.errors[0]
    assert "--force" in done.errors[0]
    assert out.read_bytes() == b"precious"
    assert mpa(command, source, "-o", out, "--base", base, "--force").code == 0
    assert out.read_bytes() != b"precious"


def test_decoding_by_path_mix_and_region(mpa, base, path_folder, encoded, tmp_path):
    codec = MPACodec.from_pretrained(base)
    codec.load_path(path_folder)
    data = encoded.read_bytes()
    half = np.zeros((48, 80), np.uint8)
    half[:, :40] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    for arguments, mix in [
        (["--path", "main"], Mix()),
        (["--path", "cls"], Mix(cls=1.0)),
        (["--mix", "cls=0.4,main=0.6"], Mix(cls=0.4)),
        (["--region", f"cls={tmp_path / 'half.png'}"], Mix(regions={"cls": half})),
    ]:
        done = mpa(
            *("decode", encoded, "-o", tmp_path / "a.png", "--base", base, "--force"),
            *("--load", path_folder, *arguments, "--format", "json"),
        )
        assert done.code == 0, done.err
        assert done.rows[0]["mix"] == {"main": mix.main, **mix.shares}
        assert done.rows[0]["regions"] == list(mix.regions)
        assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(codec.decode(data, mix)))
    assert not np.array_equal(
        np.asarray(codec.decode(data, Mix(cls=1.0))), np.asarray(codec.decode(data))
    )


def test_a_path_can_be_called_by_another_name(mpa, base, path_folder, encoded, tmp_path):
    (tmp_path / "lr=3").symlink_to(path_folder, target_is_directory=True)
    codec = MPACodec.from_pretrained(base)
    folders = [f"mine={path_folder}", str(tmp_path / "lr=3")]
    assert codec.load_paths(folders) == ["mine", "cls"]
    done = mpa(
        *("decode", encoded, "-o", tmp_path / "a.png", "--base", base),
        *("--load", folders[0], "--path", "mine"),
    )
    assert done.code == 0, done.err
    wanted = np.asarray(codec.decode(encoded.read_bytes(), Mix(cls=1.0)))
    assert np.array_equal(pixels(tmp_path / "a.png"), wanted)


def test_a_path_given_as_a_folder_of_one_name(
    mpa, base, path_folder, encoded, tmp_path, monkeypatch
):
    """Such as what a training has just written beside the files."""
    (tmp_path / "mine").symlink_to(path_folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    done = mpa("decode", encoded, "-o", "a.png", "--base", base, "--path", "./mine")
    assert done.code == 0, done.err
    codec = MPACodec.from_pretrained(base)
    codec.load_path(path_folder)
    wanted = np.asarray(codec.decode(encoded.read_bytes(), Mix(cls=1.0)))
    assert np.array_equal(pixels(tmp_path / "a.png"), wanted)


def test_bundled_bases_are_found_by_the_file(mpa, bases, encoded, picture, tmp_path, monkeypatch):
    for module in (checkpoints, bundled, sources):
        monkeypatch.setattr(
            module, "bundled_bases", lambda: {"b": bases["other"], "a": bases["base"]}
        )
    assert mpa("encode", picture, "-o", tmp_path / "b.mpa", "--base", "b").code == 0
    files = [encoded, tmp_path / "b.mpa"]
    done = mpa("decode", *files, "-o", tmp_path, "--format", "json")
    assert done.code == 0, done.err
    used = [entry["base"] for entry in done.rows]
    assert used == [MPACodec.from_pretrained(bases[name]).name for name in ("base", "other")]
    done = mpa("info", *files, "--format", "json")
    assert [entry["base"] for entry in done.rows] == ["a", "b"]


def test_metadata_goes_through(mpa, base, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    profile = icc_profiles.profile(icc_profiles.DISPLAY_P3)
    image = Image.open(picture).convert("RGB")
    image.save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    assert mpa("encode", tmp_path / "a.jpg", "-o", tmp_path / "a.mpa", "--base", base).code == 0
    for suffix in ("png", "jpg", "webp"):
        out = tmp_path / f"back.{suffix}"
        assert mpa("decode", tmp_path / "a.mpa", "-o", out, "--base", base).code == 0
        with Image.open(out) as back:
            assert back.size == image.size[::-1]  # upright
            assert dict(back.getexif()) == {0x0112: 1, 0x010F: "Maker"}
            assert back.info["icc_profile"] == profile


def test_frame(mpa, base, tmp_path):
    frames = [Image.new("RGB", (20, 20), (i * 100, 50, 0)) for i in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    arguments = ("encode", tmp_path / "a.gif", "-o", tmp_path / "a.mpa", "--base", base)
    done = mpa(*arguments)
    assert done.code == 1
    assert "2 frames" in done.err
    assert "--frame" in done.err
    assert mpa(*arguments, "--frame", 1).code == 0
    expected = MPACodec.from_pretrained(base).encode(frames[1], quality=4.5)
    assert (tmp_path / "a.mpa").read_bytes() == expected


def test_streams(base, picture, encoded, capsysbinary, monkeypatch):
    def through(data: bytes, *words: str) -> bytes:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main([*words, "-", "-o", "-", "--base", str(base)]) == 0
        out, err = capsysbinary.readouterr()
        assert err == b""
        return out

    data = through(picture.read_bytes(), "encode", "--quality", "3")
    assert data == encoded.read_bytes()
    assert Image.open(io.BytesIO(through(data, "decode"))).format == "PNG"
    decoded = Image.open(io.BytesIO(through(data, "decode", "--suffix", ".webp")))
    assert decoded.format == "WEBP"
    assert np.array_equal(
        np.asarray(decoded), np.asarray(MPACodec.from_pretrained(base).decode(data))
    )


def test_progress_bar_on_a_terminal(base, picture, tmp_path, capsys, monkeypatch):
    """With stderr on a pseudo-terminal the bar is drawn there, and stdout stays clean."""
    pty = pytest.importorskip("pty")  # there is none on Windows
    sources = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "bad.png"]
    for file in sources[:2]:
        file.write_bytes(picture.read_bytes())
    sources[2].write_bytes(b"bad")
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    shown = bytearray()

    def drain() -> None:
        # Linux reports the closed other end of a pseudo-terminal as an error.
        with contextlib.suppress(OSError):
            while part := os.read(master, 4096):
                shown.extend(part)

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        code = main(["encode", *map(str, sources), "-o", str(tmp_path), "--base", str(base)])
        monkeypatch.undo()
    reader.join(timeout=30)
    os.close(master)
    assert code == 1
    assert b"3/3" in shown
    assert b"mpa: error: " in shown
    rows = capsys.readouterr().out.splitlines()
    assert [Path(row.split()[1]).name for row in rows[1:]] == ["a.mpa", "b.mpa"]
