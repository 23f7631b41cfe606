"""The state of a run on disk: complete, checked, in small files, nothing pickled.

``checkpoints/step-00001234/`` holds ``state.json`` and ``state-00000.safetensors`` and so on, each
at most 16 MiB. Tensors are stored flat, in pieces where they are large. A checkpoint gets its name
only when all of it is on disk, so one that has a name is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mpa_core.errors import CheckpointError, OutputError
from mpa_core.io.files import write_bytes

logger = logging.getLogger(__name__)

STATE_FORMAT = 1
MAX_FILE_BYTES = 16 * 2**20
# Room for the header of a file (names, shapes, offsets).
_HEADER_ROOM = 2**20


@dataclass(frozen=True)
class SavedState:
    """A checkpoint as :func:`load_latest` returns it."""

    folder: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save_state(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    *,
    keep: int = 2,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Path:
    """Write ``folder/step-…`` atomically, then delete all but the newest ``keep`` checkpoints.

    Args:
        folder: folder of the checkpoints.
        step: number of steps done.
        tensors: the tensors of the state.
        meta: the rest of the state, in values that JSON can hold.
        keep: number of checkpoints to keep.
        max_file_bytes: largest size of a file of tensors.

    Raises:
        OutputError: it cannot be written.
    """
    final = folder / checkpoint_name(step)
    staging = folder / f".{final.name}.tmp"
    try:
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        index: dict[str, dict[str, Any]] = {
            name: {"shape": list(value.shape), "pieces": []} for name, value in tensors.items()
        }
        digests: dict[str, str] = {}
        room = max(max_file_bytes - _HEADER_ROOM, max_file_bytes // 2)
        for number, shard in enumerate(_shards(tensors, room)):
            file = f"state-{number:05d}.safetensors"
            data = save(shard)
            digests[file] = hashlib.sha256(data).hexdigest()
            write_bytes(staging / file, data)
            for key in shard:
                index[key.rpartition("#")[0]]["pieces"].append([file, key])
        state = {
            "format": STATE_FORMAT,
            "step": step,
            "meta": dict(meta),
            "files": digests,
            "tensors": index,
        }
        write_bytes(staging / "state.json", json.dumps(state).encode())
        if final.exists():
            shutil.rmtree(final)
        staging.replace(final)
        _sync_folder(folder)
        for old in _checkpoints(folder)[keep:]:
            shutil.rmtree(old)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write the checkpoint {final}: {error.strerror or error}; check the folder, "
            "its permissions and the space left"
        ) from error
    return final


def load_latest(folder: Path) -> SavedState:
    """Return the newest checkpoint below ``folder`` that is intact.

    A damaged one is named in a warning and skipped.

    Raises:
        CheckpointError: there is none.
    """
    problems = []
    for candidate in _checkpoints(folder):
        try:
            return load_state(candidate)
        except CheckpointError as error:
            logger.warning("passed over: %s", error)
            problems.append(str(error))
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder.parent} {'is no run' if folder.parent.is_dir() else 'does not exist'}, "
            f"expected the folder of a run, with {folder.name} in it; give its --out"
        )
    found = f": {problems[0]}" if problems else ""
    raise CheckpointError(
        f"{folder}: no usable checkpoint{found}; give the folder of a run that has "
        "one, or train anew"
    )


def load_state(folder: Path) -> SavedState:
    """Read one checkpoint.

    Raises:
        CheckpointError: anything in it differs from what was written.
    """
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["format"] != STATE_FORMAT:
            raise CheckpointError(
                f"{path}: format {state['format']}, expected {STATE_FORMAT}; resume it with the "
                "version of mpa-core that wrote it"
            )
        pieces: dict[str, Tensor] = {}
        for file, digest in state["files"].items():
            data = (folder / file).read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise CheckpointError(f"{folder / file}: damaged: its SHA-256 is another one")
            pieces.update(load(data))
        tensors = {
            name: torch.cat([pieces[key] for _, key in entry["pieces"]]).reshape(entry["shape"])
            for name, entry in state["tensors"].items()
        }
        return SavedState(folder, tensors, {**state["meta"], "step": int(state["step"])})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{folder}: not a readable checkpoint: {type(error).__name__}: {error}"
        ) from error


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of the checkpoint after ``step`` steps."""
    return f"step-{step:08d}"


def has_checkpoint(folder: Path) -> bool:
    """Return whether ``folder`` holds any checkpoint, intact or not."""
    return bool(_checkpoints(folder))


def clear_staging(folder: Path) -> None:
    """Remove the unfinished checkpoints of a run that was killed while it wrote."""
    for leftover in folder.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders, newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def _shards(tensors: Mapping[str, Tensor], room: int) -> Iterator[dict[str, Tensor]]:
    """Yield flat pieces, ``name#k``, in dictionaries of at most ``room`` bytes each."""
    shard: dict[str, Tensor] = {}
    used = 0
    for name, value in tensors.items():
        flat = value.detach().cpu().contiguous().flatten()
        length = max(1, room // flat.element_size())
        for number, piece in enumerate(flat.split(length) if len(flat) else [flat]):
            size = piece.numel() * piece.element_size()
            if shard and used + size > room:
                yield shard
                shard, used = {}, 0
            shard[f"{name}#{number}"] = piece.clone()
            used += size
    if shard:
        yield shard


def _sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` themselves durable, where the system allows it."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
