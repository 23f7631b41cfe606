"""What a run sets for the whole process is the run's alone."""

from __future__ import annotations

import pytest
import torch

from mpa_core.errors import TrainingError
from mpa_core.training.engine.process import denormals_are_flushed, process_settings
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.base import RunSettings

MATMUL, CONV, RNN = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
)


def modes() -> tuple[object, ...]:
    precisions = [switch.fp32_precision for switch in (MATMUL, CONV, RNN)]
    return (torch.get_num_threads(), denormals_are_flushed(), *precisions)


@pytest.mark.parametrize(("tf32", "precision"), [(True, "tf32"), (False, "ieee")])
def test_settings_hold_inside_and_are_gone_after(tf32, precision):
    before = modes()
    with process_settings(RunSettings(tf32=tf32, threads=3)):
        assert modes() == (3, True, precision, precision, precision)
    assert modes() == before


def test_a_program_that_flushes_denormals_itself_still_does():
    torch.set_flush_denormal(True)
    try:
        with process_settings(RunSettings(tf32=False)):
            pass
        assert denormals_are_flushed()
    finally:
        torch.set_flush_denormal(False)


def test_they_are_gone_after_a_run_that_failed(settings, tmp_path):
    before = modes()
    (tmp_path / "empty").mkdir()
    run = Run(tmp_path / "run", tmp_path / "empty")
    with pytest.raises(TrainingError):
        train(run, settings("run.threads=3"))
    assert modes() == before


def test_they_are_gone_after_a_run(settings, photo_folder, tmp_path):
    before = modes()
    train(Run(tmp_path / "run", photo_folder), settings("run.threads=3", "budget.steps=1"))
    assert modes() == before
