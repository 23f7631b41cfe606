"""Units: a third party's metric in pixels, printed everywhere, and results stored before units."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec
from mpa_core.evaluation.learned import Sweep
from mpa_core.evaluation.plan import Plan
from mpa_core.evaluation.plots import rate_curves, rate_plot, sweep_plot
from mpa_core.evaluation.results import PHOTOS, MetricInfo, Results
from mpa_core.evaluation.run import Evaluation
from mpa_core.evaluation.tables import (
    curve_table,
    difference_table,
    judged,
    photo_sets,
    sweeps,
    task_tables,
    to_markdown,
)
from mpa_core.plugins.registry import registry
from mpa_core.tasks import DECIBEL, PERCENT, PLAIN

PLUGIN = {
    "__init__": """
from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths():
    where = "mpa_plugin_dots"
    spec = {"path": f"{where}.path:DotsPath", "recipe": f"{where}.recipe:DotsRecipe"}
    return [PathSpec(name="dots", summary="For finding dots.", **spec)]
""",
    "path": """
from mpa_core import TaskPath


class DotsPath(TaskPath):
    name = "dots"
""",
    "recipe": """
import torch

from mpa_core.tasks import PERCENT, PLAIN, Metric, Recipe, Unit


def brightest(x):
    return x.mean(1).flatten(1).argmax(1), x.shape[-1]


class DotsRecipe(Recipe):
    def metrics(self):
        def offset(x_hat, batch):
            (found, width), (wanted, _) = brightest(x_hat), brightest(batch.images)
            rows = torch.stack([a // width - b // width for a, b in [(found, wanted)]])
            columns = torch.stack([a % width - b % width for a, b in [(found, wanted)]])
            return (rows.double().square() + columns.double().square()).sqrt()[0]

        def hits(x_hat, batch):
            return (offset(x_hat, batch) < 10).double()

        px = Metric(offset, higher_is_better=False, label="offset", unit=Unit("px", digits=1))
        share = Metric(hits, higher_is_better=True, label="found", unit=PERCENT)
        plain = Metric(offset, higher_is_better=False, unit=PLAIN)
        return {**super().metrics(), "offset": px, "found": share, "plain": plain}
""",
}


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A third party's plugin, as pip would have installed it."""
    site = tmp_path_factory.mktemp("site")
    package = site / "mpa_plugin_dots"
    package.mkdir()
    for name, text in PLUGIN.items():
        (package / f"{name}.py").write_text(text)
    info = site / "mpa_plugin_dots-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mpa-plugin-dots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mpa.plugins]\ndots = mpa_plugin_dots\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry(refresh=True)
        yield
    registry(refresh=True)
    for name in [name for name in sys.modules if name.startswith("mpa_plugin_dots")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def results(plugin, sample: Image.Image, out: Path, tmp_path_factory) -> Results:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        sample.crop((90 * number, 0, 90 * number + 80, 64)).save(folder / f"{number}.png")
    codec = MPACodec.from_preset("mpa-tiny")
    dots = registry().load_class("dots")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        codec.attach_path(dots(codec.model.config.decoder_path_stages))
    plan = Plan(
        folder, out, (2.0, 6.0), [Mix(), Mix(dots=1.0)], Sweep("main", "dots", 3),
        match=["jpeg"], tasks=["dots"], perceptual=[],
    )  # fmt: skip
    evaluation = Evaluation(plan, codec, torch.device("cpu"))
    evaluation.run(lambda *_: None)
    evaluation.write()
    return Results.load(out / "results.json")


def test_the_unit_is_kept_with_the_results(results: Results):
    found = {name: (info.unit.symbol, info.task) for name, info in results.metrics.items()}
    assert found == {
        "psnr": ("dB", None),
        "ms_ssim": ("", None),
        "dots/offset": ("px", "dots"),
        "dots/found": ("%", "dots"),
        "dots/plain": ("", "dots"),
    }
    assert results.metrics["dots/offset"].unit.digits == 1
    assert results.metrics["dots/plain"].label == "dots/plain"


def test_every_table_says_the_unit_once(results: Results, out: Path):
    page = (out / "results.md").read_text("utf-8")
    row = re.search(r"^\| offset \(px\) \| photos, whole: 2 \|.*$", page, re.M)
    assert row and re.search(r"\| (\*\*)?\d+\.\d(\*\*)? \[\d+\.\d, \d+\.\d\]", row[0])
    assert "%" not in row[0]
    assert re.search(r"^\| found \(%\) \| photos, whole: 2 \|", page, re.M)
    assert re.search(r"^\| dots/plain \| photos, whole: 2 \| [\d.]+ \| .*\d\.\d{4} \[", page, re.M)
    assert "| dots − main (px) |" in page
    assert "| dots − main (points) |" in page
    assert "| dots − main |" in page  # a plain number
    assert "### offset (px), photos, whole: paired differences" in page
    assert "### found, photos, whole: paired differences" in page
    (sweep,) = re.findall(r"^\| share of dots .*$(?:\n\|.*)*", page, re.M)
    assert "| PSNR (dB) | offset (px) | found | dots/plain |" in sweep
    last = [cell.strip() for cell in sweep.splitlines()[-1].strip("|").split("|")]
    assert re.fullmatch(r"\d+\.\d", last[-3]) and re.fullmatch(r"\d+\.\d %", last[-2])


def test_plots_are_drawn_in_the_unit(results: Results):
    (photos,) = results.sets.values()
    labels = {"dots/offset": "offset (px), lower is better", "dots/found": "found (%)"}
    for name, label in labels.items():
        metric = results.metrics[name]
        curves = rate_curves(results, photos, metric)
        (axes,) = rate_plot(photos, metric, curves).axes
        assert axes.get_ylabel() == label
        drawn = list(axes.lines[0].get_ydata())
        factor = 100 if name == "dots/found" else 1
        assert drawn == [factor * value for _, value in curves[0][1]]
    (sweep,) = sweeps(results)
    figure = sweep_plot(results, sweep)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "PSNR (dB)", "task metrics (px)", "task metrics (%)", "task metrics",
    ]  # fmt: skip
    assert [line.get_label() for axes in figure.axes for line in axes.lines] == [
        "PSNR (dB)", "offset (px)", "found (%)", "dots/plain",
    ]  # fmt: skip


def test_the_spreadsheet_has_figures_in_their_unit(results: Results, out: Path):
    lines = list(csv.DictReader(io.StringIO((out / "results.csv").read_text("utf-8"))))
    for line, row in zip(lines, results.rows.values(), strict=True):
        for name in ("dots/offset (px)", "dots/found (%)", "dots/plain", "psnr (dB)"):
            figure = results.figure(row, name.partition(" ")[0])
            assert float(line[name]) == pytest.approx((100 if "%" in name else 1) * figure)


# ---------------------------------------------------------------------- stored before units


@pytest.fixture(scope="module")
def stored(root: Path) -> Results:
    """PSNR and the metrics of two tasks, in files of format 1, each set at one quality."""
    folder = root / "docs" / "results"
    found = Results.load(folder / "mpa-small-q6.json", folder / "mpa-small-seg.json")
    for key, row in list(found.rows.items()):
        wanted = 6 if found.sets[row.pictures].name == PHOTOS else 5
        if (row.setting if row.match is None else row.match["quality"]) != wanted:
            del found.rows[key]
    del found.metrics["seg/miou_unseen"]  # whose intervals take as long again
    return found


def test_what_was_stored_before_units_reads_as_it_was_written(stored: Results):
    found = {name: (info.label, info.unit, info.task) for name, info in stored.metrics.items()}
    assert found["psnr"] == ("PSNR", DECIBEL, None)
    assert found["haarpsi"] == ("HaarPSI", PLAIN, None)
    assert found["cls/agreement"] == ("top-1 agreement (efficientnet-lite0)", PERCENT, "cls")
    assert found["seg/miou"] == ("mIoU (efficientnet-lite0)", PERCENT, "seg")


def test_tables_of_stored_results_are_those_of_the_documentation(stored: Results, root: Path):
    page = (root / "docs" / "results.md").read_text("utf-8").splitlines()
    found = judged(stored)
    assert {item.metric.name: item.own for item in found} == {
        "psnr": "mse=1", "cls/agreement": "cls=1", "cls/agreement_unseen": "cls=1",
        "seg/miou": "seg=1",
    }  # fmt: skip
    assert list(found[0].columns) == ["main=1", "mse=1", "cls=1", "seg=1", "JPEG"]
    tables = list(task_tables(stored, found).values())
    tables += [difference_table(stored, item) for item in found]
    (photos,) = photo_sets(stored)
    measures = [info for info in stored.metrics.values() if info.task is None]
    tables.append(curve_table(stored, photos, measures))
    lines = [line for table in tables if table for line in to_markdown(table).splitlines()]
    assert len(lines) > 20
    # The times of a row are of the processor that measured it, and documented as well.
    assert [line for line in lines if line not in page] == []


def test_a_stored_unit_comes_back(stored: Results, tmp_path: Path):
    stored.save(tmp_path / "again.json")
    again = Results.load(tmp_path / "again.json")
    assert again.metrics == stored.metrics
    assert all(isinstance(info, MetricInfo) for info in again.metrics.values())
