"""The conformance kit: checks of a plugin's path and recipe against the SDK's contract.

In a plugin's tests::

    from mpa_core.testing import parametrize_with_checks

    @parametrize_with_checks(["det"])
    def test_conformance(path, check):
        check(path)

``pytest --mpa-plugin det`` does the same without a file of tests, and ``mpa plugins check det``
without pytest. Importing this imports neither torch nor pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpa_core.lazy import lazy_names

if TYPE_CHECKING:
    from mpa_core.testing.check import Check, CheckFailed, NotApplicable, all_checks
    from mpa_core.testing.decorator import parametrize_with_checks
    from mpa_core.testing.materials import small_photos, tiny_base
    from mpa_core.testing.report import Outcome, check_plugin
    from mpa_core.testing.subject import PathUnderTest

__all__ = [
    "Check",
    "CheckFailed",
    "NotApplicable",
    "Outcome",
    "PathUnderTest",
    "all_checks",
    "check_plugin",
    "parametrize_with_checks",
    "small_photos",
    "tiny_base",
]

_MODULES = {
    "mpa_core.testing.check": ("Check", "CheckFailed", "NotApplicable", "all_checks"),
    "mpa_core.testing.decorator": ("parametrize_with_checks",),
    "mpa_core.testing.materials": ("small_photos", "tiny_base"),
    "mpa_core.testing.report": ("Outcome", "check_plugin"),
    "mpa_core.testing.subject": ("PathUnderTest",),
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
