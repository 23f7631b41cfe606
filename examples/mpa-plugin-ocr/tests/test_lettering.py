"""Fonts, strings, and where and how they are on pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from mpa_plugin_ocr import fonts as fonts_module
from mpa_plugin_ocr.fonts import Font, find_fonts
from mpa_plugin_ocr.judging import errors
from mpa_plugin_ocr.lettering import Lettered
from mpa_plugin_ocr.reader import Alphabet, cut_lines
from mpa_plugin_ocr.strings import CHARACTERS, LONGEST, draw_string, words

from mpa_core.errors import TrainingError
from mpa_core.tasks import WholePhotos


def test_strings_are_of_the_characters_and_of_all_kinds():
    random = np.random.default_rng(0)
    drawn = [draw_string(random) for _ in range(3000)]
    assert {2} <= set(map(len, drawn)) and max(map(len, drawn)) <= LONGEST
    assert set("".join(drawn)) <= set(CHARACTERS)
    assert {character for text in drawn for character in text} >= set("aZ09.:-/%$")
    assert max(map(len, words())) <= LONGEST
    assert Alphabet().encode(CHARACTERS)


def test_a_folder_without_fonts_says_what_to_do(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(TrainingError, match=r"no TrueType .* set recipe\.fonts"):
        find_fonts(tmp_path, "train")


@pytest.mark.parametrize(
    ("name_of_a", "usable"), [("A", True), ("glyph36", True), ("Alpha", False), ("a10", False)]
)
def test_a_font_that_writes_symbols_for_letters_is_left_out(tmp_path, name_of_a, usable):
    names = {c: name_of_a if c == "A" else f"uni{ord(c):04X}" for c in CHARACTERS}
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names.values()])
    font.setupCharacterMap({ord(character): name for character, name in names.items()})
    # A bar for each character, as high and wide as no other.
    bars = {".notdef": (1000, 1000)} | {
        name: (100 + 100 * (number % 9), 100 + 100 * (number // 9))
        for number, name in enumerate(names.values())
    }
    font.setupGlyf({name: bar(*size) for name, size in bars.items()})
    font.setupHorizontalMetrics({name: (width + 50, 0) for name, (width, _) in bars.items()})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "bars.ttf")
    if usable:
        assert [found.family for found in find_fonts(tmp_path, "train")] == ["Bars"]
    else:
        with pytest.raises(TrainingError, match="no TrueType or OpenType font with Latin letters"):
            find_fonts(tmp_path, "train")


def bar(width, height):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, height), (width, height), (width, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def test_families_are_for_training_or_for_the_test_pictures(monkeypatch, tmp_path):
    many = [Font(f"Family {number}", "Regular", tmp_path) for number in range(9)]
    monkeypatch.setattr(fonts_module, "_usable", lambda folders: many)
    train, test = find_fonts(None, "train"), find_fonts(None, "test")
    assert [font.family for font in test] == ["Family 3", "Family 7"]
    assert sorted([*train, *test], key=lambda font: font.family) == many
    monkeypatch.setattr(fonts_module, "_usable", lambda folders: many[:3])
    assert find_fonts(None, "test") == find_fonts(None, "train") == many[:3]


def test_samples_are_the_same_each_time_and_others_by_seed(photos, lettered):
    again = Lettered(WholePhotos(photos), lettered.fonts, seed=0, area=10_000)
    other = Lettered(WholePhotos(photos), lettered.fonts, seed=1, area=10_000)
    first = lettered[1]
    np.testing.assert_array_equal(first.image, again[1].image)
    assert all(torch.equal(first.target[name], again[1].target[name]) for name in first.target)
    assert not np.array_equal(first.image, other[1].image)


def test_lines_lie_inside_and_apart(lettered):
    for sample in lettered:
        boxes = sample.target["boxes"]
        assert boxes.shape == (6, 5)
        assert sample.target["texts"].shape == (6, LONGEST)
        there = boxes[boxes[:, 2] > 0]
        assert len(there) >= 4
        assert torch.equal(boxes[:, 2] > 0, sample.target["texts"][:, 0] > 0)
        low, high = there[:, :2] - there[:, 2:4] / 2, there[:, :2] + there[:, 2:4] / 2
        assert low.min() >= -1
        assert (high <= torch.tensor([300, 200]) + 1).all()
        for i in range(len(there)):
            for j in range(i):
                apart = (low[i] >= high[j]) | (low[j] >= high[i])
                assert apart.any()


def test_what_is_written_can_be_read_there(lettered, reader):
    """Places, angles, sizes and strings are those of the letters on the picture."""
    alphabet = Alphabet()
    wrong = total = 0
    for sample in lettered:
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255
        lines, where, _ = cut_lines(image, sample.target["boxes"][None])
        written = [alphabet.decode(sample.target["texts"][box]) for box in where[:, 1]]
        wrong += errors(written, alphabet.best_path(reader(lines)))
        total += sum(map(len, written))
    assert total > 40
    assert wrong <= 0.1 * total
