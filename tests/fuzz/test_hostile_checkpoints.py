"""Checkpoints made to harm: each is refused in one line, and nothing large is allocated for it."""

from __future__ import annotations

import ast
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from campaign import Memory
from safetensors.torch import load_file, save_file

from mpa_core import MPACodec, checkpoints
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.tensors import check_buildable
from mpa_core.config import PathConfig, PathStage
from mpa_core.errors import CheckpointError
from mpa_core.paths.path import TaskPath

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MEMORY = Memory()
LARGE = 2**26
"""More than refusing a small checkpoint may take."""


@pytest.fixture
def base(tiny: MPACodec, tmp_path: Path) -> Path:
    tiny.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def refusal(folder: Path, load: Callable[[Path], object] = checkpoints.load_base) -> str:
    before = MEMORY.start()
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    taken = MEMORY.peak() - before
    text = str(caught.value)
    assert "\n" not in text
    assert taken < LARGE, f"{taken} bytes for: {text}"
    return text


def header_of(file: Path) -> tuple[dict, bytes]:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(file: Path, text: str, body: bytes, length: int | None = None) -> None:
    encoded = text.encode()
    file.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + body)


def forge_header(file: Path, change: Callable[[dict], None]) -> None:
    header, body = header_of(file)
    change(header)
    with_header(file, json.dumps(header), body)


def set_config(folder: Path, name: str, *steps: str | int, to: object) -> None:
    data = json.loads((folder / name).read_text())
    inner = data
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = to
    (folder / name).write_text(json.dumps(data))


# ---------------------------------------------------------------------- pickles


class Bomb:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self):
        return (os.mkdir, ("loaded-a-pickle",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_in_place_of_weights(base: Path, protocol: int, monkeypatch):
    monkeypatch.chdir(base)
    (base / WEIGHTS).write_bytes(pickle.dumps(Bomb(), protocol))
    text = refusal(base)
    assert "is a pickle" in text or "not a whole safetensors file" in text
    assert not Path("loaded-a-pickle").exists()


def test_a_torch_archive_in_place_of_weights(base: Path, monkeypatch):
    monkeypatch.chdir(base)
    for legacy in (True, False):
        torch.save({"x": Bomb()}, base / WEIGHTS, _use_new_zipfile_serialization=not legacy)
        assert "is a pickle, expected safetensors" in refusal(base)
    assert not Path("loaded-a-pickle").exists()


def calls_of(tree: ast.AST, *names: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func) in names]


def test_nothing_unpickles_but_with_weights_only(root: Path):
    """``torch.load`` is for the authors' checkpoint and for packaged networks of the recipes."""
    found = {}
    for file in [p for where in ("mpa_core", "mpa_plugins") for p in (root / where).rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in [getattr(node, "module", None), *(a.name for a in node.names)]
        }
        assert not imported & {"cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, (
            file
        )
        assert "import pickle" not in ast.unparse(tree), file
        text = file.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text and "weights_only=False" not in text, file
        for call in calls_of(tree, "torch.load", "load", "torch.hub.load"):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if ast.unparse(call.func) != "load":
                assert given.get("weights_only") == "True", file
                found[str(file.relative_to(root))] = given
    assert set(found) == {"mpa_core/importing/importer.py", "mpa_core/tasks/packaged.py"}


# ---------------------------------------------------------------------- safetensors headers


def test_a_huge_header_length(base: Path):
    header, body = header_of(base / WEIGHTS)
    for length in (2**63, 2**64 - 1, 2**40, 10**8, 0, 1):
        with_header(base / WEIGHTS, json.dumps(header), body, length)
        assert "not a whole safetensors file" in refusal(base)


def test_a_header_of_megabytes(base: Path):
    header, body = header_of(base / WEIGHTS)
    with_header(base / WEIGHTS, json.dumps(header) + " " * 2**21, body)
    assert "its header has 2" in refusal(base)
    with_header(base / WEIGHTS, json.dumps(header | {"x": [[]] * 2**19}), body)
    assert "its header has" in refusal(base)


@pytest.mark.parametrize("key", ["shape", "base.y_gains.gain"])
def test_a_key_twice_in_the_header(base: Path, key: str):
    header, body = header_of(base / WEIGHTS)
    text = json.dumps(header)
    at = text.index(f'"{key}": ')
    with_header(base / WEIGHTS, f'{text[:at]}"{key}": {{}}, {text[at:]}', body)
    assert f"has the key '{key}' twice" in refusal(base)


def gain(header: dict) -> dict:
    return header["base.y_gains.gain"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda h: gain(h).update(data_offsets=[0, 2**62]), "not a whole safetensors file"),
        (lambda h: gain(h).update(data_offsets=[-1, 5]), "not a whole safetensors file"),
        (
            lambda h: gain(h).update(data_offsets=h["base.y_gains.inverse_gain"]["data_offsets"]),
            "not a whole safetensors file",
        ),
        (lambda h: gain(h).update(shape=[2**40, 2**40]), "numbers, the architecture"),
        (lambda h: gain(h).update(shape=[2**62, 4, 0]), "not a whole safetensors file"),
        (lambda h: gain(h).update(shape=[1] * 200), "a tensor of 200 dimensions"),
        (lambda h: gain(h).update(shape=[[[8]]]), "not a whole safetensors file"),
        (lambda h: gain(h).update(dtype="F64"), "not a whole safetensors file"),
        (lambda h: gain(h).update(dtype="I32"), "is torch.int32"),
        (lambda h: gain(h).update(dtype="object"), "not a whole safetensors file"),
        (lambda h: gain(h).update(shape=[4, 64]), "expected torch.float32 [8, 32]"),
        (lambda h: h.update(__metadata__={"mpa": 5}), "not a whole safetensors file"),
        (lambda h: h.pop("base.y_gains.gain"), "not a whole safetensors file"),
    ],
)
def test_headers_that_lie(base: Path, change: Callable[[dict], None], expected: str):
    forge_header(base / WEIGHTS, change)
    assert expected in refusal(base)


def test_a_sparse_file_of_a_terabyte(base: Path):
    """A few blocks on disk, and a header that agrees with its length: never read."""
    forge_header(
        base / WEIGHTS,
        lambda h: h.update(bulk={"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}),
    )
    os.truncate(base / WEIGHTS, 2**40)
    assert "numbers, the architecture" in refusal(base)
    (base / WEIGHTS).write_bytes(b"")
    os.truncate(base / WEIGHTS, 2**40)
    assert "not a whole safetensors file (1099511627776 bytes" in refusal(base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(base: Path, value: float):
    header, body = header_of(base / WEIGHTS)
    start = gain(header)["data_offsets"][0]
    forged = body[:start] + struct.pack("<f", value) + body[start + 4 :]
    with_header(base / WEIGHTS, json.dumps(header), forged)
    assert "NaN or infinity in 'base.y_gains.gain'" in refusal(base)


def forge_tables(folder: Path, prior: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Other CDF tables, and the fingerprint that fits them."""
    tensors = load_file(folder / WEIGHTS)
    for part in ("_quantized_cdf", "_cdf_length", "_offset"):
        name = f"base.entropy.{prior}.{part}"
        tensors[name] = change(tensors[name])
    header, _ = header_of(folder / WEIGHTS)
    save_file(tensors, folder / WEIGHTS, header["__metadata__"])
    set_config(folder, CONFIG, "fingerprint", to=fingerprint(tensors))


@pytest.mark.parametrize("prior", ["z_prior", "y_prior"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table[:-1].clone(), "rows, expected"),
        (torch.zeros_like, "outside 3 to"),
        (torch.neg, "outside 3 to"),
    ],
)
def test_tables_the_range_coder_cannot_use(prior: str, change, expected: str, base: Path):
    forge_tables(base, prior, change)
    assert expected in refusal(base)


# ---------------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        (("architecture", "g_a", 0, "depth"), 10**9),
        (("architecture", "g_a", 0, "depth"), 64),
        (("architecture", "g_a", 0, "width"), 10**9),
        (("architecture", "g_a", 0, "width"), 16_384),
        (("architecture", "h_s", 0, "width"), 16_384),
        (("architecture", "g_a", 0, "window"), 10**9 + 1),
        (("architecture", "g_a", 0, "heads"), 10**9),
        (("architecture", "mlp_ratio"), 1e12),
        (("architecture", "mlp_ratio"), 64),
        (("architecture", "encoder_hidden_ratio"), 1e308),
        (("architecture", "quality_levels"), 10**9),
        (("architecture", "g_a"), [{"width": 8, "depth": 1, "heads": 1}] * 100_000),
        (("architecture",), [[[[[]]]]] * 1000),
        (("name",), "x" * 10**6),
        (("requires",), ["x"]),
        (("requires",), 10**30),
        (("format",), 10**30),
        (("fingerprint",), "0" * 63),
        (("exact",), "../../../etc/passwd"),
    ],
)
def test_configs_that_ask_for_too_much(base: Path, steps: tuple, value: object):
    set_config(base, CONFIG, *steps, to=value)
    refusal(base)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 10**5, "not readable JSON"),
        ('{"a":' * 10**5, "not readable JSON"),
        ('{"kind": "base", "kind": "base"}', "has the key 'kind' twice"),
        ('{"kind": "base", "drop_path": NaN}', "NaN is no number of JSON"),
        ('{"kind": "base", "drop_path": -Infinity}', "-Infinity is no number of JSON"),
        ('{"kind": "base", "format": ' + "9" * 5000 + "}", "not readable JSON"),
        ('{"kind": "base"' + " " * 2**21 + "}", "more than 1048576 bytes"),
        ("", "not readable JSON"),
        ('"base"', "holds a JSON str"),
        ("\ufeff{}", "not readable JSON"),
    ],
)
def test_configs_that_are_no_config(base: Path, text: str, expected: str):
    (base / CONFIG).write_text(text, encoding="utf-8")
    assert expected in refusal(base)


@pytest.mark.parametrize("data", [b"\xff\xfe{\0}\0", b'{"kind": "b\xe9se"}', bytes(1000)])
def test_configs_that_are_not_utf_8(base: Path, data: bytes):
    (base / CONFIG).write_bytes(data)
    assert "not readable JSON" in refusal(base)


# ---------------------------------------------------------------------- paths


@pytest.fixture
def path_folder(tiny: MPACodec, tmp_path: Path) -> Path:
    path = TaskPath(tiny.model.config.decoder_path_stages)
    folder = tmp_path / "path"
    checkpoints.save_path(folder, path, base_name=tiny.name, base_fingerprint=tiny.fingerprint)
    return folder


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        (("stages", 0, "depth"), 10**9),
        (("stages", 0, "dim"), 10**9),
        (("stages", 0, "stage"), 10**9),
        (("stages",), [{"stage": 1, "dim": 8, "depth": 1}] * 10_000),
        (("stages",), []),
        (("levels",), 10**9),
        (("config", "hidden_ratio"), 1e300),
        (("plugin", "version"), "latest"),
        (("base", "fingerprint"), "x"),
    ],
)
def test_path_configs_that_ask_for_too_much(path_folder: Path, steps: tuple, value: object):
    set_config(path_folder, "path_config.json", *steps, to=value)
    refusal(path_folder, lambda folder: checkpoints.load_path(folder).build(TaskPath))


def test_paths_of_another_size_than_their_tensors_are_not_built(path_folder: Path):
    tensors = checkpoints.load_path(path_folder).tensors
    before = MEMORY.start()
    for stages, ratio in (
        ([PathStage(1, 16_384, 64)], 64.0),
        ([PathStage(1, 16, 64), PathStage(2, 16, 64)], 0.5),
    ):
        with pytest.raises(CheckpointError, match="expected exactly"):
            check_buildable(
                lambda s=stages, r=ratio: TaskPath(s, PathConfig(hidden_ratio=r)), tensors, "path"
            )
    assert MEMORY.peak() - before < LARGE


# ---------------------------------------------------------------------- links


def test_links_out_of_the_folder_are_refused(base: Path, path_folder: Path, tmp_path: Path):
    for folder, names, load in (
        (base, (CONFIG, WEIGHTS, "exact.safetensors"), checkpoints.load_base),
        (path_folder, ("path_config.json", "path.safetensors"), checkpoints.load_path),
    ):
        for name in names:
            moved = tmp_path / f"elsewhere-{name}"
            (folder / name).rename(moved)
            (folder / name).symlink_to(moved)
            text = refusal(folder, load)
            assert "is a link to" in text and str(moved) in text
            (folder / name).unlink()
            moved.rename(folder / name)
        load(folder)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/random", "/proc/self/environ", "/", "gone"])
def test_links_to_what_is_no_file(base: Path, target: str):
    for name in (WEIGHTS, CONFIG):
        (base / name).unlink()
        (base / name).symlink_to(target)
        refusal(base)


def test_a_pipe_in_place_of_a_file_does_not_hang(base: Path):
    for name in (WEIGHTS, CONFIG):
        (base / name).unlink()
        os.mkfifo(base / name)
        refusal(base)


def test_the_links_of_the_hub_cache_are_followed(base: Path, tmp_path: Path):
    cache = tmp_path / "models--org--tiny"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for i, file in enumerate(sorted(base.iterdir())):
        file.rename(cache / "blobs" / str(i))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(i)))
    assert checkpoints.load_base(snapshot).fingerprint == fingerprint(
        checkpoints.load_base(snapshot).tensors
    )


def test_links_inside_the_folder_are_followed(base: Path):
    (base / WEIGHTS).rename(base / "weights-3")
    (base / WEIGHTS).symlink_to("weights-3")
    checkpoints.load_base(base)
