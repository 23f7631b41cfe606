"""Whatever plugins are installed beside ours, every command of ``mpa`` does its work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Blob, Hub, Repository, environment, running_hub
from parser_leaves import command_of, leaves
from PIL import Image
from safetensors.torch import save_file

from mpa_core import MPACodec
from mpa_core.cli.main import build_parser
from mpa_core.importing.keys import base_key

TRAINING = (
    "--data {photos} --steps 1 --threads 1 --set data.crop=64 --set data.batch=1 "
    "--set loss.perceptual=null --set run.validate_images=1"
)
TRAIN_PATH = "train path mse --base {base} --out {out}/run --set data.crops_per_photo=1 " + TRAINING

RUNS = {
    "encode": ["encode {photo} -o {out}/a.mpa"],
    "decode": ["decode {coded} -o {out}/a.png --base {base} --load {cls} --path cls"],
    "info": ["info {coded}"],
    "paths ls": ["paths ls"],
    "paths info": ["paths info mse", "paths info mpa-two:det"],
    "plugins ls": ["plugins ls"],
    "plugins check": ["plugins check mse"],
    "plugins new": ["plugins new pose --out {out}/pose"],
    "train base": ["train base --preset mpa-tiny --out {out}/run " + TRAINING],
    "train path": [TRAIN_PATH],
    "train export": [TRAIN_PATH, "train export {out}/run {out}/mse"],
    "eval": [
        "eval {photos} --out {out}/results --base {base} --paths cls={cls} --qualities 3 "
        "--perceptual= --no-plots"
    ],
    "import-official": ["import-official {released} {out}/imported"],
    "exact": ["exact {base} {out}/exact --data {photos}"],
    "hub pull": ["hub pull lab/base"],
    "hub push": ["hub push {base} lab/pushed"],
    "hub card": ["hub card {cls}", "hub card lab/base"],
    "hub ls": ["hub ls", "hub ls lab"],
    "env": ["env"],
}
"""Command to what is run of it."""

CODE = """
import warnings
warnings.simplefilter("default")
from mpa_core.cli.main import main
for words in {commands!r}:
    assert main(words) == 0, words
"""


@pytest.fixture(scope="module")
def hub(tiny_base: Path) -> Iterator[Hub]:
    """A Hub where everybody may write for ``lab``, and where ``lab/base`` is."""
    with running_hub() as server:
        server.tokens = {"hf_writes": {"lab"}}
        base = Repository("lab/base")
        files = {each.name: each for each in tiny_base.iterdir()}
        base.commit(
            "main", {k: Blob(v.read_bytes(), v.suffix == ".safetensors") for k, v in files.items()}
        )
        server.repositories["lab/base"] = base
        yield server


@pytest.fixture(scope="module")
def inputs(
    tiny_base: Path, tiny_cls_path: Path, sample: Image.Image, tmp_path_factory
) -> dict[str, Path]:
    """What commands are given, made where no such plugin is."""
    folder = tmp_path_factory.mktemp("inputs")
    photos, coded, released = folder / "photos", folder / "a.mpa", folder / "state.safetensors"
    photos.mkdir()
    photo = sample.crop((100, 60, 280, 240))
    photo.save(photos / "a.png")
    codec = MPACodec.from_pretrained(tiny_base)
    coded.write_bytes(codec.encode(photo, 3))
    state = codec.model.frozen_state()
    save_file({base_key(name): tensor.clone() for name, tensor in state.items()}, released)
    return {
        "base": tiny_base, "cls": tiny_cls_path, "photos": photos, "photo": photos / "a.png",
        "coded": coded, "released": released,
    }  # fmt: skip


def test_no_command_is_forgotten():
    assert sorted(map(command_of, leaves(build_parser()))) == sorted(RUNS)


@pytest.mark.parametrize("command", RUNS)
def test_it_does_its_work(troubled, commands, inputs, hub, tmp_path, command):
    given = {**inputs, "out": tmp_path}
    words = [[word.format(**given) for word in line.split()] for line in RUNS[command]]
    assert " ".join(words[-1]).startswith(command)
    home = {"HF_HOME": str(tmp_path / "huggingface"), **environment(hub, "hf_writes")}
    done = troubled.run(CODE.format(commands=words), check=False, server=commands, **home)
    assert done.code == 0, done.err
    assert done.out
    assert "mpa: error" not in done.err


def test_a_check_of_all_goes_on_after_one_that_fails(troubled, commands):
    code = """
import sys
from mpa_core.cli.main import main
sys.exit(main(["plugins", "check", "--format", "json"]))
"""
    said = {
        "mpa-broken": "no_such_module_xyz",
        "mpa-misspelt": "did you mean 'mpa_task_paths'",
        "mpa-newer": "mpa-core>=99",
    }
    done = troubled.run(code, check=False, server=commands, MPA_PLUGINS=",".join(said))
    assert done.code == 1
    found = {each["distribution"]: " ".join(each["problems"]) for each in json.loads(done.out)}
    assert found.keys() == said.keys()
    for distribution, part in said.items():
        assert part in found[distribution]
