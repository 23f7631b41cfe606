"""The two implementations of the coder's loops: the same words, symbols and states."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpa_core
from mpa_core.bitstream import rans, rans_python
from mpa_core.bitstream.cdf import CdfTables

TABLES = CdfTables(
    [[0, 1, 2, 65536, 0], [0, 1, 65536, 0, 0], [0, 65535, 65536, 0, 0], [0, 9, 999, 9999, 65536]],
    [4, 3, 3, 5],
    [0, -7, 3, -2],
)
ROWS = st.lists(st.integers(0, 3), max_size=80).map(lambda rows: np.array(rows, np.int32))


def test_the_compiled_loops_are_there():
    assert rans.COMPILED


@given(ROWS, st.data())
@settings(max_examples=200, deadline=None)
def test_both_encode_the_same(rows: np.ndarray, data: st.DataObject):
    values = st.integers(-3, 4) | st.integers(-(2**20), 2**20)
    symbols = np.array(data.draw(st.lists(values, min_size=len(rows), max_size=len(rows))), int)
    operations = TABLES.operations(symbols, rows)
    words = np.empty(len(operations) + 2, np.uint32)
    start = rans_python.encode(operations, words)
    assert words[start:].tolist() == rans.encode(operations).tolist()


@given(st.binary(max_size=160), ROWS, st.sampled_from([1, 2**8, 2**31 - 1]))
@settings(max_examples=300, deadline=None)
def test_both_decode_the_same(stream: bytes, rows: np.ndarray, high: int):
    words = np.frombuffer(stream[: len(stream) // 4 * 4], "<u4").astype(np.uint32)
    states = [rans.State(high << 32 | 5, 0) for _ in range(2)]
    for part in np.split(rows, [3, 20]):
        symbols, held = rans.decode(states[0], words, part, TABLES)
        expected = np.zeros(len(part), np.int32)
        assert rans_python.decode(states[1], words, part, TABLES, expected) == held
        assert symbols.tolist() == expected.tolist()
        found = [(state.x, state.position, state.status) for state in states]
        assert found[0] == found[1]
        if states[0].status != rans.DECODED:
            assert held < len(part) and not symbols[held:].any()
            return
        assert held == len(part)


def test_wrong_arrays_never_reach_the_compiled_loops():
    state, words, rows = rans.State(2**31, 0), np.zeros(4, np.uint32), np.zeros(4, np.int32)
    for wrong in (
        lambda: rans.encode(words.astype(np.int64)),
        lambda: rans.encode(words[::2]),
        lambda: rans.decode(state, words.reshape(2, 2), rows, TABLES),
        lambda: rans.decode(state, words, rows.astype(np.uint8), TABLES),
    ):
        with pytest.raises(Exception, match="argument"):
            wrong()


CODE = """
import numpy as np
from mpa_core.bitstream import rans, rangecoder
tables = rangecoder.CdfTables([[0, 9, 999, 65536]], [4], [0])
encoder = rangecoder.RangeEncoder()
encoder.encode([0, 1, 2, -5, 700], [0] * 5, tables)
data = encoder.finish()
decoder = rangecoder.RangeDecoder(data, 5)
print(rans.COMPILED, data.hex(), decoder.decode([0] * 5, tables).tolist())
decoder.finish()
"""


def test_an_installation_without_a_compiler_codes_the_same(root: Path, tmp_path: Path):
    package = root / "mpa_core"
    (tmp_path / "mpa_core").mkdir()
    for module in ("__init__.py", "errors.py", "lazy.py"):
        shutil.copy(package / module, tmp_path / "mpa_core")
    compiled = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(package / "bitstream", tmp_path / "mpa_core" / "bitstream", ignore=compiled)
    found = [
        subprocess.run(
            [sys.executable, "-c", CODE],
            cwd=path,
            env={**os.environ, "PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
        )
        for path in (Path(mpa_core.__file__).parents[1], tmp_path)
    ]
    ours, slow = (done.stdout.split(maxsplit=1) for done in found)
    assert (ours[0], slow[0]) == ("True", "False")
    assert ours[1] == slow[1]
    assert ours[1].strip().endswith("[0, 1, 2, -5, 700]")
    assert found[0].stderr == ""
    assert "RuntimeWarning: mpa-core was installed without its compiled range coder" in (
        found[1].stderr
    )
