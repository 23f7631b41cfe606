"""Checkpoints of a run on disk."""

from __future__ import annotations

import json

import pytest
import torch

from mpa_core.errors import CheckpointError
from mpa_core.training.engine.checkpoint import (
    MAX_FILE_BYTES,
    clear_staging,
    load_latest,
    load_state,
    save_state,
)


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "large": torch.randn(300, 40, generator=generator),
        "channels_last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(
            memory_format=torch.channels_last
        ),
        "scalar": torch.tensor(3.5),
        "whole": torch.arange(7),
        "empty": torch.zeros(0, dtype=torch.int32),
    }


def test_what_is_saved_comes_back(tmp_path):
    folder = save_state(tmp_path, 12, tensors(), {"note": [1, "x"]}, max_file_bytes=4096)
    state = load_state(folder)
    assert state.meta == {"note": [1, "x"], "step": 12}
    assert state.tensors.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(state.tensors[name], value), name
        assert state.tensors[name].dtype == value.dtype
    files = list(folder.glob("*.safetensors"))
    assert len(files) > 10
    assert max(file.stat().st_size for file in files) <= 4096


def test_files_stay_below_the_limit(tmp_path):
    folder = save_state(tmp_path, 0, {"big": torch.zeros(5_000_000)}, {})
    sizes = [file.stat().st_size for file in folder.iterdir()]
    assert sum(sizes) > 20_000_000 and max(sizes) <= MAX_FILE_BYTES == 16 * 2**20


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 100):
        save_state(tmp_path, step, {"x": torch.tensor(step)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    assert load_latest(tmp_path).meta["step"] == 100


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage, caplog):
    for step in (1, 2):
        save_state(tmp_path, step, {"x": torch.full((100,), float(step))}, {})
    newest = tmp_path / "step-00000002"
    shard = newest / "state-00000.safetensors"
    if damage == "flip":
        data = bytearray(shard.read_bytes())
        data[-1] ^= 1
        shard.write_bytes(data)
    elif damage == "truncate":
        shard.write_bytes(shard.read_bytes()[:-9])
    elif damage == "missing":
        shard.unlink()
    else:
        (newest / "state.json").write_text("{")
    assert load_latest(tmp_path).meta["step"] == 1
    assert "step-00000002" in caplog.text
    with pytest.raises(CheckpointError, match="step-00000002"):
        load_state(newest)


def test_another_format_and_nothing_at_all(tmp_path):
    folder = save_state(tmp_path, 1, {"x": torch.zeros(1)}, {})
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 9}))
    with pytest.raises(CheckpointError, match="format 9, expected 1"):
        load_state(folder)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        load_latest(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="is no run, expected the folder of a run, with nowh"):
        load_latest(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="a does not exist, expected the folder of a run"):
        load_latest(tmp_path / "a" / "checkpoints")


def test_leftovers_of_a_killed_run_are_no_checkpoint(tmp_path):
    save_state(tmp_path, 1, {"x": torch.zeros(1)}, {})
    (tmp_path / ".step-00000002.tmp").mkdir()
    (tmp_path / ".step-00000002.tmp" / "state.json").write_text("{")
    assert load_latest(tmp_path).meta["step"] == 1
    clear_staging(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
