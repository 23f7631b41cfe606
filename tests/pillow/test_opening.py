"""Opening .mpa files with Pillow: what is known at once, and what decoding gives."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import exif_blocks
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import peek_header
from mpa_core.errors import MixError, PathNotFoundError
from mpa_core.io.orientation import orientation_of, upright_exif

LIGHT = """
import sys
import mpa_core.pillow
from PIL import Image
with Image.open(sys.argv[1]) as image:
    found = image.format, image.mode, image.size, sorted(image.info), image.getexif()[0x010F]
    image.verify()
print(found, sorted({"torch", "numpy"} & set(sys.modules)))
"""


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def same(image: Image.Image, expected: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(expected))


def test_what_the_header_says_is_known_without_torch(data, tmp_path):
    (tmp_path / "photo.mpa").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(tmp_path / "photo.mpa")], capture_output=True, text=True
    )
    expected = ("MPA", "RGB", (72, 40), ["exif", "icc_profile"], "Maker of cameras")
    assert (done.stdout.strip(), done.stderr) == (f"{expected} []", "")


def test_the_streams_are_not_read_before_they_are_needed(plugin, data):
    header = peek_header(data)
    beginning = header.size + sum(header.chunk_lengths.values())
    image = opened(data[:beginning])
    whole = opened(data)
    assert (image.size, image.info) == (whole.size, whole.info)
    with pytest.raises(OSError, match="truncated"):
        image.load()


@pytest.mark.parametrize("source", ["path", "name", "file", "bytes"])
def test_a_file_is_decoded_as_the_codec_does(plugin, codec, data, tmp_path, source):
    path = tmp_path / "without-a-suffix"
    path.write_bytes(data)
    expected = codec.decode(data)
    with path.open("rb") as file:
        sources = {"path": path, "name": str(path), "file": file, "bytes": io.BytesIO(data)}
        with Image.open(sources[source]) as image:
            assert (image.format, image.get_format_mimetype()) == ("MPA", "image/x-mpa")
            assert same(image, expected)
            assert image.info == expected.info


def test_it_is_recognised_by_its_beginning_alone(plugin, data, tmp_path):
    (tmp_path / "no.mpa").write_bytes(b"X" + data[1:])
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(tmp_path / "no.mpa")
    assert Image.registered_extensions()[".mpa"] == "MPA"


def test_what_pillow_does_with_pictures_works(plugin, codec, data):
    expected = codec.decode(data)
    image = opened(data)
    assert pickle.loads(pickle.dumps(image)).tobytes() == expected.tobytes()
    assert copy.copy(opened(data)).tobytes() == expected.tobytes()
    assert same(opened(data).convert("L"), expected.convert("L"))
    small = opened(data)
    assert small.draft("RGB", (9, 5)) is None  # nothing decodes smaller pictures faster
    small.thumbnail((36, 36))
    assert small.size == (36, 20)
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    assert same(parser.close(), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_as_the_codec_gives_it(plugin, codec, photo, orientation):
    exif = exif_blocks.photo(orientation=orientation)
    data = codec.encode(photo, exif=exif, orient=False)
    image, expected = opened(data), codec.decode(data)
    assert image.size == expected.size
    assert orientation_of(image.info["exif"]) == 1
    assert image.info["exif"] == upright_exif(exif)
    assert same(ImageOps.exif_transpose(image), expected)


def test_the_smallest_picture(plugin, codec):
    data = codec.encode(Image.new("RGB", (1, 1), (200, 30, 90)))
    assert same(opened(data), codec.decode(data))


# ---------------------------------------------------------------------- paths and bases


def test_the_program_chooses_the_path(by_cls, codec, data):
    waiting = opened(data)
    assert same(opened(data), codec.decode(data, "cls"))
    by_cls.decode_by("main")
    assert same(waiting, codec.decode(data))  # decoded now, not when it was opened


def test_the_environment_chooses_the_path(plugin, codec, data, tiny_cls_path, monkeypatch):
    monkeypatch.setenv("MPA_MIX", "cls=0.4")
    plugin.decode_by(load=[f"cls={tiny_cls_path}"])
    assert same(opened(data), codec.decode(data, Mix(cls=0.4)))
    plugin.decode_by("cls", load=[str(tiny_cls_path)])
    assert same(opened(data), codec.decode(data, "cls"))
    monkeypatch.delenv("MPA_MIX")
    plugin.decode_by()
    assert same(opened(data), codec.decode(data))


def test_the_bundled_base_is_found_by_the_file(plugin, sample, monkeypatch):
    """And its installed paths by their names, as MPA_MIX says them."""
    monkeypatch.delenv("MPA_BASE")
    codec = MPACodec.from_pretrained("mpa-small")
    codec.load_path("cls")
    data = codec.encode(sample.crop((0, 0, 32, 32)), 2)
    for mix in (None, "cls", "cls=0.5"):
        if mix is not None:
            monkeypatch.setenv("MPA_MIX", mix)
        assert same(opened(data), codec.decode(data, mix))


def test_a_file_of_an_unknown_base_is_said(plugin, data, monkeypatch):
    monkeypatch.delenv("MPA_BASE")
    with pytest.raises(OSError, match=r"not bundled .* with MPA_BASE or decode_by") as caught:
        opened(data).load()
    assert len(str(caught.value).splitlines()) == 1


def test_a_wrong_path_is_no_damage(plugin, data, monkeypatch):
    """Who passes over damaged files must not pass over all of them for a typing error."""
    with pytest.raises(MixError):
        plugin.decode_by("cls=2")
    plugin.decode_by("no_such_path")
    with pytest.raises(PathNotFoundError, match="no_such_path"):
        opened(data).load()
    monkeypatch.setenv("MPA_MIX", "=1")
    with pytest.raises(MixError, match="MPA_MIX"):
        plugin.decode_by()


def test_threads_share_one_codec(plugin, codec, data, monkeypatch):
    loads = []
    load = MPACodec.from_pretrained

    def counted(base):
        loads.append(base)
        return load(base)

    monkeypatch.setattr(MPACodec, "from_pretrained", counted)
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: opened(data).tobytes(), range(8)))
    assert set(pictures) == {codec.decode(data).tobytes()}
    assert len(loads) == 1
