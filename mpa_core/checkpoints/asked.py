"""The paths that a command is told to load, and the plain names that its options mean them by.

``distribution:name`` tells two distributions apart that claim one name. A loaded path is always
called by a plain name, an identifier, since ``:``, ``=`` and ``,`` mean something in mixes, sweeps
and lists, and since the name becomes an argument of ``Mix`` and a key in JSON and tables. Here is
the one rule for which name that is. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpa_core.arguments import as_sequence, as_text
from mpa_core.checkpoints.meta import read_path_meta
from mpa_core.checkpoints.sources import source_of
from mpa_core.errors import ConfigError, MPAError, PathNotFoundError
from mpa_core.mix import Mix
from mpa_core.plugins.registry import registry


def split_named(text: str) -> tuple[str | None, str]:
    """Split ``NAME=SOURCE``, or a source without a name, for which the name is None."""
    name, equals, source = text.partition("=")
    # A folder may have an equals sign in its name, too: "runs/lr=3".
    return (name, source) if equals and name.isidentifier() else (None, text)


class AskedPaths:
    """The paths to load, each given as ``SOURCE`` or ``NAME=SOURCE``, and what they are called.

    A path is called by the name given before the equals sign, else by its own. Elsewhere
    ``distribution:name`` means whichever of them is that installed path, whatever it is called.

    Args:
        sources: what ``codec.load_paths`` takes: installed names, folders or repositories.
        also: names of paths that are used. Those with a distribution that no source gives are
            loaded, too, by their own name.

    Raises:
        ConfigError: two paths would be called the same.
        PathNotFoundError: a name of ``also`` with a distribution is not installed.
    """

    def __init__(self, sources: Sequence[str], also: Iterable[str] = ()) -> None:
        self._asked = [
            _Asked(as_text(source, "a source"))
            for source in as_sequence(sources, "sources", "SOURCE or NAME=SOURCE", ConfigError)
        ]
        for name in also:
            if ":" in name and self._find(name) is None:
                self._asked.append(_Asked(name))
        called: dict[str, str] = {}
        for asked in self._asked:
            if asked.name in called:
                raise ConfigError(
                    f"{called[asked.name]} and {asked.text} would both be called {asked.name!r}; "
                    f"load one of them under another name, OTHER={asked.source}, and write OTHER"
                )
            if asked.name is not None:
                called[asked.name] = asked.text
        self._called = called

    @property
    def sources(self) -> list[str]:
        """What to give to ``codec.load_paths``."""
        return [asked.text for asked in self._asked]

    def name(self, name: str) -> str:
        """Return the plain name of a path that is loaded: ``name``, if it has no distribution.

        Raises:
            PathNotFoundError: ``name`` is not installed, or not among the paths to load.
        """
        if ":" not in name:
            return name
        found = self._find(name)
        if found is None:
            known = ", ".join(self.sources) or "none"
            raise PathNotFoundError(
                f"path {name!r} is used and not loaded (loaded: {known}); add it to --paths"
            )
        return found

    def names(self, names: Iterable[str]) -> dict[str, str]:
        """Return the plain name of each of ``names``, by the name as it was given.

        Raises:
            ConfigError: two of them mean one path.
            PathNotFoundError: as :meth:`name`.
        """
        plain = {name: self.name(name) for name in names}
        for called in plain.values():
            same = [name for name in plain if plain[name] == called]
            if len(same) > 1:
                raise ConfigError(
                    f"{' and '.join(same)} mean one path, called {called!r}; name it once"
                )
        return plain

    def mix(self, mix: Mix) -> Mix:
        """Return ``mix`` by plain names.

        Raises:
            ConfigError, PathNotFoundError: as :meth:`names`.
        """
        names = self.names(mix.path_names)
        shares: dict[str, Any] = {names[name]: share for name, share in mix.shares.items()}
        regions = {names.get(name, name): mask for name, mask in mix.regions.items()}
        return Mix(regions=regions, **shares)

    def task(self, task: str) -> str:
        """Return the path whose recipe judges, as ``NAME=SOURCE``; it need not be loaded.

        Raises:
            ConfigError, PathNotFoundError: as :meth:`task_name`.
        """
        named, source = split_named(task)
        if named is None and ":" not in task:
            loaded = (asked.installed for asked in self._asked if asked.name == task)
            source = next(loaded, None) or task
        return f"{self.task_name(task) if named is None else named}={source}"

    def task_name(self, task: str) -> str:
        """Return the plain name of a task: that of its path, if that is loaded.

        Raises:
            ConfigError: another path that is loaded has that name.
            PathNotFoundError: ``distribution:name`` is not installed.
        """
        if ":" not in task:
            return task
        found = self._find(task)
        if found is None:
            found = registry().get(task).name
            if found in self._called:
                raise ConfigError(
                    f"task {task} would be called {found!r}, as {self._called[found]} is; give "
                    f"it another name: OTHER={task}"
                )
        return found

    def _find(self, name: str) -> str | None:
        """Return what the installed path ``name`` is called; None if it is not asked for."""
        wanted = registry().get(name)
        for asked in self._asked:
            with suppress(PathNotFoundError):  # reported when it is loaded
                if asked.installed is not None and registry().get(asked.installed) == wanted:
                    return asked.name
        return None


class _Asked:
    """One path as it was asked for."""

    def __init__(self, text: str) -> None:
        named, self.source = split_named(text)
        self.text = text
        source = source_of(self.source)
        self.installed = self.source if source.kind == "name" else None
        """The name of an installed path; None for a folder or a repository."""
        self.name = named
        """What it is called; None if only the repository says."""
        if named is None and source.kind == "name":
            self.name = self.source.rpartition(":")[2]
        elif named is None and source.kind == "folder":
            with suppress(MPAError):  # reported when it is loaded
                self.name = read_path_meta(Path(self.source)).path_type
