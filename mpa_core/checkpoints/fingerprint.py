"""The fingerprint of a set of tensors, which identifies a base codec, whatever file holds it.

Specified byte by byte in ``docs/spec/checkpoint.md``; changing anything here changes the identity
of every base ever published.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from mpa_core.errors import CheckpointError

MAGIC = b"mpa-fingerprint-1\n"
DTYPES: dict[torch.dtype, str] = {
    torch.float32: "float32",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
    torch.bool: "bool",
}
"""Element types that a model may use, and their names in the digest."""


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the elements of ``tensor`` in row-major order, little-endian, on any platform."""
    array = tensor.detach().cpu().contiguous().numpy()
    if sys.byteorder == "big":
        array = array.byteswap()
    return array.tobytes()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes, in the order of the names' UTF-8.

    Args:
        tensors: the tensors as the model uses them (float32 after any cast from storage).

    Returns:
        64 lower-case hexadecimal digits. Insertion order, device, memory layout and the file the
        tensors came from make no difference; ``-0.0`` and ``0.0`` do.

    Raises:
        CheckpointError: a tensor has no data, or an element type other than :data:`DTYPES`.
    """
    digest = hashlib.sha256(MAGIC)
    for encoded, name in sorted((name.encode(), name) for name in tensors):
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise CheckpointError(
                f"tensor {name!r} is {tensor.dtype}; a fingerprint is taken over "
                f"{', '.join(DTYPES.values())} only: cast it first"
            )
        if tensor.is_meta:
            raise CheckpointError(
                f"tensor {name!r} is on the device 'meta' and has no data; load the weights first"
            )
        dtype = DTYPES[tensor.dtype].encode()
        digest.update(struct.pack("<I", len(encoded)) + encoded)
        digest.update(struct.pack("<B", len(dtype)) + dtype)
        digest.update(struct.pack(f"<B{tensor.dim()}Q", tensor.dim(), *tensor.shape))
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
