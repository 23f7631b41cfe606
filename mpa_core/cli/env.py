"""The command ``mpa env``: facts about the machine for a bug report. Works without torch."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.bitstream.compiled import compiled_file
from mpa_core.cli.batch.pool import most_processes
from mpa_core.cli.machine import free_memory, usable_cpus
from mpa_core.cli.output import emit, facts
from mpa_core.cli.threads import COUNTING, WAITING, Choice, add_threads_argument
from mpa_core.errors import MPAError
from mpa_core.requirements import DISTRIBUTION, needs, version_of

if TYPE_CHECKING:
    from mpa_core.plugins.registry import Plugin

_NAMED_NOWHERE = ("lpips", "natten")
"""Libraries that are used where they are installed, but belong to no extra."""
_UNTOLD = ("numpy", "pillow", "torch")
"""Libraries whose versions matter most, for an installation whose requirements are unknown."""
_VARIABLES = (
    "MPA_PLUGINS",
    "MPA_STRICT_PLUGINS",
    "MPA_DEBUG",
    "MPA_MIX",
    "MPA_BASE",
    *COUNTING,
    *WAITING,
    "OMP_THREAD_LIMIT",
    "OMP_PROC_BIND",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "CUDA_VISIBLE_DEVICES",
)


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa env`` to the command line."""
    parser = subparsers.add_parser(
        "env", parents=[common], help="versions, processor, plugins: paste it into a bug report"
    )
    add_threads_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the environment; nothing that is missing makes it fail."""
    from mpa_core import __version__

    data = {
        "mpa-core": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": usable_cpus(),
        "threads": _threads(args.choice, args.threads or 1),
        **_installed(),
        "range_coder": _range_coder(),
        "torch": _torch(),
        "bases": _bases(),
        "plugins": _plugins(),
        "caches": _caches(),
        "variables": {
            name: os.environ[name]
            for name in _VARIABLES
            if name in os.environ and name not in args.choice.variables
        },
    }
    emit(args, data, lambda: _as_text(data))
    return 0


def _installed() -> dict[str, Any]:
    """Return the versions of requirements, and those missing for mpa-core and each extra."""
    try:
        found = needs()
    except MPAError as error:
        names = sorted((*_UNTOLD, *_NAMED_NOWHERE))
        packages = {name: version_of(name) for name in names}
        return {"packages": packages, "requirements": {"error": str(error)}}
    everything = {need.name: need.installed for group in found.values() for need in group}
    everything |= {name: version_of(name) for name in _NAMED_NOWHERE}
    needed = {need.name for need in found[DISTRIBUTION]}
    return {
        "packages": {
            name: everything[name]
            for name in sorted(everything, key=str.lower)
            if everything[name] is not None or name in needed
        },
        "requirements": {
            name: {
                "installed": {need.name: need.installed for need in group if need.installed},
                "missing": [need.name + need.bound for need in group if need.installed is None],
                "unfit": {
                    need.name: need.bound for need in group if need.installed and not need.fits
                },
            }
            for name, group in found.items()
        },
    }


def _as_text(data: dict[str, Any]) -> str:
    """Return the data for people, for whom an extra is complete or lacks something."""
    found = data["requirements"]
    said = found if "error" in found else {name: _lacking(group) for name, group in found.items()}
    return facts({**data, "requirements": said})


def _lacking(group: dict[str, Any]) -> str:
    """Describe one entry of ``requirements`` in a line."""
    wrong = [f"{name} is missing" for name in group["missing"]]
    wrong += [
        f"{name} {group['installed'][name]} is not {bound}"
        for name, bound in group["unfit"].items()
    ]
    return ", ".join(wrong) or "complete"


def _range_coder() -> dict[str, str]:
    """Return which loops of the range coder a codec of this process would use."""
    file = compiled_file()
    if file is None:
        return {"loops": "Python, slower", "why": "installed without a C compiler"}
    return {"loops": "compiled", "file": file}


def _threads(choice: Choice, each: int) -> dict[str, Any]:
    """Return the number of threads that a command started now would use, and why."""
    return {
        "of_one_process": choice.threads or choice.said,
        "why": choice.why,
        "waiting": choice.waiting,
        "busy_processors": choice.busy,
        "processes_for_many_files": most_processes(choice, each),
        "free_bytes": free_memory(),
    }


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}
    cuda = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "cuda_devices": [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count() if cuda else 0)
        ],
    }


def _bases() -> dict[str, str]:
    from mpa_core.cli.common import bundled_fingerprints

    try:
        return bundled_fingerprints()
    except MPAError as error:
        return {"error": str(error)}


def _plugins() -> dict[str, str]:
    from mpa_core.plugins.registry import registry

    try:
        found = registry().plugins
    except MPAError as error:
        return {"error": str(error)}
    return {
        plugin.name: f"{plugin.distribution} {plugin.version}: "
        + (plugin.error or ", ".join(_names(plugin)))
        for plugin in found
    }


def _names(plugin: Plugin) -> list[str]:
    return [*(path.name for path in plugin.paths), *(base.name for base in plugin.bases)]


def _caches() -> dict[str, str]:
    """Return where libraries keep downloads; the SDK keeps nothing outside its folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        "huggingface": os.environ.get("HF_HOME") or str(cache / "huggingface"),
        "torch": os.environ.get("TORCH_HOME") or str(cache / "torch"),
    }
