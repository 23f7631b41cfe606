"""Settings for cutting crops from photos, as far as a recipe reads them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mpa_core.config import StrictModel

Scale = Annotated[float, Field(gt=0.0, le=1.0)]


class PhotoSettings(StrictModel):
    """Settings for cutting a crop from a photo."""

    flip: bool = True
    """Mirror half of the crops left to right."""
    transpose: bool = False
    """Draw each crop's orientation from all eight (flips and quarter turns) instead."""
    scale: tuple[Scale, Scale] = (1.0, 1.0)
    """Each crop is cut from its photo made smaller by a factor drawn between these two, as far as
    the crop fits into it: ``[0.5, 1]`` shows half to full size."""
    cache_mib: Annotated[int, Field(ge=0)] = 4096
    """Memory in MiB in which photos, decoded once, are kept as uint8."""

    @field_validator("scale")
    @classmethod
    def _smallest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"{list(value)}: the smaller scale comes first")
        return value


class CropSettings(PhotoSettings):
    """Settings for the fixed crops that a path is trained on."""

    crops_per_photo: Annotated[int, Field(gt=0)] = 4
    """Number of fixed crops of each photo; the latents of each are kept for each quality."""
