"""The detector: equal to the published graph, right on a photo, differentiable, of any size."""

from pathlib import Path

import pytest
import torch
from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.detector import LOWEST_SCORE, NMS_IOU, Detector
from mpa_plugin_detection.nanodet import BINS, STRIDES, anchor_points, boxes_of, load_nanodet
from safetensors.torch import save_file
from torchvision.ops import box_iou

import mpa_core
from mpa_core.errors import CheckpointError
from mpa_core.tasks import freeze, read_photo

GRAPH = {
    0: (32, 0.01408, [2.9963, 2.3681, 2.6043, -0.4885]),
    1234: (47, 0.00878, [0.707, 0.635, 0.547, -1.2143]),
    2703: (46, 0.01235, [1.2113, 1.8511, 2.0444, -0.488]),
    2704: (47, 0.01045, [-0.0063, -0.2763, -0.0478, -0.3652]),
    3000: (47, 0.02285, [-0.2811, -0.912, 0.2435, 0.7972]),
    3379: (60, 0.00979, [0.1264, -0.1638, -0.0702, -0.2902]),
    3380: (47, 0.01666, [0.1426, -0.3809, -0.1121, -1.1902]),
    3548: (56, 0.01362, [0.0073, -0.2941, -0.0659, -1.21]),
}
"""What the npm package's graph, run by tools/tfjs_graph.py, says at eight points of `waves`: best
class, its score, and the logits of four sides' bins."""


@pytest.fixture(scope="module")
def waves():
    y, x = torch.meshgrid(torch.arange(416.0), torch.arange(416.0), indexing="ij")
    return torch.stack([(x * 0.05).sin(), (y * 0.03).cos(), ((x + y) * 0.02).sin()])[None] / 2 + 0.5


@pytest.fixture(scope="module")
def cat():
    photo = read_photo(Path(mpa_core.__file__).parent / "assets" / "chelsea.png")
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


def test_says_what_the_published_graph_says(detector, waves):
    with torch.no_grad():
        found = detector(waves)
    for point, (label, score, sides) in GRAPH.items():
        best = found.logits[0, point].sigmoid().max(0)
        assert int(best.indices) == label
        assert float(best.values) == pytest.approx(score, abs=2e-5)
        four = found.sides[0, point].flatten()[[0, 11, 22, 43]]
        assert four.tolist() == pytest.approx(sides, abs=1e-3)


def test_finds_the_cat(detector, cat):
    found = detector.detect(cat)[0]
    assert CLASSES[found.labels[0]] == "cat"
    assert found.scores[0] > 0.5
    # It fills the photo of 451 x 300 but for the right border.
    assert found.boxes[0].tolist() == pytest.approx([5, 0, 426, 300], abs=8)


def test_detections_are_sorted_suppressed_and_within_the_picture(detector, cat):
    found = detector.detect(cat)[0]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.scores.min() >= LOWEST_SCORE
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([451, 300, 451, 300])).all()
    for label in found.labels.unique():
        boxes = found.boxes[found.labels == label]
        assert (box_iou(boxes, boxes).fill_diagonal_(0) <= NMS_IOU).all()
    assert (found.above(0.3).scores >= 0.3).all()


def test_gradients_reach_the_picture_and_not_the_weights(cat):
    detector = freeze(Detector())
    x = cat[..., :128, :128].clone().requires_grad_()
    detector(x).logits.amax(-1).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in detector.parameters())


def test_points_are_one_per_prediction_for_any_size(detector):
    for height, width in ((64, 96), (32, 160)):
        found = detector(torch.zeros(1, 3, height, width))
        points = anchor_points(height, width, torch.device("cpu"))
        assert len(points) == found.logits.shape[1] == found.sides.shape[1]
        assert points[0].tolist() == [4, 4, 8]
        assert points[-1].tolist() == [width - 16, height - 16, 32]


def test_a_side_is_the_mean_of_its_distribution():
    points = torch.tensor([[100.0, 60.0, STRIDES[0]]])
    sides = torch.full((1, 4, BINS), -1e4)
    sides[0, [0, 1, 2, 3], [2, 0, 10, 4]] = 0
    sides[0, 3, 5] = 0  # half at four strides, half at five
    assert boxes_of(sides, points)[0].tolist() == [84, 60, 180, 96]


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"stem.0.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not the weights of NanoDet-g"):
        load_nanodet(path)
    with pytest.raises(CheckpointError, match="reinstall"):
        load_nanodet(tmp_path / "none.safetensors")
