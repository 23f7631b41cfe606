"""The demonstration and the benchmark scripts, on a small random base."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec, demo
from mpa_core.evaluation.classic import pixels_only
from mpa_core.io.folders import MARKER
from mpa_plugins.cls.path import ClsPath

WIDTH, HEIGHT = 190, 170


@pytest.fixture(scope="module")
def photo(sample: Image.Image) -> Image.Image:
    return pixels_only(sample.crop((120, 50, 120 + WIDTH, 50 + HEIGHT)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    MPACodec.from_preset("mpa-tiny").save_pretrained(folder)
    return folder


def test_demo_writes_what_it_reports(
    sample: Image.Image,
    photo: Image.Image,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    photo.save(tmp_path / "photo.png", exif=sample.getexif())  # metadata is no part of the figures
    out = tmp_path / "new" / "out"
    code = demo.main(
        [str(tmp_path / "photo.png"), f"--base={base}", "--quality", "1", "4.5", f"--out={out}"]
    )
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    files = {p.name for p in out.iterdir()}
    assert files == {demo.COMPARISON, MARKER} | {
        name
        for q in ("1", "4.5")
        for name in (f"mpa-{q}.mpa", f"near-mpa-{q}.jpg", f"near-mpa-{q}.webp")
    }
    rows = {
        name: line.split() for line in printed.out.splitlines() for name in files if name in line
    }
    codec = MPACodec.from_pretrained(base)
    for name in files - {demo.COMPARISON, MARKER}:
        size = (out / name).stat().st_size
        assert str(size) in rows[name]
        assert f"{8 * size / (WIDTH * HEIGHT):.3f}" in rows[name]
    assert codec.encode(photo, quality=1) == (out / "mpa-1.mpa").read_bytes()
    with Image.open(out / demo.COMPARISON) as sheet:
        assert sheet.width > 4 * WIDTH
        assert sheet.height > 2 * HEIGHT
        # The first cell holds the original, pixel for pixel.
        top = demo._MARGIN + 2 * demo._LINE
        cell = sheet.crop((demo._MARGIN, top, demo._MARGIN + WIDTH, top + HEIGHT))
        assert cell.tobytes() == photo.tobytes()


def test_one_row_per_path(photo: Image.Image, base: Path):
    codec = MPACodec.from_pretrained(base)
    codec.attach_path(ClsPath(codec.model.config.decoder_path_stages))
    main, side, jpeg, webp = demo.compare(codec, photo, 3.0)
    assert (main.label, side.label) == ("mpa 3, main path", "mpa 3, cls path")
    assert main.data == side.data
    assert main.image.tobytes() != side.image.tobytes()
    assert jpeg.data[:2] == b"\xff\xd8"
    assert webp.data[:4] == b"RIFF"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png"),
        (["--base", "no-such-base"], "no-such-base"),
        (["--quality", "9"], "quality is 9"),
        (["--out", "taken/demo"], "taken"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file", encoding="utf-8")
    usual = {"--base": str(base), "--quality": "1"}
    others = [word for name in usual if name not in arguments for word in (name, usual[name])]
    assert demo.main([*arguments, *others]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_speed_script(root: Path, base: Path, tmp_path: Path):
    script = runpy.run_path(str(root / "examples" / "benchmarks" / "codec_speed.py"))
    report = tmp_path / "speed.json"
    assert script["main"]([str(base), "--repeats", "1", "--json", str(report)]) == 0
    (row,) = json.loads(report.read_text(encoding="utf-8"))
    assert row["floor_seconds"] == pytest.approx(882_000 * 768 * 512 / (row["sgemm_gflops"] * 1e9))
    total = row["encode_seconds"] + row["decode_seconds"]
    assert row["over_floor"] == pytest.approx(total / row["floor_seconds"])


def test_busy_machine_script(root: Path, base: Path, tmp_path: Path):
    script = runpy.run_path(str(root / "examples" / "benchmarks" / "busy_machine.py"))
    report = tmp_path / "busy.json"
    words = ["--base", str(base), "--size", "64", "64", "--seconds", "0.1", "--rounds", "1"]
    policies = ["GOMP_SPINCOUNT=2000", "one thread"]
    words += ["--policies", *policies, "--encoders", "1"]
    assert script["main"]([*words, "--json", str(report)]) == 0
    rates = json.loads(report.read_text(encoding="utf-8"))["pictures_per_second"]
    assert list(rates) == policies
    assert all(set(row) == set(script["SITUATIONS"]) for row in rates.values())
    assert all(rate > 0 for row in rates.values() for rate in row.values())
