"""Checkpoints of format 1 and files of their base are read as on the day they were written."""

from __future__ import annotations

import hashlib
import json

import golden_checkpoints
import numpy as np
import pytest
from golden_checkpoints import GOLDEN, PATHS, PLUGIN, PROFILES, seen
from safetensors import safe_open
from safetensors.numpy import load_file

from mpa_core import MPACodec, TaskPath, checkpoints
from mpa_core.bitstream.container import unpack
from mpa_core.errors import PathNotFoundError

PRINTS = json.loads((GOLDEN / "fingerprints.json").read_text())
# Pinned here as well: the files cannot be replaced without a change to this list.
SHA256 = {
    "base/exact.safetensors": "6ef012597bc4571fa366538602c6671d218daf4be07154990cb42c5721e88ebe",
    "base/model.safetensors": "df22c13929812ec0fd12adec03fdd9c493e05fd533bc46eb7b9fb823317bb051",
    "own/path.safetensors": "cf004765131d514d83c74a939f10e8a8aa6adf41bb4c67c60cd7be8727df7c49",
    "plain/path.safetensors": "14bc48418b144d68f804687d4c52e17bf7553b4401ec30f0351fc3caa3e237ed",
    "exact.mpa": "3eb57987babcedf7f0a0939bc2934b555554140420019d70d0462152e4137735",
    "float.mpa": "9a3272fc3f6dfc58a7aedfaf2a72f06be19d3f9fb545d97d5ae85d3eb4010415",
    "decoded.npz": "595a839300844ecad59a612e987ecf1dcf4e6d81645a82a9463f3fbc68c85536",
}
CONFIGS = {"base": "config.json", "plain": "path_config.json", "own": "path_config.json"}
AS_TODAY = ("format", "requires")
"""Keys that a later version writes in its own way."""


@pytest.fixture(scope="module")
def golden() -> MPACodec:
    return golden_checkpoints.codec_of(GOLDEN)


@pytest.mark.parametrize("name", SHA256)
def test_the_files_are_those_that_were_written(name):
    assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == SHA256[name]


def test_fingerprints(golden):
    status = golden.status()
    assert status["fingerprint"] == PRINTS["base"]
    assert status["exact_fingerprint"] == PRINTS["exact"]
    for folder in ("plain", "own"):
        loaded = checkpoints.load_path(GOLDEN / folder)
        assert loaded.meta.fingerprint == PRINTS[folder]
        assert loaded.meta.base.fingerprint == PRINTS["base"]
        loaded.require_base("golden", PRINTS["base"])


def test_which_path_needs_its_plugin():
    assert TaskPath.from_pretrained(GOLDEN / "plain").is_plain
    with pytest.raises(PathNotFoundError) as error:
        TaskPath.from_pretrained(GOLDEN / "own")
    assert str(error.value) == (
        f"path 'golden_own' in {GOLDEN / 'own'} needs the code of its plugin, mpa-plugin-golden, "
        'which is not installed; run: pip install "mpa-plugin-golden>=1.2"'
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_files_are_decoded_as_then(golden, profile):
    """Exact latents to the bit; all that is computed in floating point to rounding."""
    data = (GOLDEN / f"{profile}.mpa").read_bytes()
    prints = {"exact": PRINTS["exact"], "float": PRINTS["base"]}
    assert unpack(data).fingerprint.hex() == prints[profile][:16]
    with np.load(GOLDEN / "decoded.npz") as arrays:
        then = {n.split(".")[1]: arrays[n] for n in arrays.files if n.startswith(profile)}
    now = seen(golden, data)
    assert now.keys() == then.keys() == {"latents", "main", "plain", "own"}
    if profile == "exact":
        assert now["latents"].tobytes() == then["latents"].tobytes()
    for name, array in now.items():
        assert array.shape == then[name].shape
        allowed = 1e-3 if name == "latents" else 1
        assert np.abs(array.astype("f8") - then[name]).max() <= allowed, name
    assert not np.array_equal(now["main"], now["plain"])
    assert not np.array_equal(now["plain"], now["own"])


@pytest.mark.parametrize("folder", CONFIGS)
def test_what_is_read_is_saved_as_the_same(golden, folder, tmp_path):
    """The same tensors and element types, and every key with its value: nothing was lost."""
    if folder == "base":
        golden.save_pretrained(tmp_path, dtype="float16")
    else:
        path_class, dtype = next((c, d) for c, (name, d) in PATHS.items() if name == folder)
        path = path_class.from_pretrained(GOLDEN / folder)
        checkpoints.save_path(
            tmp_path,
            path,
            base_name="golden",
            base_fingerprint=PRINTS["base"],
            plugin=PLUGIN,
            dtype=dtype,
        )
    then, now = (
        json.loads((at / CONFIGS[folder]).read_text()) for at in (GOLDEN / folder, tmp_path)
    )
    assert then.keys() <= now.keys()
    for key in then.keys() - AS_TODAY:
        assert now[key] == then[key], key
    for file in (GOLDEN / folder).glob("*.safetensors"):
        old, new = load_file(file), load_file(tmp_path / file.name)
        assert old.keys() == new.keys()
        for name, array in old.items():
            assert array.dtype == new[name].dtype, name
            assert array.tobytes() == new[name].tobytes(), name
        with safe_open(file, "pt") as was, safe_open(tmp_path / file.name, "pt") as is_:
            told = [json.loads(each.metadata()["mpa"]) for each in (was, is_)]
        assert {key: told[1][key] for key in told[0].keys() - AS_TODAY} == {
            key: told[0][key] for key in told[0].keys() - AS_TODAY
        }


def test_a_codec_saves_the_plain_path_without_its_plugin(golden, tmp_path):
    assert golden.save_path("plain", tmp_path) == PRINTS["plain"]
    assert checkpoints.read_path_meta(tmp_path).plugin == PLUGIN


def test_the_script_writes_what_is_read(tmp_path):
    """So that it can be used for the next format; its weights are torch's of that day."""
    golden_checkpoints.main(tmp_path)
    made = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    there = {file.relative_to(GOLDEN).as_posix() for file in GOLDEN.rglob("*") if file.is_file()}
    assert made == there
    codec = golden_checkpoints.codec_of(tmp_path)
    with np.load(tmp_path / "decoded.npz") as arrays:
        for profile in PROFILES:
            for name, array in seen(codec, (tmp_path / f"{profile}.mpa").read_bytes()).items():
                assert np.array_equal(array, arrays[f"{profile}.{name}"])
