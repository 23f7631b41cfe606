"""``distribution:name`` in every command that takes a path's name, where two plugins claim one.

Both offer ``det`` with weights of its own for the smallest base, and a recipe.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec, TaskPath, checkpoints
from mpa_core.evaluation.results import Results

TOP = """
from mpa_core import PathSpec, hookimpl

@hookimpl
def mpa_task_paths():
    return [PathSpec(
        name="det", path="{module}.path:P", recipe="{module}.path:R", summary="For tests.")]
"""

PATH = """
from mpa_core import Metric, Recipe, TaskPath
from mpa_core.config import StrictModel
from mpa_core.tasks import PLAIN

class P(TaskPath):
    name = "det"

class R(Recipe):
    class Settings(StrictModel):
        weight: float = 1.0

    defaults = {{
        "data": {{"crop": 64, "batch": 1, "crops_per_photo": 1}},
        "loss": {{"perceptual": None}},
        "budget": {{"steps": 1}},
    }}

    def task_loss(self, x_hat, batch):
        return (x_hat - batch.images).abs().mean((1, 2, 3))

    def metrics(self):
        def gap(x_hat, batch):
            return {sign} * self.settings.weight * self.task_loss(x_hat, batch)
        return {{"gap": Metric(gap, higher_is_better=False, unit=PLAIN)}}
"""


class Det(TaskPath):
    name = "det"


@pytest.fixture(scope="module")
def weights(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By module, a folder of weights that differ."""
    codec, found = MPACodec.from_pretrained(tiny_base), {}
    for seed, module in enumerate(("one", "two")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            path = Det(codec.model.config.decoder_path_stages)
            for parameter in path.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        found[module] = tmp_path_factory.mktemp("weights") / module
        checkpoints.save_path(
            found[module], path, base_name=codec.name, base_fingerprint=codec.fingerprint,
            plugin=checkpoints.PluginRef(distribution=f"mpa-{module}", version=">=1.2"),
        )  # fmt: skip
    return found


@pytest.fixture
def two(site, commands, weights, tiny_base, sample, tmp_path):
    """A call of ``mpa`` where both are installed; ``photos`` has a picture of 64 x 64."""
    for module, sign in (("one", "1"), ("two", "-1")):
        top, path = TOP.format(module=module), PATH.format(sign=sign)
        package = site.install(f"mpa-{module}", module, top, path=path)
        name = MPACodec.from_pretrained(tiny_base).name
        shutil.copytree(weights[module], package / "weights" / name)
    (tmp_path / "photos").mkdir()
    sample.crop((0, 0, 64, 64)).save(tmp_path / "photos" / "a.png")

    def call(*words: object):
        return site.fork(commands, words=list(map(str, words)), env={"OMP_NUM_THREADS": "1"})

    return call


@pytest.fixture
def coded(tiny_base, sample, tmp_path) -> Path:
    file = tmp_path / "a.mpa"
    codec = MPACodec.from_pretrained(tiny_base)
    file.write_bytes(codec.encode(sample.crop((0, 0, 64, 64)), quality=4))
    return file


def test_the_short_name_is_refused_with_both_longer_ones(two, coded, tiny_base, tmp_path):
    out = tmp_path / "out.png"
    done = two("decode", coded, "-o", out, "--base", tiny_base, "--path", "det")
    assert done.code == 1
    assert "ask for 'mpa-one:det' or 'mpa-two:det'" in done.errors[0]
    done = two("eval", tmp_path / "photos", "--out", tmp_path / "e", "--base", tiny_base,
               "--paths", "det")  # fmt: skip
    assert done.code == 1
    assert "ask for 'mpa-one:det' or 'mpa-two:det'" in done.errors[-1]


@pytest.mark.parametrize(
    ("words", "loaded", "mix"),
    [
        (["--path", "mpa-two:det"], {"det": "two"}, Mix(det=1.0)),
        (["--path", "MPA_Two:det"], {"det": "two"}, Mix(det=1.0)),
        (["--mix", "mpa-one:det=0.5"], {"det": "one"}, Mix(det=0.5)),
        (["--load", "mpa-one:det", "--mix", "det=0.5"], {"det": "one"}, Mix(det=0.5)),
        (["--load", "mpa-one:det", "--mix", "mpa-one:det=0.5"], {"det": "one"}, Mix(det=0.5)),
        (["--load", "b=mpa-two:det", "--mix", "mpa-one:det=0.5,mpa-two:det=0.5"],
         {"det": "one", "b": "two"}, Mix(det=0.5, b=0.5)),
        (["--region", "mpa-two:det=MASK"], {"det": "two"}, Mix(regions={"det": np.eye(64)})),
    ],
)  # fmt: skip
def test_decode(two, coded, weights, tiny_base, tmp_path, words, loaded, mix):
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    words = [word.replace("MASK", str(tmp_path / "mask.png")) for word in words]
    done = two(
        "decode", coded, "-o", tmp_path / "out.png", "--base", tiny_base, *words, "--format", "json"
    )
    assert done.code == 0, done.err
    codec = MPACodec.from_pretrained(tiny_base)
    for name, module in loaded.items():
        folder = checkpoints.load_path(weights[module])
        codec.attach_path(folder.build(Det), name)
    with Image.open(tmp_path / "out.png") as picture:
        assert np.array_equal(picture, codec.decode(coded.read_bytes(), mix))
    assert done.rows[0]["mix"] == {"main": mix.main, **mix.shares}
    assert done.rows[0]["regions"] == list(mix.regions)


@pytest.mark.parametrize(
    ("words", "mixes", "metric"),
    [
        (["--paths", "mpa-two:det", "--tasks", "mpa-two:det"], {"det=1"}, "det/gap"),
        (["--paths", "mpa-two:det", "--tasks", "det"], {"det=1"}, "det/gap"),
        (["--paths", "mpa-one:det,b=mpa-two:det", "--tasks", "mpa-two:det",
          "--mixes", "mpa-two:det=0.25", "mpa-one:det=0.5,b=0.5"],
         {"det=1", "b=1", "b=0.25,main=0.75", "b=0.5,det=0.5"}, "b/gap"),
        (["--paths", "b=mpa-two:det", "--sweep", "main:mpa-two:det:3", "--tasks", "b"],
         {"b=1", "b=0.5,main=0.5"}, "b/gap"),
        (["--paths", "mpa-one:det,b=mpa-two:det", "--sweep", "mpa-two:det:mpa-one:det:3",
          "--tasks", "c=mpa-two:det"], {"det=1", "b=1", "b=0.5,det=0.5"}, "c/gap"),
    ],
)  # fmt: skip
def test_eval(two, weights, tiny_base, tmp_path, words, mixes, metric):
    out, name = tmp_path / "measured", metric.partition("/")[0]
    done = two(
        "eval", tmp_path / "photos", "--out", out, "--base", tiny_base, "--qualities", "4",
        "--perceptual", "", *words, "--set", f"{name}.weight=2", "--format", "json",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {row["mix"]: row for row in done.data["rows"]}
    assert set(rows) == mixes | {"main=1"}
    assert all(row[metric] < 0 for row in rows.values())  # mpa-two's recipe has that sign
    assert all(row["psnr"] > 0 for row in rows.values())
    results = Results.load(out / "results.json")
    assert results.metrics[metric].task == name
    assert results.metrics[metric].source == {"recipe": "R", "weight": 2.0, "path": "mpa-two:det"}
    # Which weights a name stood for is in the results, by fingerprint.
    prints = {
        checkpoints.read_path_meta(folder).fingerprint[:16]: module
        for module, folder in weights.items()
    }
    det = "one" if "b=1" in mixes else "two"
    for row in results.rows.values():
        used = {name: prints[digits] for name, digits in row.source.items() if name != "base"}
        assert used.get("b", "two") == "two"
        assert used.get("det", det) == det
    assert ":" not in (out / "results.csv").read_text().partition("\n")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--paths", "mpa-one:det,mpa-two:det"],
         "mpa-one:det and mpa-two:det would both be called 'det'; load one of them under another "
         "name, OTHER=mpa-two:det, and write OTHER"),
        (["--paths", "mpa-one:det", "--mixes", "mpa-two:det=0.5"],
         "--mixes: path 'mpa-two:det' is used and not loaded (loaded: mpa-one:det); add it to"),
        (["--paths", "mpa-one:det", "--mixes", "mpa-one:det=0.5,det=0.2"],
         "--mixes: det and mpa-one:det mean one path, called 'det'; name it once"),
        (["--paths", "mpa-one:det", "--mixes", "mpa-three:det=0.5"],
         "--mixes: no task path 'mpa-three:det' is installed"),
        (["--paths", "mpa-one:det", "--sweep", "det:mpa-one:det:3"],
         "--sweep: sweep 'det:det:3' is not FROM:TO:STEPS with two paths"),
        (["--paths", "mpa-one:det", "--sweep", "main:mpa-three:det:3"],
         "--sweep: sweep 'main:mpa-three:det:3' could go from 'main' to 'mpa-three:det' or from "
         "'main:mpa-three' to 'det', and 0 of these name installed paths"),
        (["--paths", "mpa-one:det", "--tasks", "mpa-two:det"],
         "--tasks: task mpa-two:det would be called 'det', as mpa-one:det is; give it another "
         "name: OTHER=mpa-two:det"),
        (["--tasks", "mpa-two:det,mpa-one:det"],
         "tasks mpa-two:det and mpa-one:det would both be called 'det'"),
    ],
)  # fmt: skip
def test_eval_says_which_names_clash_or_are_not_there(two, tiny_base, tmp_path, words, message):
    done = two(
        "eval", tmp_path / "photos", "--out", tmp_path / "x", "--base", tiny_base,
        "--perceptual", "", *words,
    )  # fmt: skip
    assert done.code in (1, 2)
    assert message in done.errors[-1]
    assert not (tmp_path / "x" / "results.json").exists()


def test_a_folder_takes_a_name_as_well(two, coded, weights, tiny_base, tmp_path):
    words = ["decode", coded, "-o", tmp_path / "out.png", "--base", tiny_base]
    done = two(*words, "--load", weights["one"], "--path", "mpa-two:det")
    assert done.code == 2
    assert f"{weights['one']} and mpa-two:det would both be called 'det'" in done.errors[-1]
    done = two(*words, "--load", f"mine={weights['one']}", "--path", "mpa-two:det")
    assert done.code == 0, done.err


def test_paths_info_and_plugins_check(two):
    done = two("paths", "info", "mpa-two:det", "--format", "json")
    assert (done.code, done.data["name"], done.data["path"]) == (0, "det", "two.path:P")
    done = two("plugins", "check", "mpa-two:det", "--format", "json")
    assert [report["distribution"] for report in done.data] == ["mpa-two"]
    done = two("plugins", "check", "mpa-two:nothing")
    assert done.code == 1
    assert "no plugin 'mpa-two:nothing' is installed" in done.errors[-1]


def test_train_begins_with_the_weights_of_one_and_records_it(two, weights, tiny_base, tmp_path):
    run, photos = tmp_path / "run", tmp_path / "photos"
    done = two(
        "train", "path", "mpa-two:det", "--base", tiny_base, "--data", photos, "--val", photos,
        "--out", run, "--from", "mpa-two:det",
    )  # fmt: skip
    assert done.code == 0, done.err
    done = two("train", "export", run, tmp_path / "new", "--format", "json")
    assert done.code == 0, done.err
    meta = json.loads((tmp_path / "new" / "path_config.json").read_text())
    assert (meta["path_type"], meta["plugin"]["distribution"]) == ("det", "mpa-two")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "mpa train path mpa-two:det" in card
    assert "codec.decode(data, Mix(det=1.0)" in card
