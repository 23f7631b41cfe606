"""Choice of the format of each layer, from inputs seen on photos, or wide enough for any input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mpa_core.arguments import expect, shown
from mpa_core.base.tinylic.attention import NeighborhoodAttention
from mpa_core.base.tinylic.contexts import SpatialContext
from mpa_core.base.tinylic.exact.blocks import attention_fits, norm_fits
from mpa_core.base.tinylic.exact.fixed import FixedFormat, weight_digits
from mpa_core.errors import CheckpointError

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC

MAGNITUDE, FRACTION = 10, 14
"""Without calibration inputs are clamped to +-2**10; the two together are the digits of an
input."""
HEADROOM = 2
"""Binary digits between the largest input seen on photos and the clamp."""
_DIGITS = MAGNITUDE + FRACTION
"""Binary digits of an input in all; the rest of float64's digits go to the weights."""
_LEAST_WEIGHT_DIGITS = 8
_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm, SpatialContext)


def exact_layers(base: TinyLIC) -> dict[str, nn.Module]:
    """Return the layers that need a format, by name: those with products, norms and attentions."""
    layers: dict[str, nn.Module] = {}
    for part in ("h_s", "entropy"):
        for name, module in getattr(base, part).named_modules(prefix=part):
            inside_spatial = name.endswith(".conv") and ".spatial_contexts." in name
            if isinstance(module, (*_LAYERS, NeighborhoodAttention)) and not inside_spatial:
                layers[name] = module
    return layers


def choose_formats(
    base: TinyLIC, largest: Mapping[str, float] | None = None
) -> dict[str, FixedFormat]:
    """Choose a format for each of :func:`exact_layers`.

    Args:
        base: the base with its weights.
        largest: magnitude of the largest input of each layer (:class:`Observer`); without it,
            inputs are clamped to +-1024.

    Raises:
        CheckpointError: weights so large that no format is exact.
    """
    formats = {}
    for name, layer in exact_layers(base).items():
        magnitude = MAGNITUDE
        if largest is not None:
            magnitude = HEADROOM + math.ceil(math.log2(max(largest[name], 2.0**-10)))
        formats[name] = _format(name, layer, magnitude)
    return formats


def _format(name: str, layer: nn.Module, magnitude: int) -> FixedFormat:
    form = FixedFormat(_DIGITS - magnitude, magnitude)
    if isinstance(layer, nn.LayerNorm):
        while not norm_fits(layer.normalized_shape[0], form):
            form = form._replace(fraction=form.fraction - 1)
        return form
    if isinstance(layer, NeighborhoodAttention):
        while not attention_fits(layer.dim // layer.heads, layer.window, form):
            form = form._replace(fraction=form.fraction - 1)
        return form
    weight, bias = _weights(layer)
    digits = weight_digits(weight, bias, form.fraction, magnitude)
    if digits < _LEAST_WEIGHT_DIGITS:
        raise CheckpointError(
            f"exact profile: weights of {name} are so large that only {digits} binary digits of "
            f"them fit exact sums (expected {_LEAST_WEIGHT_DIGITS} at least); train with weight "
            "decay, or code with profile='float'"
        )
    return form._replace(weight=digits)


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a layer's weight, with the outputs in front, and its bias."""
    if isinstance(layer, SpatialContext):
        return layer.conv.weight.detach() * layer.mask, cast(Tensor, layer.conv.bias).detach()
    weight, bias = cast(Tensor, layer.weight).detach(), cast(Tensor, layer.bias).detach()
    transposed = isinstance(layer, nn.ConvTranspose2d)
    return weight.transpose(0, 1) if transposed else weight, bias


class Observer:
    """Records the largest input of every layer of the float networks while it is entered."""

    def __init__(self, base: TinyLIC) -> None:
        self._layers = exact_layers(base)
        self._hooks = ExitStack()
        self.largest = dict.fromkeys(self._layers, 0.0)
        """Magnitude of the largest input, by layer."""

    def __enter__(self) -> dict[str, float]:
        for name, layer in self._layers.items():
            # The format of an attention is of its queries, keys and values.
            if isinstance(layer, NeighborhoodAttention):
                hook = layer.qkv.register_forward_hook(partial(self._saw_output, name))
            else:
                hook = layer.register_forward_pre_hook(partial(self._saw_input, name))
            self._hooks.callback(hook.remove)
        return self.largest

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _saw_input(self, name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._saw(name, args[0])

    def _saw_output(self, name: str, _: nn.Module, __: tuple[Any, ...], out: Tensor) -> None:
        self._saw(name, out)

    def _saw(self, name: str, values: Tensor) -> None:
        self.largest[name] = max(self.largest[name], float(values.abs().max()))


def to_tensors(formats: Mapping[str, FixedFormat]) -> dict[str, Tensor]:
    """Return the formats as they are stored: int32 ``[3]`` by ``exact.`` and the layer's name."""
    return {
        f"exact.{name}": torch.tensor(form, dtype=torch.int32) for name, form in formats.items()
    }


def from_tensors(tensors: Mapping[str, Tensor], source: str) -> dict[str, FixedFormat]:
    """Convert the tensors of :func:`to_tensors` back to formats.

    Raises:
        CheckpointError: a tensor has another name, type or shape; the message names ``source``.
    """
    formats = {}
    for name, tensor in tensors.items():
        if (
            not name.startswith("exact.")
            or tensor.dtype != torch.int32
            or tensor.shape != (len(FixedFormat._fields),)
        ):
            raise CheckpointError(
                f"{source}: tensor {name!r} is {tensor.dtype} {list(tensor.shape)}, expected "
                "exact.LAYER of 3 int32; convert the base again with mpa exact"
            )
        formats[name.removeprefix("exact.")] = FixedFormat(*tensor.tolist())
    return formats


def check_layers(base: TinyLIC, formats: Mapping[str, FixedFormat], source: str) -> None:
    """Refuse formats for other layers than the base has.

    Raises:
        CheckpointError: the layers differ, or ``formats`` are none; the message names ``source``.
    """
    expect(formats, Mapping, f"{source}: formats", "a format for each layer", CheckpointError)
    for name, form in formats.items():
        expect(
            form,
            FixedFormat,
            f"{source}: format of {shown(name)}",
            "a FixedFormat",
            CheckpointError,
        )
    expected, found = set(exact_layers(base)), set(formats)
    if expected != found:
        wrong = sorted(map(str, expected ^ found))[:3]
        raise CheckpointError(
            f"{source}: its formats are not those of this base's layers (differing: "
            f"{', '.join(wrong)}); convert the base again with mpa exact"
        )
