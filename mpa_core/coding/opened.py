"""The bytes of an ``.mpa`` file, parsed and found to be of a base: what decoding begins with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, NamedTuple

from mpa_core import checkpoints
from mpa_core.bitstream.container import MAX_PIXELS, Container, unpack
from mpa_core.bitstream.salvage import salvage
from mpa_core.coding.profiles import EntropyProfiles, profile_of
from mpa_core.errors import BaseMismatchError, BitstreamError, CheckpointError


class Opened(NamedTuple):
    """A file that was parsed and found to be of this base."""

    container: Container
    damage: list[str] | None
    """What was wrong with it; None where damage is an error."""
    coded: dict[str, Any]
    """Arguments of the model's decoding methods."""


def open_file(
    data: bytes,
    profiles: EntropyProfiles,
    *,
    errors: Literal["strict", "conceal"] = "strict",
    max_pixels: int | None = MAX_PIXELS,
) -> Opened:
    """Parse a file, check where it comes from, and prepare what the model takes.

    Args:
        data: the whole file.
        profiles: of the base that shall decode it.
        errors: whether damage is an error, or salvaged and told.
        max_pixels: most pixels (width x height) to decode; None for no limit.

    Raises:
        BitstreamError: not an ``.mpa`` file, or damaged.
        BaseMismatchError: encoded by another base.
    """
    damage: list[str] | None = None
    if errors == "strict":
        container = unpack(data, max_pixels=max_pixels)
    else:
        salvaged = salvage(data, max_pixels=max_pixels)
        container, damage = salvaged.container, list(salvaged.problems)
    _check_origin(container, profiles)
    stride = profiles.config.hyper_stride
    streams = container.named_streams
    coded = {
        "strings": [[streams["y"]], [streams["z"]]],
        "shape": (-(-container.height // stride), -(-container.width // stride)),
        "quality": container.quality,
        "symbols_crc": [container.symbols_crc],
        "networks": profiles.networks(profile_of(container.profile)),
    }
    return Opened(container, damage, coded)


def _check_origin(container: Container, profiles: EntropyProfiles) -> None:
    own = profiles.prefix(profile_of(container.profile))
    if container.fingerprint != own:
        raise BaseMismatchError(
            f"the file was encoded by base {container.fingerprint.hex()}…, this codec is "
            f"{profiles.name!r} ({own.hex()}…); decode it with the base that encoded it"
            + _known_base(container.fingerprint)
        )
    if container.quality > profiles.config.quality_levels:
        raise BitstreamError(
            f"the file has quality {container.quality:g}, the base ends at "
            f"{profiles.config.quality_levels}; the file is damaged"
        )


def _known_base(prefix: bytes) -> str:
    """A hint when a bundled base has this fingerprint."""
    name = None
    with suppress(CheckpointError):  # a damaged installation is not what this message is about
        name = checkpoints.bundled_base_of(prefix)
    return f': MPACodec.from_pretrained("{name}")' if name else ""
