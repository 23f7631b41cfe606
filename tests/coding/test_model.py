"""MPAModel: SPEC's invariants, at any width."""

from __future__ import annotations

import pytest
import torch

from mpa_core.base.tinylic.config import StageConfig, TinyLICConfig
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.codec import MPACodec
from mpa_core.coding.model import MPAModel, encoder_main_share
from mpa_core.config import PathConfig
from mpa_core.errors import DesyncError, ImageError, PathNotFoundError, QualityError
from mpa_core.mix import Mix
from mpa_core.paths.path import TaskPath

ODD_ONE = TinyLICConfig(
    g_a=tuple(
        StageConfig(width=w, depth=d, heads=h, window=k)
        for w, d, h, k in ((6, 0, 1, 3), (12, 2, 3, 5), (10, 1, 5, 7), (24, 1, 2, 3))
    ),
    h_a=(StageConfig(width=8, depth=1, heads=2, window=3), StageConfig(width=14, depth=0, heads=1)),
    h_s=(StageConfig(width=14, depth=1, heads=7, window=3), StageConfig(width=6, depth=1, heads=1)),
    g_s=tuple(
        StageConfig(width=w, depth=d, heads=h, window=3)
        for w, d, h in ((24, 1, 3), (20, 2, 2), (9, 0, 3), (7, 1, 1))
    ),
)
"""Nothing mirrored, nothing equal, stages without blocks."""


@pytest.fixture(scope="module", params=["tiny", "odd"])
def model(request) -> MPAModel:
    torch.manual_seed(0)
    model = MPAModel(PRESETS["mpa-tiny"] if request.param == "tiny" else ODD_ONE).eval()
    model.base.y_gains.spread(4, 40)
    model.update()
    for name in ("cls", "mse"):
        path = TaskPath(model.config.decoder_path_stages, PathConfig(hidden_ratio=1.0))
        for parameter in path.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        model.paths[name] = path.eval()
    return model


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(3))


MIXES = [None, Mix(), Mix(cls=1.0), Mix(cls=0.5), Mix(cls=0.3, mse=0.4)]


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("quality", [1, 3.7, 8])
def test_decompress_of_compress_is_forward_clamped(model, x, mix, quality):
    with torch.no_grad():
        direct = model(x, quality, mix)["x_hat"].clamp(0, 1)
    out = model.compress(x, quality)
    decoded = model.decompress(
        out["strings"], out["shape"], quality, mix, symbols_crc=out["symbols_crc"]
    )
    assert torch.allclose(decoded["x_hat"], direct, atol=1e-5)


def test_the_bitstream_knows_no_task(model, x):
    with_paths = model.compress(x, 4)
    paths, model.paths = model.paths, torch.nn.ModuleDict()
    try:
        assert model.compress(x, 4) == with_paths
    finally:
        model.paths = paths


def test_all_main_is_the_plain_base_whatever_the_task(model, x):
    with torch.no_grad():
        plain = model(x, 4)["x_hat"]
        for mix in (Mix(), Mix(main=1.0), Mix(cls=0.0)):
            assert torch.equal(model(x, 4, mix)["x_hat"], plain)


def test_paths_change_the_picture(model, x):
    with torch.no_grad():
        plain, cls, mse = (model(x, 4, m)["x_hat"] for m in (None, Mix(cls=1.0), Mix(mse=1.0)))
    assert not torch.allclose(plain, cls) and not torch.allclose(cls, mse)


def test_shares_hold_to_a_token(model, x):
    with torch.no_grad():
        masks = model(x, 4, Mix(cls=0.25, mse=0.5))["masks"]
    assert sorted(masks) == [stage.stage for stage in model.config.decoder_path_stages]
    for mask in masks.values():
        for picture in mask:
            tokens = picture.numel()
            assert [int((picture == p).sum()) for p in range(3)] == [
                tokens // 4,
                tokens // 4,
                tokens // 2,
            ]


def test_encoder_share_is_0_at_the_lowest_and_1_at_the_highest_quality():
    share = encoder_main_share(torch.tensor([1.0, 4.5, 8.0]), 8)
    assert share.tolist() == pytest.approx([0.0, (5**0.5 - 1) / 4, 1.0])


def test_batch_is_the_same_as_one_by_one(model, x):
    together = model.compress(x, torch.tensor([2.0, 6.5]))
    for i, quality in enumerate((2.0, 6.5)):
        alone = model.compress(x[i : i + 1], quality)
        decoded = model.decompress(
            alone["strings"], alone["shape"], quality, symbols_crc=alone["symbols_crc"]
        )
        batched = model.decompress(
            [[s[i]] for s in together["strings"]], together["shape"], quality
        )
        assert torch.allclose(decoded["x_hat"], batched["x_hat"], atol=1e-4)


def test_lost_sync_is_seen(model, x):
    out = model.compress(x, 5)
    wrong = [crc ^ 1 for crc in out["symbols_crc"]]
    with pytest.raises(DesyncError, match="CRC"):
        model.decompress(out["strings"], out["shape"], 5, symbols_crc=wrong)


def test_damaged_stream_is_seen(model, x):
    out = model.compress(x, 5)
    y_streams, z_streams = out["strings"]
    hurt = bytearray(y_streams[0])
    hurt[len(hurt) // 2] ^= 0x55
    with pytest.raises(DesyncError):
        model.decompress(
            [[bytes(hurt), y_streams[1]], z_streams],
            out["shape"],
            5,
            symbols_crc=out["symbols_crc"],
        )


def test_training_mode_gives_gradients_to_every_part(model, x):
    trained = MPAModel(model.config).train()
    trained.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("paths.")}
    )
    trained.train()
    out = trained(x, torch.tensor([2.0, 7.0]))
    rate = sum(-v.log2().sum() for v in out["likelihoods"].values())
    (rate + (out["x_hat"] - x).square().sum() + out["ratio_loss"]).backward()
    missing = {n for n, p in trained.named_parameters() if p.grad is None}
    assert missing <= {"base.entropy.z_prior.quantiles"}
    trained.aux_loss().backward()
    assert trained.base.entropy.z_prior.quantiles.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 3, 65, 100), "128x128"), ((1, 1, 64, 64), "B, 3, H, W"), ((3, 64, 64), "B, 3, H, W")],
)
def test_wrong_shapes_name_the_right_one(model, shape, text):
    with pytest.raises(ImageError, match=text):
        model(torch.rand(shape), 4)


def test_quality_outside(model, x):
    with pytest.raises(QualityError):
        model(x, 0)


def test_unknown_path(model, x):
    with pytest.raises(PathNotFoundError, match=r"load_path\('det'\)"):
        model(x, 4, Mix(det=1.0))


def test_paths_leave_the_base_as_it_is():
    codec = MPACodec.from_preset("mpa-tiny")
    before = fingerprint(codec.model.frozen_state())
    picture = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(5))
    data = codec.encode(picture)
    codec.attach_path(TaskPath(codec.model.config.decoder_path_stages), "one")
    assert fingerprint(codec.model.frozen_state()) == before
    codec.decode(data, Mix(one=0.5))
    assert fingerprint(codec.model.frozen_state()) == before
    codec.unload_path("one")
    assert fingerprint(codec.model.frozen_state()) == before == codec.fingerprint
    assert codec.encode(picture) == data
