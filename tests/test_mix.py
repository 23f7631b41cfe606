"""Mix: what it accepts, what it refuses, and how it reads masks."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpa_core.errors import MixError
from mpa_core.mix import Mix


def test_rest_goes_to_main() -> None:
    mix = Mix(mse=0.2, cls=0.4)
    assert mix.main == pytest.approx(0.4)
    assert list(mix.shares.items()) == [("cls", 0.4), ("mse", 0.2)]
    assert mix.path_names == ("cls", "mse")
    assert Mix().main == 1 and Mix().shares == {} and Mix().path_names == ()


def test_shares_that_sum_to_one_leave_main_exactly_nothing() -> None:
    assert Mix(a=0.1, b=0.2, c=0.7).main == 0
    assert Mix(a=1 / 3, b=1 / 3, c=1 / 3).main == 0
    assert Mix(cls=np.float32(0.25)).main == 0.75
    assert Mix(cls=torch.tensor(0.25)).main == 0.75


def test_zero_shares_need_no_path_and_regions_do() -> None:
    mix = Mix(cls=0, mse=0.5, regions={"ocr": np.zeros((2, 2)), "main": np.zeros((2, 2))})
    assert mix.shares == {"mse": 0.5}
    assert mix.path_names == ("mse", "ocr")
    assert "ocr" in repr(mix) and "mse=0.5" in repr(mix)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf, "0.4", None, [0.1, 0.2]])
def test_share_that_is_no_share(share: object) -> None:
    with pytest.raises(MixError, match=r"share of cls is .* give a number from 0 to 1"):
        Mix(cls=share)  # type: ignore[arg-type]  # wrong on purpose


def test_sum_above_one() -> None:
    with pytest.raises(MixError, match=r"shares sum to 1\.2 \(cls=0\.7, mse=0\.5\)"):
        Mix(mse=0.5, cls=0.7)


@pytest.mark.parametrize(("main", "cls"), [(0.5, 0.6), (0.5, 0.4), (0.9, 0.0)])
def test_main_must_agree(main: float, cls: float) -> None:
    with pytest.raises(MixError, match="leave main out or set it to"):
        Mix(main=main, cls=cls)


def test_main_that_agrees() -> None:
    assert Mix(main=0.6, cls=0.4).main == 0.6
    assert Mix(main=1.0).main == 1.0


def test_regions_must_map_names() -> None:
    with pytest.raises(MixError, match="regions is list"):
        Mix(regions=[("ocr", np.zeros((2, 2)))])  # type: ignore[arg-type]  # wrong on purpose


def test_parse() -> None:
    mix = Mix.parse(" cls=0.4, mse=.2 ")
    assert mix.shares == {"cls": 0.4, "mse": 0.2}
    assert Mix.parse("main=0.25,dist:name=0.75").shares == {"dist:name": 0.75}
    assert Mix.parse("main=1", regions={"ocr": np.ones((2, 2))}).path_names == ("ocr",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not NAME=SHARE"),
        ("cls", "is not NAME=SHARE"),
        ("cls=", "is not NAME=SHARE"),
        ("=0.4", "is not NAME=SHARE"),
        ("cls=half", "'cls=half' in 'cls=half' is not NAME=SHARE"),
        ("cls=nan", "is not NAME=SHARE"),
        ("cls=0.4,", "is not NAME=SHARE"),
        ("cls=0.4;mse=0.2", "is not NAME=SHARE"),
        ("cls=0.4,cls=0.2", "cls comes twice"),
        ("cls=0.8,mse=0.4", "sum to 1.2"),
        ("cls=-0.2", "share of cls is -0.2"),
        ("cls=inf", "share of cls is inf"),
        ("main=0.9,cls=0.4", "leave main out"),
        ("regions=0.4", "no path can be called"),
    ],
)
def test_parse_refuses(text: str, said: str) -> None:
    with pytest.raises(MixError, match=said):
        Mix.parse(text)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text(max_size=30))
def test_parse_raises_nothing_else(text: str) -> None:
    try:
        assert 0 <= Mix.parse(text).main <= 1
    except MixError as error:
        assert "\n" not in str(error)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.floats(0, 1), max_size=5))
def test_main_and_shares_sum_to_one(values: list[float]) -> None:
    shares = {f"p{i}": value for i, value in enumerate(values)}
    try:
        mix = Mix(**shares)
    except MixError:
        assert math.fsum(values) > 1
    else:
        assert mix.main + math.fsum(mix.shares.values()) == pytest.approx(1, abs=2e-6)


def corner() -> np.ndarray:
    mask = np.zeros((3, 5), dtype=bool)
    mask[0, :2] = True
    return mask


MASKS = {
    "bool": corner(),
    "uint8": corner().astype(np.uint8) * 255,
    "float": corner().astype(np.float64) * 0.5,
    "list": corner().tolist(),
    "tensor": torch.from_numpy(corner()).to(torch.bfloat16).requires_grad_(),
    "1": Image.fromarray(corner()),
    "L": Image.fromarray(corner().astype(np.uint8)),
    "RGB": Image.fromarray(corner()).convert("RGB"),
    "RGBA opaque": Image.fromarray(corner()).convert("RGBA"),
    "LA": Image.merge("LA", [Image.new("L", (5, 3), 7), Image.fromarray(corner()).convert("L")]),
    "CMYK": Image.fromarray(corner()).convert("RGB").convert("CMYK"),
}


def swapped_palette() -> Image.Image:
    """Index 0 is white and index 1 black, as optimisers like to write two-colour pictures."""
    picture = Image.fromarray((~corner()).astype(np.uint8), mode=None)
    picture = picture.convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.putdata([int(v) for v in (~corner()).flatten()])
    return picture


@pytest.mark.parametrize("kind", [*MASKS, "P"])
def test_masks_of_every_kind(kind: str) -> None:
    mask = swapped_palette() if kind == "P" else MASKS[kind]
    [(name, inside)] = Mix(regions={"ocr": mask}).region_masks(3, 5)
    assert name == "ocr"
    assert inside.dtype == bool
    assert np.array_equal(inside, corner())


def test_masks_keep_their_order() -> None:
    mask = np.ones((2, 2))
    mix = Mix(regions={"z": mask, "main": mask, "a": mask})
    assert [name for name, _ in mix.region_masks(2, 2)] == ["z", "main", "a"]


def test_mask_of_another_size() -> None:
    mix = Mix(regions={"ocr": np.zeros((50, 100))})
    with pytest.raises(MixError) as caught:
        mix.region_masks(480, 640)
    assert str(caught.value) == (
        "region ocr: mask is 100x50, the picture is 640x480 (width x height); "
        "resize the mask to the picture"
    )


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("mask.png", "load the file first"),
        (np.zeros((480, 640, 3)), r"has shape \(480, 640, 3\), expected \(480, 640\)"),
        (np.zeros(480), "has shape"),
        (None, "mask is NoneType"),
    ],
)
def test_mask_of_another_kind(mask: object, said: str) -> None:
    with pytest.raises(MixError, match=said):
        Mix(regions={"ocr": mask}).region_masks(480, 640)


def test_import_is_light() -> None:
    code = (
        "import sys, mpa_core.mix; "
        "print(*[m for m in ('torch', 'numpy', 'PIL') if m in sys.modules], sep=',')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
