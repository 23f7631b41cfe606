"""The parts of a recipe: samples, photos, metrics, perceptual distances, packaged models.

A plugin imports the names below from here, and from no module of this package. They are imported
when they are first used, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpa_core.lazy import lazy_names

if TYPE_CHECKING:
    from mpa_core.io.folders import is_hidden
    from mpa_core.io.images import load_image
    from mpa_core.io.pixels import picture_digest, to_pixels, to_tensor
    from mpa_core.tasks.datasets import PhotoCrops, PhotoSamples, WholePhotos
    from mpa_core.tasks.metric import DECIBEL, PERCENT, PLAIN, PSNR, Metric, Unit, psnr_metric
    from mpa_core.tasks.packaged import PACKAGED, PackagedModel, image_model, package_file
    from mpa_core.tasks.perceptual import (
        DISTANCES,
        FeatureDistance,
        PerceptualDistance,
        build_distance,
    )
    from mpa_core.tasks.photos import (
        Indexed,
        PhotoFolder,
        Replacing,
        find_photos,
        random_crop,
        read_photo,
        undamaged,
    )
    from mpa_core.tasks.recipe import Recipe, Split, freeze, load_recipe
    from mpa_core.tasks.samples import PathBatch, Sample, collate
    from mpa_core.tasks.seeds import plugin_generator, plugin_sequence
    from mpa_core.tasks.settings import CropSettings
    from mpa_core.tasks.wasserstein import wasserstein_distortion

__all__ = [
    "DECIBEL",
    "DISTANCES",
    "PACKAGED",
    "PERCENT",
    "PLAIN",
    "PSNR",
    "CropSettings",
    "FeatureDistance",
    "Indexed",
    "Metric",
    "PackagedModel",
    "PathBatch",
    "PerceptualDistance",
    "PhotoCrops",
    "PhotoFolder",
    "PhotoSamples",
    "Recipe",
    "Replacing",
    "Sample",
    "Split",
    "Unit",
    "WholePhotos",
    "build_distance",
    "collate",
    "find_photos",
    "freeze",
    "image_model",
    "is_hidden",
    "load_image",
    "load_recipe",
    "package_file",
    "picture_digest",
    "plugin_generator",
    "plugin_sequence",
    "psnr_metric",
    "random_crop",
    "read_photo",
    "to_pixels",
    "to_tensor",
    "undamaged",
    "wasserstein_distortion",
]

_MODULES = {
    "mpa_core.io.folders": ("is_hidden",),
    "mpa_core.io.images": ("load_image",),
    "mpa_core.io.pixels": ("picture_digest", "to_pixels", "to_tensor"),
    "mpa_core.tasks.datasets": ("PhotoCrops", "PhotoSamples", "WholePhotos"),
    "mpa_core.tasks.metric": (
        "DECIBEL", "PERCENT", "PLAIN", "PSNR", "Metric", "Unit", "psnr_metric",
    ),
    "mpa_core.tasks.packaged": ("PACKAGED", "PackagedModel", "image_model", "package_file"),
    "mpa_core.tasks.perceptual": (
        "DISTANCES", "FeatureDistance", "PerceptualDistance", "build_distance",
    ),
    "mpa_core.tasks.photos": (
        "Indexed", "PhotoFolder", "Replacing", "find_photos", "random_crop", "read_photo",
        "undamaged",
    ),
    "mpa_core.tasks.recipe": ("Recipe", "Split", "freeze", "load_recipe"),
    "mpa_core.tasks.samples": ("PathBatch", "Sample", "collate"),
    "mpa_core.tasks.seeds": ("plugin_generator", "plugin_sequence"),
    "mpa_core.tasks.settings": ("CropSettings",),
    "mpa_core.tasks.wasserstein": ("wasserstein_distortion",),
}  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
