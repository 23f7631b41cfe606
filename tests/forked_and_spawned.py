"""Code and decode in child processes of one that has used torch's threads; run by a test.

Prints, as JSON, for each kind of child: whether its bytes and pixels are those of one thread.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mpa_core import MPACodec

CASES = [((64, 64), 4.5), ((90, 50), 1.0), ((33, 70), 7.25), ((1, 1), 3.0)]
SECONDS = 300

Result = tuple[bytes, bytes]


class Coded(Dataset[Result]):
    """Each item is encoded and decoded when it is asked for."""

    def __init__(self, codec: MPACodec, photo: Image.Image) -> None:
        self.codec = codec
        self.pictures = [(photo.crop((0, 0, *size)), quality) for size, quality in CASES]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Result:
        picture, quality = self.pictures[index]
        data = self.codec.encode(picture, quality=quality)
        return data, np.asarray(self.codec.decode(data)).tobytes()


def in_a_pool(data: Coded) -> list[Result]:
    """multiprocessing's own fork; its children inherit the codec, and set their threads."""
    global inherited
    inherited = data
    with torch.multiprocessing.get_context("fork").Pool(2, torch.set_num_threads, (1,)) as pool:
        return pool.map(_inherited_item, range(len(data)), chunksize=1)


def _inherited_item(index: int) -> Result:
    return inherited[index]


def in_a_loader(data: Coded, how: str) -> list[Result]:
    """What training does; a spawned worker gets the codec pickled."""
    workers = 2 if how == "fork" else 1
    return list(DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=how))


def in_a_plain_fork(data: Coded) -> list[Result]:
    """A server that loads first and forks then: nobody sets any threads."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        os.write(writer, json.dumps([[part.hex() for part in data[0]]]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return [tuple(bytes.fromhex(part) for part in row) for row in json.loads(answer)]


KINDS: dict[str, Callable[[Coded], list[Result]]] = {
    "pool": in_a_pool,
    "forked loader": lambda data: in_a_loader(data, "fork"),
    "spawned loader": lambda data: in_a_loader(data, "spawn"),
    "plain fork": in_a_plain_fork,
}


def main(photo: Path, base: Path) -> None:
    codec = MPACodec.from_pretrained(base)
    data = Coded(codec, Image.open(photo).convert("RGB"))
    torch.set_num_threads(1)
    expected = [data[index] for index in range(len(data))]
    # From here on there is a pool of OpenMP threads, which no fork inherits.
    torch.set_num_threads(2)
    torch.ones(512, 512).matmul(torch.ones(512, 512))
    found: dict[str, Any] = {}
    for kind, in_children in KINDS.items():
        try:
            results = in_children(data)
            found[kind] = [tuple(row) for row in results] == expected[: len(results)]
        except Exception as error:  # noqa: BLE001 -- the test shows it
            found[kind] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
