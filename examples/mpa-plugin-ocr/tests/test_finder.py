"""The detector: the same network as in the package it is from, and the lines that it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mpa_plugin_ocr.finder import WEIGHTS, along_text, boxes_of, smallest_rectangle
from mpa_plugin_ocr.judging import errors
from mpa_plugin_ocr.reader import Alphabet, cut_lines
from safetensors.torch import load_file


def test_it_finds_the_lines_that_are_written_and_where_each_ends(finder, lettered, reader):
    alphabet = Alphabet()
    found_lines = lines = wrong = characters = 0
    for sample in lettered:
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255
        found = finder(image)
        read = alphabet.best_path(reader(cut_lines(image, found)[0]))
        for box, codes in zip(sample.target["boxes"], sample.target["texts"], strict=True):
            if not box[2]:
                continue
            lines += 1
            # Of its own place and size: the others are far away or of other widths.
            near = (found[0, :, :2] - box[:2]).abs() < box[2:4] / 4
            like = (found[0, :, 2:4] / box[2:4]).log().abs() < math.log(1.5)
            text = alphabet.decode(codes)
            characters += len(text)
            matches = (near & like).all(1).nonzero().flatten().tolist()
            if matches:
                found_lines += 1
                wrong += errors([text], [read[matches[0]]])
    assert lines >= 8
    assert found_lines >= 0.9 * lines
    assert wrong <= 0.1 * characters


def test_it_finds_nothing_where_nothing_is_written(finder, photos):
    assert finder(torch.full((2, 3, 64, 64), 0.3)).shape == (2, 0, 5)
    assert finder(torch.zeros(0, 3, 64, 64)).shape == (0, 0, 5)


@pytest.mark.parametrize("size", [(1, 1), (37, 211), (300, 45)])
def test_any_size_is_looked_at(finder, size):
    assert finder(torch.rand(1, 3, *size)).shape[2] == 5


def test_pictures_of_a_batch_have_what_they_have_alone(finder, drawn):
    pictures = torch.cat([torch.full((1, 3, 48, 200), 0.5), drawn("Lemon")])
    boxes = finder(pictures)
    assert boxes.shape == (2, 1, 5)
    assert not boxes[0].any()
    torch.testing.assert_close(boxes[1:], finder(drawn("Lemon")))


def test_the_box_of_a_line_that_is_turned_is_turned(finder, drawn, reader):
    picture = torch.ones(1, 3, 200, 200)
    picture[:, :, 76:124, 40:160] = drawn("Lemon")[..., :120]
    turned = torch.rot90(picture, -1, (2, 3))  # reads down
    (box,) = finder(turned)[0]
    assert box[2] > 1.5 * box[3]
    assert abs(box[4] + math.pi / 2) < 0.1
    assert Alphabet().best_path(reader(cut_lines(turned, box[None, None])[0])) == ["Lemon"]


def test_the_smallest_rectangle_is_that_of_the_points():
    random = np.random.default_rng(0)
    angle = math.radians(20)
    places = random.uniform(-0.5, 0.5, (200, 2)) * [80, 12]
    ends = np.array([[a, b] for a in (-40, 40) for b in (-6, 6)])
    along, down = (
        np.array([np.cos(angle), -np.sin(angle)]),
        np.array([np.sin(angle), np.cos(angle)]),
    )
    points = np.concatenate([places, ends]) @ np.stack([along, down]) + [100, 50]
    np.testing.assert_allclose(smallest_rectangle(points), [100, 50, 80, 12, angle], atol=1e-6)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((60, 20, 0.1), (60, 20, 0.1)),
        ((20, 60, math.pi / 2 - 0.1), (60, 20, -0.1)),
        ((20, 60, 0.1), (60, 20, 0.1 - math.pi / 2)),
        ((60, 20, math.pi / 2 - 0.1), (60, 20, -0.1 - math.pi / 2)),
        ((20, 25, 0.1), (20, 25, 0.1)),
    ],
)
def test_text_runs_to_the_right_or_down(box, expected):
    np.testing.assert_allclose(along_text(np.array([3, 4, *box])), [3, 4, *expected])


def test_lines_grow_from_their_cores_and_what_is_unsure_is_none():
    likely = np.zeros((64, 96), np.float32)
    likely[10:20, 20:60] = 0.9  # 40 x 10: grows by 2 * 400 / 100 on every side
    likely[40:50, 20:60] = 0.4
    likely[30:32, 20:60] = 0.9
    (box,) = boxes_of(likely, (0.5, 0.5))
    np.testing.assert_allclose(box, [20, 7.5, 28, 13, 0], atol=1e-6)


def test_it_is_the_network_of_the_package(finder, lettered, rapidocr):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(rapidocr("ch_PP-OCRv4_det_infer.onnx")))
    pixels = torch.from_numpy(lettered[0].image[:192, :288]).permute(2, 0, 1)[None] / 255
    prepared = finder.prepare(pixels)
    (theirs,) = session.run(None, {"x": prepared.contiguous().numpy()})
    ours = finder.network(prepared).sigmoid().numpy()
    assert theirs.max() > 0.9
    assert np.abs(ours - theirs).max() < 0.1  # in float16 the weights are
    scale = (1.0, 1.0)
    np.testing.assert_allclose(boxes_of(ours[0, 0], scale), boxes_of(theirs[0, 0], scale), atol=2.0)


def test_the_weights_are_what_the_converter_makes(tmp_path, rapidocr):
    pytest.importorskip("onnx")
    from mpa_plugin_ocr.convert import DETECTOR, convert_detector

    weights = tmp_path / "weights.safetensors"
    convert_detector(rapidocr(DETECTOR), weights, dtype=torch.float16)
    made, bundled = load_file(weights), load_file(WEIGHTS)
    assert made.keys() == bundled.keys()
    assert all(torch.equal(made[name], bundled[name]) for name in made)
