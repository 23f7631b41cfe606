"""Every argument of every public function, given what it is not: it works, or one clear line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec, PathConfig, PathSpec, TaskPath, checkpoints
from mpa_core.bitstream.container import (
    Container,
    pack,
    peek_header,
    quantize_quality,
    unpack,
)
from mpa_core.bitstream.parsed import parse_file
from mpa_core.bitstream.salvage import salvage
from mpa_core.coding.model import MPAModel
from mpa_core.errors import (
    BitstreamError,
    ConfigError,
    ImageError,
    MixError,
    MPAError,
    PathNotFoundError,
    QualityError,
)
from mpa_core.io.images import (
    encode_image,
    load_image,
    output_format,
    save_image,
    to_pil,
    to_rgb_tensor,
)
from mpa_core.plugins.registry import registry
from mpa_core.presets import preset


class Hostile:
    """An object that is nothing, and whose text has two lines."""

    def __repr__(self) -> str:
        return "a first line\nand a second"


WRONG: dict[str, Any] = {
    "None": None,
    "True": True,
    "numpy's True": np.True_,
    "0": 0,
    "-1": -1,
    "3": 3,
    "2.5": 2.5,
    "1e400": 10**400,
    "nan": math.nan,
    "inf": math.inf,
    "complex": 1 + 2j,
    "empty text": "",
    "text": "no such thing",
    "number as text": "3",
    "NUL": "a\0b",
    "nobody's home": "~nobody-of-this-name/x",
    "long text": "x" * 5000,
    "two lines": "a\nb",
    "bytes": b"3",
    "list": [3],
    "empty list": [],
    "nested list": [[1, 2], [3]],
    "tuple": (1, 2),
    "dict": {"a": 1},
    "dict of numbers": {1: 2},
    "set": {1},
    "object": Hostile(),
    "class": dict,
    "function": len,
    "path": Path("/nowhere/at all"),
    "0-d tensor": torch.tensor(3.0),
    "0-d tensor of nan": torch.tensor(math.nan),
    "0-d bool tensor": torch.tensor(True),
    "0-d complex tensor": torch.tensor(1j),
    "tensor": torch.ones(2, 3),
    "int tensor": torch.ones(1, 3, 64, 64, dtype=torch.int64),
    "meta tensor": torch.ones(1, 3, 64, 64, device="meta"),
    "float64 tensor": torch.ones(1, 3, 64, 64, dtype=torch.float64),
    "nan tensor": torch.full((1, 3, 64, 64), math.nan),
    "numpy scalar": np.float32(2.0),
    "array": np.ones(3),
    "array of objects": np.array([None, "x"], dtype=object),
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "picture": Image.new("RGB", (4, 4)),
    "empty Mix": Mix(),
}


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    codec = MPACodec.from_preset("mpa-tiny")
    codec.attach_path(TaskPath(codec.model.config.decoder_path_stages), "cls")
    return codec


@pytest.fixture(scope="module")
def things(codec, tmp_path_factory) -> dict[str, Any]:
    """What right calls are made of."""
    folder = tmp_path_factory.mktemp("things")
    picture = Image.new("RGB", (40, 30), (10, 90, 200))
    data = codec.encode(picture)
    x = torch.rand(1, 3, 64, 64)
    codec.save_pretrained(folder / "base")
    return {
        "codec": codec,
        "model": codec.model,
        "picture": picture,
        "data": data,
        "container": unpack(data),
        "x": x,
        "coded": codec.model.compress(x, 4.0),
        "folder": folder,
        "state": codec.model.frozen_state(),
        "path": TaskPath(codec.model.config.decoder_path_stages),
    }


def _with(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``call(things, value)`` with the value as the argument ``name``."""
    return lambda t, v: call(t, **{name: v})


def _save_base(t: dict[str, Any], **changed: Any) -> Any:
    given = {
        "folder": t["folder"] / "again",
        "config": t["model"].config,
        "tensors": t["state"],
        "name": "x",
        "formats": t["codec"].profiles.formats,
    }
    return checkpoints.save_base(**{**given, **changed})


def _save_path(t: dict[str, Any], **changed: Any) -> Any:
    given = {
        "folder": t["folder"] / "path",
        "path": t["path"],
        "base_name": "x",
        "base_fingerprint": "0" * 64,
    }
    return checkpoints.save_path(**{**given, **changed})


def _decompress(t: dict[str, Any], **changed: Any) -> Any:
    return t["model"].decompress(**{**t["coded"], "quality": 4.0, **changed})


def _decode_latents(t: dict[str, Any], **changed: Any) -> Any:
    return t["model"].decode_latents(**{**t["coded"], "quality": 4.0, **changed})


def _all(results: Any) -> Any:
    """The results of many items, or the error of the first that has one."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _pack(t: dict[str, Any], **changed: Any) -> Any:
    return pack(dataclasses.replace(t["container"], **changed))


def _attach(t: dict[str, Any], value: Any) -> Any:
    name = t["codec"].attach_path(t["path"], value)
    t["codec"].unload_path(name)


ARGUMENTS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    # MPACodec
    "MPACodec(model)": lambda t, v: MPACodec(v, name="x"),
    "MPACodec(name)": lambda t, v: MPACodec(t["model"], name=v),
    "MPACodec(formats)": lambda t, v: MPACodec(t["model"], name="x", formats=v),
    "from_pretrained": lambda t, v: MPACodec.from_pretrained(v),
    "from_preset": lambda t, v: MPACodec.from_preset(v),
    "from_preset(seed)": lambda t, v: MPACodec.from_preset("mpa-tiny", seed=v),
    "save_pretrained": lambda t, v: t["codec"].save_pretrained(v),
    "save_pretrained(dtype)": lambda t, v: t["codec"].save_pretrained(t["folder"] / "a", dtype=v),
    "save_pretrained(card)": lambda t, v: t["codec"].save_pretrained(t["folder"] / "b", card=v),
    "to": lambda t, v: t["codec"].to(v),
    "load_path": lambda t, v: t["codec"].load_path(v),
    "load_path(name)": lambda t, v: t["codec"].load_path("cls", v),
    "load_paths": lambda t, v: t["codec"].load_paths(v),
    "load_paths one": lambda t, v: t["codec"].load_paths([v]),
    "attach_path": lambda t, v: t["codec"].attach_path(v),
    "attach_path(name)": _attach,
    "unload_path": lambda t, v: t["codec"].unload_path(v),
    "encode": lambda t, v: t["codec"].encode(v),
    **{
        f"encode({name})": _with(lambda t, **k: t["codec"].encode(t["picture"], **k), name)
        for name in (
            *("quality", "profile", "reproducible", "icc_profile", "exif"),
            *("target_size", "target_bpp", "target_psnr", "target_ms_ssim"),
        )
    },
    "decode": lambda t, v: t["codec"].decode(v),
    **{
        f"decode({name})": _with(lambda t, **k: t["codec"].decode(t["data"], **k), name)
        for name in ("mix", "output", "errors", "max_pixels")
    },
    "open": lambda t, v: t["codec"].open(v),
    **{
        f"open({name})": _with(lambda t, **k: t["codec"].open(t["data"], **k), name)
        for name in ("errors", "max_pixels")
    },
    **{
        f"render({name})": _with(lambda t, **k: t["codec"].open(t["data"]).render(**k), name)
        for name in ("mix", "output")
    },
    "encode_many": lambda t, v: t["codec"].encode_many(v),
    "encode_many one": lambda t, v: _all(t["codec"].encode_many([v, v])),
    **{
        f"encode_many({name})": _with(
            lambda t, **k: _all(t["codec"].encode_many([t["picture"]], **k)), name
        )
        for name in (
            *("quality", "profile", "reproducible", "icc_profile", "exif", "batch_pixels"),
            *("target_size", "target_bpp", "target_psnr", "target_ms_ssim"),
        )
    },
    "decode_many": lambda t, v: t["codec"].decode_many(v),
    "decode_many one": lambda t, v: _all(t["codec"].decode_many([v])),
    "decode_many(a mix)": lambda t, v: _all(t["codec"].decode_many([t["data"]], [v])),
    **{
        f"decode_many({name})": _with(
            lambda t, **k: _all(t["codec"].decode_many([t["data"]], **k)), name
        )
        for name in ("mix", "output", "errors", "max_pixels", "batch_pixels")
    },
    "parse_file": lambda t, v: parse_file(v),
    **{
        f"parse_file({name})": _with(lambda t, **k: parse_file(t["data"], **k), name)
        for name in ("errors", "max_pixels")
    },
    # MPAModel
    "MPAModel": lambda t, v: MPAModel(v),
    "forward(x)": lambda t, v: t["model"](v, 4.0),
    "forward(quality)": lambda t, v: t["model"](t["x"], v),
    "forward(mix)": lambda t, v: t["model"](t["x"], 4.0, v),
    "compress(x)": lambda t, v: t["model"].compress(v, 4.0),
    "compress(quality)": lambda t, v: t["model"].compress(t["x"], v),
    **{
        f"decompress({name})": _with(_decompress, name)
        for name in ("strings", "shape", "quality", "mix", "symbols_crc", "image_size")
    },
    **{
        f"model.decode_latents({name})": _with(_decode_latents, name)
        for name in ("strings", "shape", "quality", "symbols_crc")
    },
    # Mix
    "Mix(share)": lambda t, v: Mix(cls=v),
    "Mix(main)": lambda t, v: Mix(main=v),
    "Mix(regions)": lambda t, v: Mix(regions=v),
    "Mix(region)": lambda t, v: t["codec"].decode(t["data"], Mix(regions={"cls": v})),
    "Mix.parse": lambda t, v: Mix.parse(v),
    "Mix.of": lambda t, v: Mix.of(v),
    "Mix.of share": lambda t, v: Mix.of({"cls": v}),
    # folders
    "load_base": lambda t, v: checkpoints.load_base(v),
    "checkpoints.load_path": lambda t, v: checkpoints.load_path(v),
    "resolve(base)": lambda t, v: checkpoints.resolve(v, checkpoints.BASE),
    "resolve(path)": lambda t, v: checkpoints.resolve(v, checkpoints.path_on("mpa-small")),
    "read_base_meta": lambda t, v: checkpoints.read_base_meta(v),
    "read_path_meta": lambda t, v: checkpoints.read_path_meta(v),
    "bundled_base_of": lambda t, v: checkpoints.bundled_base_of(v),
    **{
        f"save_base({name})": _with(_save_base, name)
        for name in ("folder", "config", "tensors", "name", "formats", "card", "dtype")
    },
    "save_base(tensors) one": lambda t, v: _save_base(
        t, tensors={**t["state"], "base.y_gains.gain": v}
    ),
    **{
        f"save_path({name})": _with(_save_path, name)
        for name in (
            *("folder", "path", "base_name", "base_fingerprint"),
            *("plugin", "base_revision", "card", "dtype"),
        )
    },
    # .mpa files
    "quantize_quality": lambda t, v: quantize_quality(v),
    "pack": lambda t, v: pack(v),
    **{f"pack({f.name})": _with(_pack, f.name) for f in dataclasses.fields(Container)},
    "pack(a stream)": lambda t, v: _pack(t, streams=(v, b"")),
    "pack(a chunk)": lambda t, v: _pack(t, chunks={b"ICCP": v}),
    "unpack": lambda t, v: unpack(v),
    "unpack(max_pixels)": lambda t, v: unpack(t["data"], max_pixels=v),
    "peek_header": lambda t, v: peek_header(v),
    "salvage": lambda t, v: salvage(v),
    "salvage(max_pixels)": lambda t, v: salvage(t["data"], max_pixels=v),
    # pictures
    "load_image": lambda t, v: load_image(v),
    "load_image(frame)": lambda t, v: load_image(t["folder"] / "photo.png", frame=v),
    "to_rgb_tensor": lambda t, v: to_rgb_tensor(v),
    "to_pil": lambda t, v: to_pil(v),
    "encode_image": lambda t, v: encode_image(v, ".png"),
    "encode_image(suffix)": lambda t, v: encode_image(t["picture"], v),
    **{
        f"encode_image({name})": _with(lambda t, **k: encode_image(t["picture"], ".png", **k), name)
        for name in ("icc_profile", "exif")
    },
    "save_image": lambda t, v: save_image(v, t["picture"]),
    "output_format": lambda t, v: output_format(v),
    # plugins and paths
    **{
        f"PathSpec({name})": _with(
            lambda t, **k: PathSpec(**{"name": "x", "path": "a:B", "summary": "s", **k}), name
        )
        for name in ("name", "path", "recipe", "summary", "weights")
    },
    "PathSpec.bundled_weights": lambda t, v: PathSpec(
        name="x", path="a:B", summary="s"
    ).bundled_weights(v),
    "PathConfig": lambda t, v: PathConfig(hidden_ratio=v),
    "TaskPath(stages)": lambda t, v: TaskPath(v),
    "TaskPath(config)": lambda t, v: TaskPath(t["path"].layout, v),
    "TaskPath(levels)": lambda t, v: TaskPath(t["path"].layout, levels=v),
    "registry.get": lambda t, v: registry().get(v),
    "registry.load_class": lambda t, v: registry().load_class(v),
    "registry.select": lambda t, v: registry().select(v),
    "preset": lambda t, v: preset(v),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_it_works_or_says_in_one_line_why_not(things, argument, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # for what is written under a name that is right
    things["picture"].save(things["folder"] / "photo.png")
    wrong = []
    for name, value in WRONG.items():
        if argument == "save_path(card)" and callable(value):
            continue  # what makes the card is the caller's, and so are its errors
        try:
            ARGUMENTS[argument](things, value)
        except MPAError as error:
            text = str(error)
            if "\n" in text or not text:
                wrong.append(f"{name}: {text!r}")
        except Exception as error:  # noqa: BLE001 -- the very thing looked for
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert wrong == []
    assert things["codec"].paths == ("cls",)


# ---------------------------------------------------------------------- what is said


def said(error: type[MPAError], call: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    "quality",
    [3, 3.0, np.float32(3), np.int64(3), np.array(3.0), torch.tensor(3), torch.tensor(3.0)],
    ids=repr,
)
def test_one_number_is_a_quality_in_any_form(things, quality):
    codec, picture = things["codec"], things["picture"]
    assert codec.encode(picture, quality) == codec.encode(picture, 3.0)
    assert unpack(codec.encode(picture, quality)).quality == 3.0


@pytest.mark.parametrize(
    ("quality", "shown"),
    [
        ("3", "'3'"),
        (True, "True"),
        (np.True_, "True"),
        (torch.tensor(True), "tensor(True)"),
        (math.nan, "nan"),
        (torch.tensor(math.nan), "nan"),
        (torch.tensor([3.0]), "a Tensor of shape (1,)"),
        (np.array([3.0, 4.0]), "a ndarray of shape (2,)"),
        ([3], "an object of type list"),
        (Hostile(), "an object of type Hostile"),
        (10**400, "1" + "0" * 58 + "…"),
        (0, "0"),
        (9.5, "9.5"),
    ],
)
def test_what_is_no_quality(things, quality, shown):
    text = said(QualityError, lambda: things["codec"].encode(things["picture"], quality))
    assert text == (
        f"quality is {shown}, expected 1 (fewest bits) to 8 (most); choose a number in that range"
    )


def test_without_a_quality_it_is_4_5(things):
    codec, picture = things["codec"], things["picture"]
    assert codec.encode(picture) == codec.encode(picture, None) == codec.encode(picture, 4.5)
    assert codec.encode_many([picture]) == [codec.encode(picture)]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "target_size",
            (0, -1, math.nan, math.inf, 2.5, "40000", "40k", True, [3], 10**400, Hostile()),
            "a whole number of bytes, from 1 to 2**63 - 1",
        ),
        (
            "target_bpp",
            (0, -0.1, math.nan, math.inf, "0.25", True, 24.5, torch.tensor(-1.0), [3]),
            "more than 0 and at most 24, the bits of a pixel without compression",
        ),
        (
            "target_psnr",
            (0, -36, math.nan, math.inf, "36", True, 10**400, [3]),
            "a number of dB, more than 0",
        ),
        (
            "target_ms_ssim",
            (0, -0.9, math.nan, 1, 1.5, 97, "0.97", True, [0.9]),
            "more than 0 and less than 1",
        ),
    ],
)
def test_what_is_no_target(things, name, values, expected):
    codec, picture = things["codec"], things["picture"]
    for value in values:
        for call in (codec.encode, codec.encode_many):
            text = said(ConfigError, lambda call=call, value=value: call(picture, **{name: value}))
            assert text.startswith(f"{name} is ")
            assert text.endswith(f", expected {expected}; give such a number")


def test_numbers_in_other_forms_are_targets(things):
    codec, picture = things["codec"], things["picture"]
    expected = codec.encode(picture, target_size=400)
    for size in (400.0, np.int64(400), np.array(400), torch.tensor(400.0)):
        assert codec.encode(picture, target_size=size) == expected
    assert codec.encode(picture, target_bpp=np.float64(8 * 400 / 1200)) == expected


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"quality": 4.5, "target_size": 300}, "quality and target_size"),
        ({"target_bpp": 1, "target_psnr": 30}, "target_bpp and target_psnr"),
        ({"quality": "x", "target_ms_ssim": "y"}, "quality and target_ms_ssim"),
    ],
)
def test_one_quality_or_target(things, given, names):
    for call in (things["codec"].encode, things["codec"].encode_many):
        text = said(ConfigError, lambda call=call: call(things["picture"], **given))
        assert text == (
            f"{names} are given, expected a quality or one target; leave out all but one"
        )


@pytest.mark.parametrize(
    ("short", "mix"),
    [
        ("cls", Mix(cls=1.0)),
        ("main", Mix()),
        ("cls=0.4", Mix(cls=0.4)),
        ("main=0.6,cls=0.4", Mix(cls=0.4)),
        ({"cls": 1}, Mix(cls=1.0)),
        ({"cls": 0.4}, Mix(cls=0.4)),
        ({"main": 0.6, "cls": 0.4}, Mix(cls=0.4)),
        ({"cls": np.float32(0.5)}, Mix(cls=0.5)),
        ({}, Mix()),
    ],
    ids=repr,
)
def test_short_for_a_mix(things, short, mix):
    found = Mix.of(short)
    assert (found.main, found.shares) == (pytest.approx(mix.main), pytest.approx(mix.shares))
    assert Mix.of(mix) is mix
    codec, model = things["codec"], things["model"]
    expected = codec.decode(things["data"], mix, output="array")
    assert np.array_equal(codec.decode(things["data"], short, output="array"), expected)
    x_hat = model(things["x"], 4.0, mix)["x_hat"]
    assert torch.equal(model(things["x"], 4.0, short)["x_hat"], x_hat)
    coded = {**things["coded"], "quality": 4.0}
    assert torch.equal(
        model.decompress(**coded, mix=short)["x_hat"], model.decompress(**coded, mix=mix)["x_hat"]
    )


def test_a_path_by_name_is_not_the_main_path(things):
    codec, data = things["codec"], things["data"]
    by_path = codec.decode(data, "cls", output="array")
    assert not np.array_equal(by_path, codec.decode(data, output="array"))


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        (5, "mix is 5, expected a Mix, a path's name or shares by path; "),
        (["cls"], "mix is an object of type list, expected a Mix"),
        ({1: 0.4}, "mix is an object of type dict, expected a Mix"),
        ("", "mix is '', expected a Mix"),
        ("cls,seg", "mix is 'cls,seg', expected a Mix"),
        ("cls=x", "'cls=x' in 'cls=x' is not NAME=SHARE"),
        ({"cls": "1"}, "share of cls is '1'; give a number from 0 to 1"),
        ({"cls": True}, "share of cls is True; give a number"),
        ({"cls": 0.7, "seg": 0.7}, "shares sum to 1.4"),
    ],
)
def test_what_is_no_mix(things, mix, expected):
    assert expected in said(MixError, lambda: things["codec"].decode(things["data"], mix))


def test_a_path_that_is_not_loaded_by_its_name(things):
    for mix in ("det", {"det": 1}, {"self": 1}):
        text = said(PathNotFoundError, lambda m=mix: things["codec"].decode(things["data"], m))
        assert "is loaded (loaded: cls)" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_pixels", "100", "max_pixels is '100', expected a whole number of at least 1; "),
        ("max_pixels", True, "max_pixels is True, expected"),
        ("max_pixels", 0, "max_pixels is 0, expected"),
        ("max_pixels", 1e6 + 0.5, "max_pixels is 1000000.5, expected"),
        ("output", "png", "output is 'png', expected 'pil', 'tensor' or 'array'; "),
        ("output", ["pil"], "output is an object of type list, expected 'pil'"),
        ("errors", "ignore", "errors is 'ignore', expected 'strict' or 'conceal'; "),
    ],
)
def test_other_arguments_of_decode(things, name, value, expected):
    call = things["codec"].decode
    assert said(ConfigError, lambda: call(things["data"], **{name: value})).startswith(expected)


def test_whole_numbers_in_other_forms_are_limits(things):
    for limit in (np.int64(1200), 1200.0, torch.tensor(1200)):
        assert things["codec"].decode(things["data"], max_pixels=limit).size == (40, 30)
    assert "the limit is 1199" in said(
        BitstreamError, lambda: things["codec"].decode(things["data"], max_pixels=1199.0)
    )


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("gpu", "device is 'gpu', expected one of this machine's ("),
        ("cuda:93", "device is 'cuda:93', expected one of this machine's ("),
        (torch.device("cuda:93"), "device is 'cuda:93', expected one of this machine's ("),
        (torch.float16, "torch.float16 is no device, expected one of this machine's; a base is"),
        (None, "device is None, expected one"),
        (0, "device is 0, expected one"),
        ("meta", "device is 'meta', expected one of this machine's: meta holds no numbers"),
    ],
)
def test_what_is_no_device(things, device, expected):
    codec = things["codec"]
    text = said(ConfigError, lambda: codec.to(device))
    assert text.startswith(expected) and "here are cpu" in text
    assert codec.status()["device"] == "cpu"
    assert codec.encode(things["picture"]) == things["data"]


def test_devices_by_name_and_as_objects(things):
    codec = things["codec"]
    for device in ("cpu", torch.device("cpu")):
        assert codec.to(device) is codec
    assert codec.encode(things["picture"]) == things["data"]


def test_pictures_that_are_none(things):
    text = said(ImageError, lambda: things["codec"].encode(torch.zeros(3, 8, 8, device="meta")))
    assert "on the meta device, which holds no values" in text


def test_reproducible_in_the_float_profile(things, sample):
    codec = things["codec"]
    data = codec.encode(sample, 3.0, profile="float", reproducible=True)
    plain = codec.encode(sample, 3.0, profile="float")
    assert codec.decode(data).size == sample.size
    assert abs(len(data) - len(plain)) <= 4
