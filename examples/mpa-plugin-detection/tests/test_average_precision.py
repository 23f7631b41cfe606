"""Mean average precision from counts: against pycocotools, and what its sums are for."""

import contextlib
import io
import math

import pytest
import torch
from mpa_plugin_detection.average_precision import (
    BINS,
    HIGHEST_SCORE,
    average_precision_50,
    counts,
    mean_average_precision,
)
from mpa_plugin_detection.detector import LOWEST_SCORE, Detections


def scene(seed, *, binned):
    """Objects of a few classes, and detections: moved, missed, doubled, invented, misnamed."""
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=random)

    corner, size = uniform(9, 2) * 300, 20 + uniform(9, 2) * 100
    truth = Detections(
        torch.cat([corner, corner + size], 1),
        torch.ones(9),
        torch.randint(0, 4, (9,), generator=random) * 19,
    )
    moved = truth.boxes.repeat(3, 1) + (uniform(27, 4) - 0.5) * size.repeat(3, 2) * 0.4
    labels = torch.where(uniform(27) < 0.8, truth.labels.repeat(3), 38)
    if binned:  # all in the middle of a bin of their own, so that no order is lost
        place = torch.randperm(BINS, generator=random)[:20] + 0.5
        scores = LOWEST_SCORE + place / BINS * (HIGHEST_SCORE - LOWEST_SCORE)
        moved, labels = moved[:20], labels[:20]
    else:
        scores = LOWEST_SCORE + uniform(27) * (HIGHEST_SCORE - LOWEST_SCORE)
    order = scores.argsort(descending=True)
    return Detections(moved[order], scores[order], labels[order]), truth


def by_pycocotools(scenes):
    """(mAP, AP50) of the library."""
    coco = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def entry(number, image, box, label, **more):
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        return {
            "id": number, "image_id": image, "category_id": label,
            "bbox": [left, top, width, height], "area": width * height, "iscrowd": 0, **more,
        }  # fmt: skip

    objects, found = [], []
    for image, (mine, theirs) in enumerate(scenes):
        for box, label in zip(theirs.boxes.tolist(), theirs.labels.tolist(), strict=True):
            objects.append(entry(len(objects) + 1, image, box, label))
        rows = zip(mine.boxes.tolist(), mine.labels.tolist(), mine.scores.tolist(), strict=True)
        for box, label, score in rows:
            found.append(entry(len(found) + 1, image, box, label, score=score))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(scenes))],
            "annotations": objects,
            "categories": [{"id": label} for label in range(80)],
            "info": {},
        }
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2]


def ours(scenes):
    """(mAP, AP50) from sums of counts."""
    mean = mean_average_precision(sum(counts(*scene, range(80)) for scene in scenes))
    return mean, average_precision_50(sum(counts(*scene, range(80), [0.5]) for scene in scenes))


def test_equals_pycocotools_where_no_two_scores_share_a_bin():
    for seed in range(8):
        scenes = [scene(seed, binned=True)]
        assert ours(scenes) == pytest.approx(by_pycocotools(scenes), abs=1e-9)


def test_many_pictures_are_within_two_points_of_pycocotools():
    scenes = [scene(seed, binned=False) for seed in range(24)]
    wanted = by_pycocotools(scenes)
    assert 0.05 < wanted[0] < wanted[1] < 0.95
    assert ours(scenes) == pytest.approx(wanted, abs=0.02)


def test_the_objects_themselves_are_found_with_certainty():
    _, truth = scene(0, binned=False)
    assert ours([(truth, truth)]) == (1.0, 1.0)


def test_nothing_found_is_zero_and_nothing_to_find_is_no_number():
    found, truth = scene(0, binned=False)
    nothing = found.above(2.0)
    assert ours([(nothing, truth)]) == (0.0, 0.0)
    assert all(math.isnan(value) for value in ours([(found, nothing)]))


def test_an_object_is_found_once():
    _, truth = scene(0, binned=False)
    one = Detections(truth.boxes[:1], truth.scores[:1], truth.labels[:1])
    twice = Detections(one.boxes.repeat(2, 1), torch.tensor([0.8, 0.3]), one.labels.repeat(2))
    totals = counts(twice, one, [int(one.labels)], [0.5])
    assert totals[0] == 1
    assert totals[1 : 1 + BINS].sum() == 2
    assert totals[1 + BINS :].sum() == 1


def test_a_picture_drawn_twice_counts_twice():
    scenes = [scene(seed, binned=False) for seed in (1, 2)]
    both = counts(*scenes[0], range(80)) + 2 * counts(*scenes[1], range(80))
    assert mean_average_precision(both) == pytest.approx(ours([*scenes, scenes[1]])[0])


def test_other_classes_do_not_count():
    found, truth = scene(3, binned=False)
    some = [19, 57]
    totals = counts(found, truth, some)
    kept = [
        Detections(part.boxes[mine], part.scores[mine], part.labels[mine])
        for part in (found, truth)
        for mine in [torch.isin(part.labels, torch.tensor(some))]
    ]
    assert mean_average_precision(totals) == pytest.approx(by_pycocotools([kept])[0], abs=0.02)
