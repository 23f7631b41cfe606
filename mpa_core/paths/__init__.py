"""Task paths: side MLPs, predictors, and the routers that send tokens through them."""

from mpa_core.paths.aggregate import Aggregator
from mpa_core.paths.allocation import allocate
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.paths.mlp import SideMLP
from mpa_core.paths.path import PathStageModule, TaskPath
from mpa_core.paths.predictor import Predictor

__all__ = [
    "Aggregator",
    "GumbelAggregator",
    "PathStageModule",
    "Predictor",
    "SideMLP",
    "TaskPath",
    "allocate",
]
