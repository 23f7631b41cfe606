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
