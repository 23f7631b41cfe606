"""Settings as trees: YAML files, ``key=value`` overrides, what differs between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpa_core.config import StrictModel
from mpa_core.errors import ConfigError, MissingDependencyError, OutputError


def read_tree(path: Path | None, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings in a YAML file, over those of ``base``; ``base`` alone without a file.

    Raises :class:`ConfigError` if the file cannot be read or is no mapping.
    """
    tree: dict[str, Any] = dict(base or {})
    if path is None:
        return tree
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a YAML file: {error}") from error
    return merge(tree, _parse_yaml(text, str(path)))


def override(tree: Mapping[str, Any], item: str) -> dict[str, Any]:
    """``tree`` with one value changed by ``key=value``: the key dotted, the value YAML.

    Raises :class:`ConfigError` if ``item`` is not of that form.
    """
    key, equals, value = item.partition("=")
    if not equals or not key or not key.isprintable():
        shown = " ".join(item.split())
        raise ConfigError(f"--set {shown}: expected key=value, for example optim.lr=3e-4")
    # YAML 1.1 reads "3e-4" (no dot) as text; pydantic turns such text into the number.
    nested: Any = _safe_load(value, f"--set {item}")
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return merge(tree, nested)


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``high`` laid over ``low``, mapping by mapping."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def changed_keys(old: StrictModel, new: StrictModel) -> list[str]:
    """Dotted keys whose values differ between two configurations."""
    before, after = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    keys = sorted(before.keys() | after.keys())
    return [key for key in keys if before.get(key) != after.get(key)]


def is_below(key: str, parents: Sequence[str]) -> bool:
    """Whether the dotted ``key`` is one of ``parents`` or below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def save_config(config: StrictModel, path: Path) -> None:
    """Write ``config`` as YAML, every key spelt out; raises :class:`OutputError`."""
    text = _yaml().safe_dump(config.model_dump(mode="json"), sort_keys=False)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    tree = _safe_load(text, source)
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def _safe_load(text: str, source: str) -> Any:
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{source}: not valid YAML: {detail}") from error


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            "training settings are YAML and PyYAML is not installed; "
            "run: pip install mpa-core[train]"
        ) from error
    return yaml
