"""Live progress on stderr: a bar on a terminal, a plain line at intervals anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from typing_extensions import Self


class Progress:
    """Shows the progress of a run; used as a context manager around the loop.

    Args:
        report_seconds: seconds between two lines where there is no terminal.
        console: where to print; stderr by default.
    """

    def __init__(self, report_seconds: float, console: Console | None = None) -> None:
        self.report_seconds = report_seconds
        self.console = console or Console(stderr=True)
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._reported: float | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = RichProgress(
                BarColumn(), TextColumn("{task.percentage:>4.1f} %"), TimeElapsedColumn(),
                TextColumn("{task.description}"), console=self.console,
            )  # fmt: skip
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, fraction: float, line: Mapping[str, Any]) -> None:
        """Show a line of metrics at ``fraction`` of the budget."""
        text = (
            f"step {line['step']}  loss {line['loss']:.4g}  bpp {line['bpp']:.3f}  "
            f"psnr {line['psnr']:.2f}  lr {line['lr']:.1e}  {line['step_seconds']:.3f} s/step"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=fraction, description=text)
            return
        now = time.monotonic()
        if self._reported is None or now - self._reported >= self.report_seconds:
            self._reported = now
            self._print(f"{100 * fraction:5.1f} %  {text}")

    def validation(self, step: int, levels: list[dict[str, float]]) -> None:
        """Show the bits and the PSNR at each quality, and one line for each other metric."""
        points = "  ".join(f"{level['bpp']:.3f}/{level['psnr']:.2f}" for level in levels)
        self._print(f"validation at step {step}, bpp/dB by quality: {points}")
        for name in [name for name in levels[0] if name not in ("quality", "bpp", "psnr")]:
            self._print(f"  {name}: {'  '.join(f'{level[name]:.4g}' for level in levels)}")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
