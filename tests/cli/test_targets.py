"""``mpa encode --target-…``: a size or a fidelity in place of a quality."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec
from mpa_core.io.distortion import ms_ssim, psnr


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture
def photo(turned_piece) -> Path:
    """192x176 pixels."""
    return turned_piece((120, 40, 312, 216))


def upright(photo: Path) -> Image.Image:
    with Image.open(photo) as image:
        return image.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1500", 1500),
        ("1.5k", 1500),
        ("1.5K", 1500),
        ("1.5 kB", 1500),
        ("1.5KiB", 1536),
        ("0.0015M", 1500),
    ],
)
def test_sizes_as_they_are_written(encode, codec, photo, tmp_path, text, size):
    done = encode("--target-size", text)
    assert (done.code, done.err) == (0, "")
    data = (tmp_path / "a.mpa").read_bytes()
    with Image.open(photo) as image:
        assert data == codec.encode(image, target_size=size)
    (row,) = done.rows
    assert (row["bytes"], row["quality"]) == (len(data), codec.open(data).quality)
    assert size - 64 <= len(data) <= size


def test_bits_per_pixel(encode):
    (row,) = encode("--target-bpp", 0.4).rows
    assert 0.4 - 64 * 8 / (192 * 176) <= row["bpp"] <= 0.4


@pytest.mark.parametrize(
    ("option", "name", "measure", "least"),
    [("--target-psnr", "psnr", psnr, 32), ("--target-ms-ssim", "ms_ssim", ms_ssim, 0.96)],
)
@pytest.mark.parametrize("orient", [(), ("--no-orient",)], ids=["upright", "as stored"])
def test_what_was_reached_of_a_fidelity_is_said(
    encode, codec, photo, tmp_path, option, name, measure, least, orient
):
    (row,) = encode(option, least, *orient).rows
    data = (tmp_path / "a.mpa").read_bytes()
    original = Image.open(photo) if orient else upright(photo)
    found = measure(original, codec.decode(data, orient=False))
    assert row[name] == pytest.approx(found, abs=1e-5) and found >= least
    assert row["quality"] == codec.open(data).quality
    assert encode("--quality", 3, output="b.mpa").rows[0].keys() == row.keys() - {name}


def test_a_picture_that_cannot_be_so_small_costs_no_other(mpa, photo, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    words = ("--target-size", 200, "--format", "json")
    done = mpa("encode", photo, tmp_path / "small.png", "-o", tmp_path / "out", *words)
    assert done.code == 1
    assert (done.sums["done"], done.sums["failed"]) == (1, 1)
    assert "photo.png: the smallest file of this picture, of quality 1, has " in done.errors[0]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["small.mpa"]


def test_resume_compares_sizes(encode, tmp_path):
    file = tmp_path / "a.mpa"
    assert encode("--target-size", 1500).code == 0
    before = file.read_bytes()

    for words in (("--target-size", "1500"), ("--target-bpp", 8 * 1500 / (192 * 176))):
        done = encode(*words, "--resume")
        assert (done.code, done.sums["skipped"]) == (0, 1)

    done = encode("--target-size", 1400, "--resume")
    assert done.code == 1
    assert f"has {len(before)} bytes, more than the 1400 of target_size=1400, and was" in done.err
    done = encode("--target-size", 3000, "--resume")
    assert f"has {len(before)} bytes, less than the 2936 to 3000 of target_size=3000" in done.err
    assert file.read_bytes() == before

    assert encode("--target-size", 3000, "--resume", "--force").sums["done"] == 1
    assert 2936 <= file.stat().st_size <= 3000


def test_resume_takes_the_highest_quality_for_any_size_above(encode):
    for _ in range(2):
        done = encode("--target-size", "1M", "--resume")
        assert done.code == 0
    assert done.sums["skipped"] == 1


def test_resume_does_not_compare_a_fidelity(encode):
    assert encode("--target-psnr", 30).code == 0
    done = encode("--target-psnr", 35, "--resume")
    assert (done.code, done.sums["skipped"]) == (0, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--target-size 0", "argument --target-size: target_size is 0, expected a whole number"),
        ("--target-size 0.4", "argument --target-size: target_size is 0, expected a whole number"),
        ("--target-size=-5", "argument --target-size: '-5' is no size; give bytes (40000), or"),
        ("--target-size nan", "argument --target-size: 'nan' is no size; "),
        ("--target-size 40x", "argument --target-size: '40x' is no size; "),
        ("--target-size 99999999999999999999", "expected a whole number of bytes, from 1 to"),
        ("--target-bpp 0", "argument --target-bpp: target_bpp is 0.0, expected more than 0 and"),
        ("--target-bpp 25", "argument --target-bpp: target_bpp is 25.0, expected more than 0 and"),
        ("--target-bpp low", "argument --target-bpp: invalid number value: 'low'"),
        ("--target-psnr nan", "argument --target-psnr: target_psnr is nan, expected a number of"),
        ("--target-psnr=-3", "argument --target-psnr: target_psnr is -3.0, expected a number of"),
        ("--target-ms-ssim 1", "argument --target-ms-ssim: target_ms_ssim is 1.0, expected more"),
        ("--target-psnr 36 --target-size 4k", "--target-size: not allowed with argument --target-"),
        ("-q 4.5 --target-size 4k", "--target-size: not allowed with argument -q/--quality"),
    ],
)
def test_wrong_targets_are_wrong_usage(encode, tmp_path, words, expected):
    done = encode(*words.split())
    assert (done.code, done.out) == (2, "")
    assert expected in done.errors[-1]
    assert not (tmp_path / "a.mpa").exists()


def test_ms_ssim_without_its_library_is_said_once(mpa, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    Image.new("RGB", (200, 200)).save(tmp_path / "b.png")
    words = (photo, tmp_path / "b.png", "-o", tmp_path / "out", "--target-ms-ssim", 0.9)
    done = mpa("encode", *words)
    assert done.code == 1
    assert len(done.errors) == 1
    assert "MS-SSIM needs pytorch-msssim" in done.err
