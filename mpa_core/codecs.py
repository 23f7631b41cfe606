"""Codecs by the files that they decode: the base that was asked for, or the one that made a file.

Each codec is loaded once, also where several threads ask for it at the same time. A forked child
goes on with those that were loaded before. Importing this module imports neither torch nor what
reads checkpoints.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.bitstream.container import MAX_PIXELS, peek_header
from mpa_core.errors import BaseMismatchError, MPAError
from mpa_core.mix import Mix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mpa_core.codec import MPACodec

DEFAULT_BASE = "mpa-small"
"""The base of an encoder that is told none."""

_loading = threading.RLock()
"""Lock on loading, so that a codec or a path is loaded by one thread alone."""


def _in_forked_child() -> None:
    """Make a new lock in a forked child, where no thread is left to release the old one."""
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


def load_needed(codec: MPACodec, sources: Sequence[str], names: Iterable[str]) -> None:
    """Load ``sources`` onto a codec, and those of ``names`` by which none of them is called.

    Raises:
        MPAError: of a class that ``codec.load_path`` names.
    """
    with _loading:
        codec.load_paths(sources)
        for name in names:
            if name not in codec.paths:
                codec.load_path(name)


class Codecs:
    """Codecs with the paths of one mix, by file or by base; each is loaded when first asked for.

    Copies that are sent to other processes load their own.

    Args:
        base: the base of all files, as ``MPACodec.from_pretrained`` takes it; None takes the
            bundled base that made a file.
        sources: paths to load first, as ``codec.load_paths`` takes them.
        names: paths that are used; those of them that no source is called are loaded, too.
        named_by: how the user names a base, for the message on a file whose base is unknown.
        device: the device of the codecs.
    """

    def __init__(
        self,
        base: str | None = None,
        sources: Sequence[str] = (),
        names: Iterable[str] = (),
        *,
        named_by: str = "base=",
        device: str | torch.device = "cpu",
    ) -> None:
        self._base = base
        self._sources = sources
        self._names = tuple(names)
        self._named_by = named_by
        self._device = device
        self._loaded: dict[str, MPACodec] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": {}}

    def for_fingerprint(self, prefix: bytes) -> MPACodec:
        """Return the codec for a file whose header has the first 8 bytes ``prefix`` of its base.

        Raises:
            BaseMismatchError: no base was asked for, and no bundled one made the file.
            MPAError: as :meth:`for_base`.
        """
        return self.for_base(self._base if self._base is not None else self._bundled(prefix))

    def for_base(self, base: str) -> MPACodec:
        """Return the codec of a base, named as ``MPACodec.from_pretrained`` takes it.

        Raises:
            MPAError: of a class that ``MPACodec.from_pretrained`` or ``codec.load_path`` names.
        """
        with _loading:
            if base not in self._loaded:
                from mpa_core.codec import MPACodec

                codec = MPACodec.from_pretrained(base)
                load_needed(codec, self._sources, self._names)
                self._loaded[base] = codec.to(self._device)
            return self._loaded[base]

    def _bundled(self, prefix: bytes) -> str:
        from mpa_core.checkpoints import bundled_base_of, bundled_fingerprints
        from mpa_core.checkpoints.bundled import IN_A_NEWER_SDK

        found = bundled_base_of(prefix)
        if found is not None:
            return bundled_folder(found)
        bundled = bundled_fingerprints().items()
        known = ", ".join(f"{name} {value[:16]}" for value, name in bundled) or "none"
        raise BaseMismatchError(
            f"the file was made by the base {prefix.hex()}, which is not bundled (bundled: {known})"
            f"; name the folder of that base with {self._named_by}, {IN_A_NEWER_SDK}"
        )


def bundled_folder(name: str) -> str:
    """Return the folder of a bundled base, whose name could mean something else where one works."""
    from mpa_core.checkpoints import bundled_bases

    return str(bundled_bases()[name])


class FileDecoder:
    """Decodes ``.mpa`` files by one mix, each with the base that made it, or with one given.

    Several threads may use it at once. It can be pickled; a copy loads its own codecs.

    Args:
        mix: as ``codec.decode`` takes it; None is the main path.
        base: the base of all files, as ``MPACodec.from_pretrained`` takes it; None takes the
            bundled base that made a file.
        load: paths to load first, each ``SOURCE`` or ``NAME=SOURCE``, as ``codec.load_paths`` takes
            them. Installed paths with weights for the base load by themselves.
        named_by: how the user names a base, for the message on a file whose base is unknown.
        device: the device that decodes.

    Raises:
        MixError: ``mix`` is not valid.
        ConfigError, PathNotFoundError: paths that would be called the same, or are not installed.
    """

    def __init__(
        self,
        mix: Mix | str | Mapping[str, float] | None = None,
        *,
        base: str | Path | None = None,
        load: Sequence[str] = (),
        named_by: str = "base=",
        device: str | torch.device = "cpu",
    ) -> None:
        from mpa_core.checkpoints import AskedPaths

        asked = Mix() if mix is None else Mix.of(mix)
        paths = AskedPaths(load, asked.path_names)
        self.mix = paths.mix(asked)
        """The mix, by the plain names of its paths."""
        self.codecs = Codecs(
            str(base.absolute()) if isinstance(base, Path) else base,
            paths.sources,
            self.mix.path_names,
            named_by=named_by,
            device=device,
        )
        """The codecs that decode."""

    def tensors(
        self, files: Sequence[bytes], *, max_pixels: int | None = MAX_PIXELS
    ) -> list[Tensor | MPAError]:
        """Decode files to tensors, those of one base and padded size together.

        Args:
            files: whole files.
            max_pixels: largest number of pixels of a file; None for no limit.

        Returns:
            For each file, in order, a float tensor ``[3, H, W]`` in [0, 1], upright, on the device,
            or the error that decoding it raises.

        Raises:
            MPAError: a base or a path cannot be loaded.
        """
        results: list[Any] = [None] * len(files)
        by_base: dict[bytes, list[int]] = {}
        for place, file in enumerate(files):
            try:
                by_base.setdefault(peek_header(file).fingerprint, []).append(place)
            except MPAError as error:
                results[place] = error
        for prefix, places in by_base.items():
            try:
                codec = self.codecs.for_fingerprint(prefix)
            except BaseMismatchError as error:
                results = [error if place in places else r for place, r in enumerate(results)]
                continue
            found = codec.decode_many(
                [files[place] for place in places],
                self.mix,
                output="tensor",
                max_pixels=max_pixels,
            )
            for place, result in zip(places, found, strict=True):
                results[place] = result
        return results
