"""A codec whose model has changed is not the base it was: it says so, and codes nothing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from mpa_core import Mix, MPACodec
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError, ConfigError, ModelChangedError
from mpa_core.paths.path import TaskPath


@pytest.fixture(scope="module")
def picture(sample) -> Image.Image:
    return sample.crop((100, 60, 190, 130))


@pytest.fixture(scope="module")
def data(tiny_base, picture) -> bytes:
    return MPACodec.from_pretrained(tiny_base).encode(picture)


@pytest.fixture
def codec(tiny_base) -> MPACodec:
    return MPACodec.from_pretrained(tiny_base)


def _weight(codec: MPACodec) -> nn.Parameter:
    return codec.model.base.g_a.stages[0].conv.weight


def _in_place(codec: MPACodec) -> None:
    with torch.no_grad():
        _weight(codec).add_(0.01)


def _through_data(codec: MPACodec) -> None:
    _weight(codec).data.mul_(-1)


def _through_numpy(codec: MPACodec) -> None:
    _weight(codec).detach().numpy()[0, 0] = 1


def _through_shared_memory(codec: MPACodec) -> None:
    # As another process would have it.
    elsewhere: Tensor = pickle.loads(ForkingPickler.dumps(_weight(codec).detach()))
    before = _weight(codec)._version
    elsewhere.add_(0.01)
    assert _weight(codec)._version == before


def _least_bit(codec: MPACodec) -> None:
    flat = _weight(codec).data.view(torch.int32).flatten()
    flat[-1] ^= 1


def _swapped(codec: MPACodec) -> None:
    weight = _weight(codec).data
    weight[:2] = weight[:2].flip(0).clone()


def _other_weights(codec: MPACodec) -> None:
    other = MPACodec.from_preset("mpa-tiny", seed=3).model
    codec.model.load_state_dict(other.state_dict())


def _trained(codec: MPACodec) -> None:
    model = codec.model
    optimizer = torch.optim.SGD(model.base.parameters(), lr=0.1)
    model.train()
    out = model(torch.rand(1, 3, 64, 64), 4)
    out["x_hat"].square().mean().backward()
    optimizer.step()
    model.eval()


def _only_g_s(codec: MPACodec) -> None:
    with torch.no_grad():
        codec.model.base.g_s.stages[0].conv.weight.add_(0.01)


def _encoder_path(codec: MPACodec) -> None:
    next(codec.model.encoder_path.parameters()).data.add_(0.01)


def _tables(codec: MPACodec) -> None:
    codec.model.base.entropy.z_prior._offset.sub_(1)


def _tables_of_other_size(codec: MPACodec) -> None:
    prior = codec.model.base.entropy.z_prior
    prior._quantized_cdf = torch.nn.functional.pad(prior._quantized_cdf, (0, 1))


def _tables_updated(codec: MPACodec) -> None:
    codec.model.base.entropy.z_prior.quantiles.data.add_(3)
    codec.model.update()


def _buffer_of_no_checkpoint(codec: MPACodec) -> None:
    codec.model.base.entropy.spatial_contexts["2"].mask.zero_()


def _new_parameter(codec: MPACodec) -> None:
    conv = codec.model.base.g_s.stages[0].conv
    conv.weight = nn.Parameter(conv.weight.detach() * 1.01)


def _new_layer(codec: MPACodec) -> None:
    stage = codec.model.base.g_s.stages[-1]
    stage.conv = nn.Sequential(stage.conv)


def _parametrized(codec: MPACodec) -> None:
    parametrizations.weight_norm(codec.model.base.g_s.stages[0].conv)


def _layer_gone(codec: MPACodec) -> None:
    codec.model.base.g_s.stages[0].conv.bias = None


def _other_model(codec: MPACodec) -> None:
    codec.model = MPACodec.from_preset("mpa-tiny", seed=3).model


CHANGES: dict[str, Callable[[MPACodec], object]] = {
    "half": lambda codec: codec.model.half(),
    "bfloat16": lambda codec: codec.model.to(torch.bfloat16),
    "float64": lambda codec: codec.model.double(),
    "half and back": lambda codec: codec.model.half().float(),
    "one part half": lambda codec: codec.model.base.g_s.half(),
    "no data": lambda codec: codec.model.to("meta"),
    **{
        change.__name__.strip("_").replace("_", " "): change
        for change in (
            _in_place,
            _through_data,
            _through_numpy,
            _through_shared_memory,
            _least_bit,
            _swapped,
            _other_weights,
            _trained,
            _only_g_s,
            _encoder_path,
            _tables,
            _tables_of_other_size,
            _tables_updated,
            _buffer_of_no_checkpoint,
            _new_parameter,
            _new_layer,
            _parametrized,
            _layer_gone,
            _other_model,
        )
    },
}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_base_is_refused(change, used, codec, picture, data, tiny_cls_path, tmp_path):
    if used:  # with networks made of the old weights, and kept
        codec.encode(picture, reproducible=True)
    coded, rendered = codec.open(data), codec.open(data)
    rendered.render()
    before = codec.fingerprint
    CHANGES[change](codec)
    target = tmp_path / "saved"
    path = TaskPath(codec.model.config.decoder_path_stages)
    uses: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(picture),
        "encode, float": lambda: codec.encode(picture, profile="float"),
        "encode, reproducible": lambda: codec.encode(picture, reproducible=True),
        "decode": lambda: codec.decode(data),
        "decode, conceal": lambda: codec.decode(data, errors="conceal"),
        "open": lambda: codec.open(data),
        "render": coded.render,
        "latents": coded.latents,
        "render again": rendered.render,
        "encode_many": lambda: codec.encode_many([picture]),
        "decode_many": lambda: codec.decode_many([data]),
        "save_pretrained": lambda: codec.save_pretrained(target),
        "load_path": lambda: codec.load_path(tiny_cls_path),
        "attach_path": lambda: codec.attach_path(path, "mine"),
    }
    for name, use in uses.items():
        with pytest.raises(ModelChangedError, match="no longer base 'mpa-tiny-random-0'") as caught:
            use()
        text = str(caught.value)
        assert "\n" not in text and "MPACodec(codec.model, name=" in text, name
    assert codec.paths == () and not target.exists()
    status = codec.status()
    assert status["changed"] in text and status["changed"].startswith("tensor '")
    assert (status["fingerprint"], status["exact_fingerprint"]) == (None, None)
    if change != "buffer of no checkpoint":
        try:
            assert codec.fingerprint != before
        except CheckpointError as error:
            assert change in ("half", "bfloat16", "float64", "one part half", "no data"), error


@pytest.mark.parametrize("change", ["trained", "half", "only g s", "through data"])
def test_the_way_out_that_the_error_tells(change, codec, tiny_base, picture, data, tmp_path):
    """A new base of the changed weights, with its own fingerprint, files and formats."""
    codec.encode(picture)
    CHANGES[change](codec)
    codec.model.float()
    codec.model.update()
    own = MPACodec(codec.model, name="mine")
    assert own.fingerprint == fingerprint(codec.model.frozen_state())
    assert own.fingerprint != MPACodec.from_pretrained(tiny_base).fingerprint
    written = own.encode(picture)
    own.save_pretrained(tmp_path / "mine")
    again = MPACodec.from_pretrained(tmp_path / "mine")
    assert (again.name, again.fingerprint) == ("mine", own.fingerprint)
    assert again.encode(picture) == written
    shown = [c.decode(written, output="tensor") for c in (own, again)]
    assert torch.equal(*shown)
    with pytest.raises(ModelChangedError):
        codec.decode(data)


def test_a_new_codec_reads_the_tables_of_now(codec, picture):
    """Also where the model has coded by others before."""
    codec.encode(picture)
    prior = codec.model.base.entropy.z_prior
    prior._offset.data.sub_(1)  # the model itself cannot see this
    own = MPACodec(codec.model, name="mine")
    again = copy.deepcopy(own)
    again.model.load_state_dict(own.model.state_dict())
    assert again.encode(picture) == own.encode(picture)


def test_a_model_that_cannot_be_a_base(tiny_base):
    model = MPACodec.from_pretrained(tiny_base).model.half()
    with pytest.raises(CheckpointError, match=r"torch\.float16"):
        MPACodec(model, name="half")
    with pytest.raises(CheckpointError, match=r"model\.update\(\)"):
        MPACodec(MPAModel(model.config), name="untrained")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_codec_moves_between_devices_and_not_between_types(codec, dtype, picture, data):
    with pytest.raises(ConfigError, match=f"{dtype}.*device"):
        codec.to(dtype)
    assert codec.encode(picture) == data


# ---------------------------------------------------------------------- what changes nothing


def _restored(codec: MPACodec) -> None:
    kept = copy.deepcopy(codec.model.state_dict())
    for change in ("through data", "tables updated", "trained"):
        CHANGES[change](codec)
        with pytest.raises(ModelChangedError):
            codec.encode(Image.new("RGB", (9, 9)))
    codec.model.load_state_dict(kept)


def _compiled_part(codec: MPACodec) -> None:
    codec.model.base.g_s = torch.compile(codec.model.base.g_s, backend="eager")


def _equal_parameter(codec: MPACodec) -> None:
    conv = codec.model.base.g_s.stages[0].conv
    conv.weight = nn.Parameter(conv.weight.detach().clone())


def _in_inference_mode(codec: MPACodec) -> None:
    with torch.inference_mode():
        codec.to("cpu").model.float()


HARMLESS: dict[str, Callable[[MPACodec], object]] = {
    "cpu": lambda codec: codec.to("cpu"),
    "model's own cpu": lambda codec: codec.model.to("cpu"),
    "float": lambda codec: codec.model.float(),
    "float64 and back": lambda codec: codec.model.double().float(),
    "frozen": lambda codec: codec.model.requires_grad_(False),
    "channels last": lambda codec: codec.model.to(memory_format=torch.channels_last),
    "shared memory": lambda codec: codec.model.share_memory(),
    "own weights": lambda codec: codec.model.load_state_dict(codec.model.state_dict()),
    "equal parameter": _equal_parameter,
    "another copy": lambda codec: setattr(codec, "model", copy.deepcopy(codec.model)),
    "compiled": lambda codec: codec.model.compile(backend="eager"),
    "a compiled part": _compiled_part,
    "changed and restored": _restored,
    "inference mode": _in_inference_mode,
}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_what_changes_no_weights_changes_nothing(change, used, codec, picture, data, tmp_path):
    if used:
        codec.encode(picture)
    before = codec.fingerprint
    HARMLESS[change](codec)
    assert codec.encode(picture) == data
    assert codec.decode(data).size == picture.size
    assert codec.fingerprint == before
    assert codec.status()["changed"] is None
    assert MPACodec(codec.model, name="again").fingerprint == before
    codec.save_pretrained(tmp_path / "saved")
    assert MPACodec.from_pretrained(tmp_path / "saved").fingerprint == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))])
def test_a_copy_is_judged_by_its_own_weights(copied, codec, picture, data):
    other = copied(codec)
    _through_data(codec)
    assert other.encode(picture) == data
    with pytest.raises(ModelChangedError):
        copied(codec).encode(picture)
    _through_data(other)
    with pytest.raises(ModelChangedError):
        other.encode(picture)


def test_paths_may_change(codec, tiny_cls_path, data):
    """They are no part of the base; they need its type alone."""
    codec.load_path(tiny_cls_path)
    mix = Mix(cls=1.0)
    plain = codec.decode(data, mix, output="tensor")
    path = codec.model.paths["cls"]
    for parameter in path.parameters():
        parameter.data.mul_(2)
    assert not torch.equal(codec.decode(data, mix, output="tensor"), plain)
    path.half()
    with pytest.raises(
        ConfigError, match=r"path 'cls' is torch\.float16, its base is torch\.float32"
    ):
        codec.decode(data, mix)
    codec.decode(data)
    codec.unload_path("cls")
    codec.attach_path(path, "cls")
    assert codec.decode(data, mix).size


# ---------------------------------------------------------------------- training mode


@pytest.mark.parametrize("part", ["", "base.g_a", "base.g_s.stages.0.blocks.0", "encoder_path"])
def test_training_mode_does_not_code(part, codec, picture, data, tiny_cls_path, tmp_path):
    coded = codec.open(data)
    codec.model.get_submodule(part).train()
    for use in (
        lambda: codec.encode(picture),
        lambda: codec.decode(data),
        lambda: codec.open(data),
        coded.render,
        coded.latents,
        lambda: codec.encode_many([picture]),
        lambda: codec.decode_many([data]),
        lambda: codec.profiles.networks("exact"),
        lambda: codec.profiles.precise(),
    ):
        with pytest.raises(ModelChangedError, match=r"call codec\.model\.eval\(\) first"):
            use()
    # The base is what it was: what does not code goes on.
    assert codec.load_path(tiny_cls_path) == "cls"
    assert codec.status()["fingerprint"] == codec.fingerprint
    codec.save_pretrained(tmp_path / "saved")
    assert MPACodec.from_pretrained(tmp_path / "saved").encode(picture) == data
    codec.model.eval()
    assert codec.encode(picture) == data


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_that_was_moved_by_itself(codec, picture, data):
    codec.encode(picture, reproducible=True)
    for device in ("cuda", "cpu"):
        codec.model.to(device)
        assert codec.decode(data).size == picture.size
        assert codec.decode(codec.encode(picture, reproducible=True)).size == picture.size
        assert codec.status()["device"].startswith(device)
    assert codec.encode(picture) == data
