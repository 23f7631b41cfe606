"""The SDK's own checks of a plugin."""

from mpa_core.testing import parametrize_with_checks


@parametrize_with_checks(["detection"], settings=["recipe.stamps=null"])
def test_conformance(path, check):
    check(path)
