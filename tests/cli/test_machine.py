"""What the machine gives, read from files such as the system has, and from the system itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpa_core.cli.machine import LoadMeter, cores, free_memory, processors, usable_cpus

GIB = 2**30
MEMINFO = "MemTotal:       33554432 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"


def system(root: Path, files: dict[str, str]) -> Path:
    """``root`` with ``files``, by their names below it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def eight(monkeypatch):
    """A process that may run on eight processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2, 10)), raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
        (  # the smallest of all groups above counts
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            3,
        ),
        (  # version 1
            {
                "proc/self/cgroup": "3:cpuset:/\n1:cpu,cpuacct:/a\n0::/\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (  # inside a container that sees the path outside it
            {
                "proc/self/cgroup": "1:cpu:/docker/0123\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
)
def test_processors_by_quota(eight, tmp_path, files, expected):
    assert usable_cpus(system(tmp_path, files)) == expected


def test_processors_by_affinity():
    """A real process that is held to one of them."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from mpa_core.cli.machine import *; print(usable_cpus(), cores(), processors())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"1 1 [{min(os.sched_getaffinity(0))}]\n"


def test_two_processors_of_one_core_are_one_core(eight, tmp_path):
    assert cores(tmp_path) == 8
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    pairs = {place.format(n): f"{n % 5},{n % 5 + 5}\n" for n in range(10)}
    assert cores(system(tmp_path, pairs)) == 5


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 8 * GIB),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 17\ninactive_file {GIB}\n",
            },
            2 * GIB,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
            },
            8 * GIB,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{4 * GIB}\n",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": f"{5 * GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GIB}\n",
            },
            0,
        ),
    ],
)
def test_free_memory(tmp_path, files, expected):
    assert free_memory(system(tmp_path, files)) == expected


# Ticks between two looks: user, nice, system, idle, iowait, irq, softirq, steal, guests twice.
@pytest.mark.parametrize(
    ("of_each", "expected"),
    [
        ((0, 0, 0, 100, 0, 0, 0, 0, 0, 0), 0.0),
        ((100, 0, 0, 0, 0, 0, 0, 0, 0, 0), 8.0),
        ((0, 25, 25, 40, 10, 0, 0, 0, 0, 0), 4.0),
        ((10, 0, 0, 60, 0, 10, 10, 10, 10, 0), 3.2),
    ],
)
def test_load_is_what_others_use_of_our_processors(eight, tmp_path, of_each, expected):
    before = [7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    stat = tmp_path / "proc" / "stat"

    def write(ours: list[int]) -> None:
        lines = [f"cpu{n} " + " ".join(map(str, ours)) for n in range(2, 10)]
        # The others', whom nobody asked about, are busy.
        lines += [f"cpu{n} {sum(ours)} 0 0 0 0 0 0 0 0 0" for n in (0, 1, 10)]
        system(tmp_path, {"proc/stat": "\n".join(["cpu 1 2 3", *lines, "intr 1 2", "btime 3"])})

    write(before)
    meter = LoadMeter(tmp_path)
    write([a + b for a, b in zip(before, of_each, strict=True)])
    assert meter.read() == pytest.approx(expected, abs=1.0)  # our own share is taken off
    assert stat.is_file()


def test_without_counts_it_is_the_load_average(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 1.0, 0.5))
    assert LoadMeter(tmp_path).read() == 3.5
    monkeypatch.delattr(os, "getloadavg")
    assert LoadMeter(tmp_path).read() == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="the system counts nothing that we read")
def test_load_of_real_processes():
    """As many as processors, so that nothing is left, whatever else the machine does."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in processors()]
    try:
        busiest = max(LoadMeter().read() for _ in range(20))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert busiest > 0.8 * len(loops)
