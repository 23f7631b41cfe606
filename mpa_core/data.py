"""Compressed pictures as training data: tensors by a path, in batches, on the device that decodes.

:class:`MPAImageFolder` is a data set of ``.mpa`` files in folders named by their classes;
:func:`webdataset_decoder` makes a decoder for the shards of WebDataset. Neither library is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpa_core.arguments import as_path
from mpa_core.bitstream.container import MAX_PIXELS
from mpa_core.codecs import FileDecoder
from mpa_core.errors import ImageError, MPAError
from mpa_core.io.folders import counted, find_files
from mpa_core.mix import Mix

__all__ = ["MPAImageFolder", "webdataset_decoder"]

MixLike = Mix | str | Mapping[str, float]


class MPAImageFolder(Dataset[tuple[Any, Any]]):
    """The ``.mpa`` files below a folder, with the name of the sub-folder as their class.

    An item is the pair of a float tensor ``[3, H, W]`` in [0, 1], upright, and the number of its
    class. A DataLoader with a batch size asks for all items of a batch in one call: files of one
    padded size are then decoded together. It needs pictures of one size, or a ``transform`` that
    makes them so.

    With ``device="cuda"`` pictures are decoded and stay there. Give the DataLoader no workers then,
    or workers that are spawned: CUDA cannot be used in forked ones.

    Args:
        root: the folder; each of its sub-folders is a class, whatever folders are below it.
        mix: the paths that decode, as ``codec.decode`` takes them; None is the main path.
        base: the base of all files, as ``MPACodec.from_pretrained`` takes it; None takes the
            bundled base that made a file. It is loaded with the first picture, by each worker.
        load: paths to load first, each ``SOURCE`` or ``NAME=SOURCE``, as ``codec.load_paths`` takes
            them. Installed paths with weights for the base load by themselves.
        device: the device that decodes, and has the tensors.
        transform: applied to each tensor.
        target_transform: applied to the number of each class.
        max_pixels: largest number of pixels of a picture; None for no limit.

    Raises:
        ImageError: ``root`` is no folder, or has no files in sub-folders.
        MixError: ``mix`` is not valid.
        ConfigError, PathNotFoundError: paths that would be called the same, or are not installed.
    """

    def __init__(
        self,
        root: str | Path,
        mix: MixLike | None = None,
        *,
        base: str | Path | None = None,
        load: Sequence[str] = (),
        device: str | torch.device = "cpu",
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.root = as_path(root, "root", ImageError)
        self._decoder = FileDecoder(mix, base=base, load=load, device=device)
        self._max_pixels = max_pixels
        self.transform = transform
        self.target_transform = target_transform
        if not self.root.is_dir():
            raise ImageError(f"{self.root} is no folder; give one with a folder for each class")
        found = find_files(self.root, {".mpa"})
        files = [path for path in found.paths() if len(path.relative_to(self.root).parts) > 1]
        if not files:
            raise ImageError(
                f"{self.root} has no .mpa files in sub-folders (left out: "
                f"{counted(found.left_out)}); make some with `mpa encode FOLDER -o {self.root}/`"
            )
        names = [path.relative_to(self.root).parts[0] for path in files]
        self.classes = sorted(set(names))
        """Names of the classes, sorted."""
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        """Numbers of the classes, by name."""
        self.samples = [
            (path, self.class_to_idx[name]) for path, name in zip(files, names, strict=True)
        ]
        """Each file with the number of its class, in the order of the items."""
        self.targets = [number for _, number in self.samples]
        """Numbers of the classes of the items."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return one picture and its class.

        Raises:
            OSError: the file cannot be read.
            MPAError: the file cannot be decoded; the message begins with its path.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return several pictures with their classes, decoded together; raises as one does."""
        samples = [self.samples[index] for index in indices]
        files = [path.read_bytes() for path, _ in samples]
        items = []
        pictures = self._decoder.tensors(files, max_pixels=self._max_pixels)
        for (path, number), picture in zip(samples, pictures, strict=True):
            x = _picture(picture, str(path))
            items.append(
                (
                    x if self.transform is None else self.transform(x),
                    number if self.target_transform is None else self.target_transform(number),
                )
            )
        return items


def webdataset_decoder(
    mix: MixLike | None = None,
    *,
    base: str | Path | None = None,
    load: Sequence[str] = (),
    device: str | torch.device = "cpu",
    max_pixels: int | None = MAX_PIXELS,
) -> Callable[[str, bytes], Tensor | None]:
    """Return a function for ``webdataset.WebDataset(…).decode(…)`` that decodes ``.mpa`` entries.

    Args:
        mix, base, load, device, max_pixels: as :class:`MPAImageFolder` takes them.

    Returns:
        A function of an entry's key, of which the part behind the last dot counts, and its bytes.
        For ``mpa`` it returns a float tensor ``[3, H, W]`` in [0, 1], upright; for any other key
        None, which leaves the entry to the decoders behind it. It can be sent to workers.

    Raises:
        MixError: ``mix`` is not valid.
        ConfigError, PathNotFoundError: paths that would be called the same, or are not installed.
    """
    return _EntryDecoder(FileDecoder(mix, base=base, load=load, device=device), max_pixels)


class _EntryDecoder:
    """Decodes the entries of a shard; a class, since a function in a function is not pickled."""

    def __init__(self, decoder: FileDecoder, max_pixels: int | None) -> None:
        self._decoder = decoder
        self._max_pixels = max_pixels

    def __call__(self, key: str, data: bytes) -> Tensor | None:
        if key.rpartition(".")[2].lower() != "mpa":
            return None
        (picture,) = self._decoder.tensors([data], max_pixels=self._max_pixels)
        return _picture(picture, f"an entry {key}")


def _picture(found: Tensor | MPAError, name: str) -> Tensor:
    """Return a decoded picture, or raise its error as one about ``name``."""
    if isinstance(found, MPAError):
        raise type(found)(f"{name}: {found}") from found
    return found
