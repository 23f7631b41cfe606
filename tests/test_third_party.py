"""A third party's day: from an empty folder, with the wheel alone, to a path that others decode by.

There are two environments, folders with the wheel of the SDK and nothing else at first: that of the
author, who writes two plugins and publishes their paths on a Hub, and that of somebody else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributions import build, install
from hub_server import environment, running_hub
from PIL import Image

PREPARE = """
import sys
from mpa_core.cli.main import main
assert main(["plugins", "new", "det", "--summary", "For object detectors."]) == 0
assert main(["plugins", "new", "own"]) == 0
assert "torch" not in sys.modules
"""

OWN_PATH = """
from mpa_core import PathConfig, TaskPath
from mpa_core.paths import SideMLP


class Halved(SideMLP):
    def forward(self, tokens):
        return super().forward(tokens) / 2


class OwnPath(TaskPath):
    name = "own"

    class Config(PathConfig):
        sharpness: float = 1.0

    def build_mlp(self, dim):
        return Halved(dim, self.config.hidden_ratio)
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


PUBLISH = """
from pathlib import Path
import torch
from mpa_core import MPACodec
from mpa_core.cli.main import main
from mpa_core.plugins.registry import registry

codec = MPACodec.from_pretrained("mpa-small")
path = registry().load_class("own")(codec.model.config.decoder_path_stages)
torch.manual_seed(3)
for parameter in path.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
codec.attach_path(path, "own")
codec.save_path("own", "own-for-small", license="mit")
codec.decode(Path("photo.mpa").read_bytes(), "own").save("own.png")
for name in ("det", "own"):
    assert main(["hub", "push", name + "-for-small", "lab/" + name]) == 0
"""

ELSEWHERE = """
import sys
from pathlib import Path
import mpa_core
from mpa_core.cli.main import main
from mpa_core import MPACodec, TaskPath
assert Path(mpa_core.__file__).is_relative_to(sys.argv[1]), mpa_core.__file__

assert main(["plugins", "ls"]) == 0
path = TaskPath.from_pretrained("lab/det")
assert (path.name, path.is_plain, path.trained_on.repo_id) == ("det", True, "mpa-small")
codec = MPACodec.from_path("lab/det")
codec.decode(Path("photo.mpa").read_bytes(), "det").save("codec.png")
assert main(["decode", "photo.mpa", "-o", "det.png", "--path", "lab/det"]) == 0
assert main(["decode", "photo.mpa", "-o", "own.png", "--path", "lab/own"]) == 1
try:
    TaskPath.from_pretrained("lab/own")
except mpa_core.errors.PathNotFoundError as error:
    print(error, file=sys.stderr)
"""

WITH_ITS_PLUGIN = """
from mpa_core.cli.main import main
from mpa_core import TaskPath
assert type(TaskPath.from_pretrained("lab/own")).__module__ == "mpa_plugin_own.path"
assert main(["decode", "photo.mpa", "-o", "own.png", "--path", "lab/own"]) == 0
"""

OFFLINE = """
from mpa_core.cli.main import main
for name in ("det", "own"):
    words = ["decode", "photo.mpa", "-o", name + "-offline.png", "--path", "lab/" + name]
    assert main(words) == 0
"""

TOKEN = "hf_writes"


@dataclass
class Environment:
    """A folder of installed distributions, a folder to work in, and a home of huggingface_hub."""

    site: Path
    here: Path
    home: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path) -> Environment:
        made = cls(folder / "site", folder / "empty", folder / "huggingface")
        install(wheel, made.site)
        made.here.mkdir()
        return made

    def run(self, code: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program that sees what is installed here, with this home and variables."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MPA_", "HF_"))}
        settings = {"PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.site)],
            cwd=self.here,
            env={**clean, **settings, "HF_HOME": str(self.home), **more},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def pixels(self, name: str) -> bytes:
        with Image.open(self.here / name) as picture:
            return picture.convert("RGB").tobytes()


@pytest.fixture(scope="module")
def author(distributions, sample: Image.Image, tmp_path_factory: pytest.TempPathFactory):
    """The environment where the plugins are written, with nothing in its folder but a photo."""
    made = Environment.make(tmp_path_factory.mktemp("author"), distributions[1])
    (made.here / "photos").mkdir()
    sample.crop((90, 60, 218, 163)).save(made.here / "photos" / "photo.png")
    return made


@pytest.fixture(scope="module")
def wheels(author: Environment) -> dict[str, Path]:
    """The wheels of both plugins, which are installed where they were written."""
    author.run(PREPARE)
    (author.here / "mpa-plugin-own" / "mpa_plugin_own" / "path.py").write_text(OWN_PATH)
    built = {}
    for name in ("det", "own"):
        built[name] = build("wheel", author.here / f"mpa-plugin-{name}", author.site.parent)
        install(built[name], author.site)
    return built


@pytest.fixture(scope="module")
def trained(author: Environment, wheels: dict[str, Path]) -> str:
    """What is printed where the path of ``mpa-plugin-det`` is checked, trained and used."""
    return author.run(WORK).stdout


def test_from_an_empty_folder_to_a_path_that_decodes(author: Environment, trained: str):
    found = {each["plugin"]: each for each in json.loads(author.run(LIST).stdout)}
    for name in ("det", "own"):
        assert found[name]["distribution"] == f"mpa-plugin-{name}"
        assert (found[name]["error"], found[name]["advice"]) == (None, None)
    assert "ok      det  (mpa-plugin-det 0.1.0; paths: det; " in trained
    assert "mpa-plugin-det>=0.1.0" in (author.here / "det-for-small" / "README.md").read_text()
    # Two tests of the plugin's own, and two checks, by its test and by --mpa-plugin.
    assert trained.splitlines()[-1].startswith("6 passed")


@pytest.mark.usefixtures("trained")
def test_what_is_published_is_decoded_by_somebody_else(
    author: Environment, wheels: dict[str, Path], distributions, tmp_path: Path
):
    """By a plain path without its plugin; by one with code of its own as soon as that is here."""
    other = Environment.make(tmp_path, distributions[1])
    shutil.copy(author.here / "photo.mpa", other.here)
    with running_hub() as hub:
        hub.tokens = {TOKEN: {"lab"}}
        author.run(PUBLISH, **environment(hub, TOKEN))
        anybody = {name: v for name, v in environment(hub, "").items() if name != "HF_TOKEN"}
        said = other.run(ELSEWHERE, **anybody)
        assert "mpa-plugin" not in said.stdout
        seen = author.pixels("seen.png")
        assert other.pixels("codec.png") == other.pixels("det.png") == seen
        first, second = said.stderr.splitlines()
        assert first == f"mpa: error: {second}"
        assert second.startswith("path 'own' in ")
        assert second.endswith(
            " needs the code of its plugin, mpa-plugin-own, which is not installed; run: pip "
            'install "mpa-plugin-own>=0.1.0"'
        )
        assert not (other.here / "own.png").exists()
        install(wheels["own"], other.site)
        other.run(WITH_ITS_PLUGIN, **anybody)
        assert other.pixels("own.png") == author.pixels("own.png") != seen
        asked = len(hub.requests)
        other.run(OFFLINE, **{**anybody, "HF_HUB_OFFLINE": "1"})
        assert len(hub.requests) == asked
    for name in ("det", "own"):
        assert other.pixels(f"{name}-offline.png") == other.pixels(f"{name}.png")


def test_a_plugin_takes_two_files_and_forty_lines_besides_its_recipe(tmp_path: Path):
    from mpa_core.plugins.scaffold import new_plugin

    folder = new_plugin("pose_2", tmp_path / "mine")
    code = sorted((folder / "mpa_plugin_pose_2").glob("*.py"))
    assert [file.name for file in code] == ["__init__.py", "path.py", "recipe.py"]
    lines = [line for file in code[:2] for line in file.read_text().splitlines()]
    assert len(lines) <= 40
