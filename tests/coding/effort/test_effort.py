"""``effort``: better files for more time, which every decoder of today reads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import MPACodec
from mpa_core.coding.effort import annealing, ladder, tiles
from mpa_core.errors import ConfigError, ImageError, TargetError
from mpa_core.io.distortion import psnr


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture(scope="module")
def picture(sample: Image.Image) -> Image.Image:
    """A piece of the bundled photo whose sides are no multiples of 64."""
    return sample.convert("RGB").crop((130, 100, 250, 160))


def error(picture: Image.Image, decoded: Image.Image, mask: np.ndarray | None = None) -> float:
    squared = (np.asarray(picture, float) - np.asarray(decoded, float)) ** 2
    return float(squared.mean() if mask is None else squared[mask].mean())


def test_effort_0_is_the_plain_file(codec, picture):
    assert codec.encode(picture, 3, effort=0) == codec.encode(picture, 3)


@pytest.mark.parametrize("profile", ["exact", "float"])
@pytest.mark.parametrize("quality", [2.5, 6])
def test_effort_pays(codec, picture, profile, quality):
    """Bits and error together, at the price of the picture's own curve, have become less."""
    plain = codec.encode(picture, quality, profile=profile)
    better = codec.encode(picture, quality, effort=3, profile=profile)
    near = [codec.encode(picture, each, profile=profile) for each in (quality - 0.5, quality + 0.5)]
    errors = [error(picture, codec.decode(each)) for each in (plain, better, *near)]
    price = (len(near[1]) - len(near[0])) / (errors[2] - errors[3])
    gain = len(plain) - len(better) + price * (errors[0] - errors[1])
    assert gain > 0.02 * len(plain)


def test_the_same_picture_gives_the_same_file_whatever_the_mode(codec, picture):
    data = codec.encode(picture, 4, effort=1)
    assert codec.encode(picture, 4, effort=1) == data
    with torch.no_grad():
        assert codec.encode(picture, 4, effort=1) == data
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert codec.encode(picture, 4, effort=1) == data
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_is_left_as_it_was(codec, picture):
    before = {name: (p.data_ptr(), p.requires_grad) for name, p in codec.model.named_parameters()}
    codec.encode(picture, 4, effort=1)
    after = {name: (p.data_ptr(), p.requires_grad) for name, p in codec.model.named_parameters()}
    assert after == before
    assert all(p.grad is None for p in codec.model.parameters())
    assert codec.status()["changed"] is None


def test_many_pictures_give_their_own_files(codec, picture):
    other = picture.rotate(180)
    found = codec.encode_many([picture, other], 4, effort=1)
    assert found == [codec.encode(each, 4, effort=1) for each in (picture, other)]


def test_two_threads_at_once(codec, picture):
    found: list[bytes] = []
    runs = [
        threading.Thread(target=lambda: found.append(codec.encode(picture, 4, effort=1)))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert found[0] == found[1] == codec.encode(picture, 4, effort=1)


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 30, 120)])
def test_a_picture_of_one_colour(codec, colour):
    flat = Image.new("RGB", (70, 50), colour)
    plain, found = codec.encode(flat, 3), codec.encode(flat, 3, effort=2)
    assert error(flat, codec.decode(found)) <= error(flat, codec.decode(plain)) + 1
    assert len(found) <= len(plain) + 16


def test_one_pixel_and_noise(codec):
    noise = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    for pixels in (noise[:1, :1], noise):
        assert codec.decode(codec.encode(pixels, 1, effort=1)).size == pixels.shape[1::-1]


def test_a_picture_in_tiles(codec, picture, monkeypatch):
    whole = codec.encode(picture, 4, effort=2)
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 64 * 64)
    monkeypatch.setattr(tiles, "HALO", 32)
    steps: list[tuple[int, int]] = []
    data = codec.encode(picture, 4, effort=2, progress=lambda *at: steps.append(at))
    # Two tiles of one stride, of the 128 x 64 pixels that are coded.
    assert steps[-1] == (2 * 10, 2 * 10)
    plain = codec.encode(picture, 4)
    ours, theirs, none = (
        (len(each), error(picture, codec.decode(each))) for each in (data, whole, plain)
    )
    assert ours[1] == pytest.approx(theirs[1], rel=0.05)
    assert ours[0] == pytest.approx(theirs[0], rel=0.05)
    assert ours[0] < none[0] or ours[1] < none[1]


def test_progress_ends_a_search(codec, picture):
    steps: list[tuple[int, int]] = []

    def two(done: int, total: int) -> bool:
        steps.append((done, total))
        return done < 2

    data = codec.encode(picture, 4, effort=9, progress=two)
    assert steps == [(1, 400), (2, 400)]
    assert codec.decode(data).size == picture.size


def test_importance_moves_bits(codec, picture):
    left = np.zeros((picture.height, picture.width), dtype=bool)
    left[:, :60] = True
    data = codec.encode(picture, 4, effort=3, importance=left)
    plain = codec.encode(picture, 4, effort=3)
    seen, usual = codec.decode(data), codec.decode(plain)
    assert len(data) < len(plain)
    assert error(picture, seen, left) < 1.02 * error(picture, usual, left)
    assert error(picture, seen, ~left) > 1.1 * error(picture, usual, ~left)


@pytest.mark.parametrize(("outside", "share"), [(0.0, 0.75), (0.02, 0.85)])
def test_what_does_not_count_takes_few_bits(codec, picture, outside, share):
    """A search moves a symbol by one or two: the bits are gone since it begins without them."""
    left = np.zeros((picture.height, picture.width), dtype=bool)
    left[:, :40] = True
    mask = np.where(left, 1.0, outside)
    data = codec.encode(picture, 4, effort=1, importance=mask)
    plain = codec.encode(picture, 4, effort=1)
    assert len(data) < share * len(plain)
    assert error(picture, codec.decode(data), left) < 1.1 * error(
        picture, codec.decode(plain), left
    )


def test_importance_is_an_array_a_tensor_or_a_picture(codec, picture):
    grey = np.zeros((picture.height, picture.width), dtype=np.uint8)
    grey[:, :60] = 255
    kinds = grey, grey > 0, torch.from_numpy(grey), Image.fromarray(grey)
    assert len({codec.encode(picture, 2, effort=1, importance=kind) for kind in kinds}) == 1


def test_weights_that_are_all_alike_change_nothing(codec, picture):
    size = (picture.height, picture.width)
    assert codec.encode(picture, 4, effort=1, importance=np.full(size, 7.5)) == codec.encode(
        picture, 4, effort=1
    )


def test_importance_is_of_the_upright_picture(codec, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = np.ones((picture.width, picture.height))
    data = codec.encode(picture, 4, effort=1, importance=mask, exif=exif.tobytes())
    assert codec.open(data).height == picture.width


@pytest.mark.parametrize(
    ("importance", "words"),
    [
        (np.ones((4, 5)), "has the size 5x4, expected 120x60"),
        (np.ones((60, 120, 3)), "has the size 3x120x60"),
        (-np.ones((60, 120)), "values from -1 to -1"),
        (np.zeros((60, 120)), "values from 0 to 0"),
        (np.full((60, 120), np.nan), "values from nan"),
        ("mask.png", "importance is 'mask.png'"),
        (3, "has the size a number"),
    ],
)
def test_wrong_importance(codec, picture, importance, words):
    with pytest.raises(ImageError, match=words) as caught:
        codec.encode(picture, 4, effort=1, importance=importance)
    assert "; give " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("effort", [-1, 10, 2.5, "3", True, None])
def test_wrong_effort(codec, picture, effort):
    with pytest.raises(ConfigError, match=r"effort is .*, expected a whole number from 0 to 9"):
        codec.encode(picture, 4, effort=effort)


def test_what_does_not_go_together(codec, picture):
    with pytest.raises(ConfigError, match="importance is given, but effort is 0"):
        codec.encode(picture, 4, importance=np.ones((60, 120)))
    with pytest.raises(ConfigError, match="reproducible=True is given with effort=2"):
        codec.encode(picture, 4, effort=2, reproducible=True)


def test_a_size_holds_with_effort(codec, picture):
    limit = 700
    data = codec.encode(picture, target_size=limit, effort=1)
    assert limit - max(64, 0.02 * limit) <= len(data) <= limit
    assert data != codec.encode(picture, target_size=limit)
    with pytest.raises(TargetError, match="the smallest file of this picture"):
        codec.encode(picture, target_size=60, effort=1)


def test_a_fidelity_takes_fewer_bytes_with_effort(codec, picture):
    wanted = 31
    plain = codec.encode(picture, target_psnr=wanted)
    data = codec.encode(picture, target_psnr=wanted, effort=3)
    assert psnr(picture, codec.decode(data)) >= wanted
    assert len(data) < len(plain)


def test_what_is_no_better_is_not_taken(codec, picture, monkeypatch):
    """Where the search only finds what costs more, the file is that of effort 0."""
    worse = annealing.decide
    monkeypatch.setattr(annealing, "decide", lambda *args: worse(*args) + 3)
    assert codec.encode(picture, 4, effort=1) == codec.encode(picture, 4)


def test_the_page_has_the_steps_of_each_effort(root):
    page = (root / "docs/how-to/sizes-and-effort.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith("| steps |"))
    found = [ladder.schedule_of(effort) for effort in range(10)]
    assert row.split("|")[2:-1] == [f" {each.steps if each else 0} " for each in found]
