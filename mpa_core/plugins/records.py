"""What discovery keeps of each plugin: what it offers and where it came from, or why it failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpa_core.arguments import did_you_mean
from mpa_core.errors import PluginError
from mpa_core.plugins.entries import normalize
from mpa_core.plugins.hookspecs import BaseSpec, PathSpec


@dataclass(frozen=True)
class RegisteredPath:
    """A task path and the distribution that brought it."""

    spec: PathSpec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The path's own name, such as ``det``; two distributions may claim the same."""
        return self.spec.name

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which no other distribution can claim."""
        return f"{self.distribution}:{self.spec.name}"

    @property
    def recipe_name(self) -> str:
        """What messages call its recipe: of which path, and from where."""
        return f"recipe of {self.name!r} ({self.distribution} {self.version})"

    def require_sdk(self) -> None:
        """Raise :class:`PluginError` if the plugin says that it needs another SDK than this."""
        if problem := self.spec.unmet:
            raise PluginError(
                f"task path {self.name!r} of {self.distribution} {self.version} {problem}"
            )


@dataclass(frozen=True)
class RegisteredBase:
    """A type of base codec and the distribution that brought it."""

    spec: BaseSpec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The type's own name; two distributions may claim the same."""
        return self.spec.name

    @property
    def type(self) -> str:
        """What its architectures state as their type, ``distribution:name``."""
        return f"{self.distribution}:{self.spec.name}"


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
    """Why the plugin did not load, in one line; None if it did."""
    imports_torch: bool = False
    """Whether importing the top module brought in torch, which the contract forbids."""

    def is_called(self, name: str) -> bool:
        """Whether that is the name of its entry point, or of its distribution as installers
        compare."""
        return name == self.name or normalize(name) == normalize(self.distribution)


def unknown_plugin(found: str, name: str, installed: Iterable[Plugin]) -> str:
    """Text of an error: ``found`` is what was looked for, ``name`` what it was called."""
    installed = tuple(installed)
    known = sorted({plugin.name for plugin in installed})
    hint = did_you_mean(
        name, [each for plugin in installed for each in (plugin.name, plugin.distribution)]
    )
    return f"{found}; installed: {', '.join(known) or 'none'}{hint}"
