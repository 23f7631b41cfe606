"""The recogniser: the same network as in the package it is from, and what is done around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mpa_plugin_ocr.network import CLASSES
from mpa_plugin_ocr.reader import CHARACTERS, WEIGHTS, Alphabet, ctc, cut_lines
from safetensors.torch import load_file


def test_it_reads_letters_digits_and_capitals(reader, drawn):
    for text in ("Lemon", "$42.07", "XY-385"):
        assert [found.strip() for found in Alphabet().best_path(reader(drawn(text)))] == [text]


def test_the_alphabet_is_the_recognisers():
    alphabet = Alphabet()
    assert len(alphabet.characters) == CLASSES
    assert alphabet.decode(torch.tensor([*alphabet.encode("Ab 3%"), 0, 0])) == "Ab 3%"
    assert len(set(alphabet.characters)) == CLASSES


def test_the_best_path_joins_repetitions_and_parts_at_blanks():
    alphabet = Alphabet()
    a, b = alphabet.encode("ab")
    places = torch.tensor([[0, a, a, 0, a, b, b, 0]])
    logits = torch.nn.functional.one_hot(places, CLASSES).float()
    assert alphabet.best_path(logits) == ["aab"]


def test_it_is_the_network_of_the_package(reader, drawn, rapidocr):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(rapidocr("ch_PP-OCRv4_rec_infer.onnx")))
    for lines in (drawn("Hello 19:45"), torch.rand(2, 3, 48, 320)):
        (theirs,) = session.run(None, {"x": reader.prepare(lines).contiguous().numpy()})
        ours = reader(lines)
        # In float16 the weights are; the most likely class is the same everywhere.
        assert np.abs(ours.softmax(-1).numpy() - theirs).max() < 0.05
        assert np.array_equal(ours.argmax(-1).numpy(), theirs.argmax(-1))


def test_the_weights_are_what_the_converter_makes(tmp_path, rapidocr):
    pytest.importorskip("onnx")
    from mpa_plugin_ocr.convert import RECOGNISER, convert_recogniser

    weights, characters = tmp_path / "weights.safetensors", tmp_path / "characters.txt"
    convert_recogniser(rapidocr(RECOGNISER), weights, characters, dtype=torch.float16)
    made, bundled = load_file(weights), load_file(WEIGHTS)
    assert made.keys() == bundled.keys()
    assert all(torch.equal(made[name], bundled[name]) for name in made)
    assert characters.read_bytes() == CHARACTERS.read_bytes()


def test_a_line_of_the_readers_height_is_cut_as_it_is():
    picture = torch.rand(2, 3, 90, 200)
    boxes = torch.zeros(2, 2, 5)
    boxes[1, 0] = torch.tensor([20 + 80, 10 + 24, 160, 48, 0])
    lines, where, widths = cut_lines(picture, boxes)
    assert where.tolist() == [[1, 0]]
    assert widths.tolist() == [160]
    torch.testing.assert_close(lines[0], picture[1, :, 10:58, 20:180])


def test_lines_of_several_widths_end_in_grey_and_keep_their_order():
    picture = torch.zeros(2, 3, 100, 200)
    boxes = torch.tensor(
        [[[50, 20, 96, 24, 0], [60, 70, 48, 24, 0]], [[50, 50, 20, 24, 0], [0, 0, 0, 0, 0]]]
    )
    lines, where, widths = cut_lines(picture, boxes.float())
    assert where.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert lines.shape == (3, 3, 48, 192)
    assert widths.tolist() == [192, 96, 40]
    assert not lines[1, :, :, :96].any()
    assert lines[1, :, :, 96:].eq(0.5).all()


def test_a_turned_line_is_cut_upright():
    # A bar that rises to the right by 30 degrees.
    angle = math.radians(30)
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(120.0), indexing="ij")
    x, y = columns + 0.5 - 60, rows + 0.5 - 60
    down = x * math.sin(angle) + y * math.cos(angle)
    picture = (down.abs() < 6).float().expand(1, 3, 120, 120)
    box = torch.tensor([[[60.0, 60.0, 72.0, 24.0, angle]]])
    (line,) = cut_lines(picture, box)[0]
    assert line[:, 16:32].min() > 0.99
    assert line[:, :10].max() < 0.01
    assert line[:, 38:].max() < 0.01


def test_pictures_without_lines_give_none():
    lines, where, widths = cut_lines(torch.rand(2, 3, 64, 64), torch.zeros(2, 3, 5))
    assert len(lines) == len(where) == len(widths) == 0


def test_the_loss_is_per_character_and_falls_with_what_is_read(reader, drawn):
    alphabet = Alphabet()
    line = drawn("Lemon")
    texts = torch.zeros(2, 14, dtype=torch.int64)
    for number, text in enumerate(("Lemon", "Tiger")):
        texts[number, : len(text)] = torch.tensor(alphabet.encode(text))
    right, wrong = ctc(reader(line.expand(2, -1, -1, -1)), texts)
    assert right < 0.3
    assert wrong > 2


def test_gradients_reach_the_pixels_and_no_weight(reader, drawn):
    line = drawn("Lemon").requires_grad_()
    texts = torch.tensor([Alphabet().encode("Melon")])
    ctc(reader(line), texts).sum().backward()
    assert line.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in reader.parameters())
