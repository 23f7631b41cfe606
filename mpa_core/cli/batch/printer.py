"""The report of a run over many files: a row for each on stdout as it comes, then totals."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from mpa_core.cli.batch.job_list import JobList
from mpa_core.cli.batch.jobs import JobOutcome
from mpa_core.cli.batch.signals import uninterrupted
from mpa_core.cli.output import emit_line, say_error, table
from mpa_core.io.folders import counted
from mpa_core.runtime.streams import stdout

if TYPE_CHECKING:
    from mpa_core.cli.batch.bar import Bar

_STATES = ("done", "skipped", "failed")
_BLOCK = 1000
"""Number of rows in one table; a run of millions must not keep all rows in memory."""


class OutcomePrinter:
    """Prints outcomes as they come; inside its context, a terminal shows a progress bar.

    As JSON it is a line for every file, which is written as soon as the file is finished, and a
    last line with the sums. As text it is a table, and the bar shows the steps of searches; errors
    go to stderr in both.

    Args:
        job_list: the jobs.
        as_json: print JSON instead of text.

    Attributes:
        counts: number of files ``done``, ``skipped`` and ``failed``.
        stopped: why the run ends early; None if it does not.
        leftovers: number of temporary files of killed runs that were removed.
    """

    def __init__(self, job_list: JobList, *, as_json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.stopped: str | None = None
        self.leftovers = 0
        self._total = len(job_list) + len(job_list.unreadable)
        self._left_out = job_list.left_out
        self._remarks = job_list.remarks
        self._as_json = as_json
        self._silent = job_list.to_stdout
        self._next = 0
        self._early: dict[int, JobOutcome] = {}
        """Outcomes, by place in the list, of jobs that finished before one that precedes them."""
        self._error: dict[str, str] | None = None
        self._rows: list[dict[str, Any]] = []
        self._searching: set[int] = set()
        """Places of jobs whose search has begun, until their outcomes come."""
        self._said_ending = False
        self._on_terminal = False
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._left_out:
            _say(f"left out of the input folders: {counted(self._left_out)}")
        for remark in self._remarks:
            _say(remark)
        # Rows of JSON on the same terminal show the progress themselves.
        shared = self._as_json and stdout().isatty()
        self._on_terminal = sys.stderr.isatty() and not shared
        if self._on_terminal and self._total > 1:
            self._start_bar()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def searching(self) -> bool:
        """Return whether any job is in its search, or between that and its outcome."""
        return bool(self._searching)

    def step(self, place: int, name: str, done: int, steps: int, *, ending: bool) -> None:
        """Show a step of a job's search.

        Args:
            place: index of the job in the list, from 0.
            name: its input.
            done: steps done.
            steps: all steps.
            ending: Ctrl-C ends the search here; that is said once.
        """
        self._searching.add(place)
        if self._on_terminal and not self._as_json:
            bar = self._bar or self._start_bar()
            bar.step(place, name, done, steps)
        if ending and not self._said_ending:
            self._said_ending = True
            _say("the search ends here and its file is written; Ctrl-C again stops at once")

    def add(self, outcome: JobOutcome, place: int | None = None) -> None:
        """Print the outcome of a job once all before it in the list have been printed.

        Counting and printing are not interrupted by a signal.

        Args:
            outcome: outcome of the job.
            place: index of the job in the list, from 0; None for an outcome of no job.
        """
        with uninterrupted():
            if outcome.state == "stopped":
                self.stopped = outcome.row["error"]["message"]
            if place is not None:
                self._searching.discard(place)
            if "input" in outcome.row and self._bar is not None:
                self._bar.finished(place)
            if place is None or "input" not in outcome.row:
                self._add(outcome)
                return
            self._early[place] = outcome
            while self._next in self._early:
                self._add(self._early.pop(self._next))
                self._next += 1

    def _add(self, outcome: JobOutcome) -> None:
        error = outcome.row.get("error")
        if error is not None:
            say_error(error, outcome.trace)
        for text in (*outcome.row.get("damage", ()), *outcome.row.get("warnings", ())):
            _say(f"warning: {outcome.row['input']}: {text}")
        if "input" not in outcome.row:
            self._error = error
            return
        state = "failed" if error is not None else outcome.state
        self.counts[state] += 1
        if self._as_json:
            emit_line(outcome.row)
        elif state == "done":
            self._rows.append(outcome.row)
            if len(self._rows) == _BLOCK:
                self._print_table()

    def close(self, *, signalled: str | None = None) -> None:
        """Print the totals; ``signalled`` is the name of the signal that ended the run, if any."""
        self.stopped = self.stopped or signalled
        for place in sorted(self._early):  # a job before these was not finished
            self._add(self._early.pop(place))
        if self._as_json:
            self._print_sums()
        else:
            self._print_table()
        if self.leftovers:
            _say(f"removed {self.leftovers} temporary files of runs that were killed")
        met_nothing = self._error is not None and not self.counts
        if (self._total > 1 or self.counts["skipped"]) and not met_nothing:
            rest = self._total - sum(self.counts.values())
            sums = [f"{self.counts[state]} {state}" for state in _STATES]
            sums += [f"{rest} not reached: go on with --resume"] if rest else []
            _say(f"{self._total} inputs: {', '.join(sums)}")

    def _print_sums(self) -> None:
        if self._error is not None and not self.counts:
            emit_line({"error": self._error})
            return
        sums: dict[str, Any] = {state: self.counts[state] for state in _STATES}
        sums |= {"total": self._total, "left_out": self._left_out.total()}
        sums["left_out_by_reason"] = dict(self._left_out)
        if self.stopped:
            sums["stopped"] = self.stopped
        emit_line(sums)

    def _print_table(self) -> None:
        if self._rows and not self._silent:
            with self._bar_aside():
                print(table(self._rows), file=stdout())
        self._rows.clear()

    def _start_bar(self) -> Bar:
        from mpa_core.cli.batch.bar import Bar  # takes a while, and is rarely needed for one input

        self._bar = Bar(self._total)
        self._bar.start()
        return self._bar

    @contextmanager
    def _bar_aside(self) -> Iterator[None]:
        """Remove the bar from the terminal while something else is printed."""
        if self._bar is None or not stdout().isatty():
            yield
            return
        self._bar.stop()
        yield
        self._bar.start()


def _say(text: str) -> None:
    print(f"mpa: {text}", file=sys.stderr)
