"""The libraries that mpa-core and each of its extras need, and their installed versions.

They are read from the metadata of the installation, so that only ``pyproject.toml`` lists them; the
message for a missing library is made here, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from mpa_core.errors import MissingDependencyError, MPAError

if TYPE_CHECKING:  # imported where needed, since this very library may be missing
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

DISTRIBUTION = "mpa-core"
DISTRIBUTION_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
"""A distribution's name that can be put into a line to install it, whoever gave it."""


@dataclass(frozen=True)
class Need:
    """One library that mpa-core or an extra requires."""

    name: str
    bound: str
    """The versions allowed, such as ``<2,>=1.0``; empty for any."""
    installed: str | None
    """The version that is installed, or None."""
    fits: bool
    """Whether the installed version is allowed."""


def needs() -> dict[str, list[Need]]:
    """Return the requirements on this Python and platform, by the argument of ``pip install``.

    ``"mpa-core"`` has the libraries that are always needed, ``"mpa-core[train]"`` those that the
    extra ``train`` adds, also by way of other extras; sorted by name.

    Raises:
        MPAError: the requirements are unknown, since mpa-core runs without being installed or its
            metadata are damaged.
    """
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise MPAError(
            f"{DISTRIBUTION} runs from its source, without being installed, so nothing says what "
            "it needs; install it, or look into pyproject.toml"
        ) from error
    try:
        from packaging.requirements import Requirement

        extras = sorted(installed.metadata.get_all("Provides-Extra") or [])
        requirements = [Requirement(text) for text in installed.requires or []]
        found = {DISTRIBUTION: _checked(_of(requirements, ""))}
        for extra in extras:
            found[f"{DISTRIBUTION}[{extra}]"] = _checked(_of(requirements, extra))
    except Exception as error:
        raise MPAError(
            f"the metadata of {DISTRIBUTION} cannot be read ({type(error).__name__}: {error}); "
            "reinstall it"
        ) from error
    return found


def sdk_version() -> str:
    """Return the version of this SDK."""
    from mpa_core import __version__

    return str(__version__)


def satisfies(version: str, requires: str | SpecifierSet) -> bool:
    """Return whether ``version`` is in the range; a pre-release counts as its final release."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    specifier = SpecifierSet(requires) if isinstance(requires, str) else requires
    return specifier.contains(Version(version).base_version)


def needs_other_sdk(requires: str | SpecifierSet) -> str | None:
    """Return the text on an SDK that is none of the versions ``requires``; None if this one is.

    It begins with ``"needs mpa-core"`` and ends with the line that installs one.
    """
    if satisfies(sdk_version(), requires):
        return None
    return (
        f"needs {DISTRIBUTION}{requires}, this is {sdk_version()}; run: "
        f'pip install --upgrade "{DISTRIBUTION}{requires}"'
    )


def asked_of_sdk(distribution: str) -> str | None:
    """Return the versions of mpa-core that an installed distribution requires; None if any."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        listed = metadata.requires(distribution) or []
        asked = [Requirement(text) for text in listed]
    except (metadata.PackageNotFoundError, InvalidRequirement, OSError, ValueError):
        return None
    plain = [need for need in asked if need.marker is None or need.marker.evaluate({"extra": ""})]
    found = [str(need.specifier) for need in plain if need.name == DISTRIBUTION and need.specifier]
    return ",".join(found) or None


def missing(
    what: str, library: str, extra: str, error: ImportError, otherwise: str = ""
) -> MissingDependencyError:
    """Return the error to raise where ``library`` cannot be imported.

    Args:
        what: what needs it, with its verb, such as ``"plots need"``.
        library: name of the distribution in ``pyproject.toml``.
        extra: an extra that includes it.
        error: the error from importing it.
        otherwise: another way for the user, such as ``"use --no-plots"``.
    """
    if version_of(library) is None:
        wrong, cure = "is not installed", f'pip install "{DISTRIBUTION}[{extra}]"'
    else:
        wrong = f"is installed and cannot be imported ({error})"
        cure = f"pip install --force-reinstall --no-deps {library}"
    alternative = f", or {otherwise}" if otherwise else ""
    return MissingDependencyError(f"{what} {library}, which {wrong}; run: {cure}{alternative}")


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if it is unknown."""
    try:
        found = metadata.distribution(distribution).metadata
        # Damaged metadata are None in some Pythons; a key they lack is a warning in others.
        return found["Version"] if found is not None and "Version" in found else None
    except (metadata.PackageNotFoundError, KeyError, OSError, TypeError, ValueError):
        return None


def _of(
    requirements: Sequence[Requirement], extra: str, seen: frozenset[str] = frozenset()
) -> Iterator[Requirement]:
    """Yield the requirements that ``extra`` adds (empty: those always needed).

    Extras that it names are followed.
    """
    for requirement in requirements:
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not asked or (always and extra):
            continue
        if requirement.name != DISTRIBUTION:
            yield requirement
            continue
        for other in requirement.extras - seen - {extra}:
            yield from _of(requirements, other, seen | {extra})


def _checked(requirements: Iterable[Requirement]) -> list[Need]:
    """Check each library once, sorted; one that is required twice has to fit both bounds."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    bounds: dict[str, SpecifierSet] = {}
    for requirement in requirements:
        known = bounds.get(requirement.name, SpecifierSet())
        bounds[requirement.name] = known & requirement.specifier
    found = []
    for name, bound in sorted(bounds.items(), key=lambda item: item[0].lower()):
        version = version_of(name)
        try:
            fits = version is not None and bound.contains(version, prereleases=True)
        except InvalidVersion:
            fits = False
        found.append(Need(name, str(bound), version, fits))
    return found
