"""The SDK's own checks of a path and its recipe."""

from __future__ import annotations

from mpa_core.testing import parametrize_with_checks


@parametrize_with_checks(["ocr"])
def test_conformance(path, check):
    check(path)
