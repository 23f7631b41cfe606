"""The path on a base: what it does to pictures, and what it must leave as it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from mpa_core.codec import MPACodec
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.paths.path import TaskPath, building_path
from mpa_core.plugins.bases import architecture, known_bases
from mpa_core.runtime.surroundings import making_weights
from mpa_core.testing.check import CheckFailed, fail_unless
from mpa_core.testing.subject import QUALITY, PathUnderTest, stirred

SIZES = ((1, 1), (37, 66), (65, 1), (64, 64))
"""Height and width of the pictures that are coded."""

GREY_LEVEL = 1.5 / 255
"""Two roundings of a picture may differ by this much."""

RUN_AT_MOST = 1_000_000
"""Parameters of a base that is run; of larger ones a path is built alone."""


def check_others_untouched(path: PathUnderTest) -> None:
    """Check that base and other paths decode to the same bits with and without it."""
    before = path.reference
    with attached(path) as (codec, name):
        codec.decode(before.data, name)
        after = {
            "the main path": codec.decode(before.data, output="tensor"),
            "another path": codec.decode(before.data, "neighbour", output="tensor"),
        }
        print_ = codec.fingerprint
    for what, found, wanted in (
        ("the main path", after["the main path"], before.main),
        ("another path", after["another path"], before.other),
    ):
        fail_unless(
            torch.equal(found, wanted),
            f"with the path attached {what} decodes to another picture; its class must change "
            "nothing outside of itself: no attribute of a class or function of torch or mpa_core, "
            "no default of the process, no tensor that it is handed",
        )
    fail_unless(
        print_ == before.fingerprint,
        "with the path attached the base has another fingerprint; a path must not write to the "
        "base's tensors",
    )


def check_share_zero(path: PathUnderTest) -> None:
    """Check that at share 0 the picture is the base's to the bit, in decoding and training."""
    before = path.reference
    with attached(path) as (codec, name):
        decoded = codec.decode(before.data, {name: 0.0}, output="tensor")
        fail_unless(
            torch.equal(decoded, before.main),
            "at share 0 the picture is not the base's; the class must change nothing outside of "
            "itself",
        )
        base = codec.model.base
        y_hat = codec.open(before.data).latents()
        quality = base.quality(QUALITY, y_hat)
        trained = codec.model.paths[name]
        assert isinstance(trained, TaskPath)
        all_main = GumbelAggregator(trained, torch.ones(1), torch.ones(1), noise=False)
        with torch.no_grad():
            wanted, found = (
                base.synthesise(y_hat, quality),
                base.synthesise(y_hat, quality, all_main),
            )
    fail_unless(
        torch.equal(found, wanted),
        "where training sends every token to the main path, the picture is not the base's; both "
        "MLPs run there and the path's is multiplied by zero: it must be finite and must not write "
        "to the tokens it is given (+=, relu_, …)",
    )


def check_same_output_each_time(path: PathUnderTest) -> None:
    """Check that decoding twice gives the same bits, and another picture than the base's."""
    before = path.reference
    with attached(path) as (codec, name):
        first, second = (codec.decode(before.data, name, output="tensor") for _ in range(2))
        half, again = (codec.decode(before.data, {name: 0.5}, output="tensor") for _ in range(2))
    fail_unless(
        torch.equal(first, second) and torch.equal(half, again),
        "decoding the same file twice gives two pictures; in eval mode a path draws nothing at "
        "random and keeps nothing from call to call: use nn.Dropout, which eval mode turns off, "
        "not F.dropout with its default training=True",
    )
    fail_unless(
        not torch.equal(first, before.main),
        "with random weights the path's picture is still the main path's, so it can learn nothing; "
        "build_mlp has to return a module whose output depends on its weights",
    )


def check_odd_sizes_and_batches(path: PathUnderTest) -> None:
    """Check that pictures of any size decode, alone and in a batch, to the same pictures."""
    pictures = [_picture(*size) for size in SIZES]
    with attached(path) as (codec, name):
        datas = [codec.encode(picture, quality=QUALITY) for picture in pictures]
        alone = [codec.decode(data, name, output="tensor") for data in datas]
        mixed = [codec.decode(data, {name: 0.5}, output="tensor") for data in datas]
        together = codec.decode_many(datas, name, output="tensor")
    for size, one, half, many in zip(SIZES, alone, mixed, together, strict=True):
        text = f"a picture of {size[1]} x {size[0]} pixels"
        if isinstance(many, Exception):
            raise CheckFailed(f"{text} decodes alone, and in a batch it fails: {many}")
        fail_unless(
            tuple(one.shape[-2:]) == size and bool((one.isfinite() & half.isfinite()).all()),
            f"{text} decodes to {tuple(one.shape)} or to numbers that are not finite; the parts "
            "have to take feature maps of any height and width",
        )
        fail_unless(
            float((one - many).abs().max()) <= GREY_LEVEL,
            f"{text} decodes to something else in a batch of files than alone; a part must not see "
            "the other pictures of its batch",
        )


def check_every_base(path: PathUnderTest) -> None:
    """Check that it builds for every preset of every type of base, and runs on small ones."""
    path_class = path.path_class
    for base in known_bases():
        for name, fields in base.spec.presets.items():
            config = architecture({"type": base.type, **fields})
            if not config.decoder_path_stages:
                continue
            small = config.least_parameters <= RUN_AT_MOST
            device = torch.device("cpu" if small else "meta")
            try:
                with building_path(path_class), making_weights(0), device:
                    built = path_class(config.decoder_path_stages, None, config.quality_levels)
                x_hat = _run_on(name, stirred(built)) if small else torch.zeros(1)
            except Exception as error:
                raise CheckFailed(
                    f"on preset {name!r} of base type {base.type!r} it fails: {error}; take widths "
                    "and depths from `stages`, not from one base"
                ) from error
            fail_unless(
                bool(x_hat.isfinite().all()),
                f"on preset {name!r} of base type {base.type!r} it decodes to numbers that are not "
                "finite; look for what only fits one base",
            )


def check_offline(path: PathUnderTest) -> None:
    """Check that building, attaching and decoding need no network."""
    codec, _ = path.codec, path.path_class
    with _without_network():
        built = path.build()
        name = codec.attach_path(built, "offline")
        try:
            codec.decode(path.reference.data, name)
        finally:
            codec.unload_path(name)


@contextmanager
def attached(path: PathUnderTest, seed: int = 0) -> Iterator[tuple[MPACodec, str]]:
    """Attach the path, with random weights; give the codec and the path's local name."""
    _ = path.reference  # before anything of the plugin runs
    codec = path.codec
    name = codec.attach_path(path.build(seed), "checked")
    try:
        yield codec, name
    finally:
        codec.unload_path(name)


def _run_on(preset: str, built: TaskPath) -> torch.Tensor:
    """Return a picture of the least size, of random latents and weights, half by the path."""
    codec = MPACodec.from_preset(preset)
    base = codec.model.base
    shape = (1, codec.model.config.latent_channels, *base.latent_shape((1, 1)))
    y_hat = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    quality = base.quality(1.0, y_hat)
    with torch.no_grad():
        return codec.model.reconstruct(y_hat, quality, {"it": 0.5}, paths={"it": built})


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.indices((height, width))
    channels = [(rows * a + columns * b) % 256 for a, b in ((3, 5), (7, 2), (1, 9))]
    return np.stack(channels, -1).astype(np.uint8)


@contextmanager
def _without_network() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise CheckFailed(
            "a path reaches for the network while it is built or decodes; ship what it needs "
            "inside its package, or load it in the recipe"
        )

    kept = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    looked_up = socket.getaddrinfo
    try:
        for name in kept:
            setattr(socket.socket, name, refuse)
        socket.getaddrinfo = refuse  # type: ignore[assignment]
        yield
    finally:
        for name, value in kept.items():
            setattr(socket.socket, name, value)
        socket.getaddrinfo = looked_up
