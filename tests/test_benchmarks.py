"""Benchmarks of hours do their work in small, and go on where they were."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

QUALITIES = "1,3,5,7"


def test_efforts_and_what_classic_encoders_get(
    root: Path, tmp_path: Path, sample, monkeypatch: pytest.MonkeyPatch, capsys
):
    folder = root / "examples" / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    effort, classics = (
        runpy.run_path(str(folder / name))["main"] for name in ("effort.py", "classics.py")
    )
    (tmp_path / "photos").mkdir()
    sample.save(tmp_path / "photos" / "photo.png")
    ours, theirs = tmp_path / "e.jsonl", tmp_path / "c.jsonl"
    common = ["--photos", str(tmp_path / "photos"), "--crop", "64", "--out"]
    words = ["--qualities", QUALITIES, "--efforts", "1", "--reader", "mse", *common, str(ours)]
    assert effort(words) == 0
    lines = ours.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8
    ours.write_text("\n".join([*lines[:-1], lines[-1][:20]]), encoding="utf-8")  # cut off
    assert effort(words) == 0
    again = [json.loads(line) for line in ours.read_text(encoding="utf-8").splitlines()[-1:]]
    assert [again[0][key] for key in ("quality", "effort", "reader")] == [7, 1, "mse"]
    capsys.readouterr()
    words = ["--efforts", str(ours), "--codecs", "jxl", *common, str(theirs)]
    assert classics(words) == 0
    printed = capsys.readouterr().out
    for encoder in ("effort 0", "effort 1 for mse", "jxl effort 3", "jxl effort 9"):
        assert encoder in printed
    assert "1 photos" in printed
