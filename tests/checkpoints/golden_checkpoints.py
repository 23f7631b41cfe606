"""Writes the golden checkpoints of format 1: ``python tests/checkpoints/golden_checkpoints.py``.

A base, a path without code of its own and a path with some, a file of each entropy profile, and
what the files decode to. To be run for a new format, into a new folder, never to make a failing
test pass: what was written once is read for ever.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mpa_core import MPACodec, PathConfig, TaskPath, checkpoints
from mpa_core.base.tinylic.config import TinyLICConfig
from mpa_core.coding.model import MPAModel
from mpa_core.paths import SideMLP

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/checkpoints"
PLUGIN = checkpoints.PluginRef(distribution="mpa-plugin-golden", version=">=1.2")
"""A distribution that is installed nowhere."""
PROFILES = ("exact", "float")


class PlainPath(TaskPath):
    """A path of the SDK's side MLPs and predictors: it needs no plugin."""

    name = "golden_plain"


class Halved(SideMLP):
    """A layer that no SDK has."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return half of what the side MLP gives."""
        return super().forward(tokens) / 2


class OwnPath(TaskPath):
    """A path with a layer and a setting of its own: it needs its plugin."""

    name = "golden_own"

    class Config(PathConfig):
        """The setting that other paths do not have."""

        sharpness: float = 0.5

    def build_mlp(self, dim: int) -> nn.Module:
        """Return the own layer."""
        return Halved(dim, self.config.hidden_ratio)


PATHS: dict[type[TaskPath], tuple[str, str]] = {
    PlainPath: ("plain", "float32"),
    OwnPath: ("own", "float16"),
}
"""Class to folder and element type."""


def architecture() -> TinyLICConfig:
    """About as small as there are: the tables of the range coder are nine tenths of the folder."""

    def stage(width: int, depth: int = 1) -> dict[str, int]:
        return {"width": width, "depth": depth, "heads": 1, "window": 3}

    analysis = [stage(4), stage(4), stage(8), stage(16)]
    hyper = [stage(4), stage(4)]
    return TinyLICConfig.parse(
        {"g_a": analysis, "h_a": hyper, "h_s": hyper, "g_s": analysis[::-1]}, source="golden"
    )


def codec_of(folder: Path) -> MPACodec:
    """Return the golden base with both golden paths, called as their folders."""
    codec = MPACodec.from_pretrained(folder / "base")
    codec.load_path(folder / "plain", name="plain")
    codec.attach_path(OwnPath.from_pretrained(folder / "own"), "own")
    return codec


def seen(codec: MPACodec, data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return what a file decodes to: ``y_hat``, and the pixels of the base and of each path."""
    found = {"latents": codec.open(data).latents().cpu().numpy().astype("<f4")}
    for path in ("main", "plain", "own"):
        found[path] = np.asarray(codec.decode(data, path))
    return found


def main(folder: Path) -> None:
    """Write the folders, the files and what they decode to."""
    torch.manual_seed(21)
    model = MPAModel(architecture()).eval()
    model.update()
    base = checkpoints.save_base(
        folder / "base", architecture(), model.frozen_state(), name="golden", dtype="float16"
    )
    prints: dict[str, str] = {"base": base}
    stages = architecture().decoder_path_stages
    for path_class, (name, dtype) in PATHS.items():
        path = path_class(stages, path_class.Config(hidden_ratio=1.0)).eval()
        for parameter in path.parameters():  # a new path changes nothing
            nn.init.normal_(parameter, std=0.1)
        prints[name] = checkpoints.save_path(
            folder / name,
            path,
            base_name="golden",
            base_fingerprint=base,
            plugin=PLUGIN,
            dtype=dtype,  # type: ignore[arg-type]
        )
    codec = codec_of(folder)
    prints["exact"] = codec.status()["exact_fingerprint"]
    with Image.open(ROOT / "mpa_core/assets/chelsea.png") as image:
        cat = image.convert("RGB").crop((150, 80, 230, 128))
    arrays = {}
    for profile in PROFILES:
        data = codec.encode(cat, 4.5, profile=profile)
        (folder / f"{profile}.mpa").write_bytes(data)
        arrays |= {f"{profile}.{name}": value for name, value in seen(codec, data).items()}
    np.savez_compressed(folder / "decoded.npz", **arrays)
    (folder / "fingerprints.json").write_text(json.dumps(prints, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
