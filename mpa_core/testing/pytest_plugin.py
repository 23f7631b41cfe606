"""The kit for pytest: ``--mpa-plugin NAME``, and fixtures for a plugin's own tests.

Every pytest of an environment with mpa-core imports this, so it imports nothing that is not light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mpa_core.testing.check import Check
    from mpa_core.testing.subject import PathUnderTest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("mpa", "plugins of the MPA SDK")
    group.addoption(
        "--mpa-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="run the conformance checks of this installed plugin (entry point or distribution); "
        "may be repeated",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the checks of the plugins that ``--mpa-plugin`` names."""
    names = config.getoption("--mpa-plugin")
    if not names:
        return
    from mpa_core.errors import MPAError
    from mpa_core.plugins.registry import registry
    from mpa_core.testing import PathUnderTest, all_checks

    try:
        plugins = [plugin for name in names for plugin in registry().select(name)]
    except MPAError as error:
        raise pytest.UsageError(str(error)) from error
    for plugin in plugins:
        if plugin.error is not None:
            raise pytest.UsageError(f"plugin {plugin.name!r} did not load: {plugin.error}")
        for registered in plugin.paths:
            path = PathUnderTest(registered.qualified_name)
            items += [
                CheckItem.from_parent(
                    session, name=f"{registered.name}-{check}", check=check, path_under_test=path
                )
                for check in all_checks()
            ]


class CheckItem(pytest.Item):
    """One check of one path."""

    def __init__(self, *, check: Check, path_under_test: PathUnderTest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check
        self.path_under_test = path_under_test

    def runtest(self) -> None:
        """Run it; pytest skips it where there is nothing to check."""
        from mpa_core.testing.check import NotApplicable

        try:
            self.check(self.path_under_test)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """Return what to change, without a traceback."""
        from mpa_core.testing.check import CheckFailed

        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the place that it comes from, for reports."""
        return Path(__file__), None, self.name


@pytest.fixture(scope="session")
def mpa_tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder of a tiny base with random weights (:func:`mpa_core.testing.tiny_base`)."""
    from mpa_core.testing import tiny_base

    return tiny_base(tmp_path_factory.mktemp("mpa") / "base")


@pytest.fixture(scope="session")
def mpa_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of three small photos (:func:`mpa_core.testing.small_photos`)."""
    from mpa_core.testing import small_photos

    return small_photos(tmp_path_factory.mktemp("mpa") / "photos")
