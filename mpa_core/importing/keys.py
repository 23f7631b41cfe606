"""Conversion of our tensor names to those of the authors' released checkpoints (SPEC section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mpa_core.base.tinylic.context_entropy import ContextEntropy
from mpa_core.base.tinylic.schedule import SCHEDULE
from mpa_core.errors import CheckpointError

PRIOR_CONSTANTS = (".target", ".bound", ".scale_table", ".scale_bound")
"""Endings of our names for constants of compressai's entropy models, the same in every model."""

_GAINS = {
    "base.y_gains.gain": "Gain",
    "base.y_gains.inverse_gain": "InverseGain",
    "base.z_gains.gain": "HyperGain",
    "base.z_gains.inverse_gain": "InverseHyperGain",
}
_PREDICTOR = {
    "norm": "in_conv.0",
    "fc1": "in_conv.1",
    "fc2": "out_conv.0",
    "fc3": "out_conv.2",
    "shift": "shift",
}
_SIDE_MLP = {"norm": "fc1.0", "fc1": "fc1.1", "fc2": "fc2"}
_FACTORIZED = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}


def base_key(name: str) -> str:
    """Return the released name of a tensor of ``MPAModel.frozen_state()``."""
    if name in _GAINS:
        return _GAINS[name]
    part, _, rest = name.partition(".")
    if part == "encoder_path":
        return _path_key(rest, "g_a", task=None)
    if rest.startswith("entropy."):
        return _entropy_key(rest.removeprefix("entropy."))
    transform, _, stage, rest = rest.split(".", 3)
    analysis = transform.endswith("_a")
    if rest.startswith("conv."):
        return f"{transform}{2 * int(stage) + (not analysis)}.{rest.removeprefix('conv.')}"
    rest = re.sub(r"\.gamma([12])$", r".gamma_\1", rest)
    return f"{transform}{2 * int(stage) + analysis}.residual_group.{rest}"


def path_key(name: str, task: int) -> str:
    """Return the released name, for task ``task``, of a tensor of ``TaskPath.state_dict()``."""
    return _path_key(name, "g_s", task)


def _path_key(name: str, transform: str, task: int | None) -> str:
    _, stage, kind, rest = name.split(".", 3)
    run = f"{transform}{2 * int(stage) + (transform == 'g_a')}.residual_group"
    if kind == "predictor":
        layer, dot, leaf = rest.partition(".")
        which = "0" if task is None else f"{task}.0"
        return f"{run}.score_predictor.{which}.{_PREDICTOR[layer]}{dot}{leaf}"
    block, layer, leaf = rest.split(".")
    which = "fastmlp" if task is None else f"fastmlp.mlp_list.{task}"
    return f"{run}.blocks.{block}.{which}.{_SIDE_MLP[layer]}.{leaf}"


def _entropy_key(name: str) -> str:
    module, _, rest = name.partition(".")
    if module == "y_prior":
        return f"gaussian_conditional.{rest}"
    if module == "z_prior":
        kind, _, index = rest.partition(".")
        return f"entropy_bottleneck.{_FACTORIZED[kind] + index if kind in _FACTORIZED else rest}"
    number, _, rest = rest.partition(".")
    if module == "spatial_contexts":
        return f"sc_transform_{_spatial_number(number)}.{rest.removeprefix('conv.')}"
    if module == "channel_contexts":
        return f"cc_transforms.{number}.{rest}"
    return f"entropy_parameters_{int(number) + 1}.{rest}"


def _spatial_number(step: str) -> int:
    """Return the step's number in the released code: steps with spatial context, from 1."""
    return sum(bool(s.known) for s in SCHEDULE[: int(step) + 1])


class Keys:
    """The released tensors, with a record of those that were used.

    Args:
        tensors: tensors by released name; the spellings of compressai's later versions
            (``matrices.0`` for ``_matrix0``) are read, too.
        source: name of the file in messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self.source = source
        self.tensors = {_spelling(name): tensor for name, tensor in tensors.items()}
        self._used: set[str] = set()
        self._missing: list[str] = []

    def has(self, name: str) -> bool:
        """Return whether the tensor ``name`` exists and is not empty."""
        return name in self.tensors and self.tensors[name].numel() > 0

    def count(self, pattern: str, what: str | None = None) -> int:
        """Return one more than the largest number that ``pattern`` (one group) matches.

        It is matched at the start of names.

        Raises:
            CheckpointError: nothing matches, and ``what`` names the tensors that are missing.
        """
        found = [int(m[1]) for name in self.tensors if (m := re.match(pattern, name))]
        if not found and what is not None:
            raise CheckpointError(
                f"{self.source} has no tensors of {what}; give a released MPA checkpoint"
            )
        return max(found, default=-1) + 1

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """Return the shape of a tensor from which the architecture is inferred.

        Raises:
            CheckpointError: it does not exist, or does not have ``dims`` dimensions.
        """
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.source} has no tensor {name!r}; give a whole released MPA checkpoint"
            )
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dims:
            raise CheckpointError(
                f"{self.source}: tensor {name!r} has shape {list(shape)}, expected {dims} "
                "dimensions; give a released MPA checkpoint"
            )
        return shape

    def widths(self, pattern: str) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of the linear layers whose whole names match ``pattern``."""
        names = [name for name in self.tensors if re.fullmatch(pattern, name)]
        shapes = [self.shape(name, 2) for name in names]
        return [(shape[1], shape[0]) for shape in shapes]

    def take(self, name: str) -> Tensor:
        """Return the tensor, half precision widened to float32, or record that it is missing."""
        if name not in self.tensors:
            self._missing.append(name)
            return torch.empty(0)
        self._used.add(name)
        tensor = self.tensors[name]
        return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor

    def ignore(self, name: str) -> None:
        """Count ``name`` as used without reading it."""
        self._used.add(name)

    def check_none_missing(self) -> None:
        """Check that no tensor was recorded as missing.

        Raises:
            CheckpointError: some were; the message names the first of them.
        """
        if self._missing:
            raise CheckpointError(
                f"{self.source} lacks {_some(self._missing)}; give a whole released MPA checkpoint"
            )

    def check_masks(self, entropy: ContextEntropy) -> None:
        """Check that the masks of the spatial context are ours; others belong to another model.

        Raises:
            CheckpointError: a mask differs.
        """
        for step in entropy.spatial_contexts:
            name = f"sc_transform_{_spatial_number(step)}.mask"
            if name not in self.tensors:
                continue
            mask = self.take(name)
            ours = entropy.get_buffer(f"spatial_contexts.{step}.mask")
            if mask.shape[-2:] != ours.shape[-2:] or not bool((mask == ours).all()):
                raise CheckpointError(
                    f"{self.source}: {name} is not the context mask of SPEC's coding order; "
                    "this model decodes positions in another order and cannot be imported"
                )

    def check_all_used(self) -> None:
        """Check that every tensor was used.

        Raises:
            CheckpointError: some were not; the message names the first of them.
        """
        left = sorted(set(self.tensors) - self._used)
        if left:
            raise CheckpointError(
                f"{self.source} has tensors of an unknown purpose: {_some(left)}; "
                "nothing was written, for the model they belong to is another one"
            )


def _spelling(name: str) -> str:
    match = re.fullmatch(r"entropy_bottleneck\._?(matrices|biases|factors)\.(\d+)", name)
    return f"entropy_bottleneck.{_FACTORIZED[match[1]]}{match[2]}" if match else name


def _some(names: list[str]) -> str:
    rest = len(names) - 5
    return ", ".join(names[:5]) + (f" and {rest} more" if rest > 0 else "")
