"""Does an installed plugin keep the contract? Loads it to the last class and tries its paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpa_core.errors import MPAError
from mpa_core.plugins.registry import Plugin, RegisteredPath, Registry
from mpa_core.runtime.foreign import describe

if TYPE_CHECKING:
    from mpa_core.paths.path import TaskPath

PRESET = "mpa-tiny"
"""Paths are built for this base, the smallest: enough to see that they build."""

TOKENS = (1, 4, 4)
"""Batch, height and width of the feature map that a path's parts are tried on."""


def check_plugin(registry: Registry, plugin: Plugin) -> list[str]:
    """Every breach of the contract found in ``plugin``, one line each; empty if there is none.

    Imports torch. Whether the top module does so, too, can only be seen if torch was not imported
    before discovery, as on the command line.
    """
    if plugin.error is not None:
        return [plugin.error]
    problems = []
    if plugin.imports_torch:
        problems.append(
            f"importing {plugin.module!r} imports torch; move the path class to a module of its "
            "own, which is imported when it is used"
        )
    for path in plugin.paths:
        problems += [f"{path.name}: {problem}" for problem in _check_path(registry, path)]
    return problems


def _check_path(registry: Registry, path: RegisteredPath) -> list[str]:
    try:
        path_class = registry.load_class(path.qualified_name)
    except MPAError as error:
        return [str(error)]
    try:
        return list(_try_out(path_class))
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a plugin's code raises is its problem
        return [describe(error)]


def _try_out(path_class: type[TaskPath]) -> Iterator[str]:
    import torch
    from torch import nn

    from mpa_core.presets import PRESETS
    from mpa_core.runtime.surroundings import making_weights

    config = path_class.Config()
    # Through JSON, as in a checkpoint.
    if path_class.Config.model_validate_json(config.model_dump_json()) != config:
        yield "its Config does not survive being written as JSON and read back"

    if hasattr(nn.ModuleDict(), path_class.name):
        yield "a model cannot hold it under this name, which torch's ModuleDict uses itself"

    stages = PRESETS[PRESET].decoder_path_stages
    with making_weights():
        path = path_class(stages, config)
    for stage in stages:
        where = f"stage {stage.stage} of preset {PRESET!r}"
        parts = path.stage(stage.stage)
        if parts is None:
            yield f"{where}: it has no parts there"
            continue
        tokens = torch.zeros(*TOKENS, stage.dim)
        with torch.no_grad():
            scores = parts.predictor(tokens)
            outputs = [mlp(tokens) for mlp in parts.mlps]
        if scores.shape != TOKENS:
            yield (
                f"{where}: the predictor makes {tuple(scores.shape)} of tokens "
                f"{tuple(tokens.shape)}, expected {TOKENS}"
            )
        if len(outputs) != stage.depth:
            yield f"{where}: {len(outputs)} MLPs, expected {stage.depth}, one per block"
        wrong = [tuple(output.shape) for output in outputs if output.shape != tokens.shape]
        if wrong:
            yield f"{where}: an MLP makes {wrong[0]} of tokens {tuple(tokens.shape)}"
