"""Code many pictures in one call, in batches of one padded size.

There is one result per item, in order. A batch holds as many pictures of one padded size as
``batch_pixels`` allows, so memory follows that number and not the number of pictures. The result of
an item that fails is its error; where a whole batch fails, its pictures are tried again one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from mpa_core.arguments import shown
from mpa_core.bitstream.parsed import Errors, parse_file
from mpa_core.coding.encoding import PictureEncoder, Prepared
from mpa_core.coding.latents import DecodedLatents, decode_latents
from mpa_core.coding.model import MPAModel
from mpa_core.coding.picture import CodedPicture, Decoder, MixLike, Output
from mpa_core.errors import ConfigError, MixError, MPAError
from mpa_core.mix import Mix

T = TypeVar("T")
R = TypeVar("R")

BATCH_PIXELS = 2**21
"""Largest number of padded pixels in a batch by default: 32 pictures of 256 x 256."""
_WAITING = 4
"""Limit on the pixels of all pictures that wait for a full batch, as a multiple of a batch's
limit."""


def as_items(value: Any, name: str, what: str) -> Iterable[Any]:
    """Return the items of a list or iterator, or of an array or tensor of four dimensions.

    Raises:
        ConfigError: ``value`` is anything else, such as a single picture or file.
    """
    dimensions = getattr(value, "ndim", None)
    if isinstance(dimensions, int):
        if dimensions == 4:
            return list(value)
    elif isinstance(value, (Sequence, Iterator)) and not isinstance(
        value, (str, bytes, bytearray, memoryview)
    ):
        return value
    raise ConfigError(f"{name} is {shown(value)}, expected a list of {what}; for one give [it]")


def encode_many(
    encoder: PictureEncoder, images: Iterable[Any], batch_pixels: int | None
) -> list[bytes | MPAError]:
    """Encode pictures.

    Args:
        encoder: holds the options.
        images: the pictures, each of any kind that ``codec.encode`` takes.
        batch_pixels: largest number of padded pixels in a batch; None for no limit. Pictures with a
            target are coded one by one.

    Returns:
        For each picture, in order, its file, or the error that prevented it.
    """
    results: dict[int, bytes | MPAError] = {}

    def prepared() -> Iterator[tuple[int, Prepared]]:
        for index, image in enumerate(images):
            picture = _attempt(encoder.prepare, image)
            if isinstance(picture, MPAError):
                results[index] = picture
            else:
                yield index, picture

    for batch in batches(
        prepared(),
        key=lambda item: item[1].x.shape,
        pixels=lambda item: item[1].x[0, 0].numel(),
        limit=batch_pixels if encoder.batches else 1,
    ):
        indexes, pictures = zip(*batch, strict=True)
        results.update(zip(indexes, _together(encoder.encode, pictures), strict=True))
    return [results[index] for index in range(len(results))]


class _Job(NamedTuple):
    """A picture to render."""

    place: int
    """Index of its file, from 0."""
    picture: CodedPicture
    mix: Mix | None
    """The mix for the pixels as stored."""

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of ``z``, which stand for the padded size."""
        return self.picture.coded.shape


class Rendering(NamedTuple):
    """Options for decoding many files; the fields are arguments of ``codec.decode_many``."""

    output: Output
    errors: Errors
    max_pixels: int | None
    orient: bool
    batch_pixels: int | None


def mixes_of(mix: Any, count: int, model: MPAModel) -> list[MixLike | None]:
    """Return one mix per picture from ``mix``: either one for all, or a list with one each.

    Raises:
        MixError: a mix for all that is not valid, or a list of another length.
        PathNotFoundError, ConfigError: a mix for all whose paths are not loaded, or are of another
            type than the base.
    """
    if isinstance(mix, (list, tuple)):
        if len(mix) != count:
            raise MixError(
                f"found {len(mix)} mixes for {count} files, expected as many; give one per file, "
                "or one Mix for all"
            )
        return list(mix)
    if mix is not None:
        mix = Mix.of(mix)
        model.check_paths(mix)
    return [mix] * count


def decode_many(
    codec: Decoder, files: Sequence[Any], mixes: Sequence[MixLike | None], how: Rendering
) -> list[Any] | Tensor:
    """Decode files, and warn of damage file by file.

    Args:
        codec: the codec that decodes them.
        files: bytes, paths or binary files.
        mixes: one per file, each as :meth:`CodedPicture.render` takes it.
        how: the other options.

    Returns:
        For each file, in order, its picture or its error. One tensor ``[N, 3, H, W]`` where all
        results are tensors of one shape.
    """
    results: dict[int, Any] = {}

    def opened() -> Iterator[_Job]:
        for item in zip(range(len(files)), files, mixes, strict=True):
            job = _attempt(lambda given: _open(codec, how, *given), item)
            if isinstance(job, MPAError):
                results[item[0]] = job
            else:
                yield job

    damaged: list[_Job] = []
    stride = codec.model.config.hyper_stride
    for batch in batches(
        opened(),
        key=lambda job: (job.padded, job.picture.profile),
        pixels=lambda job: job.padded[0] * job.padded[1] * stride**2,
        limit=how.batch_pixels,
    ):
        rendered = _together(lambda jobs: _render(codec, jobs, how), batch)
        results.update(zip((job.place for job in batch), rendered, strict=True))
        damaged += [job for job in batch if job.picture.damage]
    for job in sorted(damaged):
        if not isinstance(results[job.place], MPAError):
            job.picture.warn_of_damage(f"file {job.place}: ")
    found = [results[index] for index in range(len(results))]
    tensors = [each for each in found if isinstance(each, Tensor)]
    if found and len(tensors) == len(found) and len({each.shape for each in tensors}) == 1:
        return torch.stack(tensors)
    return found


def _open(codec: Decoder, how: Rendering, place: int, data: Any, mix: MixLike | None) -> _Job:
    file = parse_file(data, errors=how.errors, max_pixels=how.max_pixels)
    picture = CodedPicture(file, codec)
    stored = picture.stored_mix(mix, orient=how.orient)
    if stored is not None:
        # A faulty mix fails here, for its item alone, and not later for a whole batch.
        codec.model.check_paths(stored)
        stored.region_masks(file.container.height, file.container.width)
    return _Job(place, picture, stored)


def _render(codec: Decoder, jobs: Sequence[_Job], how: Rendering) -> list[Any]:
    """Render pictures of one padded size and one entropy profile."""
    model, pictures = codec.model, [job.picture for job in jobs]
    qualities = torch.tensor([picture.quality for picture in pictures], dtype=torch.float64)
    with torch.inference_mode():
        decoded = decode_latents(
            model.base,
            [picture.coded for picture in pictures],
            qualities,
            codec.profiles.networks(pictures[0].profile),
            conceal=how.errors == "conceal",
        )
        x_hats: dict[int, Tensor] = {}
        for rows in _alike(jobs):
            y_hat = decoded.y_hat if len(rows) == len(jobs) else decoded.y_hat[rows]
            container = pictures[rows[0]].file.container
            x_hat = model.reconstruct(
                y_hat,
                model.base.quality(qualities[rows], y_hat),
                jobs[rows[0]].mix,
                image_size=(container.height, container.width),
            )
            x_hats.update(zip(rows, x_hat, strict=True))
    results = []
    for row, picture in enumerate(pictures):
        picture.keep(DecodedLatents(decoded.y_hat[row : row + 1], decoded.damage[row : row + 1]))
        results.append(picture.presented(x_hats[row], output=how.output, orient=how.orient))
    return results


def _alike(jobs: Sequence[_Job]) -> Iterable[list[int]]:
    """Group the rows of jobs that one router can serve: the same shares, and no regions."""
    groups: dict[Hashable, list[int]] = {}
    for row, job in enumerate(jobs):
        key: Hashable = None
        if job.mix is not None:
            key = row if job.mix.regions else (job.mix.main, *job.mix.shares.items())
        groups.setdefault(key, []).append(row)
    return groups.values()


def batches(
    items: Iterable[T],
    *,
    key: Callable[[T], Hashable],
    pixels: Callable[[T], int],
    limit: int | None,
) -> Iterator[list[T]]:
    """Gather ``items`` into batches of one key each, as they come.

    Args:
        items: taken one by one, and held until their batch is full or there are no more.
        key: key of an item; items of one key have one size.
        pixels: number of pixels of an item.
        limit: largest number of pixels in a batch, unless one item alone has more; None for no
            limit. All waiting items together have at most four times as many: beyond that the batch
            with the most pixels is yielded.
    """
    waiting: dict[Hashable, list[T]] = {}
    sizes: dict[Hashable, int] = {}
    for item in items:
        group = key(item)
        sizes[group] = size = pixels(item)
        waiting.setdefault(group, []).append(item)
        if limit is None:
            continue
        if (len(waiting[group]) + 1) * size > limit:
            yield waiting.pop(group)
        held = {name: len(those) * sizes[name] for name, those in waiting.items()}
        if sum(held.values()) > _WAITING * limit:
            yield waiting.pop(max(held, key=held.__getitem__))
    yield from waiting.values()


# ---------------------------------------------------------------------- errors in their places


def _together(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | MPAError]:
    """Return the results of ``work`` on all items at once; if that fails, on each item alone."""
    found = _attempt(work, items)
    if not isinstance(found, MPAError):
        return list(found)
    if len(items) == 1:
        return [found]
    return [result for item in items for result in _together(work, [item])]


def _attempt(work: Callable[[T], R], item: T) -> R | MPAError:
    """Return the result of ``work``, or one clear error if it fails."""
    try:
        return work(item)
    except MPAError as error:
        return _without_frames(error)
    except Exception as error:  # noqa: BLE001 -- one bad item loses no other
        reason = str(error).strip().partition("\n")[0] or "no reason given"
        wrapped = MPAError(
            f"{type(error).__name__} in one item of many: {reason}; encode or decode it alone to "
            "see where it comes from"
        )
        wrapped.__cause__ = error
        return _without_frames(wrapped)


def _without_frames(error: MPAError) -> MPAError:
    """Remove the error's tracebacks, which hold the tensors of all calls they passed through."""
    seen: list[BaseException] = [error]
    for each in seen:
        each.__traceback__ = None
        chain = (each.__cause__, each.__context__)
        seen += [other for other in chain if other is not None and other not in seen]
    return error
