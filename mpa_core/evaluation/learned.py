"""Our own files: encoded once per quality, entropy-decoded once, reconstructed by every mix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.codec import MPACodec
from mpa_core.errors import ConfigError, PathNotFoundError
from mpa_core.evaluation.kept import cpu_seconds
from mpa_core.mix import MAIN, Mix
from mpa_core.plugins.registry import registry

SUFFIX = ".mpa"
_DIGITS = 16


@dataclass(frozen=True)
class Sweep:
    """Mixes of two paths, from all ``first`` to all ``last`` in equal steps."""

    first: str
    last: str
    steps: int

    def __post_init__(self) -> None:
        if self.first == self.last:
            raise _no_sweep(f"{self.first}:{self.last}:{self.steps}")

    @classmethod
    def parse(cls, text: str) -> Sweep:
        """Read ``"main:cls:9"``; a path may be ``distribution:name``.

        Raises:
            ConfigError: ``text`` has another form, or it is not clear which words make a name.
        """
        *words, number = text.split(":")
        ends = _ends(words) if all(words) else []
        steps = int(number) if number.isdecimal() else 0
        if not ends or steps < 2:
            raise _no_sweep(text)
        if len(ends) > 1:
            found = [pair for pair in ends if all(":" not in n or _is_installed(n) for n in pair)]
            if len(found) != 1:
                ways = " or ".join(f"from {first!r} to {last!r}" for first, last in ends)
                raise ConfigError(
                    f"sweep {text!r} could go {ways}, and {len(found)} of these name installed "
                    "paths; give the plain names by which --paths loads them"
                )
            ends = found
        return cls(*ends[0], steps)

    def by(self, name: Callable[[str], str]) -> Sweep:
        """Return the same sweep with both paths called as ``name`` says."""
        return replace(self, first=name(self.first), last=name(self.last))

    def shares(self) -> list[float]:
        """Return the shares of ``last``, from 0 to 1."""
        return [step / (self.steps - 1) for step in range(self.steps)]

    def mixes(self) -> list[str]:
        """Return the canonical text of the mixes, from all ``first`` to all ``last``."""
        return [mix_name(_between(self.first, self.last, share)) for share in self.shares()]


def mix_name(mix: Mix) -> str:
    """Return a text such as ``cls=0.4,mse=0.2,main=0.4``; paths without a share are left out.

    Each mix has one text.
    """
    shares = {**mix.shares, MAIN: mix.main}
    return ",".join(f"{name}={share:.6g}" for name, share in shares.items() if share > 0)


def check_mixes(codec: MPACodec, mixes: Sequence[Mix]) -> None:
    """Refuse at once mixes that decoding would refuse later.

    Raises:
        PathNotFoundError: a mix needs a path that is not loaded.
    """
    for mix in mixes:
        for name in mix.path_names:
            if name not in codec.paths:
                loaded = ", ".join(codec.paths) or "none"
                raise PathNotFoundError(
                    f"mix {mix_name(mix)} needs path {name!r}, which is not loaded (loaded: "
                    f"{loaded}); add it to --paths"
                )


def source_of(codec: MPACodec, mix: Mix) -> dict[str, object]:
    """Return 16 hex digits each of the fingerprints that fix the reconstruction, by name.

    They are those of the base and of the mix's paths.
    """
    return {
        "base": codec.fingerprint[:_DIGITS],
        **{
            name: fingerprint(codec.model.paths[name].state_dict())[:_DIGITS]
            for name in mix.path_names
        },
    }


def encode(codec: MPACodec, image: NDArray[np.uint8], quality: float) -> bytes:
    """Return a picture [H, W, 3] uint8 as a file without metadata."""
    return codec.encode(Image.fromarray(image), quality=quality)


def reconstructions(
    codec: MPACodec, data: bytes, mixes: Sequence[Mix]
) -> Iterator[tuple[Image.Image, float]]:
    """Yield the picture in a file by each mix, and the processor time of decoding from bytes.

    The entropy model's part is done once for all mixes and counted in the time of each.
    """
    start = cpu_seconds()
    coded = codec.open(data)
    coded.latents()
    shared = cpu_seconds() - start
    for mix in mixes:
        start = cpu_seconds()
        picture = coded.render(mix)
        yield picture, shared + cpu_seconds() - start


def _ends(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the two names of one or two words each that ``words`` can be read as."""
    cuts = [cut for cut in range(1, len(words)) if cut <= 2 and len(words) - cut <= 2]
    return [(":".join(words[:cut]), ":".join(words[cut:])) for cut in cuts]


def _is_installed(name: str) -> bool:
    try:
        return bool(registry().get(name))
    except PathNotFoundError:
        return False


def _no_sweep(text: str) -> ConfigError:
    return ConfigError(
        f"sweep {text!r} is not FROM:TO:STEPS with two paths and at least 2 steps; "
        "write for example main:cls:9"
    )


def _between(first: str, last: str, share: float) -> Mix:
    shares: dict[str, Any] = {first: 1 - share, last: share}
    return Mix(**{name: value for name, value in shares.items() if name != MAIN})
