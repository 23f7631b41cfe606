"""Whatever a path class raises is an error of the command, in one line; Ctrl-C stays Ctrl-C."""

from __future__ import annotations

import pytest

from mpa_core.errors import ConfigError, MissingDependencyError, PluginError
from mpa_core.runtime.foreign import describe, foreign_code

PATH = """
import os
from torch import nn
from mpa_core import PathConfig, TaskPath


class Strange(BaseException):
    pass


class Silent(BaseException):
    def __str__(self):
        raise SystemExit(5)


def fail(where):
    if os.environ.get("FAIL_IN") == where:
        exec(os.environ["FAIL_BY"])


class Layer(nn.Linear):
    def forward(self, tokens):
        fail("forward")
        return super().forward(tokens)


class P(TaskPath):
    name = "det"

    class Config(PathConfig):
        def model_post_init(self, _):
            fail("Config")

    def __init__(self, stages, config=None, levels=8):
        fail("__init__")
        super().__init__(stages, config, levels)

    def build_mlp(self, dim):
        return Layer(dim, dim)
"""

WAYS = {
    "raise SystemExit(3)": "SystemExit: 3",
    "import sys; sys.exit()": "SystemExit",
    "raise Strange('no')": "Strange: no",
    "raise Silent": "Silent",
    "raise GeneratorExit": "GeneratorExit",
    "1 / 0": "ZeroDivisionError: division by zero",
}


class Plugin:
    """The package, and ``mpa`` where it is installed."""

    def __init__(self, site, commands):
        self.site, self._commands = site, commands
        self.package = site.install_path("mpa-plugin-det", "mpa_plugin_det", "det", path=PATH)

    def mpa(self, *words: str, **env: str):
        return self.site.fork(self._commands, words=list(words), env=env)


@pytest.fixture
def plugin(site, commands):
    return Plugin(site, commands)


@pytest.mark.parametrize(
    ("where", "way"), [("Config", "raise SystemExit(3)"), *(("__init__", way) for way in WAYS)]
)
def test_paths_info_of_a_path_that_cannot_be_built(plugin, where, way):
    done = plugin.mpa("paths", "info", "det", "--format", "json", FAIL_IN=where, FAIL_BY=way)
    (line,) = done.errors
    assert done.code == 1
    assert line.startswith(f"mpa: error: task path 'det' cannot be built: {WAYS[way]} (")
    assert line.endswith("); repair or upgrade the plugin")
    assert done.data["error"]["type"] == "PluginError"


@pytest.fixture
def decoding(plugin, sample, tmp_path, commands):
    """A small base, a file of it, and a folder of the plugin's path for it."""
    sample.resize((64, 64)).save(tmp_path / "a.png")
    code = f"""
from pathlib import Path
from PIL import Image
from mpa_core import checkpoints
from mpa_core import MPACodec
from mpa_core.plugins.registry import registry
here = Path({str(tmp_path)!r})
codec = MPACodec.from_preset("mpa-tiny")
codec.save_pretrained(here / "base")
(here / "a.mpa").write_bytes(codec.encode(Image.open(here / "a.png")))
path = registry().load_class("det")(codec.model.config.decoder_path_stages)
plugin = checkpoints.PluginRef(distribution="mpa-plugin-det", version=">=1")
checkpoints.save_path(
    here / "det", path,
    base_name="base", base_fingerprint=codec.fingerprint, plugin=plugin,
)
"""
    plugin.site.run(code, server=commands)
    words = f"decode {tmp_path}/a.mpa -o {tmp_path}/b.png --base {tmp_path}/base"
    return [*words.split(), "--load", f"{tmp_path}/det", "--path", "det"]


@pytest.mark.parametrize(("where", "said"), [("__init__", "cannot be built"), ("forward", "Layer")])
@pytest.mark.parametrize("jobs", [[], ["--jobs", "1"]])
def test_decoding_by_a_path_that_ends_the_program(plugin, decoding, where, said, jobs, tmp_path):
    done = plugin.mpa(*decoding, *jobs, FAIL_IN=where, FAIL_BY="raise SystemExit(3)")
    errors = [line for line in done.errors if line.startswith("mpa: error: ")]
    (line,) = errors
    assert done.code == 1
    assert said in line and ": SystemExit: 3 (" in line
    assert not (tmp_path / "b.png").exists()
    assert plugin.mpa(*decoding).code == 0
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize("where", ["__init__", "forward"])
def test_ctrl_c_in_a_plugin_is_ctrl_c(plugin, decoding, where):
    done = plugin.mpa(*decoding, FAIL_IN=where, FAIL_BY="raise KeyboardInterrupt")
    assert (done.code, done.errors[-1]) == (130, "mpa: interrupted")


def test_what_ends_the_program_anywhere_else_is_one_line(plugin):
    """Code of a plugin that no rule covers; here what it does to a function of the SDK."""
    top = plugin.package / "__init__.py"
    lines = ["import sys", "import mpa_core.cli.output", "mpa_core.cli.output._cell = sys.exit"]
    top.write_text("\n".join([*lines, top.read_text()]))
    done = plugin.mpa("paths", "ls")
    (line,) = done.errors
    assert done.code == 1
    assert line.startswith("mpa: error: unexpected SystemExit: ")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ConfigError("a"), PluginError])
def test_what_passes_as_it_is(error):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind) as caught, foreign_code("x"):
        raise error
    assert caught.value.__cause__ is None


def test_torch_that_runs_out_of_memory_is_not_the_plugins_fault():
    import torch

    with pytest.raises(torch.OutOfMemoryError), foreign_code("x"):
        raise torch.OutOfMemoryError("none left")


def test_an_import_that_fails_is_the_plugins_whatever_it_raises():
    said = "x: MissingDependencyError: y"
    with pytest.raises(PluginError, match=said), foreign_code("x", passed=()):
        raise MissingDependencyError("y")


def test_an_error_that_cannot_be_printed_has_its_kind():
    class Odd(BaseException):
        def __str__(self):
            raise BaseException("deep")

    assert describe(Odd()) == "Odd"
