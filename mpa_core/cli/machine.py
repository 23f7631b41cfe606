"""The processors and memory that this process may use, and the load of others; no libraries."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

_SHORTEST_LOOK = 0.1
"""Shortest measurement of the processors in seconds: the system counts in hundredths of a
second."""
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of a line of ``/proc/stat``: user, nice, system, interrupts twice, and the time that the
hypervisor took. Work of low priority counts, since it gives way within its own session alone."""
_COLUMNS = 8
"""Number of columns read; later ones count guests, which are in user and nice already."""
_UNLIMITED = 1 << 60
"""Smallest limit that counts as unlimited: version 1 of control groups uses nearly the largest
number."""


def processors() -> list[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, at least 1.

    They are those it may run on, limited by the quota of its control group (mostly of a container),
    rounded up. ``root`` is the folder that has ``proc`` and ``sys``.
    """
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, math.ceil(min([len(processors()), *quotas])))


def cores(root: Path = Path("/")) -> int:
    """Return the number of cores of :func:`processors`; two may be threads of one core."""
    found = set()
    for number in processors():
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        found.add(_read(topology) or str(number))
    return len(found)


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that are free, by the system and the control group.

    None if the system does not say.
    """
    rooms = [room for folder in _groups(root, "memory") if (room := _room(folder)) is not None]
    lines = _read(root / "proc/meminfo").splitlines()
    rooms += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return max(0, min(rooms)) if rooms else None


class LoadMeter:
    """Measures how much of the processors others use, from its construction to :meth:`read`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._numbers = processors()
        self._began, self._own = time.perf_counter(), time.process_time()
        self._before = self._ticks()

    def read(self) -> float:
        """Return the load of other processes, in processors, of those that this one may run on.

        Waits until a tenth of a second has been measured. Where the system does not count
        (elsewhere than on Linux) it is the load average of the last minute; 0 without one.
        """
        if self._before is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        time.sleep(max(0.0, self._began + _SHORTEST_LOOK - time.perf_counter()))
        own = (time.process_time() - self._own) / (time.perf_counter() - self._began)
        after = self._ticks()
        busy, total = (a - b for a, b in zip(after or self._before, self._before, strict=True))
        used = busy / total * len(self._numbers) if total > 0 else 0.0
        return max(0.0, used - own)

    def _ticks(self) -> tuple[int, int] | None:
        """Return the used time and the total time of our processors together."""
        ours = {f"cpu{number}" for number in self._numbers}
        lines = [line.split() for line in _read(self._root / "proc/stat").splitlines()]
        counted = [
            [int(text) for text in line[1 : 1 + _COLUMNS]] for line in lines if line[0] in ours
        ]
        if not any(map(sum, counted)):
            return None
        return sum(line[i] for line in counted for i in _BUSY), sum(map(sum, counted))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and those above it, of either version."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            mount /= controller
        group = mount / path.strip("/")
        # Inside a container the path may be that outside, and only the root exists.
        while group != mount:
            yield group
            group = group.parent
        yield mount


def _quota(folder: Path) -> float | None:
    """Return the processors that a control group may use; None for no limit."""
    words = _read(folder / "cpu.max").split() or [
        _read(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")
    ]
    if not all(word.isdigit() for word in words):  # max, -1, or no such file
        return None
    quota, period = map(int, words)
    return quota / period


def _room(folder: Path) -> int | None:
    """Return the bytes that a control group may still take; cached files can be dropped."""
    for limit_name, used_name, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _read(folder / limit_name), _read(folder / used_name)
        if not (limit.isdigit() and used.isdigit()) or int(limit) >= _UNLIMITED:
            continue
        kept = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
        return int(limit) - int(used) + int(kept.get(dropped, 0))
    return None


def _read(file: Path) -> str:
    """Return a file's text without the last line end; empty if it cannot be read."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
