"""The frame around the commands: start-up time, exit codes, output, and the smaller commands."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

from parser_leaves import leaves
from safetensors.torch import save_file

import mpa_core
from mpa_core import MPACodec
from mpa_core.bitstream import rans
from mpa_core.bitstream.container import unpack
from mpa_core.cli import output
from mpa_core.cli.main import GROUPS, build_parser
from mpa_core.coding.stored import StoredCodec
from mpa_core.errors import ImageError
from mpa_core.importing.keys import base_key, path_key

COMMAND = [sys.executable, "-m", "mpa_core.cli"]
HEAVY = ("torch", "numpy", "PIL", "pydantic", "pluggy", "compressai", "rich")


def python(code: str, *args: object, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


# ---------------------------------------------------------------------- start-up


def test_help_is_fast():
    """In processor time: the wall clock would measure what else the machine is doing."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert done.returncode == 0
    assert min(spent) < 0.5
    for name in ("encode", "decode", "info", "paths", "plugins", "train", "import-official", "env"):
        assert f"\n    {name}" in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from mpa_core.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    assert python(code).stdout == "[]\n"


def test_info_needs_no_torch(encoded):
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, numpy=None, PIL=None)\n"
        "from mpa_core.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = python(code, "info", encoded)
    assert done.returncode == 0, done.stderr
    assert "quality" in done.stdout


def test_every_leaf_command_runs_something_and_takes_a_format():
    found = list(leaves(build_parser()))
    assert len(found) > len(GROUPS)
    for leaf in found:
        assert callable(leaf.get_default("run")), leaf.prog
        assert "--format" in leaf.format_help(), leaf.prog
        assert leaf.format_help().isascii()


def test_version(mpa):
    done = mpa("--version")
    assert (done.code, done.out) == (0, f"mpa {mpa_core.__version__}\n")


# ---------------------------------------------------------------------- exit codes


def test_unexpected_errors_are_one_line_with_a_hint(mpa, picture, tmp_path, monkeypatch):
    """No input is known to reach a bug, so one is made: a method that is gone."""
    monkeypatch.delattr(StoredCodec, "from_pretrained")
    words = ("encode", picture, "-o", tmp_path / "a.mpa", "--format", "json")
    done = mpa(*words)
    assert done.code == 1
    assert len(done.errors) == 1
    assert "unexpected AttributeError" in done.err
    assert "MPA_DEBUG=1" in done.err
    assert done.data["error"]["type"] == "AttributeError"
    monkeypatch.setenv("MPA_DEBUG", "1")
    done = mpa(*words)
    assert done.code == 1
    assert "Traceback" in done.err
    assert "encode.py" in done.err


def test_ctrl_c_is_exit_130_and_leaves_nothing_behind(start, base, picture, tmp_path):
    """Interrupted while it waits for its input, with everything loaded."""
    folder, pipe = tmp_path / "out", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    running = start("encode", "-", "-o", folder / "a.mpa", "--base", base, stdin=pipe)
    # More than a pipe holds: writing returns only once the process is reading.
    with pipe.open("wb") as stdin:
        stdin.write(picture.read_bytes()[:64])
        stdin.write(bytes(1 << 20))
        stdin.flush()
        running.signal(signal.SIGINT)
    # Now the pipe is closed: what comes between two reads is seen when the second returns.
    done = running.wait()
    assert (done.code, done.err) == (130, "mpa: interrupted\n")
    assert list(folder.iterdir()) == []


def test_a_closed_pipe_is_quiet(encoded):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "info", str(encoded)], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


def test_file_names_of_any_bytes(encoded, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xc3\xbc.mpa"
    Path(os.fsdecode(odd)).write_bytes(encoded.read_bytes())
    for form in ("text", "json"):
        done = subprocess.run(
            [*map(os.fsencode, COMMAND), b"info", odd, b"--format", form.encode()],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert done.returncode == 0, done.stderr
        assert b"quality" in done.stdout


# ---------------------------------------------------------------------- output


def test_table_and_facts():
    rows = [{"name": "a", "n": 1, "x": None}, {"name": "long", "n": 123, "x": 0.25}]
    assert output.table(rows).splitlines() == [
        "name    n     x",
        "a       1     -",
        "long  123  0.25",
    ]
    assert output.table([{"a": 1}, {"b": "x"}]).splitlines() == ["a  b", "1  -", "-  x"]
    assert output.table([]) == ""
    assert output.facts({"a": True, "bc": {"d": [1, 2], "e": {}}}).splitlines() == [
        "a   yes",
        "bc",
        "  d  1, 2",
        "  e  -",
    ]


def test_errors_are_one_line():
    described = output.describe_error(ImageError("two\nlines"), about="a.png")
    assert described == {"type": "ImageError", "message": "a.png: two lines"}
    named = output.describe_error(ImageError("a.png is bad"), about="a.png")
    assert named["message"] == "a.png is bad"


# ---------------------------------------------------------------------- info, env, import-official


def test_info_says_what_is_in_the_file(mpa, encoded):
    data = encoded.read_bytes()
    container = unpack(data)
    done = mpa("info", encoded, "--format", "json")
    (entry,) = done.rows
    assert (entry["width"], entry["height"], entry["quality"]) == (80, 48, 3.0)
    assert entry["fingerprint"] == container.fingerprint.hex()
    assert entry["streams"] == {n: len(s) for n, s in container.named_streams.items()}
    assert entry["bytes"] == len(data)
    assert entry["chunks"] == {name.decode(): len(c) for name, c in container.chunks.items()}
    parts = [*entry["streams"].values(), *entry["chunks"].values(), entry["overhead"]]
    assert sum(parts) == len(data)
    assert 0 < entry["overhead"] < 100
    assert entry["profile"] == "exact"
    text = mpa("info", encoded).out
    for key in ("80", "48", container.fingerprint.hex(), str(len(container.streams[0]))):
        assert key in text


def test_info_on_several_files(mpa, encoded, tmp_path):
    (tmp_path / "bad.mpa").write_bytes(b"bad")
    done = mpa("info", tmp_path / "bad.mpa", encoded, "--format", "json")
    assert done.code == 1
    assert done.sums["failed"] == 1
    assert "error" in done.rows[0]
    assert done.rows[1]["width"] == 80
    assert len(done.errors) == 2


def test_env(mpa):
    import torch

    data = mpa("env", "--format", "json").data
    assert data["mpa-core"] == mpa_core.__version__
    assert data["torch"]["version"] == torch.__version__
    assert data["torch"]["threads"] == torch.get_num_threads()
    assert set(data["plugins"]) >= {"cls", "mse", "seg"}
    assert data["packages"]["pillow"]
    assert data["requirements"]["mpa-core"]["missing"] == []
    assert "timm" in data["requirements"]["mpa-core[train]"]["installed"]
    assert data["range_coder"]["loops"] == ("compiled" if rans.COMPILED else "Python, slower")
    text = mpa("env").out
    assert re.search(r"^  mpa-core\[train\] +complete$", text, re.MULTILINE)
    assert torch.__version__ in text
    assert "cpu_capability" in text


def test_env_works_without_torch_and_with_broken_plugins():
    code = (
        "import sys\n"
        "sys.modules.update(torch=None)\n"
        "from mpa_core.cli.main import main\n"
        "sys.exit(main(['env', '--format', 'json']))\n"
    )
    done = python(code, MPA_PLUGINS="nothing-like-this")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert "ModuleNotFoundError" in data["torch"]["error"]
    assert "nothing-like-this" in data["plugins"]["error"]
    assert data["variables"]["MPA_PLUGINS"] == "nothing-like-this"


def test_import_official_reports_what_it_wrote(mpa, base, path_folder, tmp_path):
    """On weights of ours in the released layout; the released ones' own are in test_importer."""
    codec = MPACodec.from_pretrained(base)
    codec.load_path(path_folder, name="cls")
    path = codec.model.paths["cls"].state_dict()
    tensors = {base_key(name): tensor for name, tensor in codec.model.frozen_state().items()}
    for task in range(3):
        tensors |= {path_key(name, task): tensor for name, tensor in path.items()}
    source = tmp_path / "released.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, source)
    done = mpa("import-official", source, tmp_path / "out", "--format", "json")
    assert done.code == 0, done.err
    assert done.data["base"]["fingerprint"] == codec.fingerprint
    assert set(done.data["paths"]) == {"mse", "cls", "seg"}
    assert (tmp_path / "out" / "base" / "config.json").is_file()
    again = mpa("import-official", source, tmp_path / "out")
    assert again.code == 1
    assert len(again.errors) == 1
    assert "--force" in again.err
    assert mpa("import-official", source, tmp_path / "out", "--force").code == 0


def test_import_official_of_something_else(mpa, picture, tmp_path):
    done = mpa("import-official", picture, tmp_path / "out")
    assert done.code == 1
    assert len(done.errors) == 1
    assert not (tmp_path / "out").exists()
