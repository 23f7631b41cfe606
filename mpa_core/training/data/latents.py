"""Latents of training pictures: computed once by the frozen encoder, then read from disk.

The encoder and the entropy model are frozen and run in eval mode, so ``y_hat`` of a picture at a
quality is a constant. A record is kept under a digest of its inputs (the picture's pixels and the
quality) in a folder of the base's fingerprint. So nothing has to be known about a data set, paths
trained on the same crops share their latents, and a changed photo is another record, never a wrong
one.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.coding.model import MPAModel
from mpa_core.training.objectives.losses import bits_per_pixel

logger = logging.getLogger(__name__)

_ENTRY = struct.Struct("<16sIf")
"""Digest, CRC-32 of the record, bits per pixel."""


@torch.no_grad()
def encode_latents(model: MPAModel, images: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the input of ``g_s``, and the rate.

    Args:
        model: in eval mode.
        images: [B, 3, H, W] in [0, 1], sides multiples of ``hyper_stride``.
        quality: [B], from 1 to the number of levels.

    Returns:
        ``y_hat`` [B, M, H/16, W/16], and estimated bits per pixel [B].
    """
    y_hat, likelihoods = model.estimate(images, model.base.quality(quality, images))
    return y_hat, bits_per_pixel(likelihoods, images.shape[-2] * images.shape[-1])


def picture_key(image: NDArray[np.uint8], quality: float) -> bytes:
    """Return 16 bytes that identify the pixels ``image`` [H, W, 3] at ``quality``."""
    digest = hashlib.blake2b(struct.pack("<2If", *image.shape[:2], quality), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


@dataclass(frozen=True)
class _Place:
    file: BinaryIO
    offset: int
    crc: int
    bpp: float


class LatentStore:
    """Records of one shape on disk, found by key.

    Every process that writes has a pair of files of its own, ``*.latents`` (records, float32,
    little-endian) and ``*.index`` (key, CRC-32 and rate of each), and reads all files that existed
    when it began. So processes never wait for each other, and one that is killed leaves at most a
    record without an entry. Where the disk is full or the limit is reached, no more records are
    kept.

    Args:
        folder: folder of one base; made when the first record is kept.
        shape: shape of a record, (M, h, w).
        limit: largest number of bytes of all records below ``folder``.
    """

    def __init__(self, folder: Path, shape: Sequence[int], limit: int) -> None:
        self.shape = tuple(shape)
        self.record_bytes = 4 * int(np.prod(self.shape))
        self.folder = folder / "x".join(map(str, self.shape))
        self.room = limit - sum(file.stat().st_size for file in folder.rglob("*.latents"))
        self._places: dict[bytes, _Place] = {}
        self._files: list[BinaryIO] = []
        self._own: tuple[BinaryIO, BinaryIO] | None = None
        for index in sorted(self.folder.glob("*.index")):
            self._read_index(index)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> tuple[Tensor, float] | None:
        """Return a record (a new tensor) and its rate; None if it does not exist or is damaged."""
        place = self._places.get(key)
        if place is None:
            return None
        place.file.seek(place.offset)
        data = bytearray(place.file.read(self.record_bytes))
        if len(data) != self.record_bytes or zlib.crc32(data) != place.crc:
            logger.warning("%s: a damaged record; computed anew", self.folder)
            del self._places[key]
            return None
        values = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        return torch.from_numpy(values).view(self.shape), place.bpp

    def put(self, key: bytes, record: Tensor, bpp: float) -> None:
        """Keep ``record`` (of :attr:`shape`) and its rate, while there is room."""
        if key in self._places or self.room < self.record_bytes:
            return
        data = record.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
        try:
            latents, index = self._own or self._open_own()
            offset = latents.seek(0, 2)
            latents.write(data)
            crc = zlib.crc32(data)
            index.write(_ENTRY.pack(key, crc, bpp))
        except OSError as error:
            logger.warning("%s: latents are kept no longer: %s", self.folder, error)
            self.room = 0
            return
        self._places[key] = _Place(latents, offset, crc, _as_float32(bpp))
        self.room -= self.record_bytes

    def close(self) -> None:
        """Close all files; nothing can be read afterwards."""
        for file in self._files:
            file.close()
        self._places.clear()

    def _open_own(self) -> tuple[BinaryIO, BinaryIO]:
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.folder / secrets.token_hex(8)
        # Unbuffered: an entry must never be on disk before its record.
        latents = stem.with_suffix(".latents").open("x+b", buffering=0)
        self._files.append(latents)
        index = stem.with_suffix(".index").open("xb", buffering=0)
        self._files.append(index)
        self._own = (latents, index)
        return self._own

    def _read_index(self, path: Path) -> None:
        try:
            entries = path.read_bytes()
            file = path.with_suffix(".latents").open("rb", buffering=0)
        except OSError as error:
            logger.warning("passed over: %s", error)
            return
        self._files.append(file)
        count = min(len(entries) // _ENTRY.size, file.seek(0, 2) // self.record_bytes)
        for number in range(count):
            key, crc, bpp = _ENTRY.unpack_from(entries, number * _ENTRY.size)
            self._places[key] = _Place(file, number * self.record_bytes, crc, bpp)


class Latents:
    """``y_hat`` and rate of pictures, read from the store or computed.

    Pictures are encoded one at a time, so that the latents of a picture do not depend on the others
    of its batch, and a run with a store is the same to the bit as one without.

    Args:
        model: the frozen base, in eval mode.
        store: None computes everything each time.
        batched: encode all missing pictures of a batch in one pass, for a GPU; then both statements
            hold up to rounding only.

    Attributes:
        hits, misses: number of pictures that were read, and that were computed.
    """

    def __init__(
        self, model: MPAModel, store: LatentStore | None, *, batched: bool = False
    ) -> None:
        self.model = model
        self.store = store
        self.batched = batched
        self.hits = self.misses = 0

    def __call__(
        self, pictures: Sequence[NDArray[np.uint8]], images: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return latents and rate of the pictures of a batch.

        Args:
            pictures: B of [H, W, 3].
            images: the same as a tensor [B, 3, H, W] in [0, 1], on the model's device.
            quality: [B], from 1 to the number of levels.

        Returns:
            ``y_hat`` [B, M, h, w] on the device of ``images``, bits per pixel [B].
        """
        keys = [
            self._key(picture, level)
            for picture, level in zip(pictures, quality.tolist(), strict=True)
        ]
        found = [self._stored(key, images.device) for key in keys]
        missing = [i for i, record in enumerate(found) if record is None]
        self.hits += len(found) - len(missing)
        self.misses += len(missing)
        for rows in [missing] if self.batched and missing else [[i] for i in missing]:
            encoded = encode_latents(self.model, images[rows], quality[rows])
            for i, y_hat, bpp in zip(rows, *encoded, strict=True):
                found[i] = (y_hat, bpp)
                if self.store is not None and keys[i]:
                    self.store.put(keys[i], y_hat, float(bpp))
        records = [record for record in found if record is not None]
        return torch.stack([y for y, _ in records]), torch.stack([bpp for _, bpp in records])

    def close(self) -> None:
        """Close the files of the store."""
        if self.store is not None:
            self.store.close()

    def _key(self, picture: NDArray[np.uint8], level: float) -> bytes:
        """Return the key of the picture's record; empty where none is kept.

        Real qualities are not kept, since they do not come again.
        """
        kept = self.store is not None and level.is_integer()
        return picture_key(picture, level) if kept else b""

    def _stored(self, key: bytes, device: torch.device) -> tuple[Tensor, Tensor] | None:
        record = self.store.get(key) if self.store is not None and key else None
        if record is None:
            return None
        return record[0].to(device), torch.tensor(record[1], device=device)


def _as_float32(value: float) -> float:
    return float(np.float32(value))
