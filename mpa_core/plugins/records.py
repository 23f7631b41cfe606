"""Records of installed plugins: what each offers and its distribution, or why it did not load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from mpa_core.arguments import did_you_mean
from mpa_core.errors import PluginError
from mpa_core.plugins.entries import normalize
from mpa_core.plugins.hookspecs import BaseSpec, PathSpec

SpecT = TypeVar("SpecT", PathSpec, BaseSpec)


@dataclass(frozen=True)
class _Registered(Generic[SpecT]):
    """Something that a plugin offers and the distribution that offers it."""

    spec: SpecT
    distribution: str
    version: str

    kind: ClassVar[str]
    """What it is, for messages."""

    @property
    def name(self) -> str:
        """Its own name, such as ``det``; two distributions may claim the same."""
        return self.spec.name

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which no other distribution can claim."""
        return f"{self.distribution}:{self.spec.name}"

    def require_sdk(self) -> None:
        """Check that this SDK is one that the plugin works with.

        Raises:
            PluginError: it needs another; the message says how to install that.
        """
        if problem := self.spec.unmet:
            raise PluginError(
                f"{self.kind} {self.name!r} of {self.distribution} {self.version} {problem}"
            )


@dataclass(frozen=True)
class RegisteredPath(_Registered[PathSpec]):
    """A task path and the distribution that offers it."""

    kind = "task path"

    @property
    def recipe_name(self) -> str:
        """Name of its recipe in messages, with path and distribution."""
        return f"recipe of {self.name!r} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class RegisteredBase(_Registered[BaseSpec]):
    """A type of base codec and the distribution that offers it."""

    kind = "base type"

    @property
    def type(self) -> str:
        """The type that its architectures state, ``distribution:name``."""
        return self.qualified_name


@dataclass(frozen=True)
class Plugin:
    """One entry point as discovery found it."""

    name: str
    """Name of the entry point."""
    module: str
    distribution: str
    version: str
    paths: tuple[RegisteredPath, ...] = ()
    bases: tuple[RegisteredBase, ...] = ()
    error: str | None = None
    """Reason why the plugin did not load, in one line; None if it did."""
    imports_torch: bool = False
    """Whether importing the top module imported torch, which the contract forbids."""

    def is_called(self, name: str) -> bool:
        """Return whether its entry point or its distribution has this name.

        ``distribution:name`` is that distribution's entry point, path or base.
        """
        distribution, colon, own = name.rpartition(":")
        if colon:
            offered = {self.name, *(path.name for path in self.paths)}
            offered |= {base.name for base in self.bases}
            return own in offered and normalize(distribution) == normalize(self.distribution)
        return name == self.name or normalize(name) == normalize(self.distribution)


def unknown_plugin(found: str, name: str, installed: Iterable[Plugin]) -> str:
    """Return the message ``found`` with the installed plugins and the one most like ``name``."""
    installed = tuple(installed)
    known = sorted({plugin.name for plugin in installed})
    hint = did_you_mean(
        name, [each for plugin in installed for each in (plugin.name, plugin.distribution)]
    )
    return (
        f"{found}; installed: {', '.join(known) or 'none'}{hint}; write one of these, or its "
        "distribution, or install it"
    )
