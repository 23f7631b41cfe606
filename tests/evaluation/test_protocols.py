"""Protocols: the pictures they make, rates and intervals by them, and results that stay apart."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from mpa_core import Mix, MPACodec
from mpa_core.errors import ConfigError, TrainingError
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.plan import Plan
from mpa_core.evaluation.protocols import WHOLE, Protocol
from mpa_core.evaluation.report import write_report
from mpa_core.evaluation.results import MetricInfo, Results, Row
from mpa_core.evaluation.run import Evaluation
from mpa_core.evaluation.sets import MeasuredSet, collect
from mpa_core.evaluation.statistics import estimate, with_counts
from mpa_core.io.folders import find_files
from mpa_core.tasks.datasets import PhotoSamples, WholePhotos
from mpa_core.tasks.recipe import load_recipe

SMALL = Protocol.parse("short-side:64")
CPU = torch.device("cpu")


def tell(*_: object) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def photos(sample: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of 3:2, one of 1:3.4, one that is a square of 64 already, and one too small."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "cats").mkdir()
    sample.crop((0, 0, 240, 160)).save(folder / "cats" / "a.png")
    sample.crop((100, 0, 186, 292)).save(folder / "b.png")
    sample.crop((200, 60, 264, 124)).save(folder / "c.png")
    sample.crop((0, 0, 300, 63)).save(folder / "d.png")
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def collected(photos: Path, store: Path, *tasks: str, **more: object) -> list[MeasuredSet]:
    return collect(photos, tasks, CPU, protocol=SMALL, store=store, **more)


# ---------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_photo_of_3_to_2_it_is_what_a_classifier_gets_from_torchvision(sample, turned):
    photo = sample.transpose(Image.Transpose.ROTATE_90) if turned else sample
    (found,) = Protocol.parse("short-side").cut(np.asarray(photo))
    wanted = CenterCrop(256)(Resize(256, InterpolationMode.BICUBIC)(photo))
    assert np.array_equal(found, np.asarray(wanted))


def test_the_squares_of_a_long_photo_lie_edge_to_edge_in_its_middle(sample):
    photo = np.asarray(sample.crop((0, 0, 451, 120)))
    found = Protocol.parse("short-side:96").cut(photo)
    small = np.asarray(sample.crop((0, 0, 451, 120)).resize((360, 96), Image.Resampling.BICUBIC))
    assert len(found) == 3
    assert np.array_equal(np.hstack(found), small[:, 36:324])
    upright = Protocol.parse("short-side:96").cut(np.ascontiguousarray(photo.swapaxes(0, 1)))
    assert [picture.shape for picture in upright] == [(96, 96, 3)] * 3


def test_a_photo_is_never_enlarged(sample):
    photo = np.asarray(sample.crop((0, 0, 200, 100)))
    assert Protocol.parse("short-side:101").cut(photo) == []
    first, second = Protocol.parse("short-side:100").cut(photo)
    assert np.array_equal(np.hstack([first, second]), photo)


def test_a_protocol_is_written_with_its_parameters():
    assert str(Protocol.parse("short-side")) == "short-side:256"
    assert Protocol.parse("short-side:256") == Protocol.parse("short-side")
    assert Protocol.parse(str(SMALL)) == SMALL
    assert Protocol.parse("whole") == WHOLE
    assert "has 64 pixels" in SMALL.summary


@pytest.mark.parametrize(
    "text", ["", "paper", "whole:1", "short-side:", "short-side:0", "short-side:a",
             "short-side:256:224", "short-side:99999"],
)  # fmt: skip
def test_protocols_that_are_none(text: str):
    with pytest.raises(ConfigError, match=r"expected one of whole, short-side:SIDE, .* 1 to 16384"):
        Protocol.parse(text)


# ---------------------------------------------------------------------- sets


def test_pictures_are_kept_with_the_photo_they_are_of(photos: Path, tmp_path: Path):
    (found,) = collected(photos, tmp_path / "store")
    about = found.about
    names = ["b.png-00.png", "b.png-01.png", "b.png-02.png", "c.png-00.png", "cats/a.png-00.png"]
    assert about.names == names
    assert about.photos == ["b.png"] * 3 + ["c.png", "cats/a.png"]
    assert about.count == "5 pictures of 3 photos"
    assert about.label == "photos, short-side:64"
    assert about.sizes == [(64, 64)] * 5
    assert found.left_out == {"photos too small for short-side:64": 1}
    wanted = [p for name in ("b", "c", "cats/a") for p in SMALL.cut(pixels(photos / f"{name}.png"))]
    assert all(np.array_equal(*pair) for pair in zip(found.images, wanted, strict=True))
    (place,) = (path for path in (tmp_path / "store").iterdir() if path.is_dir())
    assert all(np.array_equal(pixels(place / n), p) for n, p in zip(names, wanted, strict=True))
    assert place.stat().st_mode == place.parent.stat().st_mode
    assert collected(photos, tmp_path / "store")[0].about == about  # the folder is there by now
    # Nobody takes them for photos later on.
    assert find_files(tmp_path, {".png"}).names == []
    # Fewer photos are other pictures, which never lie among those of an earlier run.
    (fewer,) = collected(photos, tmp_path / "store", limit=2)
    assert fewer.about.names == names[:4]
    folders = [path for path in (tmp_path / "store").iterdir() if path.is_dir()]
    assert len(folders) == 2  # nothing half made is left beside them


def test_without_a_photo_that_is_large_enough(photos: Path, tmp_path: Path):
    protocol = Protocol.parse("short-side:2000")
    with pytest.raises(TrainingError, match="none of its 4 photos gives a picture by protocol"):
        collect(photos, [], CPU, protocol=protocol, store=tmp_path)
    assert not any(path.is_dir() and path.name.startswith(".") for path in tmp_path.iterdir())


class Twice(PhotoSamples):
    """Two samples of each photo, the second one mirrored."""

    def cut(self, picture, index):
        return picture[:, ::-1] if index % 2 else picture


def test_a_recipes_samples_are_made_of_the_pictures(photos: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        load_recipe("mse"), "dataset", lambda self, root, *_: Twice(WholePhotos(root).photos, 2)
    )
    plain, twice = collected(photos, tmp_path, "mse")
    assert twice.about.name == "mse"
    assert twice.about.photos == [name for name in plain.about.photos for _ in range(2)]
    assert np.array_equal(twice.images[3], plain.images[1][:, ::-1])
    assert twice.about.protocol == "short-side:64"


def test_samples_whose_photo_nobody_can_tell_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(load_recipe("mse"), "dataset", lambda self, root, *_: WholePhotos(root)[:3])
    with pytest.raises(ConfigError, match=r"makes 3 samples of 5 pictures.*--protocol whole"):
        collected(photos, tmp_path, "mse")


# ---------------------------------------------------------------------- intervals


def results_of(protocol: Protocol, photos: list[str] | None, values: list[float]) -> Results:
    names = [str(index) for index in range(len(values))]
    pictures = PictureSet("photos", names, names, [(8, 8)] * len(names), str(protocol), photos)
    results = Results()
    results.sets[pictures.key] = pictures
    results.define(MetricInfo("psnr", "PSNR", True))
    times = {"encode_seconds": [None] * len(names), "decode_seconds": [0.1] * len(names)}
    row = Row(pictures.key, "JPEG", 5, None, {}, [9] * len(names), **times, values={"psnr": values})
    results.add(row)
    return results


def test_intervals_draw_photos_with_all_their_pictures():
    random = np.random.default_rng(4)
    of_photos = random.normal(30, 3, size=40)
    # Nine pictures of each photo, all alike and out of order: they say no more than one of each.
    order = random.permutation(np.repeat(np.arange(40), 9))
    values = [float(of_photos[photo]) for photo in order]
    together = results_of(SMALL, [f"{photo:02}.jpg" for photo in order], values)
    (row,) = together.rows.values()
    found = together.estimate(row, "psnr")
    one_each = estimate(with_counts(of_photos))
    assert tuple(found) == pytest.approx(tuple(one_each))
    apart = results_of(WHOLE, None, values)
    (row,) = apart.rows.values()
    narrow = apart.estimate(row, "psnr")
    assert narrow.high - narrow.low < (found.high - found.low) / 2


# ---------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_preset("mpa-tiny")


@pytest.fixture(scope="module")
def plan(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    out = tmp_path_factory.mktemp("eval")
    return Plan(photos, out, (3.0,), [Mix()], codecs=["jpeg"], match=["jpeg"], perceptual=[])


@pytest.fixture(scope="module")
def both(plan: Plan, codec: MPACodec) -> tuple[Results, Results]:
    """Results of whole photos, and what they are after going on by another protocol."""
    Evaluation(plan, codec, CPU).run(tell)
    whole = Results.load(plan.out / "results.json")
    other = Evaluation(replace(plan, protocol=SMALL, resume=True), codec, CPU)
    other.run(tell)
    other.write(plots=False)
    return whole, Results.load(plan.out / "results.json")


def test_rates_are_those_of_a_file_of_each_picture(both, codec: MPACodec, photos: Path):
    _, results = both
    (small,) = (item for item in results.sets.values() if not item.is_whole)
    (row,) = (row for row in results.rows.values() if row.pictures == small.key and row.mix)
    pictures = [p for n in ("b", "c", "cats/a") for p in SMALL.cut(pixels(photos / f"{n}.png"))]
    sizes = [len(codec.encode(Image.fromarray(p), quality=3.0)) for p in pictures]
    assert row.bytes == sizes
    assert results.bpp(row) == pytest.approx(8 * sum(sizes) / (5 * 64 * 64))


def test_going_on_by_another_protocol_leaves_each_its_rows(both):
    whole, results = both
    old, new = results.sets.values()
    assert (old.protocol, new.protocol) == ("whole", "short-side:64")
    kept = {key: row for key, row in results.rows.items() if row.pictures == old.key}
    assert kept == whole.rows
    assert len(results.rows) - len(kept) == len(kept)
    # One photo is the same picture by both, and still a row of one says nothing of the other.
    (shared,) = set(old.digests) & set(new.digests)
    assert old.sizes[old.digests.index(shared)] == (64, 64)


def test_the_same_pictures_by_two_protocols_are_two_sets(tmp_path: Path, sample: Image.Image):
    (tmp_path / "photos").mkdir()
    sample.crop((0, 0, 64, 64)).save(tmp_path / "photos" / "a.png")
    (small,) = collected(tmp_path / "photos", tmp_path / "store")
    (whole,) = collect(tmp_path / "photos", [], CPU)
    assert small.about.digests == whole.about.digests
    assert small.key != whole.key


def test_every_table_names_the_protocol(both, plan: Plan, tmp_path: Path):
    _, results = both
    files = write_report(results, tmp_path / "page.md", plots=tmp_path)
    page = (tmp_path / "page.md").read_text("utf-8")
    for label in ("photos, whole", "photos, short-side:64"):
        assert f"## Rate and distortion: {label}\n" in page
        assert f"## Every point: {label}\n" in page
    assert "| PSNR (dB) | photos, short-side:64: 5 pictures of 3 photos |" in page
    assert "| PSNR (dB) | photos, whole: 4 |" in page
    assert f"By `short-side:64`, {SMALL.summary}." in page
    assert {"photos-psnr.png", "photos-short-side-64-psnr.png"} <= {file.name for file in files}
    lines = list(csv.DictReader(io.StringIO((plan.out / "results.csv").read_text("utf-8"))))
    assert [line["protocol"] for line in lines].count("short-side:64") == len(lines) / 2


# ---------------------------------------------------------------------- stored before protocols


def test_older_results_are_of_whole_photos(root: Path, both, tmp_path: Path):
    older = root / "docs" / "results" / "mpa-small-q6.json"
    assert json.loads(older.read_text("utf-8"))["format"] < 3
    stored = Results.load(older)
    assert {item.protocol for item in stored.sets.values()} == {"whole"}
    assert {row.pictures for row in stored.rows.values()} <= stored.sets.keys()
    # What was measured of whole photos before there were protocols is found again.
    whole, _ = both
    whole.save(tmp_path / "new.json")
    data = json.loads((tmp_path / "new.json").read_text("utf-8"))
    for item in data["sets"]:
        del item["protocol"], item["photos"]
    (tmp_path / "old.json").write_text(json.dumps({**data, "format": 2}))
    assert Results.load(tmp_path / "old.json").rows == whole.rows
