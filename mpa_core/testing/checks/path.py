"""The path's class and its parts, for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mpa_core.config import PathConfig, PathStage
from mpa_core.errors import ConfigError, MPAError
from mpa_core.paths.path import PathStageModule, TaskPath, building_path
from mpa_core.presets import preset
from mpa_core.runtime.surroundings import making_weights
from mpa_core.testing.check import CheckFailed, fail_unless
from mpa_core.testing.subject import PathUnderTest

SIZED = "mpa-small"
"""Weights are counted for this base."""

TOKENS = ((1, 4, 4), (2, 1, 3), (1, 5, 2))
"""Batch, height and width of the feature maps that parts are tried on."""

CLOSE = 1e-4
"""Rounding differs with the batch, nothing else may."""


def check_class(path: PathUnderTest) -> None:
    """Check that the class imports, is a TaskPath of the name in its PathSpec, and builds."""
    try:
        path_class = path.import_class()
    except MPAError as error:
        raise CheckFailed(str(error)) from error
    name = path_class.name
    fail_unless(
        not hasattr(nn.ModuleDict(), name),
        f"a model cannot hold a path called {name!r}, which torch's ModuleDict uses itself; "
        "choose another name",
    )
    config = path.codec.model.config
    with building_path(path_class), making_weights(0):
        built = path_class(config.decoder_path_stages, None, config.quality_levels)
    stages = config.decoder_path_stages
    fail_unless(
        built.layout == stages,
        f"built for stages {_text(stages)} it says it is for {_text(built.layout)}; hand `stages` "
        "to TaskPath.__init__ as they are",
    )


def check_config(path: PathUnderTest) -> None:
    """Check that its Config has defaults, survives being JSON, and refuses unknown fields."""
    config_class = path.path_class.Config
    with building_path(path.path_class):
        config = config_class()
    again = config_class.model_validate_json(config.model_dump_json())
    fail_unless(
        again == config,
        f"its Config does not survive being written as JSON and read back: {config!r} becomes "
        f"{again!r}; a checkpoint keeps it so: use fields that JSON has, without serializers that "
        "change values",
    )
    unknown = {**config.model_dump(mode="json"), "no_such_field": 1}
    try:
        config_class.parse(unknown, source="Config")
    except ConfigError:
        pass
    else:
        raise CheckFailed(
            "its Config takes a field that it does not have, so a typing error in settings would "
            'go unnoticed; leave extra="forbid" of PathConfig as it is'
        )
    built = path.build()
    fail_unless(
        isinstance(built.config, PathConfig) and built.config == config,
        "a path built with its Config holds another one, which is what a checkpoint would say; "
        "hand `config` to TaskPath.__init__ and leave self.config alone",
    )


def check_parts(path: PathUnderTest) -> None:
    """Check that every stage has a predictor, and an MLP for each block, of the right shapes.

    For feature maps of odd sizes and batches, where no picture depends on its neighbours.
    """
    built = path.build()
    problems = [
        f"stage {stage.stage}: {problem}"
        for stage in path.codec.model.config.decoder_path_stages
        for problem in _problems(built, stage)
    ]
    fail_unless(not problems, "; ".join(problems[:3]))


def check_weight_share(path: PathUnderTest) -> None:
    """Check that, with the defaults of its Config, it is no larger than its PathSpec says."""
    config = preset(SIZED)
    base = config.least_parameters
    with building_path(path.path_class), torch.device("meta"):  # counted, not allocated
        built = path.path_class(config.decoder_path_stages, None, config.quality_levels)
    count = sum(tensor.numel() for tensor in built.state_dict().values())
    declared = path.registered.spec.weight_share
    fail_unless(
        count <= declared * base,
        f"with the defaults of its Config it has {count} numbers on {SIZED}, "
        f"{count / base:.1%} of the base's {base}, and its PathSpec says weight_share="
        f"{declared:g}; make it smaller, keep a task model in the recipe, or say a larger share",
    )


def _problems(built: TaskPath, stage: PathStage) -> Iterator[str]:
    parts = built.stage(stage.stage)
    if parts is None:
        yield "it has no parts there; give every stage of `stages` its own"
        return
    if len(parts.mlps) != stage.depth:
        yield f"{len(parts.mlps)} MLPs, expected {stage.depth}, one per block"
    for shape in TOKENS:
        tokens = _tokens(shape, stage.dim)
        with torch.no_grad():
            found: list[tuple[str, Any, tuple[int, ...]]] = [
                ("the predictor", parts.predictor(tokens), shape),
                *(("an MLP", mlp(tokens), tuple(tokens.shape)) for mlp in parts.mlps),
            ]
        for name, made, expected in found:
            if not isinstance(made, Tensor) or tuple(made.shape) != expected:
                shown = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
                yield f"{name} makes {shown} of tokens {tuple(tokens.shape)}, expected {expected}"
                return
            if not made.isfinite().all():
                yield f"{name} makes numbers that are not finite; look for a division by zero"
                return
    yield from _neighbours(parts, stage)


def _neighbours(parts: PathStageModule, stage: PathStage) -> Iterator[str]:
    """Pictures of a batch must not see one another; which are together depends on who decodes."""
    tokens = _tokens((3, 4, 5), stage.dim)
    tokens = tokens * torch.tensor([1.0, 3.0, 0.2]).view(3, 1, 1, 1)
    for name, part in (("the predictor", parts.predictor), *(("an MLP", m) for m in parts.mlps)):
        with torch.no_grad():
            together, alone = part(tokens), torch.cat([part(each[None]) for each in tokens])
        if not torch.allclose(together, alone, rtol=CLOSE, atol=CLOSE):
            yield (
                f"{name} makes something else of a picture in a batch than of the picture alone; "
                "take no mean or maximum over the first dimension, nor batch norm in training mode"
            )
            return


def _tokens(shape: tuple[int, int, int], dim: int) -> Tensor:
    return torch.randn(*shape, dim, generator=torch.Generator().manual_seed(sum(shape)))


def _text(stages: tuple[PathStage, ...]) -> str:
    return ", ".join(map(str, stages))
