"""What is said about a value or a key that a configuration does not take."""

from __future__ import annotations

import pytest

from mpa_core import PathSpec
from mpa_core.config import PathConfig, StrictModel
from mpa_core.errors import ConfigError


class Inner(StrictModel):
    weight: float = 1.0
    steps: int | None = None


class Outer(StrictModel):
    inner: Inner = Inner()
    maybe: Inner | None = None
    name: str


class Sloped(PathConfig):
    slope: float = 0.1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "a", "inner": {"wieght": 2}}, "inner.wieght: there is no such key; did you mean"),
        ({"name": "a", "maybe": {"wieght": 2}}, "maybe.wieght: .* did you mean 'weight'"),
        ({"name": "a", "nmae": 2}, "nmae: there is no such key; did you mean 'name'"),
        ({"name": "a", "colour": 2}, "colour: there is no such key$"),
        ({"name": "a", "inner": {"weight": "much"}}, "inner.weight: .*, found 'much'$"),
        ({"name": ["a"]}, "name: .*, found an object of type list$"),
        ({}, "name: is missing$"),
        ([1], r"\(top level\): .*, found an object of type list$"),
    ],
)
def test_each_fault_says_key_what_was_found_and_what_is_expected(data, said):
    with pytest.raises(ConfigError, match=f"^here: not a valid Outer: {said}") as error:
        Outer.parse(data, source="here")
    assert "\n" not in str(error.value)
    assert "Extra inputs" not in str(error.value)


def test_a_model_that_callers_make_says_it_once():
    with pytest.raises(ConfigError) as error:
        Sloped.parse({"slop": 2, "slope": "steep"}, source="path_config.json")
    text = str(error.value)
    assert text.startswith("path_config.json: not a valid Sloped: slope: Input should be")
    assert text.count("not a valid") == 1
    assert "found 'steep'; slop: there is no such key; did you mean 'slope'?" in text
    with pytest.raises(ConfigError, match=r"^not a valid PathSpec: summary: is missing; colou"):
        PathSpec(name="a", path="a.b:C", colour="red")
