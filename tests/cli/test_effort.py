"""``mpa encode --effort`` and ``--importance``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec


@pytest.fixture
def photo(turned_piece) -> Path:
    """96x80 pixels."""
    return turned_piece((120, 40, 216, 120))


def mask(folder: Path, size: tuple[int, int]) -> Path:
    picture = Image.new("L", size)
    picture.paste(255, (0, 0, size[0] // 2, size[1]))
    picture.save(folder / "mask.png")
    return folder / "mask.png"


def test_the_files_are_those_of_the_api(encode, photo, tmp_path):
    codec = MPACodec.from_pretrained("mpa-small")
    where = mask(tmp_path, (80, 96))  # upright
    assert encode("--effort", 1).code == 0
    assert encode("--effort", 1, "--importance", where, output="b.mpa").code == 0
    with Image.open(photo) as image, Image.open(where) as importance:
        for name, given in (("a.mpa", None), ("b.mpa", importance)):
            expected = codec.encode(image, effort=1, importance=given)
            assert (tmp_path / name).read_bytes() == expected
    assert len((tmp_path / "b.mpa").read_bytes()) < len((tmp_path / "a.mpa").read_bytes())


def test_resume_does_not_ask_how_hard_a_file_was_tried(encode):
    assert encode("--effort", 1).code == 0
    done = encode("--resume")
    assert (done.code, done.sums["skipped"]) == (0, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--importance", "MASK"), "importance is given, but effort is 0"),
        (
            ("--effort", "1", "--importance", "MASK"),
            "importance has the size 96x80, expected 80x96",
        ),
        (("--effort", "1", "--importance", "none.png"), "none.png"),
        (("--effort", "1", "--reproducible"), "reproducible=True is given with effort=1"),
    ],
)
def test_wrong_values(encode, tmp_path, words, expected):
    wrong = str(mask(tmp_path, (96, 80)))
    done = encode(*(wrong if word == "MASK" else word for word in words))
    assert done.code == 1
    assert len(done.errors) == 1 and expected in done.errors[0]
    assert not (tmp_path / "a.mpa").exists()


@pytest.mark.parametrize("effort", ["10", "-1", "much"])
def test_an_effort_that_is_none_is_wrong_usage(encode, tmp_path, effort):
    done = encode(f"--effort={effort}")
    assert (done.code, done.out) == (2, "")
    assert "argument --effort: invalid " in done.errors[-1]
    assert not (tmp_path / "a.mpa").exists()
