"""Choice of the parameters that train; all others are frozen.

A part with no trainable parameter runs in eval mode and gets no gradient, so it computes in
training what it computes in use: no stochastic depth, no dropout, no Gumbel noise, and, where
nothing that fixes the bits trains, rounding in place of quantization noise.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from mpa_core.coding.model import MPAModel
from mpa_core.errors import ConfigError
from mpa_core.training.rescale import block_rescaling


def freeze_all_but(module: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Train the parameters that match any of the shell ``patterns``, and return them by name.

    ``requires_grad`` and the mode of every module are set.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    named = dict(module.named_parameters())
    for pattern in patterns:
        if not fnmatch.filter(named, pattern):
            known = ", ".join(sorted({".".join(n.split(".")[:2]) for n in named}))
            raise ConfigError(
                f"optim.trainable: no parameter is called {pattern!r}; names begin with "
                f"{known or 'nothing: there are none'}, and * stands for any text"
            )
    for name, parameter in named.items():
        parameter.requires_grad_(_matches(name, patterns))
    module.train()
    for part in module.modules():
        own = list(part.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            part.eval()
    return {name: value for name, value in named.items() if value.requires_grad}


def freeze_model(model: MPAModel, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Apply :func:`freeze_all_but` to a base, whose rate needs noise wherever its bits train.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    trainable = freeze_all_but(model, patterns)
    after_decoding = ("paths.*", *(f"base.{pattern}" for pattern in model.base.after_decoding))
    if any(not _matches(name, after_decoding) for name in trainable):
        # The rate's gradient needs the noise, even through an entropy model that is frozen.
        model.base.entropy.train()
    return trainable


def entropy_is_frozen(model: MPAModel) -> bool:
    """Return whether no parameter of the entropy model trains."""
    return not any(parameter.requires_grad for parameter in model.base.entropy.parameters())


def blocks_are_frozen(model: MPAModel) -> bool:
    """Return whether any parameter that :func:`rescale_blocks` changes is frozen.

    Raises:
        ConfigError: the blocks of the base cannot be rescaled.
    """
    parts = (*block_rescaling(model).parts, model.encoder_path)
    return not all(
        parameter.requires_grad
        for part in parts
        if part is not None
        for parameter in part.parameters()
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
