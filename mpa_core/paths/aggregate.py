"""The aggregator, which sends every token of a stage through one of the chosen paths (inference).

A *route* is the main path (0) or a side path p (p + 1), as the number by which tokens are assigned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import Self

from mpa_core.errors import MixError, PathNotFoundError
from mpa_core.mix import MAIN, Mix
from mpa_core.paths.allocation import FREE, allocate, region_grid, token_counts
from mpa_core.paths.path import PathStageModule, TaskPath, run_part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MainMLP = Callable[[Tensor], Tensor]
"""The block's own norm2 and MLP, for tokens of shape [..., C]."""


class RoutedBlocks:
    """Router of the blocks of one stage: each MLP runs on its own tokens only.

    The tokens of each route are found once per stage; per block they are gathered, go through their
    MLP, and are written to the result once.

    Args:
        routes: int64 [B, H, W], the route of each token.
        mlps: the blocks' side MLPs by route.
        classes: name of the path class by route, for messages.
    """

    def __init__(
        self, routes: Tensor, mlps: Mapping[int, nn.ModuleList], classes: Mapping[int, str]
    ) -> None:
        flat = routes.flatten()
        index = [(p, (flat == p).nonzero().squeeze(1)) for p in (0, *mlps)]
        self._index = [(p, positions) for p, positions in index if len(positions)]
        self._mlps = mlps
        self._classes = classes

    @property
    def routes(self) -> tuple[int, ...]:
        """The routes that have tokens here, ascending."""
        return tuple(route for route, _ in self._index)

    def __call__(self, tokens: Tensor, block: int, main: MainMLP) -> Tensor:
        """Return the output [B, H, W, C] of the feed-forward layer for ``tokens`` [B, H, W, C]."""
        if len(self._index) == 1:
            return self._run(self._index[0][0], tokens, block, main)
        flat = tokens.reshape(-1, tokens.shape[-1])
        parts = [
            (index, self._run(route, flat.index_select(0, index), block, main))
            for route, index in self._index
        ]
        out = parts[0][1].new_empty(flat.shape)
        for index, part in parts:
            out.index_copy_(0, index, part.to(out.dtype))
        return out.view(tokens.shape)

    def _run(self, route: int, tokens: Tensor, block: int, main: MainMLP) -> Tensor:
        if route == 0:
            return main(tokens)
        return run_part(self._mlps[route][block], tokens, self._classes[route])


class Aggregator:
    """Router of a transform's stages for a :class:`~mpa_core.mix.Mix`; one per call.

    Regions are served first, and the shares divide the remaining tokens exactly (see
    :mod:`mpa_core.paths.allocation`). No predictor runs where there is nothing to decide: all
    tokens main, all of one path, or every token claimed by a region. A stage that is all main gets
    no router, so its result is the base codec's to the bit.

    Args:
        paths: loaded side paths by name; those the mix does not name are not used.
        mix: shares and regions.
        image_size: true height and width of the pictures, which the masks must have.
        padded_size: height and width of the transform's input, padded at bottom and right.
        batch: number of pictures; all share the mix.

    Raises:
        PathNotFoundError: the mix names a path that is not in ``paths``.
        MixError: a mask is not of the picture's size or kind.

    Attributes:
        names: the side paths in use, sorted; route p + 1 is ``names[p]``.
        masks: per stage that was run, int64 [B, H, W]: 0 main, p + 1 for ``names[p]``.
    """

    def __init__(
        self,
        paths: Mapping[str, TaskPath],
        mix: Mix,
        *,
        image_size: tuple[int, int],
        padded_size: tuple[int, int],
        batch: int,
    ) -> None:
        names = mix.path_names
        missing = [name for name in names if name not in paths]
        if missing:
            raise PathNotFoundError(
                f"path {', '.join(missing)} is not loaded; loaded are "
                f'{", ".join(sorted(paths)) or "none"}; call codec.load_path("{missing[0]}") first'
            )
        shares = mix.shares
        self.names = names
        self.masks: dict[int, Tensor] = {}
        self._paths = [paths[name] for name in names]
        self._main_share = torch.full((batch,), mix.main, dtype=torch.float64)
        self._side_shares = [shares.get(name, 0.0) for name in names]
        self._padded_size = padded_size
        routes = {MAIN: 0, **{name: p + 1 for p, name in enumerate(names)}}
        self._regions: list[tuple[int, NDArray[np.bool_]]] = [
            (routes[name], mask) for name, mask in mix.region_masks(*image_size)
        ]

    @classmethod
    def for_shares(cls, path: TaskPath, main_share: Tensor) -> Self:
        """Make a router for one side path, with a share of the main path (rho) per image.

        Args:
            path: the side path.
            main_share: floating [B], in [0, 1]; float64 keeps the counts exact.

        Returns:
            A router whose only name is ``"side"``.
        """
        # Without regions the sizes of the picture are not used.
        aggregator = cls(
            {"side": path},
            Mix(side=1.0),
            image_size=(0, 0),
            padded_size=(0, 0),
            batch=len(main_share),
        )
        aggregator._main_share = main_share.detach()
        return aggregator

    def __call__(self, stage: int, tokens: Tensor) -> RoutedBlocks | None:
        """Assign the tokens [B, H, W, C] that enter ``stage``; None where all are main.

        Raises:
            MixError: the batch does not have as many pictures as the mix was made for.
        """
        modules = [module for path in self._paths if (module := path.stage(stage)) is not None]
        if len(modules) < len(self._paths):
            return None
        batch, height, width = tokens.shape[:3]
        if batch != len(self._main_share):
            raise MixError(
                f"the mix was made for {len(self._main_share)} pictures, the batch has {batch}; "
                "make an aggregator for this batch"
            )
        regions = None
        free = torch.full((batch,), height * width)
        if self._regions:
            grid = region_grid(self._regions, self._padded_size, (height, width))
            regions = grid.reshape(1, -1).expand(batch, -1)
            free = (regions == FREE).sum(1)
        counts = token_counts(self._main_share, self._side_shares, free)
        scores = self._scores(modules, counts, tokens)
        routes = allocate(scores, counts, regions).view(batch, height, width)
        self.masks[stage] = routes
        router = RoutedBlocks(
            routes,
            {p + 1: module.mlps for p, module in enumerate(modules)},
            {p + 1: path.name for p, path in enumerate(self._paths)},
        )
        return None if router.routes == (0,) else router

    def _scores(self, modules: Sequence[PathStageModule], counts: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits [P, B, T] of paths that affect the allocation, zeros for the others."""
        batch, height, width = tokens.shape[:3]
        scores = torch.zeros(
            len(modules), batch, height * width, dtype=torch.float32, device=tokens.device
        )
        contested = (counts > 0).sum(1) > 1
        for p, module in enumerate(modules):
            if bool((contested & (counts[:, p + 1] > 0)).any()):
                found = run_part(module.predictor, tokens, self._paths[p].name)
                scores[p] = found.detach().flatten(1)
        return scores
