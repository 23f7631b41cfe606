"""The classes; each is called as the path."""

from __future__ import annotations

import socket

import torch
import torch.nn.functional as F
from pydantic import field_serializer
from torch import nn

from mpa_core import PathConfig, TaskPath
from mpa_core.paths import Predictor, SideMLP
from mpa_wrong import RECIPES


def of_layer(name: str, layer: type[nn.Module]) -> type[TaskPath]:
    """A path of MLPs ``layer(dim)``."""
    return type(name, (TaskPath,), {"name": name, "build_mlp": lambda _, dim: layer(dim)})


def plain(name: str) -> type[TaskPath]:
    return type(name, (TaskPath,), {"name": name})


class Layer(nn.Module):
    """Something that learns, around which the others do what they do."""

    def __init__(self, dim):
        super().__init__()
        self.inner = SideMLP(dim, 0.5)

    def forward(self, tokens):
        return self.inner(tokens)


right = plain("right")
misplaced = plain("misplaced")
uncarded = plain("uncarded")
misnamed = plain("other")
for name in RECIPES:
    globals()[name] = plain(name)


class Scores(nn.Module):
    """A predictor of its own: no subclass of ours."""

    def __init__(self, dim):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(self, tokens):
        return self.score(tokens).squeeze(-1)


class own_parts(TaskPath):  # noqa: N801
    name = "own_parts"

    def build_mlp(self, dim):
        return Layer(dim)

    def build_predictor(self, dim):
        return Scores(dim)


class changes_itself(TaskPath):  # noqa: N801
    name = "changes_itself"

    class Config(PathConfig):
        kernel: int = 3

        @field_serializer("kernel")
        def _more(self, value):
            return value + 1


class WideMLP(nn.Linear):
    def __init__(self, dim):
        super().__init__(dim, dim + 1)


wide_mlp = of_layer("wide_mlp", WideMLP)


class pooled_scores(TaskPath):  # noqa: N801
    name = "pooled_scores"

    def build_predictor(self, dim):
        class Pooled(Predictor):
            def forward(self, tokens):
                return super().forward(tokens).mean(dim=(1, 2))

        return Pooled(dim)


class skips_a_stage(TaskPath):  # noqa: N801
    name = "skips_a_stage"

    def stage(self, index):
        return None if index == 1 else super().stage(index)


class too_few(TaskPath):  # noqa: N801
    name = "too_few"

    def __init__(self, stages, config=None, levels=8):
        super().__init__(stages, config, levels)
        del self.stages["2"].mlps[-1]


class BatchMean(Layer):
    def forward(self, tokens):
        return self.inner(tokens - tokens.mean(0, keepdim=True))


sees_neighbours = of_layer("sees_neighbours", BatchMean)


class heavy(TaskPath):  # noqa: N801
    name = "heavy"

    class Config(PathConfig):
        hidden_ratio: float = 40.0


class changes_torch(TaskPath):  # noqa: N801
    name = "changes_torch"

    def __init__(self, stages, config=None, levels=8):
        super().__init__(stages, config, levels)
        nn.LayerNorm.forward = lambda norm, x: (
            1.01 * F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        )


class NotANumber(Layer):
    def forward(self, tokens):
        return self.inner(tokens) / 0 * 0


not_a_number = of_layer("not_a_number", NotANumber)


class Draws(Layer):
    def forward(self, tokens):
        return F.dropout(self.inner(tokens))


draws = of_layer("draws", Draws)


class square_only(TaskPath):  # noqa: N801
    name = "square_only"

    def build_predictor(self, dim):
        class Square(Predictor):
            def forward(self, tokens):
                b, h, w, c = tokens.shape
                side = int((h * w) ** 0.5)
                return super().forward(tokens.view(b, side, side, c)).view(b, h, w)

        return Square(dim)


class OneBase(Layer):
    def __init__(self, dim):
        super().__init__({8: 8, 16: 16, 32: 32}[dim])


one_base = of_layer("one_base", OneBase)


class CallsHome(Layer):
    def __init__(self, dim):
        super().__init__(dim)
        with socket.socket() as connection:
            connection.connect_ex(("127.0.0.1", 9))


calls_home = of_layer("calls_home", CallsHome)


class own_state(TaskPath):  # noqa: N801
    name = "own_state"

    def state_dict(self, *args, **kwargs):
        found = super().state_dict(*args, **kwargs)
        return {f"own_state.{key}": value for key, value in found.items()}


class Forgets(Layer):
    def __init__(self, dim):
        super().__init__(dim)
        self.scale = torch.rand(())

    def forward(self, tokens):
        return self.inner(tokens) * self.scale


forgets = of_layer("forgets", Forgets)


class Idle(Layer):
    def __init__(self, dim):
        super().__init__(dim)
        self.unused = nn.Parameter(torch.zeros(dim))


idle = of_layer("idle", Idle)


class CutOff(Layer):
    def forward(self, tokens):
        with torch.no_grad():
            return self.inner(tokens)


cut_off = of_layer("cut_off", CutOff)
