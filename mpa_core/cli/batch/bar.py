"""The progress of a run on a terminal: inputs that are done, and a line for each search at work."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mpa_core.cli.common import STREAM


@dataclass
class _Search:
    """The search of one job, as it is shown."""

    line: TaskID
    number: int
    """Which search of the job it is, from 1: a target asks for several."""
    done: int
    """Steps done."""


class Bar:
    """A bar on stderr, between :meth:`start` and :meth:`stop`.

    Args:
        total: number of inputs. A single one has no bar but that of its search.
    """

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
        )
        self._whole = self._progress.add_task("", total=total) if total > 1 else None
        self._searches: dict[int, _Search] = {}

    def start(self) -> None:
        """Show the bar."""
        self._progress.start()

    def stop(self) -> None:
        """Remove the bar from the terminal; :meth:`start` brings it back."""
        self._progress.stop()

    def step(self, place: int, name: str, done: int, steps: int) -> None:
        """Show that of ``steps`` steps of a search ``done`` are done.

        Args:
            place: index of the job in the list.
            name: its input.
            done: as many as before or fewer begin another search of the job.
            steps: all steps of this search.
        """
        search = self._searches.get(place)
        if search is None:
            line = self._progress.add_task(_shown(name), total=steps, completed=done)
            self._searches[place] = _Search(line, 1, done)
            return
        if done <= search.done:
            search.number += 1
            text = f"{_shown(name)}, search {search.number}"
            self._progress.reset(search.line, total=steps, completed=done, description=text)
        else:
            self._progress.update(search.line, completed=done)
        search.done = done

    def finished(self, place: int | None) -> None:
        """Count an input, whose search is over; ``place`` is None for one that is no job."""
        search = None if place is None else self._searches.pop(place, None)
        if search is not None:
            self._progress.remove_task(search.line)
        if self._whole is not None:
            self._progress.advance(self._whole)


def _shown(name: str) -> str:
    """Return the last part of a name, without characters that would act on the terminal."""
    last = "stdin" if name == STREAM else os.path.basename(name)  # noqa: PTH119
    return "".join(mark if mark.isprintable() else "?" for mark in last)
