"""``mpa exact``: formats from photos, stored beside the weights, and read with suspicion."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mpa_core import MPACodec, checkpoints
from mpa_core.base.tinylic.exact.formats import HEADROOM
from mpa_core.cli.main import main
from mpa_core.conversion import convert_base
from mpa_core.errors import CheckpointError, ImageError, OutputError


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"no picture either")
    (folder / "._0.png").write_bytes(b"\0\5\26\7 AppleDouble")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    MPACodec.from_preset("mpa-tiny").save_pretrained(folder, dtype="float16")
    return folder


@pytest.fixture(scope="module")
def converted(base, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "tiny"
    return out, convert_base(base, out, photos)


def test_the_base_stays_what_it_is(base, converted):
    out, report = converted
    before, after = MPACodec.from_pretrained(base), MPACodec.from_pretrained(out)
    assert after.fingerprint == before.fingerprint == report.fingerprint
    assert after.profiles.exact_fingerprint == report.exact_fingerprint
    assert after.profiles.exact_fingerprint != before.profiles.exact_fingerprint
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert (out / "README.md").read_bytes() == (base / "README.md").read_bytes()
    assert (report.photos, len(report.skipped)) == (2, 1)
    assert report.left_out == {"hidden files": 1, "other suffixes": 1}
    assert abs(report.cost) < 0.005


def test_formats_follow_what_was_seen(base, converted):
    formats = MPACodec.from_pretrained(converted[0]).profiles.formats
    wide = MPACodec.from_pretrained(base).profiles.formats
    assert formats.keys() == wide.keys() and formats != wide
    # Inputs of random weights are small: digits move behind the point.
    first = "entropy.channel_contexts.0.0"
    assert formats[first].magnitude < wide[first].magnitude
    assert formats[first].fraction > wide[first].fraction
    assert formats[first].digits == wide[first].digits
    assert all(form.magnitude >= HEADROOM - 10 for form in formats.values())


def test_files_say_which_formats_made_them(base, converted, photos):
    from mpa_core.errors import BaseMismatchError

    with Image.open(photos / "0.png") as picture:
        data = MPACodec.from_pretrained(converted[0]).encode(picture, 3)
        usual = MPACodec.from_pretrained(converted[0]).encode(picture, 3, profile="float")
    other = MPACodec.from_pretrained(base)
    with pytest.raises(BaseMismatchError):
        other.decode(data)
    other.decode(usual)  # the float profile knows nothing of formats


def test_folder_from_before_there_were_formats(base, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(base, old)
    (old / "exact.safetensors").unlink()
    config = json.loads((old / "config.json").read_text())
    del config["exact"]
    (old / "config.json").write_text(json.dumps(config))
    assert MPACodec.from_pretrained(old).profiles.formats


def _rewritten(base, tmp_path, change):
    folder = tmp_path / "changed"
    shutil.copytree(base, folder)
    tensors = load_file(folder / "exact.safetensors")
    change(tensors)
    save_file(tensors, folder / "exact.safetensors")
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("exact.h_s.stages.0.conv"), "differing: h_s"),
        (lambda t: t.update({"exact.other": torch.zeros(3, dtype=torch.int32)}), "other"),
        (lambda t: t.update({"exact.h_s.stages.0.conv": torch.zeros(3)}), "3 int32"),
        (lambda t: t.update({"exact.h_s.stages.0.conv": torch.zeros(4).int()}), "3 int32"),
        (lambda t: t.update({"h_s.stages.0.conv": torch.zeros(3).int()}), "3 int32"),
        (lambda t: t["exact.h_s.stages.0.conv"].add_(1), "fingerprint"),
    ],
)
def test_damaged_formats_are_refused(base, tmp_path, change, says):
    folder = _rewritten(base, tmp_path, change)
    with pytest.raises(CheckpointError, match=says):
        checkpoints.load_base(folder)


def test_missing_file_of_formats(base, tmp_path):
    folder = tmp_path / "missing"
    shutil.copytree(base, folder)
    (folder / "exact.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no exact\.safetensors"):
        checkpoints.load_base(folder)


def test_forged_formats_that_could_be_inexact(base, tmp_path):
    """With a config that vouches for them: the proof itself refuses them."""
    folder = _rewritten(
        base, tmp_path, lambda t: t["exact.h_s.stages.0.conv"].copy_(torch.tensor([20, 20, 40]))
    )
    loaded = checkpoints.load_base(base)
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "exact.safetensors")
    config["exact"] = checkpoints.exact_fingerprint(loaded.tensors, stored)
    (folder / "config.json").write_text(json.dumps(config))
    codec = MPACodec.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"sums of h_s\.stages\.0\.conv"):
        codec.encode(Image.new("RGB", (64, 64)))


def test_command(base, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["exact", str(base), str(out), "--data", str(photos), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["photos"] == 2 and said["exact_bytes"] > 0 and abs(said["cost"]) < 0.005
    assert main(["exact", str(base), str(out), "--data", str(photos)]) == 1
    assert "already exists" in capsys.readouterr().err
    assert (
        main(["exact", str(base), str(out), "--data", str(photos), "--force", "--limit", "1"]) == 0
    )
    assert "of the bits" in capsys.readouterr().out


def test_no_pictures(base, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no picture"):
        convert_base(base, tmp_path / "out", tmp_path / "empty")
    with pytest.raises(ImageError, match="nowhere does not exist"):
        convert_base(base, tmp_path / "out", tmp_path / "nowhere")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="already exists"):
        convert_base(base, tmp_path / "out")
