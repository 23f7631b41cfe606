"""Conversion of the authors' released checkpoints (SPEC section 5): ``mpa import-official``.

The architecture is inferred from the tensors' shapes, each of our tensors is looked up under its
released name, and a tensor that was not looked up is an error: nothing is dropped silently.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from mpa_core.base.entropy import CDF_BUFFERS
from mpa_core.base.tinylic.codec import TinyLIC
from mpa_core.base.tinylic.config import TinyLICConfig
from mpa_core.checkpoints.folders import save_base
from mpa_core.checkpoints.path_folders import save_path
from mpa_core.checkpoints.tensors import check_finite, load_into
from mpa_core.coding.model import MPAModel
from mpa_core.config import PathConfig
from mpa_core.errors import (
    CheckpointError,
    ConfigError,
    PluginError,
)
from mpa_core.importing.keys import PRIOR_CONSTANTS, Keys, base_key, path_key
from mpa_core.io.files import already_exists
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.registry import registry
from mpa_core.requirements import DISTRIBUTION
from mpa_core.runtime.surroundings import making_weights

_OF_A_TASK = re.compile(r"g_s\d+\..*\.(?:mlp_list\.(\d+)\.|score_predictor\.(\d+)\.0\.)")


def import_official(checkpoint: Path, out: Path, force: bool = False) -> dict[str, Any]:
    """Write ``out/base``, and for each task found a folder with the name of its path.

    The installed plugins state which path a task is (:attr:`PathSpec.official`).

    Args:
        checkpoint: a ``.pth.tar`` with the tensors under ``state_dict`` (perhaps behind
            ``module.``), or the same tensors as safetensors. Any widths, depths and heads.
        out: folder, made if missing.
        force: replace the folders' files if they exist.

    Returns:
        ``{"base": {"name", "folder", "fingerprint", "parameters"}, "paths": {task: {"folder",
            "fingerprint", "parameters"}}}``, ready for JSON.

    Raises:
        CheckpointError: not such a checkpoint; tensors missing, left over, or of other shapes; a
            task of no installed path.
        PluginError: several installed paths claim a task in it.
        OutputError: ``out`` cannot be written, or holds a checkpoint and ``force`` is false.
    """
    checkpoint, out = Path(checkpoint), Path(out).resolve()
    keys = Keys(read_official(checkpoint), str(checkpoint))
    check_finite(keys.tensors, keys.source)
    config = infer_config(keys)
    model = _base_model(config, keys)
    names = {task: official_path(task, keys.source) for task in _tasks(keys)}
    paths = {name: _task_path(config, keys, task, name) for task, name in names.items()}
    assert isinstance(model.base, TinyLIC)
    keys.check_masks(model.base.entropy)
    keys.check_all_used()
    targets = [out / "base", *(out / name for name in paths)]
    taken = next((folder for folder in targets if folder.exists()), None)
    if taken is not None and not force:
        raise already_exists(taken, "overwrite it with --force (force=True in Python)")
    base_name = f"{out.name}/base"
    fingerprint = save_base(out / "base", config, model.frozen_state(), name=base_name)
    report: dict[str, Any] = {
        "base": {
            "name": base_name,
            "folder": str(out / "base"),
            "fingerprint": fingerprint,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "paths": {},
    }
    for name, path in paths.items():
        report["paths"][name] = {
            "folder": str(out / name),
            "fingerprint": save_path(
                out / name, path, base_name=base_name, base_fingerprint=fingerprint
            ),
            "parameters": sum(p.numel() for p in path.parameters()),
        }
    return report


def read_official(checkpoint: Path) -> dict[str, Tensor]:
    """Read tensors by released name, without a ``module.`` prefix.

    Pickles are read with ``weights_only=True``.

    Raises:
        CheckpointError: unreadable, neither format, or holding anything but tensors and numbers.
    """
    try:
        data = checkpoint.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {checkpoint}: {error.strerror}; give the released .pth.tar, "
            "or its tensors as safetensors"
        ) from error
    try:
        content: Any = parse_safetensors(data)
    except (SafetensorError, KeyError, ValueError):
        content = _load_pickle(checkpoint)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise CheckpointError(
            f"{checkpoint} holds no tensors under 'state_dict'; give the released .pth.tar, "
            "or its tensors as safetensors"
        )
    tensors = {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _load_pickle(checkpoint: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {named[1]!r}" if named else "is no torch checkpoint"
        raise CheckpointError(
            f"{checkpoint} {what}, expected tensors and numbers only; "
            "give the released .pth.tar, or its tensors as safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{checkpoint} is neither a torch checkpoint nor safetensors, or was cut short "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "download it again"
        ) from error


def _numpy_scalars() -> list[Any]:
    """Return the functions that released files need besides tensors, for numpy's numbers."""
    # The function has had two names; a file has the name from the numpy that wrote it.
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    return [np.dtype, *(type(np.dtype(kind)) for kind in kinds), *((scalar, n) for n in names)]


def infer_config(keys: Keys) -> TinyLICConfig:
    """Infer the architecture from the tensors' shapes.

    Raises:
        CheckpointError: tensors are missing, or the shapes fit no config.
    """
    mlps: list[tuple[int, int]] = []
    parts = {part: _infer_stages(keys, part, mlps) for part in ("g_a", "h_a", "h_s", "g_s")}
    sides = keys.widths(r"g_a\d+\..*\.fastmlp\.fc1\.1\.weight")
    try:
        return TinyLICConfig.parse(
            {
                **parts,
                "mlp_ratio": _ratio(mlps, "main", 2.0, keys.source),
                "encoder_hidden_ratio": _ratio(sides, "encoder's side", 0.5, keys.source),
                "quality_levels": keys.shape("Gain", 2)[0],
            },
            source=keys.source,
        )
    except ConfigError as error:
        raise CheckpointError(
            f"{error}; give a released MPA checkpoint with all its transforms"
        ) from error


def _infer_stages(keys: Keys, part: str, mlps: list[tuple[int, int]]) -> list[dict[str, int]]:
    """Infer the stages of a transform; ``mlps`` collects (width, hidden width) of main MLPs."""
    analysis = part.endswith("_a")
    layers = keys.count(rf"{part}(\d+)\.", what=part)
    stages = []
    # A stage is two layers; a run without blocks, which may be the last, has no tensors.
    for first in range(0, layers, 2):
        conv, run = (first, first + 1) if analysis else (first + 1, first)
        # Either kind of kernel has the width of the blocks first: a convolution's outputs, a
        # transposed one's inputs.
        width = keys.shape(f"{part}{conv}.weight", 4)[0]
        blocks = f"{part}{run}.residual_group.blocks"
        depth = keys.count(rf"{re.escape(blocks)}\.(\d+)\.")
        heads, side = keys.shape(f"{blocks}.0.attn.rpb", 3)[:2] if depth else (1, 13)
        mlps += [(width, keys.shape(f"{blocks}.{j}.mlp.fc1.weight", 2)[0]) for j in range(depth)]
        stages.append({"width": width, "depth": depth, "heads": heads, "window": (side + 1) // 2})
    return stages


def _ratio(widths: list[tuple[int, int]], what: str, usual: float, source: str) -> float:
    """Return a ratio that, times each width and truncated, gives every hidden width.

    Args:
        widths: (width, hidden width) of each MLP; without any, every ratio is right.
        what: description of the MLPs, for the message.
        usual: the ratio to try first.
        source: the file, for the message.
    """
    candidates = [usual, 0.5, 1.0, 2.0, *(hidden / dim for dim, hidden in widths)]
    candidates += [float(np.nextafter(candidate, np.inf)) for candidate in candidates]
    for ratio in candidates:
        if all(int(dim * ratio) == hidden for dim, hidden in widths):
            return ratio
    found = ", ".join(sorted({f"{hidden}/{dim}" for dim, hidden in widths}))
    raise CheckpointError(
        f"{source}: {what} MLPs have hidden widths {found}, expected one ratio for all; "
        "such a model cannot be described by a config"
    )


def _base_model(config: TinyLICConfig, keys: Keys) -> MPAModel:
    with making_weights():
        model = MPAModel(config).eval()
    tables = {base_key(n): n for n in model.state_dict() if n.rpartition(".")[2] in CDF_BUFFERS}
    # A checkpoint saved in training has empty tables and no constants of compressai. Any tables
    # will do until the weights are in; the constants are the same in every model.
    has_tables = all(keys.has(released) for released in tables)
    if not has_tables:
        model.update()
    tensors = model.state_dict()
    for name in tensors:
        released = base_key(name)
        constant = name.endswith(PRIOR_CONSTANTS) and not keys.has(released)
        if constant or (released in tables and not has_tables):
            keys.ignore(released)
        else:
            tensors[name] = keys.take(released)
    keys.check_none_missing()
    load_into(model, tensors, keys.source)
    if not has_tables:
        model.update()
    return model


def official_path(task: int, source: str) -> str:
    """Return the name of the installed path that is task ``task`` of the released checkpoints.

    Args:
        task: its number there, from 0.
        source: name of the checkpoint in messages.

    Raises:
        CheckpointError: no installed path states that it is that task.
        PluginError: several do.
    """
    found = [path for path in registry().paths() if path.spec.official == task]
    found = [path for path in found if path.distribution == DISTRIBUTION] or found
    if not found:
        raise CheckpointError(
            f"{source} has a task {task}, which is none of the installed paths; install the plugin "
            "whose PathSpec has that number in official, or let MPA_PLUGINS load it"
        )
    if len(found) > 1:
        names = " and ".join(path.qualified_name for path in found)
        raise PluginError(
            f"{source} has a task {task}, which {names} both say they are; uninstall all but one, "
            "or let MPA_PLUGINS load one of them"
        )
    return found[0].name


def _tasks(keys: Keys) -> list[int]:
    """Return the numbers of the tasks that have tensors, ascending."""
    found = filter(None, map(_OF_A_TASK.match, keys.tensors))
    return sorted({int(match[1] or match[2]) for match in found})


def _task_path(config: TinyLICConfig, keys: Keys, task: int, name: str) -> TaskPath:
    """Build a path of the registered name; the plugins' own classes build the same layers."""
    widths = keys.widths(rf"g_s\d+\..*\.mlp_list\.{task}\.fc1\.1\.weight")
    ratio = _ratio(widths, name, 0.5, keys.source)
    named: type[TaskPath] = type(name, (TaskPath,), {"name": name})
    with making_weights():
        path = named(
            config.decoder_path_stages,
            PathConfig(hidden_ratio=ratio),
            levels=config.quality_levels,
        )
    found = {name: keys.take(path_key(name, task)) for name in path.state_dict()}
    keys.check_none_missing()
    load_into(path, found, keys.source)
    return path.eval()
