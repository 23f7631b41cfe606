"""Multiply-adds against SPEC section 4, and CompressAI's own evaluation against ours."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec, PathConfig, TaskPath
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.bitstream.container import unpack
from mpa_core.coding.model import MPAModel
from mpa_core.errors import PathNotFoundError
from mpa_core.evaluation import compressai_eval
from mpa_core.evaluation.complexity import macs_per_pixel
from mpa_core.io.distortion import ms_ssim, psnr

PREDICTORS = 1.975
"""Thousand multiply-adds per pixel of one side; the released code runs them even where all tokens
go one way, and its totals have them in."""


def test_multiply_adds_of_the_full_width():
    model = MPAModel(PRESETS["mpa-base"]).eval()
    path = TaskPath(model.config.decoder_path_stages, PathConfig(hidden_ratio=0.5))
    model.paths["cls"] = path.eval()
    most = macs_per_pixel(model, 8.0, Mix())
    least = macs_per_pixel(model, 1.0, Mix(cls=1.0))
    half = macs_per_pixel(model, 8.0, Mix(cls=0.5))["decoder"] / 1000
    for part in ("encoder", "decoder"):
        assert most[part] / 1000 + PREDICTORS == pytest.approx(197.16, abs=0.01)
        assert least[part] / 1000 + PREDICTORS == pytest.approx(140.33, abs=0.01)
    ends = (most["decoder"] + least["decoder"]) / 2000
    assert half - ends == pytest.approx(PREDICTORS, abs=0.001)


NEEDS_COMPRESSAI = pytest.mark.skipif(not find_spec("compressai"), reason="no CompressAI here")


@pytest.fixture
def one_thread():
    """CompressAI's module takes one thread when it is imported; the others keep theirs."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@NEEDS_COMPRESSAI
def test_compressai_gives_our_figures(one_thread, sample: Image.Image, tmp_path: Path, capsys):
    codec = MPACodec.from_preset("mpa-tiny")
    # Sides that need no padding, for CompressAI pads on other sides and with black.
    photo = sample.crop((64, 32, 64 + 192, 32 + 256))
    photo.save(tmp_path / "photo.png")
    compressai_eval.register(codec)
    module = compressai_eval.evaluation()
    model = module.load_pretrained("mpa", "mse", 4)
    found = module.eval_model(
        model, "", str(tmp_path), module.collect_images(str(tmp_path)),
        architecture="mpa", half=False, per_image=False,
    )  # fmt: skip
    data = codec.encode(photo, quality=4)
    decoded = codec.decode(data)
    streams = sum(map(len, unpack(data).streams))
    assert found["bpp"] == pytest.approx(8 * streams / (192 * 256))
    assert found["psnr-rgb"] == pytest.approx(psnr(photo, decoded), abs=1e-4)
    assert found["ms-ssim-rgb"] == pytest.approx(ms_ssim(photo, decoded), abs=1e-5)


@NEEDS_COMPRESSAI
def test_compressai_command(one_thread, sample: Image.Image, tmp_path: Path, capsys):
    codec = MPACodec.from_preset("mpa-tiny")
    codec.save_pretrained(tmp_path / "base")
    (tmp_path / "photos").mkdir()
    sample.crop((0, 0, 192, 192)).save(tmp_path / "photos" / "a.png")
    arguments = ["--base", str(tmp_path / "base"), "pretrained", str(tmp_path / "photos")]
    assert compressai_eval.main([*arguments, "-a", "mpa", "-q", "1,8"]) == 0
    printed = capsys.readouterr().out
    assert '"psnr-rgb"' in printed
    assert compressai_eval.main(["--base", str(tmp_path / "none"), "pretrained"]) == 1
    assert capsys.readouterr().err.startswith("compressai_eval: error: ")


def test_compressai_with_a_mix_that_has_no_path():
    with pytest.raises(PathNotFoundError, match="cls"):
        compressai_eval.register(MPACodec.from_preset("mpa-tiny"), Mix(cls=1.0))


def test_without_compressai(tmp_path: Path):
    (tmp_path / "compressai.py").write_text("raise ImportError('none here')")
    done = subprocess.run(
        [sys.executable, "-m", "mpa_core.evaluation.compressai_eval", "pretrained", "photos"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "compressai_eval: error: CompressAI cannot be imported (none here)"
    )
    assert done.stderr.count("\n") == 1
