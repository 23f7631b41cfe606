"""A check of an installed plugin against the contract, which imports and runs all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mpa_core.checkpoints.meta import TABLE_ELEMENTS
from mpa_core.errors import MPAError
from mpa_core.plugins.bases import architecture, build_base, load_base_class, load_config_class
from mpa_core.plugins.registry import Plugin, RegisteredBase, RegisteredPath, Registry
from mpa_core.runtime.foreign import describe

if TYPE_CHECKING:
    from mpa_core.paths.path import TaskPath

PRESET = "mpa-tiny"
"""Base that paths are built for: the smallest preset, which suffices to see that they build."""

TOKENS = (1, 4, 4)
"""Batch, height and width of the feature map on which a path's parts are tried."""


def check_plugin(registry: Registry, plugin: Plugin) -> list[str]:
    """Return one line for every breach of the contract in ``plugin``; empty if there is none.

    Imports torch. That the top module imports torch can only be noticed if torch was not imported
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
    # Bases first, since the classes of paths import torch.
    for base in plugin.bases:
        problems += [f"{base.name}: {problem}" for problem in _check_base(base)]
    for path in plugin.paths:
        problems += [f"{path.name}: {problem}" for problem in _check_path(registry, path)]
    return problems


def _check_base(base: RegisteredBase) -> list[str]:
    had_torch = "torch" in sys.modules
    try:
        load_config_class(base.type)
        if "torch" in sys.modules and not had_torch:
            return ["importing its config imports torch; move it to a module of its own"]
        load_base_class(base.type)
        return [
            f"preset {name!r}: {problem}"
            for name, fields in base.spec.presets.items()
            for problem in _try_out_base(base, fields)
        ]
    except MPAError as error:
        return [str(error)]
    except KeyboardInterrupt:  # pressed by the user
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a plugin's code raises is its problem
        return [describe(error)]


def _try_out_base(base: RegisteredBase, fields: Mapping[str, Any]) -> Iterator[str]:
    """Run a preset once, with random weights, on a picture of the smallest size."""
    import torch

    from mpa_core.runtime.surroundings import making_weights

    config = architecture({"type": base.type, **fields})
    if architecture(config.model_dump(mode="json")) != config:
        yield "its config does not survive being written as JSON and read back"
    with making_weights():
        built = build_base(config).eval()
    count = sum(tensor.numel() for tensor in built.state_dict().values())
    if not config.least_parameters <= count <= 2 * config.least_parameters + TABLE_ELEMENTS:
        yield f"its config promises {config.least_parameters} parameters, it has {count} numbers"
    side = config.hyper_stride
    x = torch.full((1, 3, side, side), 0.5)
    with torch.no_grad():
        quality = built.quality(1.0, x)
        y = built.analyse(x, quality)
        z = built.hyper_analyse(y, quality)
        y_hat, _ = built.entropy.estimate(y, built.hyper_synthesise(z, quality))
        x_hat = built.synthesise(y_hat, quality)
    for name, found, expected in (
        ("analyse", y, (1, config.latent_channels, *built.latent_shape((1, 1)))),
        ("hyper_analyse", z, (1, config.hyper_channels, 1, 1)),
        ("the entropy model", y_hat, tuple(y.shape)),
        ("synthesise", x_hat, tuple(x.shape)),
    ):
        if tuple(found.shape) != expected:
            yield f"{name} makes {tuple(found.shape)}, expected {expected}"


def _check_path(registry: Registry, path: RegisteredPath) -> list[str]:
    try:
        path_class = registry.load_class(path.qualified_name)
    except MPAError as error:
        return [str(error)]
    try:
        return list(_try_out(path_class))
    except KeyboardInterrupt:  # pressed by the user
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a plugin's code raises is its problem
        return [describe(error)]


def _try_out(path_class: type[TaskPath]) -> Iterator[str]:
    import torch
    from torch import nn

    from mpa_core.base.tinylic.presets import PRESETS
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
