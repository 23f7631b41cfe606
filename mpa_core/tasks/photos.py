"""Photos on disk: found in folders, read when first used, and skipped where damaged."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpa_core.errors import ImageError, TrainingError
from mpa_core.io.folders import FolderFiles, counted, find_files, picture_suffixes
from mpa_core.io.images import load_image, to_rgb_tensor
from mpa_core.io.metadata import read_exif
from mpa_core.io.orientation import orientation_of
from mpa_core.io.pixels import to_pixels

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Pixel = TypeVar("Pixel", bound=np.generic)

_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Pillow's modes that :func:`read_photo` always accepts."""


def find_photos(folder: Path) -> FolderFiles:
    """Find the pictures that ``folder`` stands for; a warning counts those left out, by reason.

    Raises:
        TrainingError: there are none, or ``folder`` is no folder.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder}: not a folder; give a folder of photos")
    suffixes = picture_suffixes()
    found = find_files(folder, suffixes)
    for remark in found.remarks():
        logger.warning("%s", remark)
    if not found.names:
        raise TrainingError(
            f"{folder}: no photos in it; expected files ending in {', '.join(sorted(suffixes))} "
            f"(left out: {counted(found.left_out)})"
        )
    return found


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Read a photo, upright, as RGB [H, W, 3] uint8.

    Raises:
        ImageError: it cannot be read; the message has its path.
    """
    image = load_image(path)
    try:
        tensor = to_rgb_tensor(image).tensor[0]
    except ImageError as error:  # its message has no path
        raise ImageError(f"{path}: {error}") from error
    return to_pixels(tensor)


def photo_shape(path: Path) -> tuple[int, ...]:
    """Return [H, W, 3] of a photo, from the header of its file where that suffices.

    Raises:
        ImageError: it cannot be read, as far as the header tells.
    """
    # Unusual pictures (animations, CMYK, warnings, damage) are read whole.
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.open(path) as image:
            single = image.format == "MPO" or getattr(image, "n_frames", 1) == 1
            if single and image.mode in _PLAIN_MODES:
                # Pillow turns TIFF by itself, and gives the size of the turned picture. To look
                # for EXIF behind the pixels of a PNG it would decode them.
                if image.format == "PNG" and "exif" not in image.info:
                    return (
                        read_photo(path).shape
                        if _has_late_exif(path)
                        else (
                            image.height,
                            image.width,
                            3,
                        )
                    )
                turned = image.format != "TIFF" and orientation_of(read_exif(image)) >= 5
                return (*(image.size if turned else image.size[::-1]), 3)
    return read_photo(path).shape


def _has_late_exif(path: Path) -> bool:
    """Return whether a PNG has an ``eXIf`` chunk or an EXIF text anywhere; reads no pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if name == b"eXIf" or (
                name in (b"zTXt", b"iTXt", b"tEXt") and b"exif" in file.peek(99)[:99].lower()
            ):
                return True
            file.seek(length + 4, 1)
    return False


class Indexed(Sequence[Item]):
    """A sequence by ``len()`` and :meth:`item`, which a subclass defines; slices are lists."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """Return item ``index``, 0 <= ``index`` < ``len(self)``."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self.item(i) for i in range(len(self))[index]]
        return self.item(range(len(self))[index])


class PhotoFolder(Indexed[NDArray[np.uint8]]):
    """The photos of a folder, RGB [H, W, 3] uint8 each, read when they are first asked for.

    Only headers are read at first. Photos whose header is unreadable, or with a side below
    ``min_side``, are left out; they are in ``broken`` and ``small``, and a warning counts them.
    Photos that have been read are kept in memory while they fit in ``cache_mib``. A photo whose
    file turns out to be damaged after its header raises :class:`ImageError` when it is asked for;
    see :class:`Replacing`.

    Args:
        folder: photos, at any depth below it.
        min_side: smallest side in pixels.
        cache_mib: memory in MiB in which decoded photos are kept.

    Raises:
        TrainingError: no photo is left.
    """

    def __init__(self, folder: Path, *, min_side: int, cache_mib: int) -> None:
        self.broken: list[Path] = []
        self.small: list[Path] = []
        self.shapes: list[tuple[int, ...]] = []
        """[H, W, 3] of each photo."""
        self.paths: list[Path] = []
        """File of each photo."""
        found = find_photos(folder)
        self.left_out = found.left_out
        """Number of files and folders that were not taken, by reason."""
        for path in found.paths():
            try:
                shape = photo_shape(path)
            except ImageError as error:
                logger.warning("left out: %s", error)
                self.broken.append(path)
                continue
            if min(shape[:2]) < min_side:
                self.small.append(path)
                continue
            self.shapes.append(shape)
            self.paths.append(path)
        if self.broken or self.small:
            logger.warning(
                "%s: %d photos left out as unreadable, %d as smaller than %d pixels",
                folder, len(self.broken), len(self.small), min_side,
            )  # fmt: skip
        if not self.paths:
            raise TrainingError(
                f"{folder}: none of its photos can be used: {len(self.broken)} are unreadable and "
                f"{len(self.small)} have a side below {min_side} pixels; add photos or set a "
                "smaller data.crop"
            )
        self._room = cache_mib * 2**20
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, index: int) -> NDArray[np.uint8]:
        """Return photo ``index``, from memory or read from its file."""
        pixels = self._kept.get(index)
        if pixels is None:
            pixels = read_photo(self.paths[index])
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._kept[index] = pixels
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, without the photos in memory: it keeps its own."""
        kept = sum(pixels.nbytes for pixels in self._kept.values())
        return {**self.__dict__, "_kept": {}, "_room": self._room + kept}

    @property
    def cached(self) -> bool:
        """Whether every photo is in memory."""
        return len(self._kept) == len(self)


class Replacing(Generic[Item]):
    """The items of a data set, each damaged one replaced by the next intact one.

    The item at an index depends on the files alone, whatever was asked for before. Each damaged
    picture is named once in a warning; ``damaged`` holds the messages.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.damaged: set[str] = set()

    def __len__(self) -> int:
        return len(self.items)

    def spread(self, count: int) -> list[Item]:
        """Return ``count`` items, evenly spaced over the data set."""
        return [self[i * len(self) // count] for i in range(count)]

    def __getitem__(self, index: int) -> Item:
        """Return item ``index``, or the next one that is intact.

        Raises:
            TrainingError: no item is intact.
        """
        text = ""
        for place in range(index, index + len(self)):
            try:
                return self.items[place % len(self)]
            except ImageError as error:
                text = str(error)
            if text not in self.damaged:
                self.damaged.add(text)
                logger.warning(
                    "%s; the next picture takes its place (%d so far)", text, len(self.damaged)
                )
        raise TrainingError(f"none of the {len(self)} pictures can be read; the last: {text}")


def undamaged(items: Sequence[Item]) -> Iterator[tuple[int, Item]]:
    """Yield index and item for all intact pictures; a warning names each damaged one."""
    for index in range(len(items)):
        try:
            item = items[index]
        except ImageError as error:
            logger.warning("left out: %s", error)
            continue
        yield index, item


def random_crop(
    picture: NDArray[Pixel],
    side: int,
    random: np.random.Generator,
    *,
    flip: bool,
    transpose: bool,
    scale: tuple[float, float] = (1.0, 1.0),
) -> NDArray[Pixel]:
    """Cut a square of ``side`` pixels from ``picture``, at random; the result may be a view.

    Equal generators draw the same crop for a photo and its mask.

    Args:
        picture: [H, W, ...], H and W at least ``side``.
        side: side of the square in pixels.
        random: generator of place, scale and orientation.
        flip: mirror half of the crops left to right.
        transpose: draw the orientation from all eight instead.
        scale: two factors in (0, 1]; the picture is made smaller by a factor drawn between them
            before it is cut, but no further than the square fits into it.
    """
    window = side
    if scale != (1.0, 1.0):  # otherwise nothing is drawn, as in runs from before scales existed
        factor = random.uniform(*scale)
        window = min(round(side / factor), *picture.shape[:2])
    top = int(random.integers(0, picture.shape[0] - window, endpoint=True))
    left = int(random.integers(0, picture.shape[1] - window, endpoint=True))
    turn = int(random.integers(0, 8))
    # Cut first: only the window needs filtering.
    crop = shrink(picture[top : top + window, left : left + window], side)
    if transpose:
        crop = np.rot90(crop, turn % 4)
    return crop[:, ::-1] if (flip or transpose) and turn >= 4 else crop


def shrink(square: NDArray[Pixel], side: int) -> NDArray[Pixel]:
    """Resize a square [S, S, ...], S >= ``side``, to ``side`` pixels a side.

    In RGB uint8 [S, S, 3] each pixel is the mean of the area that it covers, to the fraction of a
    pixel. Any other array holds labels, which have no mean: the label in the middle of the area is
    taken.
    """
    given = square.shape[0]
    if given == side:
        return square
    if square.dtype == np.uint8 and square.shape[2:] == (3,):
        # Not Pillow's box filter: between whole factors it takes pixels whole or not at all.
        edges = torch.arange(side + 1)[:, None] * (given / side)
        covered = (edges - torch.arange(given)).clamp(0, 1)  # of each pixel, left of each edge
        weights = covered.diff(dim=0) * (side / given)
        planes = torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float()
        means = weights @ planes @ weights.T  # several times as fast as NumPy's product
        return means.permute(1, 2, 0).round().byte().numpy().astype(square.dtype)
    middle = ((np.arange(side) + 0.5) * given / side).astype(np.intp)
    return square[middle[:, None], middle]
