"""Metadata on the command line: left out, counted apart, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import exif_blocks
import icc_profiles as icc
import numpy as np
import pytest
from PIL import Image

from mpa_core.bitstream.container import pack, unpack
from mpa_core.bitstream.metadata import from_chunks
from mpa_core.io.images import load_image
from mpa_core.io.stripping import strip

P3 = icc.profile(icc.DISPLAY_P3, icc.gamma_curve(2.2))
EXIF = exif_blocks.photo(orientation=1)


@pytest.fixture(scope="module")
def tagged(picture: Path, tmp_path_factory) -> Path:
    """The picture with a profile and a place."""
    file = tmp_path_factory.mktemp("tagged") / "photo.png"
    Image.open(picture).save(file, exif=b"Exif\0\0" + EXIF, icc_profile=P3)
    return file


@pytest.fixture(scope="module")
def coded(base, tagged, tmp_path_factory) -> dict[str, Path]:
    """It as files: whole, without the place, and bare."""
    from mpa_core.cli.main import main

    folder = tmp_path_factory.mktemp("coded")
    options = {"whole": [], "placeless": ["--strip-location"], "bare": ["--strip"]}
    for name, words in options.items():
        arguments = ["encode", tagged, "-o", folder / f"{name}.mpa", "--base", base, *words]
        assert main([str(word) for word in arguments]) == 0
    return {name: folder / f"{name}.mpa" for name in options}


def test_encode_leaves_out_what_is_asked(mpa, base, coded, tagged, tmp_path):
    files = {name: unpack(file.read_bytes()) for name, file in coded.items()}
    assert from_chunks(files["whole"].chunks) == (P3, EXIF)
    profile, exif = from_chunks(files["placeless"].chunks)
    assert profile == P3
    assert exif_blocks.PLACE not in exif
    assert exif_blocks.MAKER_NOTE in exif
    assert files["placeless"].streams == files["whole"].streams
    assert files["bare"].chunks == {}
    # The very file that the bare picture makes.
    strip(load_image(tagged)).save(tmp_path / "bare.png")
    done = mpa("encode", tmp_path / "bare.png", "-o", tmp_path / "a.mpa", "--base", base)
    assert done.code == 0
    assert (tmp_path / "a.mpa").read_bytes() == coded["bare"].read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_decode_leaves_out_what_is_asked(mpa, base, coded, tmp_path, suffix: str):
    out = {}
    options = {"whole": [], "placeless": ["--strip-location"], "bare": ["--strip"]}
    for name, words in options.items():
        file = tmp_path / f"{name}.{suffix}"
        assert mpa("decode", coded["whole"], "-o", file, "--base", base, *words).code == 0
        with Image.open(file) as image:
            image.load()
            out[name] = image
    assert {name: image.info.get("icc_profile") for name, image in out.items()} == {
        "whole": P3,
        "placeless": P3,
        "bare": None,
    }
    places = {name: dict(image.getexif().get_ifd(0x8825)) for name, image in out.items()}
    assert places["whole"]
    assert places["placeless"] == places["bare"] == {}
    assert out["placeless"].getexif()[0x010F] == "Maker of cameras"
    assert 0x010F not in out["bare"].getexif()
    assert 0x0112 not in out["bare"].getexif()
    wanted = strip(out["whole"])
    tolerance = 6 if suffix == "jpg" else 0
    difference = np.abs(np.asarray(out["bare"], int) - np.asarray(wanted, int))
    assert difference.mean() <= tolerance


def test_stripped_pictures_are_upright(mpa, base, picture, encoded, tmp_path):
    turned = exif_blocks.photo(orientation=6)
    Image.open(picture).save(tmp_path / "a.png", exif=b"Exif\0\0" + turned)
    encode = ("encode", tmp_path / "a.png", "-o", tmp_path / "a.mpa", "--base", base, "--strip")
    assert mpa(*encode).code == 0
    found = unpack((tmp_path / "a.mpa").read_bytes())
    assert (found.width, found.height, found.chunks) == (48, 80, {})
    # And a file that holds the picture on its side, as other writers may leave it.
    container = dataclasses.replace(unpack(encoded.read_bytes()), chunks={b"EXIF": turned})
    (tmp_path / "b.mpa").write_bytes(pack(container))
    decode = ("decode", tmp_path / "b.mpa", "-o", tmp_path / "b.png", "--base", base, "--strip")
    assert mpa(*decode).code == 0
    assert mpa("decode", encoded, "-o", tmp_path / "c.png", "--base", base).code == 0
    with Image.open(tmp_path / "b.png") as upright, Image.open(tmp_path / "c.png") as stored:
        assert "exif" not in upright.info
        assert np.array_equal(upright, stored.transpose(Image.Transpose.ROTATE_270))


def test_both_options_at_once_are_wrong_usage(mpa, tagged, tmp_path):
    done = mpa("encode", tagged, "-o", tmp_path / "a.mpa", "--strip", "--strip-location")
    assert done.code == 2
    assert "not allowed with argument" in done.err


@pytest.mark.parametrize(
    ("option", "jobs"),
    [("--strip", ()), ("--strip-location", ()), ("--strip-location", ("--jobs", 1))],
)
def test_batches(mpa, base, tagged, tmp_path, option: str, jobs):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.png").write_bytes(tagged.read_bytes())
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--base", base, option, *jobs)
    assert mpa("encode", *arguments).code == 0
    for file in (tmp_path / "out").iterdir():
        assert exif_blocks.PLACE not in (from_chunks(unpack(file.read_bytes()).chunks).exif or b"")
    arguments = (tmp_path / "out", "-o", tmp_path / "back", "--base", base, option, *jobs)
    assert mpa("decode", *arguments).code == 0
    assert len(list((tmp_path / "back").iterdir())) == 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("option", "said"), [("--strip", "has metadata"), ("--strip-location", "where the picture was")]
)
def test_resume_does_not_take_what_should_be_stripped(
    mpa, base, tagged, coded, tmp_path, option: str, said: str, suffix: str
):
    encode = ("encode", tagged, "-o", tmp_path / "a.mpa", "--base", base)
    decode = ("decode", coded["whole"], "-o", tmp_path / f"a{suffix}", "--base", base)
    for command in (encode, decode):
        assert mpa(*command).code == 0
        assert mpa(*command, "--resume").code == 0
        refused = mpa(*command, "--resume", option)
        assert refused.code == 1
        assert said in refused.err
        assert mpa(*command, "--resume", "--force", option).code == 0
        again = mpa(*command, "--resume", option, "--format", "json")
        assert again.sums["skipped"] == 1, again.err
        # The reverse is not looked at, as docs/cli.md says: --force alone brings metadata back.
        for force in ([], ["--force"]):
            reverse = mpa(*command, "--resume", *force, "--format", "json")
            assert reverse.sums["skipped"] == 1, reverse.err
        assert mpa(*command, "--force").code == 0
        assert said in mpa(*command, "--resume", option).err


def test_bytes_apart(mpa, base, tagged, coded, tmp_path):
    bare = len(coded["bare"].read_bytes())
    whole = unpack(coded["whole"].read_bytes())
    metadata = sum(len(chunk) + 8 for chunk in whole.chunks.values())
    wanted = {
        "bytes": coded["whole"].stat().st_size,
        "bpp": round(8 * coded["whole"].stat().st_size / (80 * 48), 5),
        "picture_bytes": coded["whole"].stat().st_size - metadata,
        "picture_bpp": round(8 * (coded["whole"].stat().st_size - metadata) / (80 * 48), 5),
        "metadata_bytes": metadata,
    }
    (info,) = mpa("info", coded["whole"], "--format", "json").rows
    assert {key: info[key] for key in wanted} == wanted
    assert info["metadata"] == {"icc_profile": len(P3), "exif": len(EXIF)}
    command = ("encode", tagged, "-o", tmp_path / "a.mpa", "--base", base, "--format", "json")
    (row,) = mpa(*command).rows
    assert {key: row[key] for key in wanted} == wanted
    (info,) = mpa("info", coded["bare"], "--format", "json").rows
    assert (info["picture_bytes"], info["metadata_bytes"], info["metadata"]) == (bare, 0, {})
    assert info["bpp"] == info["picture_bpp"]


def test_large_exif_is_a_warning_and_exit_code_0(mpa, base, picture, tmp_path):
    block = exif_blocks.photo(preview=b"\xff\xd8" + bytes(range(256)) * 300, orientation=1)
    Image.open(picture).save(tmp_path / "a.png", exif=b"Exif\0\0" + block)
    encode = ("encode", tmp_path / "a.png", "-o", tmp_path / "a.mpa", "--base", base)
    done = mpa(*encode)
    assert (done.code, done.err) == (0, "")
    assert from_chunks(unpack((tmp_path / "a.mpa").read_bytes()).chunks).exif == block
    decode = ("decode", tmp_path / "a.mpa", "-o", tmp_path / "a.jpg", "--base", base)
    done = mpa(*decode, "--format", "json")
    assert done.code == 0
    (line,) = done.errors
    assert line.startswith(f"mpa: warning: {tmp_path / 'a.mpa'}: the EXIF of {len(block)} bytes")
    assert done.rows[0]["warnings"] == [line.partition("a.mpa: ")[2]]
    assert load_image(tmp_path / "a.jpg").getexif()[0x010F] == "Maker of cameras"
    done = mpa(*decode, "--force", "--strip")
    assert (done.code, done.err) == (0, "")


def test_a_damaged_chunk(mpa, base, coded, tmp_path):
    container = unpack(coded["whole"].read_bytes())
    bomb = {**container.chunks, b"ICCZ": zlib.compress(bytes(2**25), 9)}
    (tmp_path / "a.mpa").write_bytes(pack(dataclasses.replace(container, chunks=bomb)))
    decode = ("decode", tmp_path / "a.mpa", "-o", tmp_path / "a.png", "--base", base)
    for command in (decode, ("info", tmp_path / "a.mpa")):
        refused = mpa(*command)
        assert refused.code == 1
        assert "chunk ICCZ" in refused.err
        assert "stands for more than" in refused.err
    done = mpa(*decode, "--errors", "conceal", "--format", "json")
    assert done.code == 0
    (damage,) = done.rows[0]["damage"]
    assert "chunk ICCZ" in damage
    assert "it was left out" in damage
    with Image.open(tmp_path / "a.png") as image:
        assert "icc_profile" not in image.info
        assert image.getexif()[0x010F] == "Maker of cameras"
