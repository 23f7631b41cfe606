"""``mpa plugins`` and ``mpa paths``."""

from __future__ import annotations

import json

import pytest

from mpa_core.cli.main import main

RUN = """
    import sys
    sys.argv = ["mpa"]
    from mpa_core.cli.main import main
    code = main({args!r})
    print("torch" in sys.modules, file=sys.stderr)
    sys.exit(code)
"""


def test_ls_shows_broken_and_good_without_torch(site):
    site.install("mpa-plugin-bad", "bad", "import no_such_module_xyz")
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det")
    done = site.run(RUN.format(args=["plugins", "ls"]))
    assert done.err.split() == ["False"]
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert lines["mpa-plugin-det"].split()[1:] == ["mpa-plugin-det", "1.2.0", "det", "ok"]
    assert "broken: ModuleNotFoundError: No module named" in lines["mpa-plugin-bad"]

    rows = json.loads(site.run(RUN.format(args=["plugins", "ls", "--format", "json"])).out)
    found = {row["plugin"]: row for row in rows}
    assert found["cls"]["paths"] == ["cls"]
    assert found["cls"]["error"] is None
    assert "no_such_module_xyz" in found["mpa-plugin-bad"]["error"]


def test_paths_ls_qualifies_names_that_two_claim(site):
    site.install_path("mpa-plugin-det", "det_one", "det")
    package = site.install_path("other-det", "det_two", "det")
    (package / "weights" / "mpa-small").mkdir(parents=True)
    done = site.run(RUN.format(args=["paths", "ls", "--format", "json"]))
    assert done.err.split() == ["False"]
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert {"cls", "mpa-plugin-det:det", "other-det:det"} <= set(rows)
    assert "det" not in rows
    assert rows["mpa-plugin-det:det"]["bundled_for"] == []
    assert rows["other-det:det"]["bundled_for"] == ["mpa-small"]

    text = site.run(RUN.format(args=["paths", "ls"])).out
    assert "other-det:det" in text
    assert "mpa-small" in text


BROKEN_PATH = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mpa_core import TaskPath

class P(TaskPath):
    name = "dett"
"""


def test_check_fails_on_a_path_that_breaks_the_contract(site, commands):
    site.install_path("mpa-plugin-det", "mpa_plugin_det", "det", path=BROKEN_PATH)
    code = "import warnings; warnings.simplefilter('default')\n" + "\n".join(
        line.strip()
        for line in RUN.format(args=["plugins", "check", "mpa-plugin-det"]).splitlines()
    )
    done = site.run(code, check=False, server=commands)
    assert done.code == 1
    assert "broken  mpa-plugin-det  (mpa-plugin-det 1.2.0; paths: det; " in done.out
    assert "has name = 'dett', expected 'det'" in done.out


def test_check_passes_and_selects(capsys):
    assert main(["plugins", "check", "mse", "--format", "json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["plugin"] == "mse"
    assert report["problems"] == []
    assert main(["plugins", "check", "mpa-core"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "cls"],
        ["ok", "mse"],
        ["ok", "seg"],
    ]


def test_info(capsys):
    assert main(["paths", "info", "mse", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["config"] == {"hidden_ratio": 2.0}
    assert data["parameters"]["mpa-base"] == 2_042_672
    assert main(["paths", "info", "mpa-core:mse"]) == 0
    out = capsys.readouterr().out
    assert "mpa_plugins.mse.path:MSEPath" in out
    assert "2042672" in out


def test_data_that_are_not_there_are_no_fault_of_a_plugin(capsys, tmp_path):
    assert main(["plugins", "check", "cls", "--train", "--data", str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "none does not exist; give the data of the recipes" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["paths", "info", "clz"], "write one that `mpa paths ls` shows, or install the plugin"),
        (["paths", "info", "./cls"], "no task path './cls' is installed"),
        (["plugins", "check", "clz"], "write one of these, or its distribution"),
        (["plugins", "check", ""], "no plugin '' is installed"),
    ],
)
def test_unknown_names_fail_in_one_line(capsys, argv, message):
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("group", ["plugins", "paths"])
def test_a_group_alone_is_wrong_usage(group, capsys):
    with pytest.raises(SystemExit) as caught:
        main([group])
    assert caught.value.code == 2
    assert f"usage: mpa {group}" in capsys.readouterr().err
