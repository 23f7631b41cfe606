"""The entropy model of TinyLIC: a Gaussian with a multistage context model for ``y``.

SPEC section 1, "Entropy model".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mpa_core.base.entropy import EntropyModel, Visitor
from mpa_core.base.networks import EntropyNetworks
from mpa_core.base.tinylic.contexts import (
    ChannelContext,
    ContextNetworks,
    ParameterNet,
    SpatialContext,
)
from mpa_core.base.tinylic.schedule import (
    SCHEDULE,
    Phase,
    Step,
    coding_order,
    join_phases,
    split_phases,
)


def _spatial_kernel(step: Step) -> int:
    # The odd-odd pass sees only the four diagonal neighbours: a 3x3 kernel holds them all.
    return 3 if step.known == ((0, 0),) else 5


class ContextEntropy(EntropyModel):
    """The probabilities of ``z`` and ``y``, with four channel slices and a checkerboard.

    Args:
        slices: channels of the slices of ``y``.
        hyper_channels: channels of ``z``.
    """

    def __init__(self, slices: Sequence[int], hyper_channels: int) -> None:
        super().__init__(sum(slices), hyper_channels)
        self.slices = tuple(slices)
        params = 2 * sum(self.slices)
        self.channel_contexts = nn.ModuleList(
            ChannelContext(params + sum(self.slices[:i]), c) for i, c in enumerate(self.slices)
        )
        spatial = {
            str(i): SpatialContext(self.slices[step.slice], step, _spatial_kernel(step))
            for i, step in enumerate(SCHEDULE)
            if step.known
        }
        self.spatial_contexts = nn.ModuleDict(spatial)
        with_spatial = {step.slice for step in SCHEDULE if step.known}
        self.parameter_nets = nn.ModuleList(
            ParameterNet(
                params + 2 * c + (2 * c if i in with_spatial else 0),
                (10 * c // 3, 8 * c // 3, 2 * c) if i in with_spatial else (2 * c,) * 3,
            )
            for i, c in enumerate(self.slices)
        )
        for net, channels in zip(self.parameter_nets, self.slices, strict=True):
            # Scales start at 1: at the lower bound a value of 3 costs 30 bits and has no gradient.
            nn.init.ones_(cast(nn.Conv2d, cast(ParameterNet, net)[-1]).bias[:channels])  # type: ignore[index]

    # ------------------------------------------------------------------ the one walk

    def walk(
        self, params: Tensor, visit: Visitor, networks: EntropyNetworks | None = None
    ) -> Tensor:
        """Decode ``y`` step by step.

        Args:
            params: ``[B, 2M, H, W]``, H and W even.
            visit: called once for each step, in coding order.
            networks: also :class:`ContextNetworks`; None is the model's own.

        Returns:
            ``y_hat`` ``[B, M, H, W]``.
        """
        predicting = cast(ContextNetworks, networks or self)
        decoded: list[Tensor] = []
        parts: dict[Phase, Tensor] = {}
        for number, step in enumerate(SCHEDULE):
            if not step.known:
                channel = predicting.channel_context(step.slice, torch.cat([params, *decoded], 1))
                parts = {}
            by_channel = split_phases(channel, step.phases)
            context = [split_phases(params, step.phases), by_channel]
            if step.known:
                context.insert(1, predicting.spatial_context(number, join_phases(parts)))
            elif self._has_spatial(step.slice):
                context.insert(1, torch.zeros_like(by_channel))
            features = torch.cat(context, 2)
            predicted = predicting.predict(step.slice, features.flatten(0, 1))
            scales, means = predicted.unflatten(0, features.shape[:2]).chunk(2, 2)
            values = visit(step, means, scales)
            parts.update(zip(step.phases, values.unbind(0), strict=True))
            if len(parts) == 4:
                decoded.append(join_phases(parts))
        return torch.cat(decoded, 1)

    def channel_context(self, index: int, known: Tensor) -> Tensor:
        """See :class:`ContextNetworks`."""
        out: Tensor = self.channel_contexts[index](known)
        return out

    def spatial_context(self, step: int, known: Tensor) -> Tensor:
        """See :class:`ContextNetworks`."""
        out: Tensor = self.spatial_contexts[str(step)](known)
        return out

    def predict(self, index: int, features: Tensor) -> Tensor:
        """See :class:`ContextNetworks`."""
        out: Tensor = self.parameter_nets[index](features)
        return out

    def _has_spatial(self, index: int) -> bool:
        return any(step.slice == index and step.known for step in SCHEDULE)

    def take(self, y: Tensor, step: Step) -> Tensor:
        """Return the values of one step in its slice: ``[P, B, c, H/2, W/2]``."""
        start = sum(self.slices[: step.slice])
        return split_phases(y[:, start : start + self.slices[step.slice]], step.phases)

    def assemble(self, parts: Sequence[Tensor]) -> Tensor:
        """See :meth:`EntropyModel.assemble`."""
        slices: list[dict[Phase, Tensor]] = [{} for _ in self.slices]
        for step, part in zip(SCHEDULE, parts, strict=True):
            slices[step.slice].update(zip(step.phases, part.unbind(0), strict=True))
        return torch.cat([join_phases(phases) for phases in slices], 1)

    def coding_order(self, part: Tensor) -> Tensor:
        """See :func:`mpa_core.base.tinylic.schedule.coding_order`."""
        return coding_order(part)
