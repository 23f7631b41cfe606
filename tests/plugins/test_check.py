"""What `mpa plugins check` finds in plugins that load, and yet do not work."""

from __future__ import annotations

import sys

import pytest

from mpa_core.plugins import PathSpec
from mpa_core.plugins.check import check_plugin
from mpa_core.plugins.registry import Plugin, RegisteredPath, Registry

SOURCE = """
import torch
from pydantic import field_serializer
from torch import nn

from mpa_core import PathConfig, TaskPath
from mpa_core.paths.predictor import Predictor


class Good(TaskPath):
    name = "det"

    class Config(PathConfig):
        hidden_ratio: float = 1.0
        kernels: tuple[int, ...] = (3, 5)


class WrongMLP(Good):
    def build_mlp(self, dim):
        return nn.Linear(dim, dim + 1)


class WrongPredictor(Good):
    def build_predictor(self, dim):
        class Pooled(Predictor):
            def forward(self, tokens):
                return super().forward(tokens).mean(dim=(1, 2))
        return Pooled(dim)


class Skips(Good):
    def __init__(self, stages, config=None, levels=8):
        super().__init__(stages[1:], config, levels)


class TooFew(Good):
    def __init__(self, stages, config=None, levels=8):
        super().__init__(stages, config, levels)
        del self.stages["2"].mlps[-1]


class Raises(Good):
    def build_mlp(self, dim):
        raise ValueError("no such dim")


class Needs(Good):
    class Config(PathConfig):
        kernel: int


class Loses(Good):
    class Config(PathConfig):
        kernel: int = 3

        @field_serializer("kernel")
        def _drop(self, value):
            return value + 1


class Taken(Good):
    name = "keys"
"""

BREACHES = {
    "WrongMLP": "stage 1 of preset 'mpa-tiny': an MLP makes (1, 4, 4, 17) of tokens (1, 4, 4, 16)",
    "WrongPredictor": "the predictor makes (1,) of tokens (1, 4, 4, 16), expected (1, 4, 4)",
    "Skips": "stage 1 of preset 'mpa-tiny': it has no parts there",
    "TooFew": "MLPs, expected",
    "Raises": "det_check.py, line 44)",
    "Needs": "not a valid Config: kernel: Field required",
    "Loses": "its Config does not survive",
    "Gone": "cannot be imported",
}


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "det_check.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("det_check", None)


def problems_of(class_name: str, name: str = "det") -> list[str]:
    spec = PathSpec(name=name, path=f"det_check:{class_name}", summary="s")
    path = RegisteredPath(spec, "mpa-plugin-det", "1.0")
    plugin = Plugin("det", "det_check", "mpa-plugin-det", "1.0", (path,))
    return check_plugin(Registry((plugin,)), plugin)


def test_a_good_path_has_no_problems():
    assert problems_of("Good") == []


@pytest.mark.parametrize("class_name", BREACHES)
def test_breaches(class_name):
    problems = problems_of(class_name)
    assert problems
    assert BREACHES[class_name] in problems[0]
    assert problems[0].startswith("det: ")
    assert not any("\n" in problem for problem in problems)


def test_a_name_that_torch_uses_itself():
    assert "ModuleDict" in problems_of("Taken", name="keys")[0]


def test_errors_of_discovery_are_reported():
    broken = Plugin("b", "b", "mpa-plugin-b", "0.1", error="ImportError: x")
    heavy = Plugin("h", "heavy", "mpa-plugin-h", "0.1", imports_torch=True)
    found = Registry((broken, heavy))
    assert check_plugin(found, broken) == ["ImportError: x"]
    assert "importing 'heavy' imports torch" in check_plugin(found, heavy)[0]
