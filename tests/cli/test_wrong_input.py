"""Whatever is wrong: one clear line on stderr, a non-zero exit, and existing files survive."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mpa_core.bitstream.container import MAGIC


@pytest.fixture
def wrong(tmp_path, base, bases, picture, encoded, path_folder) -> dict[str, Path]:
    """Files with something wrong, by what it is."""
    data, photo = encoded.read_bytes(), picture.read_bytes()
    files = {
        "text.png": b"this is a text\n" * 50,
        "text.mpa": b"this is a text\n" * 50,
        "truncated.png": photo[: len(photo) // 2],
        "truncated.mpa": data[: len(data) // 2],
        "header.mpa": data[:20],
        "empty.png": b"",
        "empty.mpa": b"",
        "magic.mpa": b"X" + data[1:],
        "flipped.mpa": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "longer.mpa": data + b"\0",
        "photo.mpa": photo,
        "good.mpa": data,
        "good.png": photo,
        "random.mpa": MAGIC + bytes(range(256)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    Image.new("L", (80, 47), 255).save(tmp_path / "mask.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
    return {
        **{name: tmp_path / name for name in [*files, "mask.png", "cmyk.jpg"]},
        "base": base,
        "other": bases["other"],
        "cls": path_folder,
        "missing": tmp_path / "missing",
        "folder": tmp_path,
    }


MATRIX = {
    "a text as a picture": ("encode {text.png}", "not a picture"),
    "an empty picture": ("encode {empty.png}", "not a picture"),
    "a truncated picture": ("encode {truncated.png}", "damaged or incomplete"),
    "a missing picture": ("encode {missing}", "does not exist"),
    "a folder as a picture": ("encode {folder}", "cannot make the folder"),
    "a colour space without a rule": ("encode {cmyk.jpg}", "CMYK"),
    "an .mpa file as a picture": ("encode {good.mpa}", "not a picture"),
    "quality 0": ("encode {good.png} --quality 0", "quality"),
    "quality 9": ("encode {good.png} --quality 9", "quality"),
    "quality below zero": ("encode {good.png} --quality=-1", "quality"),
    "quality nan": ("encode {good.png} --quality nan", "quality"),
    "quality inf": ("encode {good.png} --quality inf", "quality"),
    "an unknown base": ("encode {good.png} --base nothing", "nothing"),
    "a base that is a file": ("encode {good.png} --base {text.png}", "is a file"),
    "a path as a base": ("encode {good.png} --base {cls}", "path"),
    "a text": ("decode {text.mpa}", "text.mpa"),
    "an empty file": ("decode {empty.mpa}", "empty.mpa"),
    "wrong magic": ("decode {magic.mpa}", "magic.mpa"),
    "a picture": ("decode {photo.mpa}", "photo.mpa"),
    "truncated": ("decode {truncated.mpa}", "truncated.mpa"),
    "truncated header": ("decode {header.mpa}", "header.mpa"),
    "a flipped bit": ("decode {flipped.mpa}", "flipped.mpa"),
    "something after the end": ("decode {longer.mpa}", "longer.mpa"),
    "noise after the magic": ("decode {random.mpa}", "random.mpa"),
    "a missing file": ("decode {missing}", "cannot read"),
    "a folder": ("decode {folder}", "cannot make the folder"),
    "another base's file": ("decode {good.mpa} --base {other}", "base"),
    "a base that is not bundled": ("decode {good.mpa} --no-base", "--base"),
    "an unknown path": ("decode {good.mpa} --path ocrr", "ocrr"),
    "an unknown path in a mix": ("decode {good.mpa} --mix ocrr=0.5", "ocrr"),
    "an unknown path in a region": ("decode {good.mpa} --region ocrr={mask.png}", "ocrr"),
    "a path without weights": ("decode {good.mpa} --path mse", "no weights"),
    "a path of an unknown plugin": ("decode {good.mpa} --path nobody:cls", "nobody:cls"),
    "a path that is nowhere": (
        "decode {good.mpa} --load mine={missing} --path mine",
        "expected a path folder",
    ),
    "a path of another base": ("decode {good.mpa} --base {other} --load {cls}", "base"),
    "shares above 1": ("decode {good.mpa} --load {cls} --mix cls=0.7,mse=0.4", "sum to 1.1"),
    "a negative share": ("decode {good.mpa} --load {cls} --mix cls=-0.1", "cls"),
    "a mix that is none": ("decode {good.mpa} --mix cls", "NAME=SHARE"),
    "an empty mix": ("decode {good.mpa} --mix=", "NAME=SHARE"),
    "an empty path name": ("decode {good.mpa} --path=", "NAME=SHARE"),
    "a mask of the wrong size": (
        "decode {good.mpa} --load {cls} --region cls={mask.png}",
        "80x47",
    ),
    "a mask that is no picture": (
        "decode {good.mpa} --load {cls} --region cls={text.png}",
        "not a picture",
    ),
    "info on a text": ("info {text.mpa}", "text.mpa"),
    "info on half a file": ("info {truncated.mpa}", "truncated.mpa"),
    "info on nothing": ("info {missing}", "cannot read"),
}


def arguments(line: str, wrong: dict[str, Path], out: Path) -> list[str]:
    """Fill in file names, an output and, unless another is named, the right base."""
    words = [word for word in line.split() if word != "--no-base"]
    if words[0] != "info":
        words += ["-o", str(out)]
        if "--base" not in words and "--no-base" not in line:
            words += ["--base", "{base}"]
    return [fill(word, wrong) for word in words]


def fill(word: str, wrong: dict[str, Path]) -> str:
    """Put file names in place of ``{name}``; str.format would take the dot for an attribute."""
    return re.sub(r"\{([^}]+)\}", lambda match: str(wrong[match[1]]), word)


@pytest.mark.parametrize("case", MATRIX)
def test_one_clear_line(mpa, wrong, tmp_path, case):
    line, expected = MATRIX[case]
    out = tmp_path / ("precious.mpa" if line.startswith("encode") else "precious.png")
    out.write_bytes(b"precious")
    words = arguments(line, wrong, out)
    force = [] if words[0] == "info" else ["--force"]
    before = sorted(tmp_path.iterdir())
    done = mpa(*words, *force)
    assert done.code == 1
    assert done.out == ""
    assert len(done.errors) == 1, done.err
    assert done.err.startswith("mpa: error: ")
    assert expected in done.err
    assert "unexpected" not in done.err
    assert out.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == before

    as_json = mpa(*words, *force, "--format", "json")
    assert as_json.err == done.err
    error = json.loads(as_json.out.splitlines()[0])["error"]
    assert f"mpa: error: {error['message']}" == done.errors[0]


@pytest.mark.parametrize("command", ["encode {good.png}", "decode {good.mpa}"])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("missing/a.png", "does not exist"),
        ("text.png/a.png", "Not a directory"),
        ("text.png/", "cannot make the folder"),
        ("/dev/full", "No space left"),
        ("/proc/a.png", "/proc/a.png"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_output_that_cannot_be_written(mpa, wrong, tmp_path, command, place, expected):
    if command.startswith("decode") and place == "/dev/full":
        expected = "suffix"  # a picture's format follows from the name
    out = place if place.startswith("/") else f"{tmp_path}/{place}"
    done = mpa(*arguments(command, wrong, out))
    assert done.code == 1
    assert len(done.errors) == 1, done.err
    assert expected in done.err
    assert (tmp_path / "text.png").read_bytes() == b"this is a text\n" * 50


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("encode {good.png} {folder}/./good.png -o {folder}/out", "would both be written"),
        ("decode {good.mpa} {missing}/good.mpa -o {folder}/out", "would both be written"),
        ("encode {good.mpa} -o {good.mpa} --force", "is an input too"),
        ("decode {good.mpa} -o {folder} --suffix .mpa", "is an input too"),
        ("encode {good.png} {text.png} -o -", "give a folder"),
        ("encode {folder} -o -", "is a folder"),
        ("encode -o {folder}/out", "no input is named"),
        ("encode {base} -o {folder}/out", "has no file ending in"),
        ("decode --from-file {empty.mpa} -o {folder}/out", "names no file"),
        ("decode --from-file {missing} -o {folder}/out", "cannot read the list"),
        ("decode - --from-file - -o {folder}/out", "cannot be both"),
        ("decode {good.mpa} --root {base} -o {folder}/out", "is not below"),
        ("decode {good.mpa} --jobs 0 -o {folder}/out", "no number of processes"),
        ("decode - --jobs 2 -o {folder}/a.png", "--jobs is for files"),
        ("encode {good.png} -o - --format json", "needs -o FILE"),
        ("encode - {good.png} -o {folder}", "no name"),
        ("decode {good.mpa} -o {folder}/a.png --region cls", "NAME=MASK"),
        ("decode {good.mpa} -o {folder}/a.png --region a=b --region a=c", "names a twice"),
        ("decode {good.mpa} -o {folder}/a.png --path cls --mix cls=1", "not allowed with"),
        ("decode {good.mpa}", "required: -o"),
        ("encode {good.png} -o {folder}/a.mpa --quality high", "invalid float"),
        ("", "COMMAND"),
        ("paint", "invalid choice"),
    ],
)
def test_wrong_usage_is_exit_2_before_anything_is_done(mpa, wrong, tmp_path, words, expected):
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    done = mpa(*(fill(word, wrong) for word in words.split()))
    assert done.code == 2
    assert done.out == ""
    assert expected in done.errors[-1]
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_several_inputs_into_a_file(mpa, wrong, base):
    done = mpa(
        "encode", wrong["good.png"], wrong["text.png"], "-o", wrong["good.mpa"], "--base", base
    )
    assert done.code == 1
    assert len(done.errors) == 1
    assert "cannot make the folder" in done.err


def test_a_wrong_quality_is_said_once(mpa, wrong, base, tmp_path):
    inputs = (wrong["good.png"], wrong["truncated.png"].rename(tmp_path / "a.png"))
    done = mpa("encode", *inputs, "-o", tmp_path / "out", "--base", base, "--quality", 9)
    assert done.code == 1
    assert len(done.errors) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_one_line_in_a_real_process(wrong, tmp_path):
    """Warnings of libraries and messages from C code would show here, and only here."""
    words = arguments("encode {text.png}", wrong, tmp_path / "new.mpa")
    done = subprocess.run(
        [sys.executable, "-m", "mpa_core.cli", *words], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mpa: error: ")
