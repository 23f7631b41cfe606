"""Saving checks what it is given, and a failure leaves the folder as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from folder_tools import CONFIG, contents, one_line

from mpa_core import checkpoints
from mpa_core.checkpoints import write
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError, ConfigError, OutputError


def test_saving_checks_what_it_is_given(tmp_path, model):
    def save(tensors, **options):
        checkpoints.save_base(tmp_path / "b", CONFIG, tensors, **{"name": "tiny", **options})

    state = model.frozen_state()
    nan = state | {"base.y_gains.gain": torch.full_like(state["base.y_gains.gain"], torch.nan)}
    big = state | {"base.y_gains.gain": torch.full_like(state["base.y_gains.gain"], 1e6)}
    untrained = MPAModel(CONFIG).frozen_state()
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        save(nan)
    with pytest.raises(CheckpointError, match="beyond the range of float16"):
        save(big, dtype="float16")
    with pytest.raises(CheckpointError, match=r"call model\.update\(\) before saving"):
        save(untrained)
    with pytest.raises(CheckpointError, match=r"unexpected 'paths\.x'"):
        save(state | {"paths.x": torch.ones(1)})
    with pytest.raises(CheckpointError, match="missing"):
        save({})
    with pytest.raises(ConfigError, match="name"):
        save(state, name="")
    assert not (tmp_path / "b").exists()
    save(big)


@pytest.mark.parametrize("failing", ["model.safetensors", "config.json", "README.md"])
def test_a_failure_leaves_the_folder_as_it_was(tmp_path, base, model, monkeypatch, failing):
    (base / "notes.txt").write_text("mine")
    before = contents(base)
    real = Path.replace

    def replace(self, target):
        if Path(target).parent == base and Path(target).name == failing and "kept" not in str(self):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(write.Path, "replace", replace)
    with pytest.raises(OutputError, match="No space left"):
        checkpoints.save_base(base, CONFIG, model.frozen_state(), name="other")
    monkeypatch.undo()
    assert contents(base) == before
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    checkpoints.save_base(base, CONFIG, model.frozen_state(), name="other")
    assert checkpoints.load_base(base).name == "other"
    assert (base / "notes.txt").read_text() == "mine"


def test_unwritable_places(tmp_path, model):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError) as error:
            checkpoints.save_base(place, CONFIG, model.frozen_state(), name="tiny")
        one_line(error)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_parents_are_made(tmp_path, model):
    checkpoints.save_base(tmp_path / "a" / "b" / "c", CONFIG, model.frozen_state(), name="tiny")
    assert checkpoints.load_base(tmp_path / "a" / "b" / "c").name == "tiny"
