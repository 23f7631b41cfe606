"""Composites: exact boxes, held-out stamps, the same picture each time."""

import numpy as np
import pytest
from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.composites import MOST_OBJECTS, Composites
from mpa_plugin_detection.stamps import FILES, load_stamps

from mpa_core.errors import TrainingError
from mpa_core.tasks import WholePhotos


@pytest.fixture(scope="module")
def composites(photos_folder, stamps_folder):
    stamps = load_stamps(stamps_folder, "test")
    return Composites(WholePhotos(photos_folder), stamps, area_per_stamp=120**2, seed=0)


def test_a_box_is_where_the_photo_changed(composites):
    for index in range(2):
        sample, photo = composites[index], composites.photos[index].image
        changed = (sample.image != photo).any(2)
        outside = changed.copy()
        boxes = sample.target["boxes"][sample.target["labels"] >= 0].int().tolist()
        assert boxes
        for left, top, right, bottom in boxes:
            inside = changed[top:bottom, left:right]
            # The ellipse touches all four sides, to within what smoothing makes of its edge.
            assert inside[:3].any() and inside[-3:].any()
            assert inside[:, :3].any() and inside[:, -3:].any()
            outside[top:bottom, left:right] = False
        assert not outside.any()


def test_targets_have_one_shape_and_labels_of_the_stamps(composites):
    known = {stamp.label for stamp in composites.stamps}
    for sample in composites:
        boxes, labels = sample.target["boxes"], sample.target["labels"]
        assert boxes.shape == (MOST_OBJECTS, 4)
        assert labels.shape == (MOST_OBJECTS,)
        assert set(labels[labels >= 0].tolist()) <= known
        assert not boxes[labels < 0].any()


def test_no_two_stamps_overlap(composites):
    for sample in composites:
        count = np.zeros(sample.image.shape[:2], int)
        for left, top, right, bottom in sample.target["boxes"].int().tolist():
            count[top:bottom, left:right] += 1
        assert count.max() == 1


def test_an_index_gives_one_picture_and_another_seed_another(composites):
    again, other = (
        Composites(composites.photos, composites.stamps, area_per_stamp=120**2, seed=seed)
        for seed in (0, 1)
    )
    assert (composites[1].image == again[1].image).all()
    assert (composites[1].image != other[1].image).any()


def test_test_stamps_are_never_trained_with(stamps_folder):
    train, test = (load_stamps(stamps_folder, part) for part in ("train", "test"))
    assert not {stamp.path for stamp in train} & {stamp.path for stamp in test}
    assert len(train) + len(test) == sum(map(len, FILES.values()))
    assert {CLASSES[stamp.label] for stamp in test} == set(FILES)


def test_transparent_borders_are_cut(stamps_folder):
    stamp = load_stamps(stamps_folder, "test")[0]
    assert stamp.image.size == (60 - 13, 110 - 11)


def test_missing_stamps_say_how_to_get_them(tmp_path):
    with pytest.raises(TrainingError, match="apt-get install tuxpaint-stamps-default"):
        load_stamps(tmp_path, "train")
