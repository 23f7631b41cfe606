"""``@parametrize_with_checks``: the kit as tests of pytest, one for each check and path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mpa_core.arguments import as_sequence
from mpa_core.errors import ConfigError
from mpa_core.testing.check import Check, NotApplicable, all_checks, as_expected_failures
from mpa_core.testing.subject import PathUnderTest

Test = TypeVar("Test", bound=Callable[..., Any])


class SkippingCheck(Check):
    """A check that pytest skips where there is nothing to check."""

    def __call__(self, path: PathUnderTest) -> None:
        """Run it."""
        import pytest

        try:
            super().__call__(path)
        except NotApplicable as reason:
            pytest.skip(str(reason))


def parametrize_with_checks(
    names: Sequence[str],
    *,
    train: bool = True,
    expected_failures: Mapping[str, str] | None = None,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Callable[[Test], Test]:
    """Make a test of every check of every path: a decorator of a function ``(path, check)``.

    ::

        @parametrize_with_checks(["det"], expected_failures={"check_card": "not trained yet"})
        def test_conformance(path, check):
            check(path)

    Neither torch nor the plugin is imported before the first of them runs.

    Args:
        names: of installed paths, ``"det"`` or ``"distribution:det"``.
        train: also check the recipe; takes what training takes (``mpa-core[train]``).
        expected_failures: check -> why it is known to fail; one that passes all the same fails.
        data: folder that the recipes take for their data; None: three small photos.
        settings: of the recipe's training, ``"key=value"`` each.

    Raises:
        ConfigError: an argument of the wrong kind, or an expected failure of no check.
    """
    import pytest

    paths = [
        PathUnderTest(name, data=data, settings=settings)
        for name in as_sequence(names, "names", "names of paths", ConfigError)
    ]
    expected = as_expected_failures(expected_failures)

    def cases() -> Iterator[Any]:
        for path in paths:
            for check in all_checks(train=train):
                reason = expected.get(check.name)
                marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
                case = SkippingCheck(check.name, check.module, check.trains)
                yield pytest.param(path, case, marks=marks, id=f"{path}-{check}")

    return pytest.mark.parametrize(("path", "check"), list(cases()))
