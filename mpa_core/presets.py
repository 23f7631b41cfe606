"""Named architectures of base codecs, of all types."""

from __future__ import annotations

from mpa_core.arguments import shown
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.config import BaseConfig
from mpa_core.errors import ConfigError
from mpa_core.plugins.bases import known_bases, load_config_class


def preset_names() -> tuple[str, ...]:
    """Return the names of all presets, those of TinyLIC first."""
    return tuple(name for base in known_bases() for name in base.spec.presets)


def preset(name: str) -> BaseConfig:
    """Return the architecture called ``name``.

    Raises:
        ConfigError: there is no such preset, or more than one type of base has it.
        PluginError: its plugin does not load.
    """
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    found = [base for base in known_bases() if isinstance(name, str) and name in base.spec.presets]
    if not found:
        raise ConfigError(
            f"there is no preset {shown(name)}; choose one of {', '.join(preset_names())}"
        )
    if len(found) > 1:
        types = " and ".join(base.type for base in found)
        raise ConfigError(f"preset {name!r} is of {types}; uninstall all but one")
    return load_config_class(found[0].type).parse(
        found[0].spec.presets[name], source=f"preset {name!r}"
    )
