"""A new plugin as a whole distribution that installs, trains and passes its tests as it is.

The templates are in the folder ``templates`` beside this file. Nothing here imports torch.
"""

from __future__ import annotations

from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from string import Template

from packaging.version import Version

from mpa_core.arguments import as_path, as_text
from mpa_core.checkpoints.write import write_folder
from mpa_core.errors import ConfigError, OutputError
from mpa_core.plugins.hookspecs import PathSpec
from mpa_core.plugins.registry import registry
from mpa_core.requirements import DISTRIBUTION, sdk_version

PREFIX = "mpa-plugin-"
"""Names of the distributions begin so."""

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "CARD.md": "CARD.md",
    "LICENSE": "LICENSE",
    ".gitignore": "gitignore",
    ".github/workflows/ci.yml": "ci.yml",
    "{module}/__init__.py": "__init__.py",
    "{module}/path.py": "path.py",
    "{module}/recipe.py": "recipe.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/test_{name}.py": "test_task.py",
}
"""File of the distribution -> its template, without ``.in``."""


def new_plugin(
    name: str,
    folder: str | Path | None = None,
    *,
    summary: str | None = None,
    author: str | None = None,
) -> Path:
    """Write a distribution with a task path called ``name``, whole or not at all.

    Args:
        name: name of the path, a lowercase identifier such as ``"det"``.
        folder: folder to make; None is ``mpa-plugin-NAME`` in the current folder.
        summary: one line of text on what the path is for.
        author: name for the licence.

    Returns:
        The folder.

    Raises:
        ConfigError: ``name`` cannot name a path or is the SDK's own, or ``summary`` or ``author``
            is not one line of text.
        OutputError: the folder exists, or cannot be written.
    """
    name = as_text(name, "name")
    summary = f"Decodes for {name}." if summary is None else _line(summary, "summary")
    spec = PathSpec(name=name, path="path:Path", summary=summary)  # which checks the name
    if any(path.name == name and path.distribution == DISTRIBUTION for path in registry().paths()):
        raise ConfigError(f"{name!r} is a path of {DISTRIBUTION} itself; choose another name")
    distribution = PREFIX + spec.name.replace("_", "-")
    target = as_path(distribution if folder is None else folder, "folder", OutputError)
    if target.exists():
        raise OutputError(f"{target} exists and was left as it is; choose another folder")
    module = distribution.replace("-", "_")
    values = {
        "name": spec.name,
        "distribution": distribution,
        "module": module,
        "class_name": spec.name.title().replace("_", ""),
        "summary": spec.summary,
        "author": f"The {distribution} authors" if author is None else _line(author, "author"),
        "year": str(datetime.now(timezone.utc).year),
        "bound": _bound(),
    }
    templates = resources.files("mpa_core.plugins") / "templates"
    files = {
        file.format(module=module, name=spec.name): Template(
            (templates / f"{template}.in").read_text(encoding="utf-8")
        )
        .substitute(values)
        .encode()
        for file, template in _FILES.items()
    }
    write_folder(target, {**files, f"{module}/py.typed": b""})
    return target


def _bound() -> str:
    """Return the versions of the SDK that a plugin of today is for: until the next minor one."""
    major, minor, *_ = Version(sdk_version()).release
    return f">={major}.{minor},<{major}.{minor + 1}"


def _line(value: str, what: str) -> str:
    """Return one line of text that can stand between quotation marks in every template."""
    text = as_text(value, what).strip()
    if not text or any(sign in text for sign in '"\\') or not text.isprintable():
        raise ConfigError(
            f"{what} is {value!r}, expected one line of text without quotation marks and "
            "backslashes; write for example 'For object detectors.'"
        )
    return text
