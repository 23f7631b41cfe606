"""A third party's day: from an empty folder, with the wheel alone, to files decoded by its path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import build, install
from PIL import Image

PREPARE = """
import sys
from mpa_core.cli.main import main
assert main(["plugins", "new", "det", "--summary", "For object detectors."]) == 0
assert "torch" not in sys.modules
"""

LIST = """
import sys
from mpa_core.cli.main import main
assert main(["plugins", "ls", "--format", "json"]) == 0
assert "torch" not in sys.modules
"""

WORK = """
import sys
from pathlib import Path
import mpa_core
from mpa_core.cli.main import main
assert Path(mpa_core.__file__).is_relative_to(sys.argv[1]), mpa_core.__file__
from mpa_core import MPACodec
from PIL import Image

def mpa(*words):
    assert main(list(words)) == 0, words

mpa("plugins", "check", "det", "--train", "--set", "data.crop=64")
quick = [f"--set={each}" for each in ("data.crop=64", "data.batch=1", "data.crops_per_photo=1")]
mpa("train", "path", "det", "--data", "photos", "--val", "photos", "--out", "runs/det",
    "--steps", "2", "--threads", "1", "--set=run.validate_qualities=[3]", *quick)
mpa("train", "export", "runs/det", "det-for-small", "--dtype", "float16", "--license", "mit")
mpa("encode", "photos/photo.png", "-o", "photo.mpa")
mpa("decode", "photo.mpa", "-o", "seen.png", "--load", "./det-for-small", "--path", "det")
codec = MPACodec.from_pretrained("mpa-small")
codec.load_path("./det-for-small")
seen, main_path = (codec.decode(Path("photo.mpa").read_bytes(), path) for path in ("det", "main"))
assert seen.tobytes() == Image.open("seen.png").tobytes() != main_path.tobytes()

import pytest
sys.exit(pytest.main(["mpa-plugin-det", "--mpa-plugin", "det", "-q", "-p", "no:cacheprovider",
                      "-k", "test_det or check_class or check_distribution"]))
"""


@pytest.fixture(scope="module")
def day(distributions, sample: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder but for a photo, and beside it ``site``, where the wheel is installed."""
    _, wheel = distributions
    folder = tmp_path_factory.mktemp("day")
    install(wheel, folder / "site")
    (folder / "empty" / "photos").mkdir(parents=True)
    sample.crop((90, 60, 218, 163)).save(folder / "empty" / "photos" / "photo.png")
    return folder


def run(day: Path, code: str) -> str:
    """What a program prints that sees what is installed, and that runs in the empty folder."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPA_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(day / "site")],
        cwd=day / "empty",
        env={**clean, "PYTHONPATH": str(day / "site"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_an_empty_folder_to_a_path_that_decodes(day: Path):
    run(day, PREPARE)
    plugin = day / "empty" / "mpa-plugin-det"
    install(build("wheel", plugin, day), day / "site")
    found = {each["plugin"]: each for each in json.loads(run(day, LIST))}
    assert found["det"]["distribution"] == "mpa-plugin-det"
    assert (found["det"]["error"], found["det"]["advice"]) == (None, None)
    out = run(day, WORK)
    assert "ok      det  (mpa-plugin-det 0.1.0; paths: det; " in out
    assert "mpa-plugin-det>=0.1.0" in (day / "empty" / "det-for-small" / "README.md").read_text()
    # Two tests of the plugin's own, and two checks, by its test and by --mpa-plugin.
    assert out.splitlines()[-1].startswith("6 passed")


def test_a_plugin_takes_two_files_and_forty_lines_besides_its_recipe(tmp_path: Path):
    from mpa_core.plugins.scaffold import new_plugin

    folder = new_plugin("pose_2", tmp_path / "mine")
    code = sorted((folder / "mpa_plugin_pose_2").glob("*.py"))
    assert [file.name for file in code] == ["__init__.py", "path.py", "recipe.py"]
    lines = [line for file in code[:2] for line in file.read_text().splitlines()]
    assert len(lines) <= 40
