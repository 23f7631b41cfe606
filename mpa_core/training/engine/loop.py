"""The loop of every run: budget, checkpoints, signals, metrics, bad steps.

It knows nothing about codecs: a *trainer* supplies steps and state. With several processes each
runs a loop in step with that of the main process, which alone decides and writes.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from mpa_core.errors import OutputError, TrainingError
from mpa_core.training.engine.board import Board
from mpa_core.training.engine.checkpoint import checkpoint_name, clear_staging, save_state
from mpa_core.training.engine.parallel import from_main, gathered, share_state
from mpa_core.training.engine.progress import Progress
from mpa_core.training.engine.schedule import budget_fraction
from mpa_core.training.objectives.losses import psnr_from_mse
from mpa_core.training.settings.base import RunSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
"""Name of the folder for pictures: a validation at step N may write PNG files to
``samples/step-0000000N``."""


@dataclass(frozen=True)
class StepRecord:
    """The record of one step for the loop. Tensors stay on their device until a line is written.

    With several processes, it covers this process's part of the batch; the parts are equally large.
    """

    finite: bool
    """False if the loss or the gradient was not finite and nothing was changed. The same on all
    processes."""
    quality: Tensor
    """[B], the quality of each picture."""
    per_image: Mapping[str, Tensor]
    """[B] each: ``bpp``, ``mse`` (0-255 scale)."""
    scalars: Mapping[str, Tensor]
    """Scalars by any name, the same names on all processes; their means are logged."""
    lr: float


Validator = Callable[[int], list[dict[str, float]]]
"""A function of the step that returns the values to log for each quality: ``quality``, ``bpp``,
``psnr``, …"""


class Trainable(Protocol):
    """Steps and state, as :class:`~mpa_core.training.engine.trainer.Trainer` has them."""

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """Do step ``step`` (from 0), when ``fraction`` of the budget is spent."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the complete state."""

    def meta(self) -> Mapping[str, Any]:
        """Return the rest of the state, in values that JSON can hold."""


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    step: int
    """Number of steps done."""
    elapsed: float
    """Seconds of training, resumptions included."""
    reason: Literal["budget", "signal"]
    checkpoint: Path
    is_main: bool
    """Whether this process is the one that wrote the checkpoint."""


class TrainingLoop:
    """Runs a trainer until its budget is spent or a signal comes; then writes a checkpoint.

    Args:
        trainer: the trainer to run.
        folder: the run's folder, which exists.
        settings: intervals and limits.
        accelerator: the processes (:mod:`mpa_core.training.engine.parallel`).
        steps, hours: the budget; at least one is given, the first one reached ends the run.
        meta: facts about the run that every checkpoint and the first line of the metrics record.
        validate: called at intervals.
        start: (step, seconds) that are already done.
        progress: shows the progress; None shows it on stderr.
        board: further output of metrics and pictures; used by the main process.
    """

    def __init__(
        self,
        trainer: Trainable,
        folder: Path,
        settings: RunSettings,
        accelerator: Accelerator,
        *,
        steps: int | None,
        hours: float | None,
        meta: Mapping[str, Any],
        validate: Validator | None = None,
        start: tuple[int, float] = (0, 0.0),
        progress: Progress | None = None,
        board: Board | None = None,
    ) -> None:
        self.trainer = trainer
        self.folder = folder
        self.settings = settings
        self.accelerator = accelerator
        self.is_main = bool(accelerator.is_main_process)
        self.steps = steps
        self.hours = hours
        self.meta = dict(meta)
        self.validate = validate
        self.step, self._before = start
        self.progress = progress or Progress(settings.report_seconds)
        self.board = board
        self.bad_steps = 0
        self._bad_run = 0
        self._stop: str | None = None
        self._window = _Window()
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, resumptions included."""
        return self._before + time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is spent, in [0, 1]."""
        return budget_fraction(self.step, self.elapsed, self.steps, self.hours)

    def run(self) -> RunResult:
        """Train to the end of the budget.

        Raises:
            TrainingError: ``max_bad_steps`` steps in a row were not finite (the last good
                checkpoint stays).
            OutputError: the folder cannot be written.
        """
        if self.is_main:
            clear_staging(self.folder / CHECKPOINTS)
        share_state(self.accelerator, self.trainer.tensors())
        self._started = time.monotonic()
        last_checkpoint = last_validation = self._started
        self._write({"event": "start", "step": self.step, "elapsed": self.elapsed, **self.meta})
        # A checkpoint before any step records the settings and shows that the folder is writable.
        checkpoint = self.checkpoint()
        alone = self.accelerator.num_processes == 1
        with (
            _signals(self._request_stop, again_as_usual=alone),
            self.progress if self.is_main else nullcontext(),
        ):
            stopped, fraction = self._decide()
            while not stopped and fraction < 1.0:
                self._one_step(fraction)
                now = time.monotonic()
                if self.validate and now - last_validation > 60 * self.settings.validate_minutes:
                    self._validate()
                    last_validation = time.monotonic()
                if now - last_checkpoint > 60 * self.settings.checkpoint_minutes:
                    checkpoint = self.checkpoint()
                    last_checkpoint = time.monotonic()
                stopped, fraction = self._decide()
            self._flush()
            checkpoint = self.checkpoint()
            if not stopped:
                self._validate()
        reason: Literal["budget", "signal"] = "signal" if stopped else "budget"
        end = {"event": "end", "step": self.step, "elapsed": self.elapsed, "reason": reason}
        self._write({**end, "bad_steps": self.bad_steps})
        # No process goes on before all can read the last checkpoint.
        self.accelerator.wait_for_everyone()
        return RunResult(self.step, self.elapsed, reason, checkpoint, self.is_main)

    def checkpoint(self) -> Path:
        """Write the present state, if this is the main process, and return its folder."""
        if not self.is_main:
            return self.folder / CHECKPOINTS / checkpoint_name(self.step)
        meta = {
            **self.meta,
            "elapsed": self.elapsed,
            "bad_steps": self.bad_steps,
            "stage": dict(self.trainer.meta()),
        }
        return save_state(self.folder / CHECKPOINTS, self.step, self.trainer.tensors(), meta)

    def _decide(self) -> tuple[bool, float]:
        """Return whether a signal ends the run now, and the fraction of the budget spent."""
        own = [float(self._stop is not None), self.fraction]
        stopped, fraction = from_main(self.accelerator, own)
        return bool(stopped), fraction

    def _one_step(self, fraction: float) -> None:
        began = time.perf_counter()
        record = self.trainer.train_step(self.step, fraction)
        self.step += 1
        if record.finite:
            self._bad_run = 0
            self._window.add(record, time.perf_counter() - began)
        else:
            self.bad_steps += 1
            self._bad_run += 1
            if self.is_main:
                logger.warning("step %d: loss or gradient is not finite; skipped", self.step - 1)
            if self._bad_run >= self.settings.max_bad_steps:
                self._write({"event": "abort", "step": self.step, "elapsed": self.elapsed})
                raise TrainingError(
                    f"{self._bad_run} steps in a row had no finite loss and gradient, up to step "
                    f"{self.step}; resume from the last checkpoint with a lower rate, for example "
                    "--resume --set optim.lr=5e-5"
                )
        if self.step % self.settings.log_every == 0:
            self._flush()

    def _flush(self) -> None:
        """Write the mean of the steps since the last line."""
        if not self._window.count:
            return
        line = {
            "step": self.step,
            "elapsed": round(self.elapsed, 2),
            **self._window.summary(self.accelerator),
            "bad_steps": self.bad_steps,
        }
        self._window = _Window()
        if not self.is_main:
            return
        self._write(line)
        self.progress.update(self.fraction, line)
        if self.board is not None:
            self.board.line(self.step, line)

    def _validate(self) -> None:
        if self.validate is None or not self.is_main:
            return
        levels = self.validate(self.step)
        line = {"event": "validation", "step": self.step, "elapsed": round(self.elapsed, 2)}
        self._write({**line, "levels": levels})
        self.progress.validation(self.step, levels)
        if self.board is not None:
            pictures = self.folder / SAMPLES / checkpoint_name(self.step)
            self.board.validation(self.step, levels, pictures)

    def _write(self, line: Mapping[str, Any]) -> None:
        if not self.is_main:
            return
        path = self.folder / METRICS_FILE
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; check the folder, its "
                "permissions and the space left"
            ) from error

    def _request_stop(self, name: str) -> None:
        self._stop = name
        if self.is_main:
            logger.warning("%s: ending after this step, with a checkpoint", name)


class _Window:
    """Sums over the steps between two lines of metrics."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.lr = 0.0
        self._quality: list[Tensor] = []
        self._scalars: dict[str, list[Tensor]] = defaultdict(list)
        self._per_image: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, record: StepRecord, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.lr = record.lr
        self._quality.append(record.quality)
        for name, value in record.scalars.items():
            self._scalars[name].append(value)
        for name, value in record.per_image.items():
            self._per_image[name].append(value)

    def summary(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return means, and bpp and PSNR for each quality level seen (rounded to the nearest).

        They cover all processes, each of which must call this.
        """

        def everywhere(values: list[Tensor], join: Callable[[list[Tensor]], Tensor]) -> Tensor:
            return gathered(accelerator, join(values)).cpu()

        values = {
            name: float(everywhere(v, torch.stack).mean()) for name, v in self._scalars.items()
        }
        images = {name: everywhere(v, torch.cat) for name, v in self._per_image.items()}
        level = everywhere(self._quality, torch.cat).round()
        buckets = {
            str(int(q)): {
                "bpp": round(float(images["bpp"][level == q].mean()), 5),
                "psnr": round(psnr_from_mse(float(images["mse"][level == q].mean())), 3),
                "images": int((level == q).sum()),
            }
            for q in level.unique()
        }
        return {
            **{name: _rounded(value) for name, value in values.items()},
            "bpp": _rounded(float(images["bpp"].mean())),
            "psnr": _rounded(psnr_from_mse(float(images["mse"].mean()))),
            "lr": self.lr,
            "step_seconds": round(self.seconds / self.count, 4),
            "levels": buckets,
        }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value


@contextmanager
def _signals(request: Callable[[str], None], *, again_as_usual: bool) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into ``request(name)``.

    With ``again_as_usual`` only the first is turned, and a second one acts as usual. A launcher of
    several processes sends one on Ctrl-C that they have already received, and kills those that do
    not end in time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    previous: dict[int, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        for each, old in previous.items() if again_as_usual else ():
            signal.signal(each, old)
        request(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for each, old in previous.items():
            signal.signal(each, old)
