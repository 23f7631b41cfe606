"""The list of jobs: every input and the name of its output, made before any work is done.

The list may have millions of inputs, so it keeps their names and nothing else; the jobs are made
each time it is iterated.
"""

# Names stay text here: a million Path objects take their time.
# ruff: noqa: PTH100, PTH110, PTH112, PTH114, PTH118, PTH119, PTH122

from __future__ import annotations

import argparse
import functools
import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mpa_core.cli.common import STREAM, Job, UsageError
from mpa_core.errors import OutputError
from mpa_core.io.folders import counted, find_files, remarks_on
from mpa_core.runtime.streams import stdin


@dataclass(frozen=True)
class Group:
    """Inputs whose outputs are named in the same way."""

    names: list[str]
    folder: str = ""
    """Folder that the names are relative to; empty for the current folder."""
    root: str | None = None
    """Folder whose sub-folders are kept, absolute and ending in a separator; None keeps none."""

    def source(self, name: str) -> str:
        """Return the path of the file to open."""
        return os.path.join(self.folder, name)

    def place(self, name: str) -> str:
        """Return the input's name below the output folder, with its suffix.

        Raises:
            UsageError: it is not below ``root``.
        """
        if self.root is None:
            # A folder's names are relative to it already.
            return name if self.folder else os.path.basename(name)
        path = os.path.abspath(self.source(name))
        if not path.startswith(self.root):
            raise UsageError(
                f"{self.source(name)} is not below {self.root}, so its place in the output folder "
                "is not clear; name a folder above all inputs with --root"
            )
        return path[len(self.root) :]


@dataclass
class JobList:
    """All jobs, in a fixed order each time it is iterated.

    Attributes:
        output: the value of ``-o``; the folder of all outputs if ``to_folder``.
        suffix: suffix of the outputs in a folder.
        keep_suffix: whether it follows the input's own suffix or replaces it.
        to_folder: whether the outputs go into a folder.
        groups: the inputs.
        left_out: number of files and folders in input folders that are not taken, by reason.
        unreadable: folders that could not be listed, each with the error.
        remarks: further remarks on input folders, a line each.
    """

    output: str
    suffix: str
    keep_suffix: bool
    to_folder: bool
    groups: list[Group]
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, OSError]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(group.names) for group in self.groups)

    def __iter__(self) -> Iterator[Job]:
        for group in self.groups:
            for name in group.names:
                source = group.source(name)
                yield Job(source, self._target(group, name) if self.to_folder else self.output)

    @property
    def to_stdout(self) -> bool:
        """Whether the one result goes to stdout."""
        return self.output == STREAM

    def _target(self, group: Group, name: str) -> str:
        place = group.place(name)
        if not self.keep_suffix:
            place = os.path.splitext(place)[0]
        return os.path.join(self.output, place + self.suffix)


def make_job_list(args: argparse.Namespace, suffix: str, in_folder: Collection[str]) -> JobList:
    """Name every output before any work is done, and make the output folder if one is meant.

    Args:
        args: arguments of :func:`mpa_core.cli.common.add_job_arguments`, and ``format``.
        suffix: suffix of the files in an output folder, such as ``.mpa``; the stem is the input's.
        in_folder: suffixes, in lower case, of the files to take from folders.

    Raises:
        UsageError: there is no input, two of them would become one file, an output is also an
            input, an input is not below ``--root``, or stdin or stdout is used where it cannot be.
        OutputError: the folder cannot be made.
    """
    _check_streams(args)
    out: str = args.output
    folders = {name for name in args.inputs if name != STREAM and os.path.isdir(name)}
    several = len(args.inputs) > 1 or bool(folders) or (args.from_file, args.root) != (None, None)
    to_folder = several or out.endswith(("/", os.sep)) or os.path.isdir(out)
    to_folder = to_folder and out != STREAM
    if to_folder and STREAM in args.inputs:
        raise UsageError("what comes from stdin has no name; give a file with -o")
    root = _folder_prefix(args.root) if args.root is not None else None
    job_list = JobList(
        output=str(Path(out)) if to_folder else out,
        suffix=suffix,
        keep_suffix=args.keep_suffix,
        to_folder=to_folder,
        groups=[],
    )
    for is_folder, names in itertools.groupby(args.inputs, folders.__contains__):
        if is_folder:
            job_list.groups += [
                Group(_walk(name, in_folder, job_list), name, root) for name in names
            ]
        else:
            job_list.groups.append(Group(list(names), root=root))
    if args.from_file is not None:
        here = _folder_prefix(".") if root is None else root
        job_list.groups.append(Group(_read_list(args.from_file), root=here))
    if not len(job_list) and not job_list.unreadable:
        raise UsageError(_nothing_found(args, in_folder, job_list.left_out))
    _check_names(job_list)
    if to_folder:
        make_folder(job_list.output)
    return job_list


def make_folder(folder: str) -> None:
    """Make a folder and those above it, unless they exist.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        failure = OutputError(
            f"cannot make the folder {folder}: {error.strerror}; choose another with -o"
        )
        failure.errno = error.errno
        raise failure from error


def _check_streams(args: argparse.Namespace) -> None:
    if not args.inputs and args.from_file is None:
        raise UsageError("no input is named; give files or folders, or a list with --from-file")
    if STREAM in args.inputs and args.from_file == STREAM:
        raise UsageError("stdin cannot be both an input and the list of --from-file")
    streams = STREAM in args.inputs or args.output == STREAM
    if args.jobs is not None and streams:
        raise UsageError("--jobs is for files; leave it out where - is an input or the output")
    if args.output == STREAM:
        if len(args.inputs) != 1 or args.from_file is not None:
            raise UsageError("several inputs cannot all go to stdout; give a folder with -o")
        if args.inputs != [STREAM] and os.path.isdir(args.inputs[0]):
            raise UsageError(f"{args.inputs[0]} is a folder; give a folder for its files with -o")
        if args.format == "json":
            raise UsageError("stdout is taken by the output; --format json needs -o FILE")


def _nothing_found(
    args: argparse.Namespace, in_folder: Collection[str], left_out: Counter[str]
) -> str:
    if args.from_file is not None and not args.inputs:
        return f"the list {args.from_file} names no file; nothing to do"
    where = " and ".join(args.inputs)
    suffixes = ", ".join(sorted(in_folder))
    return (
        f"{where} has no file ending in {suffixes} (left out: {counted(left_out)}); name other "
        "files one by one"
    )


def _read_list(name: str) -> list[str]:
    """Read file names, separated by NUL bytes if there is one, else by line ends.

    Empty names are left out. A file that is called ``-`` is not stdin.
    """
    try:
        data = stdin(UsageError).read() if name == STREAM else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the list {name}: {error.strerror}; give the file that --from-file needs"
        ) from error
    separator = next((mark for mark in (b"\0", b"\r\n") if mark in data), b"\n")
    entries = [os.fsdecode(entry) for entry in data.split(separator) if entry]
    return [os.path.join(".", entry) if entry == STREAM else entry for entry in entries]


def _folder_prefix(folder: str) -> str:
    path = os.path.abspath(folder)
    return path if path.endswith(os.sep) else path + os.sep


def _walk(folder: str, suffixes: Collection[str], job_list: JobList) -> list[str]:
    """Return the files that ``folder`` stands for, and note in ``job_list`` those left out."""
    found = find_files(folder, suffixes)
    job_list.left_out += found.left_out
    job_list.unreadable += found.unreadable
    job_list.remarks += remarks_on(found.broken_links, found.outputs)
    return found.names


def _check_names(job_list: JobList) -> None:
    """Refuse two outputs of one name, and an output that is an input.

    Only hashes of all names are kept; names with equal hashes are then compared as they are.
    """
    identity = _Identity()
    targets: set[int] = set()
    twice: set[int] = set()
    for job in job_list:
        key = hash(identity(job.target))
        (twice if key in targets else targets).add(key)
    if twice:
        first: dict[str, Job] = {}
        for job in job_list:
            name = identity(job.target)
            if hash(name) in twice and (other := first.setdefault(name, job)) is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {job.target}; "
                    "keep their folders apart with --root, their suffixes with --keep-suffix, "
                    "or write them to different folders"
                )
    both = targets & {hash(identity(job.source)) for job in job_list if job.source != STREAM}
    if both:
        overwritten = {
            identity(job.target): job.target
            for job in job_list
            if hash(identity(job.target)) in both
        }
        for job in job_list:
            target = overwritten.get(identity(job.source))
            if job.source != STREAM and target is not None and os.path.exists(target):
                raise UsageError(f"{target} is an input too; choose another name with -o")


class _Identity:
    """Maps a name to the file that it means, whatever links lead there."""

    def __init__(self) -> None:
        # Most names share a few folders: resolving those once saves most of the work.
        self._folder = functools.lru_cache(maxsize=4096)(os.path.realpath)

    def __call__(self, name: str) -> str:
        folder, last = os.path.split(name)
        resolvable = last not in ("", ".", "..") and not os.path.islink(name)
        whole = os.path.join(self._folder(folder), last) if resolvable else os.path.realpath(name)
        return os.path.normcase(whole)
