"""The checks of a whole plugin without pytest: what ``mpa plugins check`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpa_core.plugins.records import Plugin
from mpa_core.testing.check import (
    Check,
    CheckFailed,
    NotApplicable,
    all_checks,
    as_expected_failures,
)
from mpa_core.testing.subject import PathUnderTest

Status = Literal["passed", "failed", "expected", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """The result of one check of one path, or of one type of base."""

    subject: str
    """The path or type of base, by name; of the plugin itself, the plugin's."""
    check: str
    status: Status
    """``"expected"``: it failed as was said beforehand; ``"skipped"``: nothing to check."""
    message: str = ""
    """What to change, or why it was skipped; one line."""

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.subject}: {self.message or 'as it should be'} [{self.check}]"


def check_plugin(
    plugin: Plugin,
    *,
    train: bool = False,
    expected_failures: Mapping[str, str] | None = None,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Check everything that a plugin offers; imports torch. One outcome after the other.

    Args:
        plugin: as :meth:`mpa_core.plugins.registry.Registry.select` gives it.
        train, expected_failures, data, settings: as for
            :func:`mpa_core.testing.parametrize_with_checks`.

    Raises:
        ConfigError: an argument of the wrong kind, or an expected failure of no check.
    """
    expected = as_expected_failures(expected_failures)
    if plugin.error is not None:
        yield Outcome(plugin.name, "discovery", "failed", plugin.error)
        return
    if plugin.imports_torch:
        yield Outcome(
            plugin.name,
            "discovery",
            "failed",
            f"importing {plugin.module!r} imports torch; move what needs it to a module of its "
            "own, which is imported when it is used",
        )
    # Before any path, whose class brings torch in.
    from mpa_core.testing.checks.base import check_base

    for base in plugin.bases:
        problems = check_base(base)
        for problem in problems:
            yield Outcome(base.name, "check_base", "failed", problem)
        if not problems:
            yield Outcome(base.name, "check_base", "passed")
    for registered in plugin.paths:
        if unmet := registered.spec.unmet:
            yield Outcome(registered.name, "requires", "failed", unmet)
            continue
        path = PathUnderTest(registered.qualified_name, data=data, settings=settings)
        for check in all_checks(train=train):
            status, message = _run(check, path)
            reason = expected.get(check.name)
            if reason is not None and status == "failed":
                status, message = "expected", reason
            elif reason is not None and status == "passed":
                status = "failed"
                message = f"it passes, and was said to fail ({reason}); take it off that list"
            yield Outcome(registered.name, check.name, status, message)


def _run(check: Check, path: PathUnderTest) -> tuple[Status, str]:
    try:
        check(path)
    except CheckFailed as error:
        return "failed", " ".join(str(error).split())
    except NotApplicable as reason:
        return "skipped", " ".join(str(reason).split())
    return "passed", ""
