"""``mpa eval`` from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mpa_core.evaluation.results import Results
from mpa_core.io.folders import find_files


@pytest.fixture(scope="module")
def photos(sample: Image.Image, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    sample.crop((0, 0, 176, 168)).save(folder / "a.png")
    sample.crop((200, 60, 376, 228)).save(folder / "b.png")
    return folder


def test_measures_then_makes_the_page(mpa, base, path_folder, photos, tmp_path):
    out = tmp_path / "out"
    done = mpa(
        "eval", photos, "--out", out, "--base", base, "--paths", f"cls={path_folder}",
        "--qualities", "1,4", "--mixes", "cls=0.25", "--match", "jpeg", "--perceptual", "",
        "--format", "json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {row["mix"] for row in done.data["rows"]} == {
        "main=1", "cls=1", "cls=0.25,main=0.75", None,
    }  # fmt: skip
    assert all(row["psnr"] > 0 < row["bpp"] for row in done.data["rows"])
    units = {metric["name"]: metric["unit"] for metric in done.data["metrics"]}
    assert units == {"psnr": "dB", "ms_ssim": ""}
    names = {Path(file).name for file in done.data["files"]}
    assert {"results.json", "results.csv", "results.md", "photos-psnr.png"} <= names

    page = tmp_path / "page.md"
    done = mpa("eval", "--report", out / "results.json", "--markdown", page)
    assert (done.code, done.out) == (0, f"{page}\n")
    text = page.read_text("utf-8")
    assert f"mpa eval --report {out / 'results.json'} --markdown {page}" in text
    assert "### Quality 4" in text
    assert "| mean |" not in text

    band = "0.5:0.6"
    asked = ["eval", "--report", out / "results.json", "--markdown", page, "--band", band]
    assert mpa(*asked, "--band", "90:91").code == 0
    text = page.read_text("utf-8")
    assert f"--band {band} --band 90:91\n" in text

    assert mpa("eval", photos, "--out", out, "--no-base", "--codecs", "jpeg").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give DATASET and --out"),
        (["photos"], "give DATASET and --out"),
        (["photos", "--out", "x", "--no-base"], "leaves nothing to measure; give --codecs LIST"),
        (["photos", "--out", "x", "--no-base", "--sweep", "main:cls:3"], "--match ask for a base"),
        (["photos", "--out", "x", "--codecs", "jpeg", "--band", "0.1:0.2"], "that --report makes"),
        (["--report", "r.json", "--markdown", "m.md", "--band", "0.2:0.1"], "such as 0.15:0.3"),
        (["photos", "--out", "x", "--base", "mpa-small", "--sweep", "main"], "FROM:TO:STEPS"),
        (
            ["photos", "--out", "x", "--base", "mpa-small", "--mixes", "cls=7"],
            "--mixes: share of cls",
        ),
        (["photos", "--report", "r.json"], "--markdown FILE and no DATASET"),
        (["photos", "--out", "x", "--base", "mpa-small", "--qualities", "low"], "'low'"),
        (["photos", "--out", "x", "--codecs", "jpeg", "--set", "stride=1"], "TASK.KEY=VALUE"),
        (["photos", "--out", "x", "--device", "gpu"], "--device: device is 'gpu', expected one of"),
        (["photos", "--out", "x", "--protocol", "paper"], "expected one of whole, short-side:SIDE"),
        (["photos", "--out", "x", "--limit", "0"], "'0' is no number of pictures; give 1 to"),
        (["photos", "--out", "x", "--paths", "a=cls,a=seg"], "would both be called 'a'; load one"),
    ],
)
def test_arguments_that_make_no_sense(mpa, arguments, message):
    done = mpa("eval", *arguments)
    assert done.code == 2
    assert message in done.errors[-1]


def test_squares_of_small_photos(mpa, photos, tmp_path):
    words = ["--no-base", "--codecs", "jpeg", "--perceptual", "", "--format", "json", "--no-plots"]
    done = mpa("eval", photos, "--out", tmp_path, *words, "--protocol", "short-side:96")
    assert done.code == 0, done.err
    assert {(row["set"], row["protocol"]) for row in done.data["rows"]} == {
        ("photos", "short-side:96")
    }
    squares = list((tmp_path / "pictures").rglob("*.png"))
    assert len(squares) == 2
    for square in squares:
        with Image.open(square) as picture:
            assert picture.size == (96, 96)


def test_options_of_recipes(mpa, photos, tmp_path):
    given = ["eval", photos, "--out", tmp_path, "--no-base", "--codecs", "jpeg", "--perceptual", ""]
    done = mpa(*given, "--tasks", "mse", "--set", "mse.nonsense=3", "--set", "mse.word=abc")
    assert done.code == 1
    assert "nonsense" in done.errors[-1]
    done = mpa(*given, "--set", "cls.stride=64")
    assert done.code == 1
    assert "options for cls, which is no task of this run" in done.errors[-1]


def test_what_was_written_below_the_photos_is_never_measured(mpa, photos, tmp_path, caplog):
    dataset = tmp_path / "photos"
    shutil.copytree(photos, dataset)
    words = ["--no-base", "--codecs", "jpeg", "--perceptual", "", "--format", "json"]
    counts = []
    for out, *more in ([dataset / "out"], [dataset / "out", "--resume"], [dataset / "later"]):
        done = mpa("eval", dataset, "--out", out, *words, *more)
        assert done.code == 0, done.err
        (pictures,) = Results.load(out / "results.json").sets.values()
        counts.append(pictures.names)
    assert counts == [["a.png", "b.png"]] * 3
    # The second found "out", the third "out" and the folder that it has just made itself.
    assert done.data["left_out_by_reason"] == {"folders of mpa's output": 2}
    assert f"left out {dataset / 'out'}: mpa wrote it" in caplog.text

    (dataset / "out" / ".mpa-output").unlink()  # as an earlier version left it
    assert len(find_files(dataset, {".jpg", ".png"}).names) == 2
    done = mpa("eval", dataset, "--out", dataset, *words)
    assert done.code == 1
    assert "is the folder of the input pictures" in done.err
