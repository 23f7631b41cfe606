"""What a user gives and sees is upright: pictures, EXIF, tensors, masks, sizes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.bitstream.metadata import from_chunks
from mpa_core.cli.main import main
from mpa_core.errors import MixError
from mpa_core.io.images import encode_image, load_image, to_rgb_tensor
from mpa_core.io.orientation import orientation_of, upright, upright_exif
from mpa_core.paths.path import TaskPath
from mpa_core.tasks.photos import photo_shape, read_photo

ALL = range(1, 9)


def block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def with_thumbnail(orientation: int, *, order: str = ">", tail: bytes = b"") -> bytes:
    """A block by hand: one tag, a second directory with a JPEG thumbnail, and ``tail``."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    first = struct.pack(order + "HHHLHH", 1, 0x0112, 3, 1, orientation, 0)
    second = struct.pack(order + "H", 2)
    second += struct.pack(order + "HHLL", 0x0201, 4, 1, 56)
    second += struct.pack(order + "HHLL", 0x0202, 4, 1, 6)
    return head + first + struct.pack(order + "L", 26) + second + bytes(4) + b"\xff\xd8abcd" + tail


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    codec = MPACodec.from_preset("mpa-tiny")
    path = TaskPath(codec.model.config.decoder_path_stages)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in path.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    codec.attach_path(path, "cls")
    return codec


def turned(sample: Image.Image, orientation: int, size=(96, 64)) -> Image.Image:
    image = sample.resize(size)
    image.info["exif"] = block(orientation)
    return image


@pytest.mark.parametrize("orientation", ALL)
def test_turns_as_pillow_does(sample, orientation):
    image = turned(sample, orientation, (5, 3))
    wanted = np.asarray(ImageOps.exif_transpose(image))
    found = to_rgb_tensor(image)
    assert np.array_equal((found.tensor[0].permute(1, 2, 0) * 255).round().byte(), wanted)
    assert found.exif == block(1)
    stored = to_rgb_tensor(image, orient=False)
    assert stored.exif == block(orientation) and stored.tensor.shape[2:] == (3, 5)


def test_given_exif_describes_the_picture(sample):
    image = turned(sample, 6, (5, 3))
    array = np.asarray(image)
    assert to_rgb_tensor(array).tensor.shape[2:] == (3, 5)
    for given, shape, carried in [
        (block(1), (3, 5), block(1)),  # it says that the picture is upright
        (block(8), (5, 3), block(1)),
        (b"Exif\0\0" + block(8), (5, 3), block(1)),
        (b"", (5, 3), None),  # nothing carried, turned by its own
        (b"not to be parsed", (5, 3), b"not to be parsed"),
    ]:
        found = to_rgb_tensor(image, exif=given)
        assert (tuple(found.tensor.shape[2:]), found.exif) == (shape, carried)
    assert to_rgb_tensor(array, exif=block(6)).tensor.shape[2:] == (5, 3)
    assert to_rgb_tensor(array, exif=b"odd").exif == b"odd"


@pytest.mark.parametrize("order", "<>")
def test_a_thumbnail_that_would_lie_is_dropped(order):
    exif = with_thumbnail(6, order=order)
    assert upright_exif(exif) == with_thumbnail(1, order=order)[:22] + bytes(4) + exif[26:56]
    exif = with_thumbnail(6, order=order, tail=b"maker's own")
    assert upright_exif(exif)[56:] == bytes(6) + b"maker's own"
    upright_one = with_thumbnail(1, order=order)
    assert upright_exif(upright_one) == upright_one


@pytest.mark.parametrize("cut", range(0, 62, 3))
def test_blocks_that_cannot_be_parsed_stay(cut):
    exif = with_thumbnail(6)[:cut]
    found = upright_exif(exif)
    assert len(found) == len(exif)
    assert orientation_of(found) == 1
    assert found == exif or orientation_of(exif) == 6
    assert orientation_of(with_thumbnail(9)) == orientation_of(None) == 1
    assert upright_exif(with_thumbnail(9)) == with_thumbnail(9)


@pytest.mark.parametrize("orientation", ALL)
def test_both_ways_of_coding_show_the_same_side(codec, sample, orientation):
    image = turned(sample, orientation)
    upright_size = ImageOps.exif_transpose(image).size
    whole = codec.encode(image)
    header = unpack(whole)
    assert (header.width, header.height) == upright_size
    assert from_chunks(header.chunks).exif == block(1)
    lying = codec.encode(image, orient=False)
    header = unpack(lying)
    assert (header.width, header.height) == image.size
    assert from_chunks(header.chunks).exif == block(orientation)
    stored = codec.decode(lying, orient=False)
    assert stored.info["exif"] == block(orientation) and stored.size == image.size
    for data in (whole, lying):
        picture = codec.decode(data)
        assert picture.size == upright_size and picture.info["exif"] == block(1)
    assert np.array_equal(codec.decode(lying), ImageOps.exif_transpose(stored))
    array, tensor = (codec.decode(lying, output=kind) for kind in ("array", "tensor"))
    assert np.array_equal(array, np.asarray(codec.decode(lying)))
    assert tensor.shape[1:] == array.shape[:2]
    raw = codec.decode(lying, output="tensor", orient=False)
    assert torch.equal(upright(raw, orientation), tensor)


@pytest.mark.parametrize("size", [(96, 64), (64, 64)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", ALL)
def test_masks_are_drawn_on_what_one_sees(codec, sample, orientation, size):
    image = turned(sample, orientation, size)
    lying = codec.encode(image, orient=False)
    mask = np.zeros(size[::-1], bool)
    mask[:24, :40] = True  # on the stored picture
    wanted = codec.decode(lying, Mix(regions={"cls": mask}), orient=False)
    seen = Image.fromarray(mask)
    exif = Image.Exif()
    exif.load(block(orientation))
    seen.info["exif"] = exif.tobytes()
    # A picture of the mask with its own orientation, and the array as it is seen.
    for given in (seen, np.asarray(ImageOps.exif_transpose(seen))):
        found = codec.decode(lying, Mix(regions={"cls": given}))
        assert np.array_equal(found, ImageOps.exif_transpose(wanted_picture(wanted, orientation)))
    plain = codec.decode(lying)
    assert not np.array_equal(found, plain)
    if size[0] != size[1] and orientation >= 5:
        with pytest.raises(MixError, match="the picture is 64x96"):
            codec.decode(lying, Mix(regions={"cls": mask}))


def wanted_picture(stored: Image.Image, orientation: int) -> Image.Image:
    assert orientation_of(stored.info["exif"]) == orientation
    return stored


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_training_sees_upright_photos(sample, tmp_path, form, orientation):
    file = tmp_path / f"photo.{form.lower()}"
    turned(sample, orientation).save(file, form, exif=b"Exif\0\0" + block(orientation))
    with Image.open(file) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert photo_shape(file) == wanted.shape
    assert np.array_equal(read_photo(file), wanted)


def test_command_line(sample, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_image(turned(sample, 6), ".png"))
    for name, options, size in (("up", [], (64, 96)), ("lying", ["--no-orient"], (96, 64))):
        assert main(["encode", str(photo), "-o", str(tmp_path / f"{name}.mpa"), *options]) == 0
        capsys.readouterr()
        assert main(["info", str(tmp_path / f"{name}.mpa"), "--format", "json"]) == 0
        said = json.loads(capsys.readouterr().out.splitlines()[0])
        assert (said["width"], said["height"]) == size
        upright_size = [said.get(k) for k in ("orientation", "upright_width", "upright_height")]
        assert upright_size == ([None] * 3 if name == "up" else [6, 64, 96])
    lying = str(tmp_path / "lying.mpa")
    for options, size, orientation in (([], (64, 96), 1), (["--no-orient"], (96, 64), 6)):
        out = tmp_path / f"out{orientation}.png"
        assert main(["decode", lying, "-o", str(out), *options]) == 0
        read = load_image(out)
        assert read.size == size and orientation_of(read.info["exif"]) == orientation
    capsys.readouterr()
    assert main(["encode", str(photo), "-o", lying, "--resume"]) == 1
    assert "--no-orient" in capsys.readouterr().err


def test_warnings_are_a_line_on_stderr(tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (32, 32)).save(photo, icc_profile=b"no profile")
    command = ["encode", str(photo), "-o", str(tmp_path / "a.mpa"), "--format", "json"]
    assert main(command) == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if "warning" in line]
    assert "damaged ICC profile" in line and str(photo) in line
    assert "damaged ICC profile" in json.loads(said.out.splitlines()[0])["warnings"][0]
