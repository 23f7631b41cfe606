"""A start for side MLPs from the base's own MLPs, as near as their width allows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mpa_core.base.api import needs
from mpa_core.base.capabilities import MainMLP
from mpa_core.base.routing import BlockRouter
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ConfigError
from mpa_core.paths.mlp import SideMLP
from mpa_core.paths.path import TaskPath

RIDGE = 1e-4
"""Value added to the diagonal of the normal equations, relative to its mean."""


class _Recorder:
    """A router that sends all tokens to the main MLPs and keeps their inputs."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[int, int], Tensor] = {}

    def __call__(self, stage: int, tokens: Tensor) -> BlockRouter:
        del tokens  # each block gets its own tokens

        def block_router(tokens: Tensor, block: int, main: Callable[[Tensor], Tensor]) -> Tensor:
            self.tokens[stage, block] = tokens.flatten(0, -2)
            return main(tokens)

        return block_router


@torch.no_grad()
def init_from_main(path: TaskPath, model: MPAModel, y_hat: Tensor, quality: Tensor) -> None:
    """Set each side MLP of ``path`` so that it computes what the block's main MLP does.

    An MLP of equal width becomes a copy. A narrower one takes the hidden units whose contribution
    to the output varies most over the tokens of ``y_hat``, and its second layer is fitted to the
    main MLP's output by least squares. A wider one becomes a copy with further units, random as
    they were, that contribute nothing at first.

    Args:
        path: a path of :class:`SideMLP` parts, built for the model's stages.
        model: the base, in eval mode.
        y_hat: latents [B, M, h, w] of a few pictures.
        quality: [B], from 1 to the number of levels.

    Raises:
        ConfigError: the path builds other MLPs, or the base offers none to start from.
    """
    main_mlp = needs(
        model.base.capabilities.main_mlp,
        model.config,
        "MLPs that a path could start from",
        "set init.mlp=random",
    )
    recorder = _Recorder()
    model.base.synthesise(y_hat, model.base.quality(quality, y_hat), recorder)
    for place in path.layout:
        parts = path.stage(place.stage)
        assert parts is not None
        for index, side in enumerate(parts.mlps):
            if not isinstance(side, SideMLP):
                raise ConfigError(
                    f"init.mlp is main, and path {path.name!r} builds {type(side).__name__} and "
                    "not mpa_core.paths.SideMLP; set init.mlp=random"
                )
            main = main_mlp(place.stage, index)
            _init_one(side, main, recorder.tokens[place.stage, index])


def _init_one(side: SideMLP, main: MainMLP, tokens: Tensor) -> None:
    main1, main2 = main.fc1, main.fc2
    side.norm.load_state_dict(main.norm.state_dict())
    width, main_width = len(side.fc1.weight), len(main1.weight)
    if width >= main_width:
        side.fc1.weight[:main_width] = main1.weight
        side.fc1.bias[:main_width] = main1.bias
        side.fc2.weight.zero_()
        side.fc2.weight[:, :main_width] = main2.weight
        side.fc2.bias.copy_(main2.bias)
        return
    hidden = side.act(main1(main.norm(tokens)))
    weight = hidden.var(0) * main2.weight.square().sum(0)
    kept = weight.topk(width).indices.sort().values
    side.fc1.weight.copy_(main1.weight[kept])
    side.fc1.bias.copy_(main1.bias[kept])
    # Least squares with an intercept: centred, then the means give the bias.
    inputs, wanted = hidden[:, kept].double(), main2(hidden).double()
    mean_in, mean_out = inputs.mean(0), wanted.mean(0)
    inputs, wanted = inputs - mean_in, wanted - mean_out
    gram = inputs.T @ inputs
    gram += RIDGE * gram.diagonal().mean() * torch.eye(width, dtype=gram.dtype, device=gram.device)
    fitted = torch.linalg.solve(gram, inputs.T @ wanted).T
    side.fc2.weight.copy_(fitted)
    side.fc2.bias.copy_(mean_out - fitted @ mean_in)
