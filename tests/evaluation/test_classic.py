"""Classic codecs: what they write is read back, sizes grow along the settings, files are kept."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mpa_core.errors import BitstreamError, ConfigError
from mpa_core.evaluation import vvc
from mpa_core.evaluation.classic import CODECS, classic_codec, encode, nearest_setting
from mpa_core.evaluation.kept import KeptFiles, digest, key_of
from mpa_core.io.distortion import psnr


@pytest.fixture(scope="module")
def photo(sample: Image.Image) -> Image.Image:
    return sample.crop((120, 60, 187, 111))  # 67 x 51: odd sides


@pytest.mark.parametrize("key", CODECS)
def test_files_are_read_back_and_better_with_more_bits(key: str, photo: Image.Image):
    codec = classic_codec(key)[1]
    assert codec.version()
    ends = [encode(photo, key, setting) for setting in (codec.curve[0], codec.curve[-1])]
    small, large = (psnr(photo, file.decode()) for file in ends)
    assert len(ends[0].data) < len(ends[1].data)
    assert 10 < small < large
    assert all(file.decode().size == photo.size and file.decode().mode == "RGB" for file in ends)


@pytest.mark.parametrize("key", CODECS)
def test_curves_are_settings_in_ascending_size(key: str):
    codec = CODECS[key]
    places = [codec.settings.index(setting) for setting in codec.curve]
    assert places == sorted(places)
    assert len(places) >= 5


def test_jpeg_is_what_pillow_writes_with_these_options(photo: Image.Image):
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=30, optimize=True, progressive=True, subsampling="4:2:0")
    assert encode(photo, "JPEG", 30).data == buffer.getvalue()


def test_vvc_refuses_a_damaged_stream(photo: Image.Image):
    with pytest.raises(BitstreamError):
        vvc.read(b"no stream", photo.size)


def test_unknown_codec():
    with pytest.raises(ConfigError, match=r"'bpg'.*jpeg, webp, avif, jpeg2000, jxl, vvc"):
        classic_codec("bpg")


@pytest.mark.parametrize("target", [0, 40, 95, 101, 480, 10**6])
def test_nearest_setting_with_and_without_known_sizes(target: int):
    settings = tuple(range(63, -1, -1))
    sizes = {setting: 3 * place**2 + 17 for place, setting in enumerate(settings)}
    asked: list[int] = []

    def size(setting: int) -> int:
        asked.append(setting)
        return sizes[setting]

    best = min(settings, key=lambda setting: abs(sizes[setting] - target))
    assert nearest_setting(size, settings, target) == best
    assert len(asked) == len(set(asked))
    without = len(asked)
    asked.clear()
    known = {setting: sizes[setting] for setting in settings[::4]}
    assert nearest_setting(size, settings, target, known) == best
    assert len(asked) <= min(without, 4)


def test_kept_files_are_encoded_once_and_again_after_a_crash(tmp_path, photo: Image.Image):
    made: list[bytes] = []

    def encode_it() -> bytes:
        made.append(b"bits")
        return made[-1]

    first = KeptFiles(tmp_path / "files").get("jpeg-0/30/a.jpg", encode_it)
    again = KeptFiles(tmp_path / "files").get("jpeg-0/30/a.jpg", encode_it)
    assert (again.data, again.seconds, len(made)) == (b"bits", first.seconds, 1)
    # A crash between the file and its line in the index.
    index = tmp_path / "files" / "seconds.jsonl"
    index.write_text(index.read_text()[:-5])
    kept = KeptFiles(tmp_path / "files")
    kept.get("jpeg-0/30/a.jpg", encode_it)
    assert len(made) == 2
    assert kept.sizes("jpeg-0", "a", ".jpg") == {30: 4}


def test_digests_tell_pictures_and_sources_apart(photo: Image.Image):
    pixels = np.asarray(photo)
    assert digest(pixels) == digest(pixels.copy())
    assert digest(pixels) != digest(pixels.reshape(51, 67, 3)[:, ::-1])
    assert digest(np.zeros((2, 8, 3), np.uint8)) != digest(np.zeros((4, 4, 3), np.uint8))
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
