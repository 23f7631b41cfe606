"""A whole evaluation on tiny weights: rows against the codec itself, resuming, tables, the page."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.errors import ConfigError, OutputError, PathNotFoundError
from mpa_core.evaluation import learned
from mpa_core.evaluation.bands import Band
from mpa_core.evaluation.classic import CODECS, encode, pixels_only
from mpa_core.evaluation.learned import Sweep, mix_name, reconstructions
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.plan import Plan
from mpa_core.evaluation.plots import rate_curves
from mpa_core.evaluation.report import markdown, write_report
from mpa_core.evaluation.results import PHOTOS, Results, Row, value_reference
from mpa_core.evaluation.run import Evaluation
from mpa_core.evaluation.sets import collect
from mpa_core.evaluation.spreadsheet import to_csv
from mpa_core.evaluation.tables import (
    curve_table,
    difference_table,
    judged,
    sweep_table,
    sweeps,
)
from mpa_core.io.distortion import psnr
from mpa_core.paths.path import TaskPath
from mpa_plugins.cls.path import ClsPath

SIZES = ((176, 168), (168, 176), (163, 161))
QUALITIES = (1.0, 3.0, 5.5, 8.0)
SWEEP = Sweep("main", "cls", 3)


def tell(*_: object) -> None:
    """Say nothing."""


def with_path(codec: MPACodec, seed: int) -> MPACodec:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        path: TaskPath = ClsPath(codec.model.config.decoder_path_stages)
    codec.attach_path(path)
    return codec


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return with_path(MPACodec.from_preset("mpa-tiny"), 2)


@pytest.fixture(scope="module")
def folder(sample: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, (width, height) in enumerate(SIZES):
        left, top = 60 * number, 30 * number
        sample.crop((left, top, left + width, top + height)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def plan(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return Plan(
        dataset=folder,
        out=tmp_path_factory.mktemp("eval"),
        qualities=QUALITIES,
        mixes=[Mix(), Mix(cls=1.0)],
        sweep=SWEEP,
        sweep_quality=3.0,
        codecs=["jpeg", "webp"],
        match=["jpeg"],
        perceptual=[],
    )


@pytest.fixture(scope="module")
def results(plan: Plan, codec: MPACodec) -> Results:
    evaluation = Evaluation(plan, codec, torch.device("cpu"))
    found = evaluation.run(tell)
    evaluation.write()
    return found


def pictures(folder: Path) -> list[Image.Image]:
    return [pixels_only(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def ours(results: Results, mix: str, quality: float) -> Row:
    (row,) = (r for r in results.rows.values() if r.mix == mix and r.setting == quality)
    return row


def test_rows_are_what_the_codec_does(results: Results, codec: MPACodec, folder: Path):
    row = ours(results, "cls=0.5,main=0.5", 3.0)
    for index, picture in enumerate(pictures(folder)):
        data = codec.encode(picture, quality=3.0)
        assert row.bytes[index] == len(data)
        decoded = codec.decode(data, Mix(cls=0.5))
        assert row.values["psnr"][index] == pytest.approx(psnr(picture, decoded), rel=1e-5)
    bits = [8 * n / (w * h) for n, (w, h) in zip(row.bytes, SIZES, strict=True)]
    assert results.bpp(row) == pytest.approx(sum(bits) / 3)
    assert results.figure(row, "psnr") == pytest.approx(np.mean(row.values["psnr"]))
    assert set(row.macs_per_pixel) == {"encoder", "decoder"}


def test_files_are_kept_by_base_and_entropy_profile(results: Results, plan: Plan):
    kept = [path for path in (plan.out / "files").rglob("*.mpa") if path.is_file()]
    assert len(kept) == len(SIZES) * len(QUALITIES)
    for path in kept:
        assert path.parent.parent.name == f"mpa-{unpack(path.read_bytes()).fingerprint.hex()}"


def test_one_entropy_decode_serves_all_mixes(codec: MPACodec, folder: Path):
    mixes = [Mix(), Mix(cls=1.0), Mix(cls=0.3)]
    data = codec.encode(pictures(folder)[0], quality=5.5)
    for mix, (picture, seconds) in zip(mixes, reconstructions(codec, data, mixes), strict=True):
        assert picture.tobytes() == codec.decode(data, mix).tobytes()
        assert seconds > 0


def test_classic_codecs_at_our_bytes_are_the_nearest(results: Results, folder: Path):
    matched = [row for row in results.rows.values() if row.match is not None]
    assert {row.match["quality"] for row in matched} == set(QUALITIES)
    row = next(row for row in matched if row.match["quality"] == 8.0)
    wanted = ours(results, "main=1", 8.0).bytes
    for index, picture in enumerate(pictures(folder)[:1]):
        sizes = [len(encode(picture, "JPEG", s).data) for s in CODECS["JPEG"].settings]
        nearest = min(abs(size - wanted[index]) for size in sizes)
        assert abs(row.bytes[index] - wanted[index]) == nearest


def test_what_is_measured_is_not_measured_again(results: Results, plan: Plan, codec: MPACodec):
    file = plan.out / "results.json"
    marked = file.read_text("utf-8").replace('"psnr":[', '"psnr":[1', 1)
    file.write_text(marked, "utf-8")
    files = {path: path.stat().st_mtime_ns for path in (plan.out / "files").rglob("*.*")}
    again = Plan(**{**vars(plan), "resume": True})
    kept = Evaluation(again, codec, torch.device("cpu")).run(tell)
    first = next(iter(kept.rows.values()))
    true = next(iter(results.rows.values()))
    assert first.values["psnr"] != true.values["psnr"]
    assert {k: r.bytes for k, r in kept.rows.items()} == {
        k: r.bytes for k, r in results.rows.items()
    }
    # A metric that is new is measured, from the files that are there.
    more = Plan(**{**vars(again), "perceptual": ["gmsd"]})
    measured = Evaluation(more, codec, torch.device("cpu")).run(tell)
    assert measured.rows[true.key].values["psnr"] == true.values["psnr"]
    assert all(len(row.values["gmsd"]) == 3 for row in measured.rows.values())
    (photos,) = measured.sets.values()
    head, *lines = curve_table(measured, photos, [measured.metrics["gmsd"]])
    assert {line[0] for line in lines} == {"main", "cls", "JPEG", "WebP"}
    assert "-" not in [line[head.index("GMSD")] for line in lines]
    assert files == {path: path.stat().st_mtime_ns for path in (plan.out / "files").rglob("*.*")}


@pytest.mark.parametrize("task", ["mse", "cls"])
def test_what_judged_is_kept_as_it_is_compared_on_resuming(folder: Path, tmp_path: Path, task: str):
    (item,) = collect(folder, [task], torch.device("cpu"), limit=1)
    infos = [info for each in item.tasks for info in each.infos()]
    results = Results()
    for info in infos:
        results.define(info)
    results.save(tmp_path / "r.json")
    assert list(Results.load(tmp_path / "r.json").metrics.values()) == infos


def test_resume_decodes_by_the_new_mix_alone(
    results: Results, plan: Plan, codec: MPACodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results.save(tmp_path / "results.json")
    decoded: list[Mix] = []

    def spy(codec: MPACodec, data: bytes, mixes: list[Mix]):
        decoded.extend(mixes)
        return reconstructions(codec, data, mixes)

    monkeypatch.setattr(learned, "reconstructions", spy)
    half = Mix(cls=0.3)
    asked = {"out": tmp_path, "mixes": [*plan.mixes, half], "match": (), "codecs": ()}
    more = Plan(**{**vars(plan), **asked, "qualities": (3.0,), "sweep": None, "resume": True})
    found = Evaluation(more, codec, torch.device("cpu")).run(tell)
    assert decoded == [half] * 3
    assert len(found.rows) == len(results.rows) + 1
    assert ours(found, "cls=0.3,main=0.7", 3.0).bytes == ours(results, "main=1", 3.0).bytes


def test_rows_of_other_weights_are_dropped(results: Results, plan: Plan, tmp_path: Path):
    results.save(tmp_path / "results.json")
    other = with_path(MPACodec.from_preset("mpa-tiny"), 3)  # same base, another cls
    small = Plan(
        plan.dataset, tmp_path, (3.0,), [Mix(), Mix(cls=1.0)], perceptual=[], limit=3, resume=True
    )
    found = Evaluation(small, other, torch.device("cpu")).run(tell)
    old = {row.source["cls"] for row in results.rows.values() if "cls" in row.source}
    new = {row.source["cls"] for row in found.rows.values() if "cls" in row.source}
    assert len(old) == len(new) == 1
    assert old != new
    assert ours(found, "main=1", 8.0) == ours(results, "main=1", 8.0)


def test_results_are_not_overwritten(results: Results, plan: Plan, codec: MPACodec):
    with pytest.raises(OutputError, match="--resume"):
        Evaluation(plan, codec, torch.device("cpu"))


def test_results_survive_the_file(results: Results, tmp_path: Path):
    results.save(tmp_path / "r.json")
    loaded = Results.load(tmp_path / "r.json")
    assert (loaded.rows, loaded.sets, loaded.metrics) == (
        results.rows,
        results.sets,
        results.metrics,
    )
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "r.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "cannot be read as results"),
        ("[]", "format 'list', expected 1 to 3"),
        ('{"format": 7}', "format 7, expected 1 to 3"),
        ('{"format": 1, "sets": [{}], "metrics": [], "rows": []}', "not results of mpa eval"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, text: str, message: str):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Results.load(tmp_path / "r.json")


@pytest.mark.parametrize("number,words", [(1, "1 picture"), (24, "24 pictures")])
def test_a_set_counts_its_pictures(number: int, words: str):
    names = [f"{index}.png" for index in range(number)]
    assert PictureSet("photos", names, names, [(64, 64)] * number).count == words


def test_the_page_is_made_from_stored_rows_alone(results: Results, tmp_path: Path):
    results.save(tmp_path / "r.json")
    files = write_report(
        Results.load(tmp_path / "r.json"), tmp_path / "page.md", plots=tmp_path, command="mpa x"
    )
    text = (tmp_path / "page.md").read_text("utf-8")
    assert {"page.md", "photos-psnr.png", "photos-sweep-main-cls-q3.png"} <= {f.name for f in files}
    assert "```sh\nmpa x\n```" in text
    assert "| WebP | -" in text  # fewer bits than JPEG
    assert "### Quality 5.5" in text
    assert "](photos-psnr.png)" in text
    # Every table has as many cells in each line.
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) >= 5
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    assert markdown(results, command="mpa x", plots=[f.name for f in files[1:]]) == text


def test_a_codec_judged_at_our_bytes_alone_has_that_curve(results: Results, tmp_path: Path):
    results.save(tmp_path / "r.json")
    found = Results.load(tmp_path / "r.json")
    (pictures,), metric = found.sets.values(), found.metrics["psnr"]
    own = dict(rate_curves(found, pictures, metric))["JPEG"]
    for row in found.rows.values():
        if row.codec == "JPEG" and row.match is None:
            del row.values["psnr"]
    matched = dict(rate_curves(found, pictures, metric))["JPEG"]
    assert len(own) == len(CODECS["JPEG"].curve) and len(matched) == len(QUALITIES)


def test_the_sweep_goes_from_one_path_to_the_other(results: Results, plan: Plan):
    (sweep,) = sweeps(results)
    assert (sweep.first, sweep.last, sweep.shares) == ("main", "cls", [0.0, 0.5, 1.0])
    assert [row.mix for row in sweep.rows] == ["main=1", "cls=0.5,main=0.5", "cls=1"]
    assert len(sweep_table(results, sweep)) == 4
    with Image.open(plan.out / "photos-sweep-main-cls-q3-strip.jpg") as image:
        assert image.width > 4 * 168  # the original and three mixes


def test_csv_has_a_line_per_row(results: Results):
    lines = list(csv.reader(io.StringIO(to_csv(results))))
    assert {len(line) for line in lines} == {len(set(lines[0]))}  # a name for each cell
    for line, row in zip(lines[1:], results.rows.values(), strict=True):
        cells = dict(zip(lines[0], line, strict=True))
        assert (cells["codec"], cells["mix"]) == (row.codec, row.mix or "")
        assert float(cells["bpp"]) == pytest.approx(results.bpp(row), abs=1e-5)
        assert float(cells["psnr (dB)"]) == pytest.approx(results.figure(row, "psnr"), rel=1e-14)
        macs = row.macs_per_pixel
        assert cells["decoder_macs"] == (str(macs["decoder"]) if macs else "")


def test_a_band_of_rates_has_a_line_where_the_qualities_span_it(results: Results):
    item = next(each for each in judged(results) if each.own is None)
    # As if it were cls's own.
    item = item._replace(metric=replace(item.metric, name="cls/psnr", task="cls"))
    for row in results.rows.values():
        row.values["cls/psnr"] = row.values["psnr"]
    rates = [results.bpp(row) for row in item.columns["cls=1"].values()]
    inside, outside = Band(min(rates), max(rates)), Band(min(rates) / 2, max(rates))
    plain = difference_table(results, item)
    assert difference_table(results, item, [outside]) == plain
    *same, mean = difference_table(results, item, [outside, inside])
    assert same == plain
    assert mean[:2] == ["mean", f"{inside.low:g} to {inside.high:g}"]
    by_quality = [float(line[2].split()[0]) for line in plain[1:]]
    assert min(by_quality) <= float(mean[2].split()[0]) <= max(by_quality)


def test_a_mix_without_its_path_is_refused_before_any_work(plan: Plan, tmp_path: Path):
    bare = MPACodec.from_preset("mpa-tiny")
    with pytest.raises(PathNotFoundError, match=r"cls.*--paths"):
        Evaluation(Plan(**{**vars(plan), "out": tmp_path}), bare, torch.device("cpu"))


@pytest.mark.parametrize("text", ["main:cls", "main:main:3", "main:cls:1", "main:cls:x", ""])
def test_sweeps_that_are_none(text: str):
    with pytest.raises(ConfigError, match="FROM:TO:STEPS"):
        Sweep.parse(text)


def test_names_of_mixes_are_canonical():
    assert mix_name(Mix.parse("mse=0.2,cls=0.4")) == "cls=0.4,mse=0.2,main=0.4"
    names = Sweep.parse("mse:cls:4").mixes()
    assert names == ["mse=1", "cls=0.333333,mse=0.666667", "cls=0.666667,mse=0.333333", "cls=1"]
    assert [mix_name(Mix.parse(name)) for name in names] == names


def test_figures_that_results_cannot_name():
    assert value_reference(mix_name) == "mpa_core.evaluation.learned:mix_name"
    with pytest.raises(ConfigError, match="at the top of its module"):
        value_reference(lambda totals: 0.0)


def test_results_name_functions_of_plugins_alone(results: Results, tmp_path: Path):
    results.save(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    data["metrics"][0]["value"] = "os:getcwd"
    (tmp_path / "r.json").write_text(json.dumps(data))
    found = Results.load(tmp_path / "r.json")
    row = next(iter(found.rows.values()))
    with pytest.raises(ConfigError, match="'os'"):
        found.figure(row, data["metrics"][0]["name"])


def test_damaged_photos_are_left_out_of_every_set(folder: Path, tmp_path: Path, caplog):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "1.png"
    os.truncate(damaged, damaged.stat().st_size - 2000)
    (measured,) = collect(tmp_path, ["mse"], torch.device("cpu"), limit=2)
    assert measured.about.names == ["0.png", "2.png"]
    assert measured.tasks[0].chosen == [0, 2]
    wanted = Image.open(tmp_path / "2.png")
    assert np.array_equal(measured.images[1], np.asarray(wanted.convert("RGB")))
    assert f"left out: {damaged} is damaged" in caplog.text


def tasks_of(items: Sequence[str]) -> list[str]:
    return [item for item in items if "/" in item]


def test_a_task_on_the_photos_shares_their_rows(
    codec: MPACodec, folder: Path, tmp_path: Path, plan: Plan
):
    judged = Plan(
        folder, tmp_path, (8.0,), [Mix(), Mix(cls=1.0)], match=["jpeg"], tasks=["cls"],
        perceptual=[], limit=2,
    )  # fmt: skip
    found = Evaluation(judged, codec, torch.device("cpu")).run(tell)
    assert [item.name for item in found.sets.values()] == [PHOTOS]
    columns = tasks_of(list(found.metrics))
    assert columns == ["cls/agreement", "cls/agreement_unseen"]
    for row in found.rows.values():
        for name in columns:
            estimate = found.estimate(row, name)
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert not math.isnan(estimate.value)
    text = markdown(found)
    assert "top-1 agreement (efficientnet-lite0) (%)" in text
    assert "cls − JPEG (points)" in text
