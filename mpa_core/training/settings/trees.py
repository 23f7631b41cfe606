"""Settings as trees: YAML files, ``key=value`` overrides, and differences between two runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.config import StrictModel
from mpa_core.errors import ConfigError, OutputError
from mpa_core.requirements import missing

if TYPE_CHECKING:
    from ruamel.yaml import YAML


def read_tree(path: Path | None, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read the settings in a YAML file, over those of ``base``; ``base`` alone without a file.

    Raises:
        ConfigError: the file cannot be read or is no mapping.
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
    """Return ``tree`` with one value changed by ``key=value``: the key dotted, the value YAML.

    Raises:
        ConfigError: ``item`` does not have that form.
    """
    key, equals, value = item.partition("=")
    if not equals or not key or not key.isprintable():
        shown = " ".join(item.split())
        raise ConfigError(f"--set {shown}: expected key=value, for example optim.lr=3e-4")
    nested: Any = _load(value, f"--set {item}")
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return merge(tree, nested)


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``low`` with the values of ``high`` in place of its own, mapping by mapping."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def changed_keys(old: StrictModel, new: StrictModel) -> list[str]:
    """Return the dotted keys whose values differ between two configurations."""
    before, after = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    keys = sorted(before.keys() | after.keys())
    return [key for key in keys if before.get(key) != after.get(key)]


def is_below(key: str, parents: Sequence[str]) -> bool:
    """Return whether the dotted ``key`` is one of ``parents`` or below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def save_config(config: StrictModel, path: Path) -> None:
    """Write ``config`` as YAML, with every key.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    _yaml().dump(config.model_dump(mode="json"), text)
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    tree = _load(text, source)
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    return tree


def _load(text: str, source: str) -> Any:
    yaml = _yaml()
    from ruamel.yaml.error import YAMLError

    try:
        return yaml.load(text)
    # Others than its own come from a wrong value after a tag such as !!int, and endless nesting.
    except (YAMLError, ValueError, KeyError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{source}: not valid YAML: {detail}") from error


def _yaml() -> YAML:
    """Make a reader and writer of YAML 1.2 that produces plain values alone.

    In 1.2 ``no`` and ``on`` are text, ``1e-3`` is a number and ``012`` is twelve.
    """
    try:
        from ruamel.yaml import YAML
    except ImportError as error:
        raise missing("settings of training need", "ruamel.yaml", "train", error) from error
    yaml = YAML(typ="safe", pure=True)  # the compiled parser is one of YAML 1.1
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    return yaml
