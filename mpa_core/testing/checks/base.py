"""Does a type of base keep the contract? Loads it to the last class and tries it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mpa_core.checkpoints.meta import TABLE_ELEMENTS
from mpa_core.errors import MPAError
from mpa_core.plugins.bases import architecture, build_base, load_base_class, load_config_class
from mpa_core.plugins.records import RegisteredBase
from mpa_core.runtime.foreign import describe


def check_base(base: RegisteredBase) -> list[str]:
    """Every breach of the contract found in a type of base, one line each; empty for none.

    Its config must not import torch, which can only be seen where torch was not imported before.
    Every preset is built with random weights and runs once.
    """
    if base.spec.unmet:
        return [base.spec.unmet]
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
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a plugin's code raises is its problem
        return [describe(error)]


def _try_out_base(base: RegisteredBase, fields: Mapping[str, Any]) -> Iterator[str]:
    """Run a preset once, with random weights, on a picture of the least size."""
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
