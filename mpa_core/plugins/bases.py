"""Look-up of the classes that belong to an architecture's type; imports no torch by itself.

TinyLIC is one of the types, in the same kind of record as those that plugins offer. It needs no
discovery, so that a base of the SDK's own loads whatever is installed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from mpa_core.arguments import as_text, did_you_mean, shown
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.config import TINYLIC, BaseConfig
from mpa_core.errors import ConfigError, PluginError
from mpa_core.plugins.entries import normalize
from mpa_core.plugins.hookspecs import BaseSpec
from mpa_core.plugins.registry import RegisteredBase, load_target, registry
from mpa_core.requirements import DISTRIBUTION, DISTRIBUTION_NAME, sdk_version
from mpa_core.runtime.foreign import foreign_code

if TYPE_CHECKING:
    from mpa_core.base.api import Base


class _OwnBase(RegisteredBase):
    """TinyLIC, whose type has no distribution in front."""

    @property
    def type(self) -> str:
        return self.spec.name


@cache
def _tinylic() -> RegisteredBase:
    spec = BaseSpec(
        name=TINYLIC,
        base="mpa_core.base.tinylic.codec:TinyLIC",
        config="mpa_core.base.tinylic.config:TinyLICConfig",
        summary="The base codec of the paper: neighborhood attention, variable rate.",
        presets={name: config.model_dump() for name, config in PRESETS.items()},
    )
    return _OwnBase(spec, DISTRIBUTION, sdk_version())


def known_bases() -> tuple[RegisteredBase, ...]:
    """Return every known type of base: TinyLIC, then those of the plugins that loaded."""
    return (_tinylic(), *registry().bases())


def find_base(type_: str) -> RegisteredBase:
    """Return the type of base that an architecture states.

    Args:
        type_: ``"tinylic"``, or ``"distribution:name"``. A name without a distribution will do
            where only one plugin claims it.

    Raises:
        PluginError: no installed plugin offers it, or more than one does.
    """
    if type_ == TINYLIC:
        return _tinylic()
    distribution, _, name = as_text(type_, "the type of a base", ConfigError).rpartition(":")
    found = [
        base
        for base in registry().bases()
        if base.name == name
        and (not distribution or normalize(base.distribution) == normalize(distribution))
    ]
    if len(found) == 1:
        found[0].require_sdk()
        return found[0]
    if found:
        types = " or ".join(repr(base.type) for base in found)
        raise PluginError(f"base type {type_!r} is claimed by more than one plugin; say {types}")
    known = [base.type for base in known_bases()]
    if distribution and not re.fullmatch(DISTRIBUTION_NAME, distribution):
        raise PluginError(
            f"base type {shown(type_)} is of no plugin that is installed (known: "
            f"{', '.join(known)}), and no distribution can be called so; write distribution:name"
        )
    source = f"run: pip install --upgrade {distribution or DISTRIBUTION}"
    if not distribution:  # one of the SDK's own, of a newer version, or carelessly abbreviated
        source += ", or install the plugin that has it"
    raise PluginError(
        f"base type {type_!r} is of no plugin that is installed (known: {', '.join(known)}); "
        f"{source}{did_you_mean(type_, known)}{registry().broken_plugins()}"
    )


def load_config_class(type_: str) -> type[BaseConfig]:
    """Import the config class of a type of base, and check it against the contract.

    Raises:
        PluginError: as :func:`find_base`, or the import fails or yields anything but a
            :class:`BaseConfig` subclass of that type.
    """
    found = find_base(type_)
    where = f"base type {found.type!r}: {found.spec.config!r}"
    loaded = load_target(found.spec.config, where)
    if not (isinstance(loaded, type) and issubclass(loaded, BaseConfig)):
        raise PluginError(
            f"{where} is {shown(loaded)}, expected a subclass of mpa_core.config.BaseConfig"
        )
    own_type = getattr(loaded, "type", None)
    if own_type != found.type:
        raise PluginError(
            f"{where} has type = {own_type!r}, expected {found.type!r}, the distribution and the "
            "name in its BaseSpec; make the two equal"
        )
    return loaded


def load_base_class(type_: str) -> type[Base]:
    """Import the class of a type of base, and check it against the contract; imports torch.

    Raises:
        PluginError: as :func:`find_base`, or the import fails or yields anything but a
            :class:`mpa_core.base.api.Base` subclass.
    """
    from mpa_core.base.api import Base

    found = find_base(type_)
    where = f"base type {found.type!r}: {found.spec.base!r}"
    loaded = load_target(found.spec.base, where)
    if not (isinstance(loaded, type) and issubclass(loaded, Base)):
        raise PluginError(
            f"{where} is {shown(loaded)}, expected a subclass of mpa_core.base.api.Base"
        )
    return loaded


def build_base(config: BaseConfig) -> Base:
    """Build a base of this architecture, with random weights from torch's generator.

    Raises:
        PluginError: its type is not installed, or its class cannot be built.
    """
    base_class = load_base_class(config.type)
    with foreign_code(f"a base of type {config.type!r} cannot be built"):
        return base_class(config)


def architecture(value: Any) -> Any:
    """Build an architecture from its fields and its type, as they stand in JSON and settings.

    A value that is no mapping is returned unchanged.

    Raises:
        PluginError: its type is not installed.
        pydantic.ValidationError: fields that the type does not have, or values it refuses.
    """
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    type_ = fields.pop("type", TINYLIC)
    if not isinstance(type_, str):
        raise ValueError(f"type is {shown(type_)}, expected the name of a type of base")
    config_class = load_config_class(type_)
    with foreign_code(f"an architecture of base type {type_!r} cannot be read"):
        try:
            return config_class.model_validate(fields)
        except ValidationError as error:
            problem = error
    raise problem


Architecture = Annotated[BaseConfig, BeforeValidator(architecture), SerializeAsAny()]
"""Field of a pydantic model that holds the architecture of a base of any type."""
