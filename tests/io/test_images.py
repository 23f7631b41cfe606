"""Every kind of picture is converted by its stated rule or refused in one clear line."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from mpa_core.errors import ImageError, OutputError, PictureWarning
from mpa_core.io.images import (
    OUTPUT_FORMATS,
    encode_image,
    load_image,
    save_image,
    to_pil,
    to_rgb_tensor,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(depth: int, color: int, rows: bytes, width: int = 1, height: int = 1, *chunks: bytes):
    """A PNG made by hand: Pillow cannot write 16-bit colour."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + body)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def levels(image: object, **options) -> np.ndarray:
    """What the codec is given, as bytes [H, W, 3]; asserts that they are bytes over 255."""
    x = to_rgb_tensor(image, **options).tensor
    assert x.dtype == torch.float32
    assert x.shape[:2] == (1, 3)
    assert x.is_contiguous()
    scaled = x[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(scaled - scaled.round()).max() < 1e-4
    return scaled.round().astype(np.uint8)


def pixel(image: object, **options) -> tuple[int, ...]:
    return tuple(int(v) for v in levels(image, **options)[0, 0])


def exif_block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def tags(block: bytes) -> tuple[dict, dict]:
    exif = Image.Exif()
    exif.load(block)
    return dict(exif), dict(exif.get_ifd(0x8769))


# ---------------------------------------------------------------------- PIL modes


def test_rgb_is_taken_as_it_is(photos):
    image = load_image(photos[0])
    assert np.array_equal(levels(image), np.asarray(Image.open(photos[0]).convert("RGB")))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (2, 1), 77), (77, 77, 77)),
        (Image.new("1", (2, 1), 1), (255, 255, 255)),
        (Image.new("1", (2, 1), 0), (0, 0, 0)),
        (Image.new("RGBX", (2, 1), (1, 2, 3, 0)), (1, 2, 3)),
        (Image.new("HSV", (2, 1), (0, 255, 255)), (255, 0, 0)),
        (Image.new("YCbCr", (2, 1), (76, 85, 255)), (254, 0, 0)),
        (Image.new("RGBA", (2, 1), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (2, 1), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 1), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (2, 1), (0, 51)), (204, 204, 204)),
        (Image.new("RGBa", (2, 1), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("La", (2, 1), (0, 51)), (204, 204, 204)),
        (Image.new("PA", (2, 1), (0, 0)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_modes_follow_their_rule(image, expected):
    assert pixel(image) == expected


def test_background_shows_where_the_picture_is_transparent():
    half = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    over_black = pixel(half, background=(0, 0, 0))
    assert over_black == (100, 50, 0)
    assert pixel(Image.new("RGBA", (1, 1)), background=(1, 2, 3)) == (1, 2, 3)


def test_palette_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert levels(image).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    assert levels(load_image(buffer)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    image.save(buffer := io.BytesIO(), "PNG", transparency=bytes([51, 255]))
    assert pixel(load_image(buffer)) == (206, 208, 210)


@pytest.mark.parametrize(("mode", "colour"), [("L", 9), ("RGB", (1, 2, 3))])
def test_transparent_colour_of_a_png(mode, colour):
    buffer = io.BytesIO()
    Image.new(mode, (1, 1), colour).save(buffer, "PNG", transparency=colour)
    assert pixel(load_image(buffer)) == (255, 255, 255)


def test_16_bit_keeps_the_high_byte_whatever_the_file():
    for value in (0x0000, 0x00FF, 0x80FF, 0xFFFF):
        high = value >> 8
        gray = load_image(png(16, 0, b"\0" + struct.pack(">H", value)))
        assert pixel(gray) == (high,) * 3
        rgb = load_image(png(16, 2, b"\0" + struct.pack(">3H", value, 0x1234, 0xFEDC)))
        assert pixel(rgb) == (high, 0x12, 0xFE)
        rgba = load_image(png(16, 6, b"\0" + struct.pack(">4H", value, 0, 0, 0xFFFF)))
        assert pixel(rgba) == (high, 0, 0)
        for mode in ("I;16", "I;16B"):
            array = np.array([[value]], dtype="<u2" if mode == "I;16" else ">u2")
            assert pixel(Image.frombytes(mode, (1, 1), array.tobytes())) == (high,) * 3
        pgm = io.BytesIO(b"P5 1 1 65535\n" + struct.pack(">H", value))
        assert pixel(load_image(pgm)) == (high,) * 3
        tiff = io.BytesIO()
        Image.fromarray(np.array([[value]], np.uint16)).save(tiff, "TIFF")
        assert pixel(load_image(tiff)) == (high,) * 3


def test_16_bit_transparent_value_is_honoured():
    key = chunk(b"tRNS", struct.pack(">H", 0x80FF))
    rows = b"\0" + struct.pack(">2H", 0x80FF, 0x8000)
    gray = load_image(png(16, 0, rows, 2, 1, key))
    assert levels(gray).tolist() == [[[255] * 3, [128] * 3]]
    with pytest.raises(ImageError, match="alpha channel"):
        rows = b"\0" + struct.pack(">3H", 1, 2, 0x80FF)
        key = chunk(b"tRNS", struct.pack(">3H", 1, 2, 0x80FF))
        to_rgb_tensor(load_image(png(16, 2, rows, 1, 1, key)))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "I", "F"])
def test_modes_without_a_clear_rule_are_refused(mode):
    with pytest.raises(ImageError, match=mode) as caught:
        to_rgb_tensor(Image.new(mode, (2, 2)))
    assert "\n" not in str(caught.value)


def test_frames(tmp_path):
    frames = [Image.new("RGB", (2, 2), (i * 60, 0, 0)) for i in range(3)]
    for suffix in ("gif", "tiff", "webp", "png"):
        file = tmp_path / f"a.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(file, save_all=True, append_images=frames[1:], **options)
        with pytest.raises(ImageError, match="3 frames"):
            load_image(file)
        assert pixel(load_image(file, frame=2)) == (120, 0, 0)
        with pytest.raises(ImageError, match="no frame 3"):
            load_image(file, frame=3)
        with Image.open(file) as opened:
            opened.seek(1)
            assert pixel(opened) == (60, 0, 0)
    with pytest.raises(ImageError, match="no frame 1"):
        frames[0].save(tmp_path / "one.png")
        load_image(tmp_path / "one.png", frame=1)


def test_first_picture_of_a_camera_file_is_the_picture(tmp_path):
    frames = [Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (8, 8), (0, 200, 0))]
    frames[0].save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=frames[1:])
    red, green, _ = pixel(load_image(tmp_path / "a.mpo"))
    assert red > 150 > 50 > green


# ---------------------------------------------------------------------- metadata


@pytest.mark.parametrize("suffix", OUTPUT_FORMATS)
def test_profile_and_exif_survive_every_output_format(tmp_path, suffix):
    block = exif_block(orientation=1)
    file = tmp_path / f"a{suffix}"
    save_image(file, Image.new("RGB", (5, 3), (9, 9, 9)), icc_profile=SRGB, exif=block)
    read = to_rgb_tensor(load_image(file))
    assert read.icc_profile == SRGB
    own, camera = tags(read.exif)
    assert (own[0x010F], own[0x0112]) == ("Maker", 1)
    assert camera == {0x9003: "2020:01:01 00:00:00"}
    if OUTPUT_FORMATS[suffix] != "TIFF":
        assert read.exif == block


def test_orientation_stays_with_unturned_pixels():
    block = exif_block(orientation=6)
    image = Image.new("RGB", (5, 3))
    read = load_image(io.BytesIO(encode_image(image, ".png", exif=block)))
    assert read.size == (5, 3)
    stored = to_rgb_tensor(read, orient=False)
    assert stored.exif == block and stored.tensor.shape[2:] == (3, 5)


def test_tiff_is_upright_after_loading():
    """Pillow turns TIFF pixels itself, so the tag must be gone from what is carried along."""
    image = Image.new("RGB", (5, 3))
    read = load_image(io.BytesIO(encode_image(image, ".tif", exif=exif_block(orientation=6))))
    assert read.size == (3, 5)
    assert 0x0112 not in tags(to_rgb_tensor(read).exif)[0]


def test_own_metadata_is_written_and_can_be_left_out():
    image = Image.new("RGB", (4, 4))
    image.info.update(icc_profile=SRGB, exif=b"Exif\x00\x00" + exif_block(1))
    kept = to_rgb_tensor(load_image(io.BytesIO(encode_image(image, ".png"))))
    assert (kept.icc_profile, kept.exif) == (SRGB, exif_block(1))
    bare = encode_image(image, ".png", icc_profile=b"", exif=b"")
    left = to_rgb_tensor(load_image(io.BytesIO(bare)))
    assert (left.icc_profile, left.exif) == (None, None)


# ---------------------------------------------------------------------- arrays and tensors


@given(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 2, st.sampled_from([1, 3]))),
)
@settings(max_examples=30, deadline=None)
def test_arrays_and_back(array):
    expected = np.broadcast_to(array, (*array.shape[:2], 3))
    assert np.array_equal(levels(array), expected)
    assert np.array_equal(np.asarray(to_pil(to_rgb_tensor(array).tensor)), expected)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert np.array_equal(levels(tensor), expected)
    assert np.array_equal(levels(tensor.double() / 255), expected)
    assert np.array_equal(levels((tensor.float() / 255)[None]), expected)


def test_gray_and_rgba_arrays():
    assert pixel(np.full((2, 3), 7, np.uint8)) == (7, 7, 7)
    assert pixel(np.array([[[0, 0, 0, 51]]], np.uint8)) == (204, 204, 204)
    assert pixel(np.zeros((1, 4, 3), np.uint8)[:, ::-2]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros((2, 2, 3), np.float32), "permute"),
        (np.zeros((2, 2, 3), np.uint16), ">> 8"),
        (np.zeros((2, 2), bool), r"\* 255"),
        (np.zeros((2, 2, 2), np.uint8), r"shape \[2, 2, 2\]"),
        (np.zeros((3, 8, 8), np.uint8), r"expected \[H, W, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), "at least 1"),
        (np.zeros((1, 8, 8, 3), np.uint8), "shape"),
        (torch.zeros(2, 3, 8, 8), "one by one"),
        (torch.zeros(8, 8, 3), "permute"),
        (torch.zeros(4, 8, 8), r"\[3, H, W\]"),
        (torch.zeros(8, 8), "shape"),
        (torch.zeros(3, 0, 8), "at least 1"),
        (torch.full((3, 2, 2), 1.001), r"clamp\(0, 1\)"),
        (torch.full((3, 2, 2), -0.001), "values from -0.001"),
        (torch.full((3, 2, 2), float("nan")), "NaN"),
        (torch.full((3, 2, 2), float("inf")), "inf"),
        (torch.tensor([0.5, float("nan"), 0.5]).reshape(3, 1, 1), "NaN"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "uint8"),
        (torch.zeros(3, 2, 2, dtype=torch.bool), "uint8"),
        (torch.zeros(3, 2, 2, dtype=torch.complex64), "uint8"),
        ("photo.png", "load_image"),
        (None, "NoneType"),
    ],
)
def test_other_arrays_and_tensors_are_refused(value, expected):
    with pytest.raises(ImageError, match=expected) as caught:
        to_rgb_tensor(value)
    assert "\n" not in str(caught.value)


def test_gradients_and_dtypes_stop_here():
    x = torch.rand(3, 4, 4, requires_grad=True)
    assert not to_rgb_tensor(x).tensor.requires_grad
    assert to_rgb_tensor(x.half()).tensor.dtype == torch.float32
    assert to_rgb_tensor(torch.rand(1, 4, 4)).tensor.shape == (1, 3, 4, 4)


def test_to_pil_rounds_and_clamps():
    x = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.5, 1.0]).reshape(1, 1, 6)
    row = np.asarray(to_pil(x.expand(3, 1, 6)))[0, :, 0]
    assert row.tolist() == [0, 0, 1, 255, 255, 255]
    with pytest.raises(ImageError, match=r"x\[i\]"):
        to_pil(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ImageError, match="shape"):
        to_pil(torch.zeros(1, 4, 4))


# ---------------------------------------------------------------------- files that are no pictures


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "a.txt").write_text("just text\n" * 100)
    (tmp_path / "empty.png").touch()
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    for name, expected in [
        ("a.txt", "not a picture"),
        ("empty.png", "not a picture"),
        ("nothing.png", "does not exist"),
        (".", "is a folder"),
        ("a.eps", "vector"),
    ]:
        with pytest.raises(ImageError, match=expected) as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_truncated_files_are_refused(photos, kind):
    image = Image.open(photos[0]).convert("RGB").crop((0, 0, 96, 64))
    image.save(buffer := io.BytesIO(), kind)
    data = buffer.getvalue()
    load_image(io.BytesIO(data))
    for part in (0, 4, 11, 30, len(data) // 3, len(data) // 2, len(data) - 40):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError) as caught:
                load_image(io.BytesIO(data[:part]))
        assert "\n" not in str(caught.value)


@given(
    position=st.integers(0, 2**16),
    value=st.integers(0, 255),
    kind=st.sampled_from(["PNG", "TIFF", "JPEG", "GIF"]),
)
@settings(max_examples=150, deadline=None)
def test_damaged_files_raise_nothing_else(position, value, kind):
    image = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    image.save(buffer := io.BytesIO(), kind, exif=exif_block(1), icc_profile=SRGB)
    data = bytearray(buffer.getvalue())
    data[position % len(data)] = value
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            to_rgb_tensor(load_image(io.BytesIO(bytes(data))))
        except ImageError as error:
            assert "\n" not in str(error)
    assert all(w.category is PictureWarning for w in caught)


def test_too_many_pixels_are_refused(monkeypatch):
    Image.new("L", (50, 30)).save(buffer := io.BytesIO(), "PNG")
    for limit in (1499, 700):  # Pillow warns at the first and raises at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="MAX_IMAGE_PIXELS"):
            load_image(buffer)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    assert load_image(buffer).size == (50, 30)


def test_damage_in_a_lazily_opened_image_is_an_image_error(photos):
    data = Path(photos[0]).read_bytes()
    lazy = Image.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(ImageError, match="damaged or incomplete"):
        to_rgb_tensor(lazy)


# ---------------------------------------------------------------------- saving


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats(tmp_path, photos, suffix):
    image = Image.open(photos[0]).convert("RGB").crop((0, 0, 50, 40))
    save_image(tmp_path / f"a{suffix}", image)
    assert np.array_equal(np.asarray(load_image(tmp_path / f"a{suffix}")), np.asarray(image))


def test_saving_what_cannot_be_saved(tmp_path):
    small = Image.new("RGB", (2, 2))
    with pytest.raises(ImageError, match=r"'\.xyz'; use one of \.png"):
        save_image(tmp_path / "a.xyz", small)
    with pytest.raises(ImageError, match="suffix ''"):
        save_image(tmp_path / "a", small)
    with pytest.raises(ImageError, match="try another format"):
        save_image(tmp_path / "a.webp", Image.new("RGB", (20000, 1)))
    with pytest.raises(ImageError, match="try another format"):
        save_image(tmp_path / "a.webp", Image.new("RGB", (20000, 1)), exif=exif_block(6))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="does not exist"):
        save_image(tmp_path / "no" / "a.png", small)
    save_image(tmp_path / "a.png", small)
    with pytest.raises(OutputError, match="already exists"):
        save_image(tmp_path / "a.png", small, overwrite=False)
