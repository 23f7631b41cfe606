"""Do all settings of a machine give the same bytes and the same latents? A table says.

Files are encoded once, then encoded and decoded again by child processes with other thread counts,
batches, instruction sets, libraries and precision settings, and by other Python environments
(``--python``, such as one with another version of torch). Rows compare with the first files.

    python examples/determinism.py --photos PHOTOS --limit 8 --python OTHER/bin/python

Exit code 1 if a stream of the exact profile decodes differently anywhere, or if a photo gives
other bytes with ``reproducible=True``. Other differences are counted and are no failure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mpa_core import MPACodec
from mpa_core.errors import MPAError
from mpa_core.io.images import load_image, to_rgb_tensor

QUALITIES = (1.0, 4.5, 8.0)
SIZE = (768, 512)
BATCH = 4
KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "reproducible": {"reproducible": True},
    "float": {"profile": "float"},
}


def settings(capabilities: Sequence[str], pythons: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What each child process is started with."""
    yield {"name": "1 thread", "threads": 1}
    yield {"name": "2 threads", "threads": 2}
    yield {"name": f"batches of {BATCH}", "threads": 2, "batch": BATCH}
    yield {"name": "oneDNN off", "threads": 2, "onednn": False}
    for precision in ("high", "medium"):
        yield {"name": f"matmul precision {precision}", "threads": 1, "precision": precision}
    for capability in capabilities:
        env = {"ATEN_CPU_CAPABILITY": capability}
        yield {"name": f"instruction set {capability}", "threads": 1, "env": env}
    if torch.cuda.is_available():
        yield {"name": torch.cuda.get_device_name(), "threads": 1, "device": "cuda"}
    for python in pythons:
        yield {"name": "other Python", "threads": 1, "python": python}


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photos", type=Path, help="a folder (default: the bundled photo)")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument(
        "--capabilities", nargs="*", default=["default", "avx2", "avx512"], metavar="NAME"
    )
    parser.add_argument(
        "--python", nargs="*", default=[], help="interpreters of other environments"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return child(json.loads(options.child))
    sources = [Path(str(resources.files("mpa_core") / "assets" / "chelsea.png"))]
    if options.photos:
        sources = sorted(p for p in options.photos.iterdir() if p.is_file())[: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        task = {"base": options.base, "photos": [str(p) for p in sources], "folder": folder}
        try:
            rows = [
                run(task, setting) for setting in settings(options.capabilities, options.python)
            ]
        except (MPAError, subprocess.CalledProcessError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    first = rows[0]
    table = Table("setting", "torch", "exact: latents", *(f"{kind}: bytes" for kind in KINDS))
    table.title = "the same as in the first row"
    failed = False
    for row in rows:
        same = {key: _same(row[key], first[key]) for key in ("latents", *KINDS)}
        failed |= "latents" in same and same["latents"][0] < same["latents"][1]
        failed |= same["reproducible"][0] < same["reproducible"][1]
        row["same"] = same
        cells = [f"{a} of {b}" for a, b in same.values()]
        table.add_row(row["name"], row["torch"], *cells)
    Console(highlight=False).print(table)
    if options.json:
        options.json.write_text(json.dumps([_brief(row) for row in rows], indent=2) + "\n")
    return int(failed)


def _same(found: Sequence[str], wanted: Sequence[str]) -> tuple[int, int]:
    pairs = list(zip(found, wanted, strict=True))
    return sum(a == b for a, b in pairs), len(pairs)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("name", "torch", "cpu", "same")}


def run(task: dict[str, Any], setting: dict[str, Any]) -> dict[str, Any]:
    """Digests of everything, computed by a process with this setting."""
    threads = str(setting["threads"])
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    env.update(setting.get("env", {}))
    script = str(Path(__file__).resolve())
    env["PYTHONPATH"] = str(Path(script).parents[1])  # the other environment may not have it
    command = [setting.get("python", sys.executable), script]
    out = subprocess.run(  # noqa: S603 -- this very script, by an interpreter the caller names
        [*command, "--child", json.dumps({**task, **setting})],
        env=env, check=True, capture_output=True, text=True, cwd=Path(script).parents[1],
    )  # fmt: skip
    return {"name": setting["name"], **json.loads(out.stdout)}


def child(task: dict[str, Any]) -> int:
    """Encode and decode as asked for, print digests as JSON."""
    torch.set_num_threads(task["threads"])
    torch.backends.mkldnn.enabled = task.get("onednn", True)
    if "precision" in task:
        torch.set_float32_matmul_precision(task["precision"])
    codec = MPACodec.from_pretrained(task["base"]).to(task.get("device", "cpu"))
    folder = Path(task["folder"])
    digests: dict[str, Any] = {kind: [] for kind in KINDS}
    digests["latents"] = []
    pictures = [_resized(load_image(Path(name))) for name in task["photos"]]
    for kind, options in KINDS.items():
        for quality in QUALITIES:
            for i, data in enumerate(
                _encoded(codec, pictures, quality, task.get("batch", 1), options)
            ):
                digests[kind].append(_digest(data))
                file = folder / f"{kind}-{quality}-{i}.mpa"
                if not file.exists():  # the first process writes what all others read
                    file.write_bytes(data)
                if kind == "exact":
                    y_hat = codec.open(file.read_bytes()).latents()
                    digests["latents"].append(_digest(y_hat.cpu().numpy().tobytes()))
    print(json.dumps({**digests, "torch": torch.__version__, "cpu": _capability()}))
    return 0


def _encoded(
    codec: MPACodec,
    pictures: Sequence[Image.Image],
    quality: float,
    batch: int,
    options: dict[str, Any],
) -> list[bytes]:
    """The bytes that say what was coded: of a file, or, in batches, of its streams."""
    if batch == 1:
        return [codec.encode(picture, quality, **options) for picture in pictures]
    files = [codec.encode(picture, quality, **options) for picture in pictures]
    profiles = codec.profiles
    result: list[bytes] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            out = codec.model.compress(
                torch.cat([to_rgb_tensor(picture).tensor for picture in part]),
                quality,
                networks=profiles.networks(options.get("profile", "exact")),
                analysis=profiles.precise() if options.get("reproducible") else None,
            )
            for i, crc in enumerate(out["symbols_crc"]):
                streams = b"".join(
                    s[i] for s in out["strings"][:: 1 if "profile" in options else -1]
                )
                file = files[start + i]
                # The rest of a file is header: with the streams of the batch it is what it was.
                head = len(file) - len(streams)
                whole = file[:head] + streams
                result.append(whole if file[24:28] == crc.to_bytes(4, "little") else streams)
    return result


def _resized(picture: Image.Image) -> Image.Image:
    """One size for all, so that batches can be made; no metadata."""
    plain = picture.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    plain.info.clear()
    return plain


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _capability() -> str:
    return str(torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    sys.exit(main())
