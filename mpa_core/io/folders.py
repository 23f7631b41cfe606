"""The files that a folder stands for: one rule for every command that takes folders.

Files are taken by their suffix, at any depth, each once, in an order that depends on names alone.
Links are followed, to files and to folders. These are left out, and counted by reason:

- hidden entries (a name that begins with a dot: ``._b.jpg`` of macOS, ``.thumbnails``) and the
  folders that systems keep for themselves (``@eaDir``, ``__MACOSX``, ...);
- our own output: a folder with the file :data:`MARKER` in it, or the parts of a run that is
  recognised by its layout (:data:`LAYOUTS`);
- links in a circle, links to files that are taken anyway, links to nowhere, devices and pipes.

An entry that the user names is always taken: a hidden file, a hidden folder, a folder of our
output.
"""

# Names stay text here: a million Path objects take their time.
# ruff: noqa: PTH118, PTH122

from __future__ import annotations

import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mpa_core.errors import OutputError
from mpa_core.io.files import write_text

PICTURE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".tif", ".tiff"}
    | {".bmp", ".dib", ".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".qoi"}
    | {".pbm", ".pgm", ".pnm", ".ppm"}
)
"""Suffixes of pictures that a folder stands for: the still colour pictures that Pillow reads."""

PLUGIN_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".jxl"})
"""Further suffixes, taken where a plugin for Pillow that reads them has been imported."""

SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
    | {"system volume information"}
)
"""Names of folders of archives, network storage and file systems, in lower case."""

MARKER = ".mpa-output"
"""Name of the file in a folder made for output: its contents are no input unless it is named."""

LAYOUTS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "eval": (frozenset({"results.json", "files"}), frozenset({"files", "plots"})),
    "train": (
        frozenset({"config.yaml", "checkpoints"}),
        frozenset({"checkpoints", "samples", "latents"}),
    ),
}
"""By kind of run: entries by which a run without a marker is recognised, and its folders that hold
output."""

_MARKER_TEXT = """\
mpa wrote what is in this folder. As long as this file is here, a folder above it does not stand
for the pictures in it; name this folder itself to use them, or delete this file.
"""


def picture_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the pictures that a folder stands for now."""
    from PIL import Image

    return PICTURE_SUFFIXES | {
        suffix for suffix in PLUGIN_SUFFIXES if Image.EXTENSION.get(suffix) in Image.OPEN
    }


@dataclass
class FolderFiles:
    """The files that a folder stands for, and the entries left out.

    Attributes:
        folder: the folder as it was given.
        names: names of the files, relative to it; folder by folder, each sorted, with the files
            behind links to folders at the end.
        left_out: number of entries left out, by reason. A folder counts as one.
        unreadable: folders that could not be listed, each with the error.
        broken_links: links that lead nowhere and have none of the suffixes. One with such a suffix
            is among ``names``: opening it gives the error.
        outputs: the folders of our own output that were left out.
    """

    folder: str
    names: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, OSError]] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def paths(self) -> list[Path]:
        """Return the files, sorted by the names of their folders, then by their own."""
        places = sorted(map(Path, self.names), key=lambda place: [*map(order, place.parts)])
        return [Path(self.folder, place) for place in places]

    def remarks(self) -> Iterator[str]:
        """Yield one line for each remark on the entries left out."""
        if self.left_out:
            yield f"left out of the folder {self.folder}: {counted(self.left_out)}"
        for folder, error in self.unreadable:
            yield cannot_list(folder, error)
        yield from remarks_on(self.broken_links, self.outputs)


def order(name: str) -> tuple[str, str]:
    """Return a sorting key that does not depend on how a system composes accented letters."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name), name)


def counted(left_out: Counter[str]) -> str:
    """Return a text such as ``2 hidden files, 1 links in a circle``, or ``nothing``."""
    return ", ".join(f"{count} {why}" for why, count in left_out.items()) or "nothing"


def cannot_list(folder: str, error: OSError) -> str:
    """Return the message on a folder that may not be read."""
    return f"cannot list the folder {folder}: {error.strerror}; check its permissions"


def remarks_on(broken_links: Collection[str], outputs: Collection[str]) -> Iterator[str]:
    """Yield a line for each link that leads nowhere and each folder of our own output."""
    for link in broken_links:
        yield f"{link} is a link to nothing"
    for folder in outputs:
        yield f"left out {folder}: mpa wrote it; name it to take what is in it"


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name (its last part alone) is hidden."""
    return name.startswith(".")


def find_files(folder: str | os.PathLike[str], suffixes: Collection[str]) -> FolderFiles:
    """Find the files that ``folder`` stands for, by the rules at the top of this module.

    Folders that cannot be read raise no error: they are in ``unreadable``.

    Args:
        folder: searched whatever its own name, even if it holds a marker.
        suffixes: suffixes of the files to take, in lower case.
    """
    return _Walk(os.fspath(folder), suffixes).run()


class _Walk:
    """One search of a folder; links are followed last, after all entries that are no links."""

    def __init__(self, folder: str, suffixes: Collection[str]) -> None:
        self.found = FolderFiles(folder)
        self.suffixes = suffixes
        self.visited: set[tuple[int, int]] = set()
        self.folder_links: list[str] = []
        self.file_links: list[str] = []
        self._real = functools.lru_cache(maxsize=4096)(os.path.realpath)
        self._in_output = functools.lru_cache(maxsize=4096)(self._lies_in_output)

    def run(self) -> FolderFiles:
        self._tree("")
        above = _folders_above(self.found.folder)
        while self.folder_links:  # a folder behind a link may hold more links
            links, self.folder_links = self.folder_links, []
            for link in links:
                status = Path(self.found.folder, link).stat()
                key = (status.st_dev, status.st_ino)
                if key in above or self._is_above_itself(link, key):
                    self.found.left_out["links in a circle"] += 1
                elif key in self.visited:
                    self.found.left_out["links to what is there already"] += 1
                elif self._in_output(self._real(os.path.join(self.found.folder, link))):
                    self.found.left_out["folders of mpa's output"] += 1
                    self.found.outputs.append(os.path.join(self.found.folder, link))
                else:
                    self._tree(link)
        self._take_links()
        return self.found

    def _tree(self, top: str) -> None:
        pending = [top]
        while pending:
            place = pending.pop()
            folder = os.path.join(self.found.folder, place)
            try:
                status = os.stat(folder)  # noqa: PTH116
                key = (status.st_dev, status.st_ino)
                if key in self.visited:  # the same folder, mounted twice
                    self.found.left_out["links to what is there already"] += 1
                    continue
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: order(entry.name))
            except OSError as error:
                self.found.unreadable.append((folder, error))
                continue
            self.visited.add(key)
            pending += reversed(self._entries(place, listed))

    def _entries(self, place: str, listed: list[os.DirEntry[str]]) -> list[str]:
        """Take the files of one folder, and return the folders to search next."""
        left_out = self.found.left_out
        present = {entry.name for entry in listed}
        if place and MARKER in present:
            left_out["folders of mpa's output"] += 1
            self.found.outputs.append(os.path.join(self.found.folder, place))
            return []
        parts = [parts for marks, parts in LAYOUTS.values() if marks <= present]
        has_plots = bool(place) and LAYOUTS["eval"][0] <= present
        below: list[str] = []
        for entry in listed:
            name = os.path.join(place, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_hidden(entry.name):
                if entry.name != MARKER:
                    left_out["hidden folders" if is_folder else "hidden files"] += 1
            elif is_folder and entry.name.lower() in SYSTEM_FOLDERS:
                left_out["system folders"] += 1
            elif is_folder and any(entry.name in names for names in parts):
                left_out["folders of mpa's output"] += 1
                self.found.outputs.append(os.path.join(self.found.folder, name))
            elif is_folder:
                below.append(name)
            elif entry.is_symlink():
                self._link(entry, name)
            elif not self._is_ours(name):
                left_out["other suffixes"] += 1
            elif has_plots:
                left_out["files of mpa's output"] += 1
            elif entry.is_file():
                self.found.names.append(name)
            else:
                left_out["devices and pipes"] += 1
        return below

    def _is_ours(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in self.suffixes

    def _link(self, entry: os.DirEntry[str], name: str) -> None:
        left_out = self.found.left_out
        try:
            is_folder = entry.is_dir()
            is_file = entry.is_file()
        except OSError:  # a link to itself, or through a folder that may not be read
            is_folder = is_file = False
        leads_nowhere = not (is_folder or is_file or _exists(entry.path))
        if is_folder and entry.name.lower() in SYSTEM_FOLDERS:
            left_out["system folders"] += 1
        elif is_folder:
            self.folder_links.append(name)
        elif self._is_ours(name) and (is_file or leads_nowhere):
            self.file_links.append(name)
        elif leads_nowhere:
            left_out["broken links"] += 1
            self.found.broken_links.append(entry.path)
        else:
            left_out["other suffixes" if is_file else "devices and pipes"] += 1

    def _is_above_itself(self, link: str, key: tuple[int, int]) -> bool:
        """Return whether the folder that ``link`` leads to is one that ``link`` lies in."""
        folder = os.path.join(self.found.folder, os.path.dirname(link))  # noqa: PTH120
        return key in _folders_above(folder)

    def _take_links(self) -> None:
        """Take links to files, except to files that are taken under another name."""
        if not self.file_links:
            return
        root, left_out = self.found.folder, self.found.left_out
        real = set()
        for name in self.found.names:  # none of these is a link itself
            place, last = os.path.split(name)
            real.add(os.path.join(self._real(os.path.join(root, place)), last))
        for name in self.file_links:
            target = os.path.realpath(os.path.join(root, name))
            if target in real:
                left_out["links to what is there already"] += 1
            elif self._in_output(os.path.dirname(target)):  # noqa: PTH120
                left_out["files of mpa's output"] += 1
            else:
                real.add(target)
                self.found.names.append(name)

    def _lies_in_output(self, real: str) -> bool:
        """Return whether a folder lies in our output, and the searched folder does not."""
        root = Path(self._real(self.found.folder))
        return any(
            (above / MARKER).exists() and not root.is_relative_to(above)
            for above in (Path(real), *Path(real).parents)
        )


def _folders_above(folder: str) -> set[tuple[int, int]]:
    """Return device and inode number of ``folder`` and of every folder that it lies in."""
    real = Path(os.path.realpath(folder))
    found = set()
    for above in (real, *real.parents):
        try:
            status = above.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)  # noqa: PTH110
    except OSError:
        return False


def claim_output(folder: Path, inputs: Collection[Path], option: str = "--out") -> None:
    """Make ``folder`` for a run's output, and mark it so that it is never taken as its input.

    An existing folder with pictures, or one that holds an input, is used but not marked: its
    contents belong to the user. It is refused only where it lies below an input, since its pictures
    could then not be told from those that the run writes.

    Args:
        folder: folder for the output.
        inputs: folders that the run reads.
        option: the option that named ``folder``, for messages.

    Raises:
        OutputError: the folder cannot be made or written, is an input itself, or lies below one and
            holds pictures that are not ours.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder}: {error.strerror}; choose another with {option}"
        ) from error
    real = Path(os.path.realpath(folder))
    sources = [Path(os.path.realpath(source)) for source in inputs]
    if real in sources:
        raise OutputError(
            f"{folder} is the folder of the input pictures, which could not be told from what is "
            f"written there; choose another with {option}"
        )
    if MARKER in present or any(source.is_relative_to(real) for source in sources):
        return
    if not any(marks <= present for marks, _ in LAYOUTS.values()):
        suffixes = picture_suffixes()
        taken = [name for name in present if os.path.splitext(name)[1].lower() in suffixes]
        if taken and any(real.is_relative_to(source) for source in sources):
            raise OutputError(
                f"{folder} lies in the input folder and holds pictures ({min(taken)}), which could "
                f"not be told from what is written there; choose a new folder with {option}"
            )
        if taken:
            return
    write_text(folder / MARKER, _MARKER_TEXT)
