"""The choice of task paths that reconstruct the picture, their proportions, and regions.

Nothing here imports torch, numpy or Pillow at import; masks are read when a picture is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpa_core.arguments import number, shown
from mpa_core.errors import MixError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAIN = "main"
"""Name of the path that always exists: the base codec's own, for human eyes."""

TOLERANCE = 1e-6
"""Largest difference from 1 at which a sum of shares counts as 1."""


class Mix:
    """Shares of the decoder's tokens per path, and regions that belong to one path entirely.

    ``Mix(cls=0.4, mse=0.2)`` sends 40 % of the tokens through ``cls``, 20 % through ``mse`` and the
    rest through the main path; ``Mix()`` is all main. Each path's predictor decides which tokens go
    where. A share is 1 - rho of SPEC section 2.

    Args:
        main: share of the main path, in [0, 1]; may be left out, and must make the sum 1 if given.
        regions: path name (``main`` included) to a mask of the picture: a 2-D array, PIL image or
            tensor of the picture's height and width, nonzero where the path is wanted. Regions are
            served first, the first listed wins where masks overlap, and the shares apply to the
            remaining tokens. A token belongs to a region if any pixel under it does.
        shares: share of each side path, in [0, 1]. Their order has no meaning.

    Raises:
        MixError: a share is no number in [0, 1], the sum is above 1, ``main`` does not agree, or
            ``regions`` is no mapping of names. Masks are checked at decoding, against the picture.
    """

    __slots__ = ("_main", "_regions", "_shares")

    def __init__(
        self,
        /,
        *,
        main: float | None = None,
        regions: Mapping[str, Any] | None = None,
        **shares: float,
    ) -> None:
        checked = {name: _share(name, shares[name]) for name in sorted(shares)}
        total = math.fsum(checked.values())
        if total > 1 + TOLERANCE:
            raise MixError(f"shares sum to {total:g} ({_listed(checked)}); make the sum at most 1")
        rest = 1 - total if 1 - total > TOLERANCE else 0.0
        if main is not None:
            main = _share(MAIN, main)
            if abs(main - rest) > TOLERANCE:
                raise MixError(
                    f"main is {main:g} and the other shares sum to {total:g}; "
                    f"leave main out or set it to {rest:g}"
                )
            rest = main
        if regions is not None and not (
            isinstance(regions, Mapping) and all(isinstance(name, str) for name in regions)
        ):
            raise MixError(
                f"regions is {type(regions).__name__}, expected path names and masks; "
                'write regions={"ocr": mask}'
            )
        self._main = rest
        self._shares = {name: share for name, share in checked.items() if share > 0}
        self._regions = dict(regions or {})

    @classmethod
    def parse(cls, text: str, *, regions: Mapping[str, Any] | None = None) -> Mix:
        """Read ``"cls=0.4,mse=0.2"``, which may contain ``main=0.4``.

        Raises:
            MixError: an entry is not NAME=SHARE, a name comes twice, or the shares do not add up.
        """
        if not isinstance(text, str):
            raise MixError(f'{shown(text)} is no text; write for example "cls=0.4,mse=0.2"')
        shares: dict[str, float] = {}
        for entry in text.split(","):
            name, equals, number = (part.strip() for part in entry.partition("="))
            try:
                share = float(number)
            except ValueError:
                share = math.nan
            if not name or not equals or math.isnan(share):
                raise MixError(
                    f"{entry.strip()!r} in {text!r} is not NAME=SHARE; "
                    'write for example "cls=0.4,mse=0.2"'
                )
            if name == "regions":
                raise MixError('no path can be called "regions"; give masks by region instead')
            if name in shares:
                raise MixError(f"{name} comes twice in {text!r}; give each path one share")
            shares[name] = share
        main = shares.pop(MAIN, None)
        return cls(main=main, regions=regions, **shares)

    @classmethod
    def of(cls, value: Mix | str | Mapping[str, Any]) -> Mix:
        """Return the mix that ``value`` stands for.

        Args:
            value: a mix, which is returned; the name of a path, ``"cls"``, which gets every token;
                text that :meth:`parse` reads; or shares by path, ``{"cls": 0.4}``.

        Raises:
            MixError: anything else, or shares that do not add up.
        """
        if isinstance(value, Mix):
            return value
        if isinstance(value, str) and "=" in value:
            return cls.parse(value)
        if isinstance(value, str) and value.strip() and "," not in value:
            return cls.parse(f"{value}=1")
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return cls(**value)
        raise MixError(
            f"mix is {shown(value)}, expected a Mix, a path's name or shares by path; "
            'write for example "cls" or {"cls": 0.4}'
        )

    @property
    def main(self) -> float:
        """Share of the main path, in [0, 1]."""
        return self._main

    @property
    def shares(self) -> dict[str, float]:
        """Share in (0, 1] of each side path, sorted by name; paths with share 0 are left out."""
        return dict(self._shares)

    @property
    def regions(self) -> dict[str, Any]:
        """Masks as given, in the order given."""
        return dict(self._regions)

    @property
    def path_names(self) -> tuple[str, ...]:
        """Side paths that the mix needs, sorted: those with a share or a region."""
        return tuple(sorted({*self._shares, *self._regions} - {MAIN}))

    def region_masks(self, height: int, width: int) -> list[tuple[str, NDArray[np.bool_]]]:
        """Return the masks as boolean arrays [height, width], in the order they win.

        Raises:
            MixError: a mask is not 2-D, not numeric, or not of the picture's size.
        """
        return [(name, _mask(name, mask, height, width)) for name, mask in self._regions.items()]

    def __repr__(self) -> str:
        parts = [f"main={self._main:g}"]
        parts += [f"{name}={share:g}" for name, share in self._shares.items()]
        if self._regions:
            parts.append(f"regions={{{', '.join(self._regions)}}}")
        return f"Mix({', '.join(parts)})"


def _share(name: str, value: Any) -> float:
    """Return ``value`` as a float in [0, 1]; numbers of numpy and torch count, text does not."""
    share = number(value)
    if share is None or not 0 <= share <= 1 + TOLERANCE:
        raise MixError(
            f"share of {name} is {shown(value)}; give a number from 0 to 1 such as {name}=0.4"
        )
    return min(share, 1.0)


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={share:g}" for name, share in shares.items())


def _mask(name: str, mask: Any, height: int, width: int) -> NDArray[np.bool_]:
    import numpy as np

    try:
        if hasattr(mask, "getbands"):  # a PIL image
            array = _picture_mask(mask)
        elif hasattr(mask, "detach"):  # a tensor, of any dtype and device
            array = np.asarray((mask.detach() != 0).cpu().numpy())
        else:
            array = np.asarray(mask)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise MixError(
            f"region {name}: mask is {shown(mask)}, which cannot be read ({reason}); "
            "pass a 2-D array, a PIL image or a tensor"
        ) from error
    if array.dtype.kind not in "buif":
        raise MixError(
            f"region {name}: mask is {type(mask).__name__}, expected a 2-D array, "
            "a PIL image or a tensor; load the file first and pass its pixels"
        )
    inside = array != 0
    if inside.ndim != 2:
        raise MixError(
            f"region {name}: mask has shape {tuple(inside.shape)}, expected ({height}, {width}); "
            "pass one channel, for example mask[..., 0]"
        )
    if inside.shape != (height, width):
        raise MixError(
            f"region {name}: mask is {inside.shape[1]}x{inside.shape[0]}, the picture is "
            f"{width}x{height} (width x height); resize the mask to the picture"
        )
    return inside


def _picture_mask(picture: Any) -> NDArray[np.bool_]:
    """Convert a PIL image to a mask of the pixels that are neither black nor fully transparent.

    Palettes count by their colours. The mask is turned upright by its EXIF, as the picture is.
    """
    import numpy as np
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        # Zero is not black in these modes: the visible colour counts.
        picture = picture.convert("RGBA" if picture.mode in ("P", "PA") else "RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    if picture.getbands()[-1] in ("A", "a"):
        return np.asarray((pixels[..., :-1] != 0).any(-1) & (pixels[..., -1] != 0))
    return np.asarray((pixels != 0).any(-1))
