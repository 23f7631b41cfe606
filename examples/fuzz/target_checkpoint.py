"""Checkpoints: forged configs, safetensors headers and weights through ``load_base/load_path``.

Fingerprints are made right again in most cases, so that the checks behind them are reached.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import bytes_mutations
import numpy as np
import torch
from safetensors.torch import load as parse_safetensors

from mpa_core import MPACodec, checkpoints
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.config import MAX_DEPTH, MAX_STAGES, MAX_WIDTH
from mpa_core.paths.path import TaskPath

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2,
    MAX_STAGES + 1,
    MAX_DEPTH,
    MAX_WIDTH,
    2**31,
    2**64,
    10**9,
    -(10**30),
    0.5,
    1e-9,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 100_000,
    "\0\ud800",
    "../../etc/passwd",
    [],
    {},
    [[[[[]]]]] * 50,
    {"a": {"a": {"a": {}}}},
)
FILES = ("model.safetensors", "exact.safetensors", "path.safetensors")


class Target:
    """A case is JSON: which file of a saved folder is replaced, and by what, in hexadecimal."""

    limit_s = 20.0

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self._base, self._path = folder / "base", folder / "path"
        codec = MPACodec.from_preset("mpa-tiny")
        codec.save_pretrained(self._base)
        path = TaskPath(codec.model.config.decoder_path_stages)
        checkpoints.save_path(
            self._path, path, base_name=codec.name, base_fingerprint=codec.fingerprint
        )
        self._whole = {
            kind: {p.name: p.read_bytes() for p in where.iterdir() if p.suffix != ".md"}
            for kind, where in (("base", self._base), ("path", self._path))
        }
        self._codec = codec

    def make(self, rng: random.Random) -> bytes:
        kind = rng.choice(("base", "path"))
        name = rng.choice(list(self._whole[kind]))
        data = self._whole[kind][name]
        how = rng.randrange(4)
        if how == 0:
            changed = bytes_mutations.mutate(data, rng)
        elif name.endswith(".json"):
            changed = _forge_json(data, rng)
        elif how == 1:
            changed = _forge_values(data, rng)
        else:
            changed = _forge_header(data, rng)
        case = {"kind": kind, "name": name, "mend": rng.random() < 0.8, "data": changed.hex()}
        return json.dumps(case).encode()

    def prepare(self, case: bytes) -> tuple[str, Path]:
        read = json.loads(case)
        where = self._base if read["kind"] == "base" else self._path
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        files = dict(self._whole[read["kind"]])
        files[read["name"]] = bytes.fromhex(read["data"])
        if read["mend"]:
            _mend(files, read["kind"])
        for name, data in files.items():
            (where / name).write_bytes(data)
        return read["kind"], where

    def run(self, prepared: tuple[str, Path]) -> str:
        kind, where = prepared
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about layers of no width
            if kind == "base":
                codec = MPACodec.from_pretrained(where)
                picture = np.zeros((64, 64, 3), np.uint8)
                assert codec.decode(codec.encode(picture), output="array").shape == picture.shape
            else:
                loaded = checkpoints.load_path(where)
                loaded.require_base(self._codec.name, self._codec.fingerprint)
                path = loaded.build(TaskPath)
                self._codec.attach_path(path, "fuzzed")
                self._codec.unload_path("fuzzed")
        return f"accepted {kind}"

    def allowance(self, case: bytes) -> int:
        # Of a file: its bytes, float32 of them, the module twice; the case has it in hexadecimal.
        return 2**26 + 8 * len(case)


def _mend(files: dict[str, bytes], kind: str) -> None:
    """Write the fingerprints that the forged tensors have into the config, if there are any."""
    weights, config = (
        ("model.safetensors", "config.json")
        if kind == "base"
        else ("path.safetensors", "path_config.json")
    )
    try:
        said = json.loads(files[config])
        tensors = parse_safetensors(files[weights])
        said["fingerprint"] = fingerprint(tensors)
        if "exact.safetensors" in files:
            formats = parse_safetensors(files["exact.safetensors"])
            said["exact"] = fingerprint({**tensors, **formats})
    except Exception:  # noqa: BLE001 (not to be mended: the case stays as it is)
        return
    files[config] = json.dumps(said).encode()


def _forge_json(data: bytes, rng: random.Random) -> bytes:
    """One value replaced, removed, repeated under its key, or moved out of place."""
    tree = json.loads(data)
    places = list(_places(tree))
    for _ in range(rng.choice((1, 1, 2))):
        parent, key = rng.choice(places)
        how = rng.randrange(4)
        if how == 0 and isinstance(parent, dict):
            parent.pop(key, None)
        elif how == 1 and isinstance(parent, dict):
            parent[rng.choice(("extra", "format", ""))] = rng.choice(HOSTILE)
        elif how == 2 and isinstance(parent, list):
            parent += parent * rng.choice((1, 30))
        else:
            parent[key] = rng.choice(HOSTILE)
    text = json.dumps(tree)
    if rng.random() < 0.1:
        text = text.replace('"format"', '"kind": "base", "format"')
    if rng.random() < 0.05:
        text = text[:-1] + ', "deep": ' + "[" * 10_000 + "]" * 10_000 + "}"
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _forge_header(data: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file changed entry by entry."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(names)
        entry = header[name] = dict(header[name])
        how = rng.randrange(8)
        if how == 0:
            entry["dtype"] = rng.choice(("F16", "F64", "BF16", "I64", "F8_E4M3", "U8", "C64", "x"))
        elif how == 1:
            entry["shape"] = rng.choice(
                ([], [0], [-1], [2**62, 4], [1] * 100, entry["shape"] + [1])
            )
        elif how == 2:
            entry["data_offsets"] = [rng.choice((0, 1, -1, 2**63, 8)) for _ in range(2)]
        elif how == 3:
            entry["data_offsets"] = dict(header[rng.choice(names)])["data_offsets"]
        elif how == 4:
            entry[rng.choice(list(entry))] = rng.choice(HOSTILE)
        elif how == 5:
            header[rng.choice((name + "x", "", "__metadata__", "\0"))] = entry
        elif how == 6:
            del header[name]
            names.remove(name)
        else:
            header["__metadata__"] = rng.choice(HOSTILE)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = text[:-1] + b"," + text[1:]  # every key twice
    claimed = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, 10**8))
    return struct.pack("<Q", claimed) + text + data[8 + length :]


def _forge_values(data: bytes, rng: random.Random) -> bytes:
    """Numbers changed: NaN, infinity, the largest there are, random bits."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    changed = bytearray(data)
    names = [name for name in header if name != "__metadata__"]
    chosen = [rng.choice(names)]
    # Mostly the tables of the range coder: the rest is any number, and this has rules.
    if rng.random() < 0.6:
        chosen = [n for n in names if "_cdf" in n or "_offset" in n or "table" in n] or chosen
    start, stop = header[rng.choice(chosen)]["data_offsets"]
    start, stop = 8 + length + start, 8 + length + stop
    for _ in range(rng.choice((1, 2, 50))):
        at = start + 4 * rng.randrange(max((stop - start) // 4, 1))
        value = rng.choice(
            (
                struct.pack("<f", float("nan")),
                struct.pack("<f", float("-inf")),
                struct.pack("<f", 3e38),
                struct.pack("<i", rng.choice((0, -1, 1, 65535, 65536, 2**31 - 1, -(2**31)))),
                rng.randbytes(4),
            )
        )
        changed[at : at + 4] = value
    return bytes(changed[: len(data)])
