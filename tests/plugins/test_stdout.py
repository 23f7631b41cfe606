"""The command's stdout is its own, whatever plugins print."""

from __future__ import annotations

import json

import pytest

NOISE = {
    "print": "print('noise')",
    "descriptor": "import os; os.write(1, b'noise')",
    "process": "import subprocess; subprocess.run(['echo', 'noise'])",
    "at exit": "import atexit; atexit.register(print, 'noise')",
}
MAIN = "from mpa_core.cli.main import main; raise SystemExit(main())"


@pytest.mark.parametrize("case", NOISE)
def test_what_a_plugin_prints_goes_to_stderr(site, case):
    site.install_path("mpa-plugin-det", "det", "det")
    top = site.folder / "det" / "__init__.py"
    top.write_text(NOISE[case] + "\n" + top.read_text())
    code = f"import sys; sys.argv[1:] = ['paths', 'ls', '--format', 'json']; {MAIN}"
    done = site.run(code)
    assert "det" in [path["name"] for path in json.loads(done.stdout)]
    assert "noise" in done.stderr


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_a_picture_on_stdout_is_a_picture(site, sample, tmp_path, output):
    site.install_path("mpa-plugin-det", "det", "det")
    top = site.folder / "det" / "__init__.py"
    top.write_text(NOISE["descriptor"] + "\n" + top.read_text())
    sample.resize((40, 30)).save(tmp_path / "a.png")
    code = f"""
import io, subprocess, sys
from PIL import Image
def mpa(*words):
    code = "import sys; sys.argv[1:] = " + repr(list(words)) + "; {MAIN}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True)
file = {str(tmp_path / "a.mpa")!r}
made = mpa("encode", {str(tmp_path / "a.png")!r}, "-o", file)
assert made.returncode == 0, made.stderr
done = mpa("decode", file, "-o", {output!r}, "--path", "cls")
assert done.returncode == 0 and b"noise" in done.stderr, done.stderr
print(Image.open(io.BytesIO(done.stdout)).size)
"""
    assert site.run(code).stdout == "(40, 30)\n"
