"""Checks of a plugin before any path of it is used, and of what its distribution says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

from mpa_core.requirements import DISTRIBUTION, asked_of_sdk
from mpa_core.testing.check import NotApplicable, fail_unless
from mpa_core.testing.subject import PathUnderTest

_SECONDS = 120

_DISCOVER = """
import importlib, json, sys
import mpa_core.plugins.discovery
module, heavy = json.loads(sys.argv[1])
touched = []

def listen(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        touched.append("the network")
    elif event == "ctypes.dlopen" and any(n in str(args[0]) for n in ("cuda", "nvidia", "cudart")):
        touched.append("CUDA")

sys.addaudithook(listen)
top = importlib.import_module(module)
for hook in ("mpa_task_paths", "mpa_bases"):
    getattr(top, hook, list)()
touched += [name for name in heavy if name in sys.modules]
print("\\n" + json.dumps(sorted(set(touched))))
"""
_HEAVY = ("torch", "torchvision", "timm", "tensorflow", "jax", "onnxruntime", "cupy")


def check_light_import(path: PathUnderTest) -> None:
    """Check that listing plugins imports no torch or its like, and needs no network or GPU.

    In a fresh interpreter, which imports the plugin's top module and calls its hooks.
    """
    module = path.plugin.module
    places = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(  # noqa: S603 -- this interpreter
        [sys.executable, "-c", _DISCOVER, json.dumps([module, _HEAVY])],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    error = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    fail_unless(
        done.returncode == 0,
        f"importing {module!r} in a fresh interpreter fails ({error}); a top module imports what "
        "is always installed, and nothing that has to be there before it",
    )
    touched = json.loads(done.stdout.splitlines()[-1])
    fail_unless(
        not touched,
        f"importing {module!r} reaches {', '.join(touched)}, and is done whenever somebody lists "
        "plugins; move that to the modules of the path and of the recipe, which are imported when "
        "they are used",
    )


def check_distribution(path: PathUnderTest) -> None:
    """Check that the distribution says which mpa-core it works with, and its licence."""
    name = path.registered.distribution
    if name == DISTRIBUTION:
        raise NotApplicable("the path is the SDK's own")
    asked = asked_of_sdk(name) or ""
    fail_unless(
        ">=" in asked or "~=" in asked or "==" in asked,
        f"{name} does not say which {DISTRIBUTION} it needs (found {asked or 'nothing'}); add to "
        f'its pyproject.toml: dependencies = ["{DISTRIBUTION}>=0.1,<0.2"]',
    )
    fail_unless(
        any(bound in asked for bound in ("<", "~=", "==")),
        f"{name} takes any {DISTRIBUTION} from now on ({asked}), also one whose names for plugins "
        "have changed; end the bound before the next minor version, as in >=0.1,<0.2",
    )
    stated = metadata.metadata(name)
    fields = ("License-Expression", "License", "License-File")
    licence = any(stated.get_all(field) for field in fields)
    listed = any("License" in text for text in stated.get_all("Classifier") or [])
    fail_unless(
        licence or listed,
        f'{name} states no licence, so nobody may use it; add to its pyproject.toml: license = "…"',
    )
