"""The SDK's own paths and recipes pass the kit."""

from __future__ import annotations

from mpa_core.testing import parametrize_with_checks

SMALL = ("data.crop=64", "recipe.judge=null")


@parametrize_with_checks(["mse"], settings=SMALL[:1])
def test_mse(path, check):
    check(path)


@parametrize_with_checks(["cls"], settings=SMALL)
def test_cls(path, check):
    check(path)


@parametrize_with_checks(["seg"], settings=SMALL)
def test_seg(path, check, stamps):
    path.settings = (*SMALL, f"recipe.stamps={stamps}")
    check(path)
