"""The exact networks: close to the float ones, and the same however they are computed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import MPACodec
from mpa_core.base.tinylic.exact import blocks, fixed
from mpa_core.base.tinylic.exact.formats import (
    choose_formats,
    exact_layers,
    from_tensors,
    to_tensors,
)
from mpa_core.base.tinylic.exact.networks import ExactNetworks
from mpa_core.base.tinylic.networks import FloatContextNetworks
from mpa_core.bitstream.container import unpack
from mpa_core.errors import CheckpointError, DesyncError
from mpa_core.io.images import to_rgb_tensor

QUALITIES = (1.0, 4.3, 8.0)


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture(scope="module")
def pictures(root) -> list[Image.Image]:
    with Image.open(root / "mpa_core/assets/chelsea.png") as image:
        cat = image.convert("RGB")
    return [cat.crop((x, y, x + 192, y + 128)) for x, y in ((0, 0), (150, 100), (250, 20))]


@pytest.fixture(scope="module")
def files(codec, pictures) -> list[bytes]:
    return [codec.encode(p, q) for p, q in zip(pictures, QUALITIES, strict=True)]


def latents(codec: MPACodec, data: bytes) -> torch.Tensor:
    return codec.open(data).latents()


@pytest.fixture(scope="module")
def wanted(codec, files) -> list[torch.Tensor]:
    return [latents(codec, data) for data in files]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("quality", [1.0, 2.71, 8.0])
@pytest.mark.parametrize("preset", ["mpa-tiny", "mpa-small"])
@torch.inference_mode()
def test_close_to_the_float_networks(preset, quality):
    model = MPACodec.from_preset(preset, seed=2).model
    base, entropy = model.base, model.base.entropy
    exact, usual = ExactNetworks(base, choose_formats(base)), FloatContextNetworks(base)
    generator = torch.Generator().manual_seed(1)
    shape = (2, model.config.hyper_channels, 1, 3)  # smaller than the window of attention
    symbols = torch.randn(shape, generator=generator).mul(4).round()
    q = base.quality(quality, symbols)
    params = usual.hyper_synthesise(symbols, q)
    found = exact.hyper_synthesise(symbols, q)
    scale = float(params.abs().max())
    assert found.dtype == torch.float64
    assert (found - params).abs().max() < 1e-3 * scale
    seen: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for i, networks in enumerate((usual, exact)):
        # The same symbols either way: what differs is the prediction alone.
        def visit(step, means, scales, i=i):
            seen[i] += [means, scales]
            return means.round() + 1

        entropy.walk(params.double() if i else params, visit, networks)
    for a, b in zip(*seen.values(), strict=True):
        assert (a - b).abs().max() < 1e-3 * (1 + float(a.abs().max()))


def test_costs_nothing_in_bits(codec, pictures):
    for picture, quality in zip(pictures, QUALITIES, strict=True):
        exact, usual = (len(codec.encode(picture, quality, profile=p)) for p in ("exact", "float"))
        assert abs(exact - usual) <= max(8, 0.005 * usual)


# ---------------------------------------------------------------------- the same everywhere


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads(codec, files, wanted, count):
    with threads(count):
        assert all(torch.equal(latents(codec, d), w) for d, w in zip(files, wanted, strict=True))


def test_oneDNN_and_precision_settings(codec, files, wanted):  # noqa: N802
    before = torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled
    try:
        torch.set_float32_matmul_precision("medium")
        torch.backends.mkldnn.enabled = False
        found = [latents(codec, data) for data in files]
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.mkldnn.enabled = before[1]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@torch.inference_mode()
def test_batches(codec, pictures):
    """Together or alone: the same streams of the same latents, and both decode either way."""
    model, networks = codec.model, codec.profiles.networks("exact")
    x = torch.cat([to_rgb_tensor(p).tensor for p in pictures])
    qualities = [1.0, 4.25, 8.0]
    q = model.base.quality(torch.tensor(qualities), x)
    y = model.base.analyse(x, q, model.encoder_router(q))
    entropy = model.base.entropy
    symbols, _, _ = entropy.encode_z(model.base.hyper_analyse(y, q))
    params = networks.hyper_synthesise(symbols, q)
    y_hat, streams, _ = entropy.encode_y(y, params, networks)
    assert torch.equal(entropy.decode_y(streams, params, networks)[0], y_hat)
    for i, quality in enumerate(qualities):
        one = model.base.quality(quality, x[:1])
        alone = networks.hyper_synthesise(symbols[i : i + 1], one)
        assert torch.equal(alone[0], params[i])
        assert entropy.encode_y(y[i : i + 1], alone, networks)[1] == [streams[i]]


class Shuffled:
    """Matrix products that add their terms up in another order each time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        order = list(range(weight.shape[1]))
        self._random.shuffle(order)
        total = torch.zeros((), dtype=values.dtype)
        while order:
            part, order = order[: self._random.randint(1, 40)], order[40:]
            total = total + weight[:, part] @ values[:, part]
        return total


def test_any_order_of_summation_gives_the_same(codec, files, wanted, monkeypatch):
    shuffled = Shuffled(1)

    def product(self: fixed.FixedLinear, values: torch.Tensor) -> torch.Tensor:
        rounded = self.form.rounded(values)
        order = torch.randperm(rounded.shape[1], generator=torch.Generator().manual_seed(5))
        parts = order.split(37)
        total = torch.zeros((), dtype=torch.float64)
        for part in parts:
            total = total + self.weight[:, part] @ rounded[:, part]
        return total

    monkeypatch.setattr(fixed.FixedLinear, "product", product)
    assert all(torch.equal(latents(codec, d), w) for d, w in zip(files, wanted, strict=True))
    # In float32 the same treatment shows: the test can fail.
    weight, values = torch.randn(8, 200), torch.randn(1, 200, 5)
    assert not torch.equal(shuffled(weight, values), weight @ values)


def test_one_ulp_breaks_the_float_profile_and_not_this_one(codec, pictures, files, wanted):
    """What another processor does to the float networks: every output off by one ulp."""
    big = pictures[0].resize((768, 512)), pictures[1].resize((512, 768))
    usual = [codec.encode(p, 8, profile="float") for p in big]
    base = codec.model.base
    generator = torch.Generator().manual_seed(0)

    def off_by_one_ulp(_module, _args, out):
        up = torch.rand(out.shape, generator=generator) < 0.5
        return torch.where(
            up, torch.nextafter(out, out.new_tensor(np.inf)), torch.nextafter(out, -out.abs() - 1)
        )

    hooks = [layer.register_forward_hook(off_by_one_ulp) for layer in exact_layers(base).values()]
    lost, kept = 0, []
    try:
        for turn in range(15):  # other noise each time: an ulp need not move a symbol
            if lost and turn >= 3:
                break
            for data in usual:
                try:
                    codec.open(data).latents()
                except DesyncError:
                    lost += 1
            kept += [torch.equal(latents(codec, d), w) for d, w in zip(files, wanted, strict=True)]
    finally:
        for hook in hooks:
            hook.remove()
    assert lost
    assert kept and all(kept)
    assert all(unpack(data).profile == 0 for data in usual)


# ---------------------------------------------------------------------- formats


def test_every_layer_has_a_format(codec):
    formats = codec.profiles.formats
    assert set(formats) == set(exact_layers(codec.model.base))
    # Ten convolutions of each group, four attentions: nothing was overlooked.
    groups = {name.split(".")[1] for name in formats}
    assert groups == {"stages", "channel_contexts", "spatial_contexts", "parameter_nets"}
    assert from_tensors(to_tensors(formats), "here") == formats


@pytest.mark.parametrize("change", [{"fraction": 40}, {"weight": 40}, {"magnitude": 45}])
def test_no_format_with_inexact_sums_is_taken(change):
    codec = MPACodec.from_preset("mpa-tiny")
    for name, layer in exact_layers(codec.model.base).items():
        if "weight" in change and isinstance(
            layer, (torch.nn.LayerNorm, blocks.NeighborhoodAttention)
        ):
            continue  # they have no weights to round
        formats = dict(codec.profiles.formats)
        formats[name] = formats[name]._replace(**change)
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            ExactNetworks(codec.model.base, formats)


def test_missing_format():
    codec = MPACodec.from_preset("mpa-tiny")
    formats = dict(codec.profiles.formats)
    del formats["h_s.stages.1.conv"]
    with pytest.raises(CheckpointError, match=r"h_s\.stages\.1\.conv"):
        ExactNetworks(codec.model.base, formats)
    with pytest.raises(CheckpointError, match="differing"):
        MPACodec(codec.model, name="tiny", formats=formats)


def test_symbols_of_any_size_stay_in_range():
    """A hostile stream can say anything: the clamp keeps every sum exact and finite."""
    model = MPACodec.from_preset("mpa-tiny", seed=1).model
    base = model.base
    networks = ExactNetworks(base, choose_formats(base))
    symbols = torch.full((1, model.config.hyper_channels, 2, 2), 2.0**27)
    symbols[:, ::2] *= -1
    params = networks.hyper_synthesise(symbols, base.quality(8.0, symbols))
    assert params.isfinite().all()
    y_hat = base.entropy.walk(params, lambda _, means, __: means + 2.0**27, networks)
    assert y_hat.isfinite().all()
