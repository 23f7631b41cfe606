"""The command's stdout is its own, whatever plugins print."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from mpa_core import MPACodec

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
    assert "det" in [path["name"] for path in json.loads(done.out)]
    assert "noise" in done.err


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_a_picture_on_stdout_is_a_picture(site, commands, sample, tmp_path, output):
    site.install_path("mpa-plugin-det", "det", "det")
    top = site.folder / "det" / "__init__.py"
    top.write_text(NOISE["descriptor"] + "\n" + top.read_text())
    file = tmp_path / "a.mpa"
    file.write_bytes(MPACodec.from_pretrained("mpa-small").encode(sample.resize((40, 30))))
    words = ["decode", str(file), "-o", output, "--path", "cls"]
    done = site.run(f"import sys; sys.argv[1:] = {words}; {MAIN}", server=commands)
    assert done.err == "noise"
    with Image.open(io.BytesIO(done.raw)) as picture:
        assert picture.size == (40, 30)
