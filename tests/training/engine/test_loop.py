"""The loop, with stages small enough to script."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from mpa_core.errors import TrainingError
from mpa_core.training.engine.loop import METRICS_FILE, StepRecord, TrainingLoop
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.settings.base import RunSettings


class Counter:
    """A stage whose state is the number of finite steps."""

    def __init__(self, bad=(), on_step=None):
        self.value = torch.zeros(())
        self.bad = bad
        self.on_step = on_step
        self.fractions = []

    def train_step(self, step, fraction):
        self.fractions.append(fraction)
        if self.on_step:
            self.on_step(step)
        finite = step not in self.bad
        self.value += finite
        return StepRecord(
            finite=finite,
            quality=torch.tensor([1.0, 8.0]),
            per_image={"bpp": torch.tensor([0.1, 0.5]), "mse": torch.tensor([100.0, 1.0])},
            scalars={"loss": torch.tensor(float(step))},
            lr=1e-3,
        )

    def tensors(self):
        return {"value": self.value}

    def meta(self):
        return {}


def loop(stage, folder, **options):
    settings = RunSettings(log_every=2, max_bad_steps=3)
    return TrainingLoop(
        stage,
        folder,
        settings,
        make_accelerator(settings),
        **{"steps": 6, "hours": None, "meta": {}, **options},
    )


def lines(folder):
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_metrics_by_quality(tmp_path):
    outcome = loop(Counter(), tmp_path).run()
    assert (outcome.step, outcome.reason) == (6, "budget")
    first, *steps, last = lines(tmp_path)
    assert (first["event"], last["event"]) == ("start", "end")
    assert [line["step"] for line in steps] == [2, 4, 6]
    assert [line["loss"] for line in steps] == [0.5, 2.5, 4.5]
    assert steps[0]["levels"]["1"] == {"bpp": 0.1, "psnr": 28.131, "images": 2}
    assert steps[0]["levels"]["8"]["psnr"] == 48.131


def test_fraction_of_the_budget(tmp_path):
    stage = Counter()
    loop(stage, tmp_path, start=(2, 0.0), steps=4).run()
    assert stage.fractions == [0.5, 0.75]


def test_a_budget_of_hours_ends_a_run(tmp_path):
    stage = Counter()
    outcome = loop(stage, tmp_path, steps=None, hours=2 / 3600).run()
    assert outcome.elapsed >= 2
    assert outcome.step > 1 and stage.fractions == sorted(stage.fractions)
    spent = loop(Counter(), tmp_path, steps=None, hours=1.0, start=(9, 1800.0))
    assert spent.fraction == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_its_step(tmp_path, number):
    before = signal.getsignal(number)
    stage = Counter(on_step=lambda step: step == 2 and signal.raise_signal(number))
    outcome = loop(stage, tmp_path).run()
    assert (outcome.step, outcome.reason, int(stage.value)) == (3, "signal", 3)
    assert outcome.checkpoint.name == "step-00000003"
    assert signal.getsignal(number) is before


def test_bad_steps_are_skipped_and_counted(tmp_path):
    stage = Counter(bad=(1, 2, 4))
    outcome = loop(stage, tmp_path).run()
    assert (outcome.step, int(stage.value)) == (6, 3)
    assert lines(tmp_path)[-1]["bad_steps"] == 3


def test_bad_steps_in_a_row_end_the_run(tmp_path):
    with pytest.raises(TrainingError, match="3 steps in a row had no finite loss"):
        loop(Counter(bad=(2, 3, 4)), tmp_path).run()
    assert lines(tmp_path)[-1] == {**lines(tmp_path)[-1], "event": "abort", "step": 5}


def test_validation_at_the_end(tmp_path):
    rows = [{"quality": 1, "bpp": 0.1, "psnr": 30.0}]
    loop(Counter(), tmp_path, validate=lambda step: rows).run()
    found = [line for line in lines(tmp_path) if line.get("event") == "validation"]
    assert [(line["step"], line["levels"]) for line in found] == [(6, rows)]
