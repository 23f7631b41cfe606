"""Fuzzing campaigns: many hostile inputs, each against what is promised of all of them.

    python examples/fuzz/campaign.py TARGET [--cases N] [--seed S] [--keep FOLDER]

TARGET is one of: container, coder, decode, checkpoint, image. Case i of seed S is always the same
input. The cases run in a process of their own, in an empty folder, and every case must

- end in a result or in a child of MPAError with a text of one line: nothing else escapes;
- end within the target's limit of processor time (a watchdog that native code cannot hold up ends
  what hangs), and never crash the interpreter;
- take no more memory than the target allows for its size (resident peak of this very case, where
  the system tells it: Linux);
- write, rename or remove no file, start no process and open no connection (an audit hook watches).

Prints cases, accepted, refused by class of error, seconds, and peak memory. A case that breaks a
promise is kept in FOLDER, and the exit code is 1.
``guided.py`` runs the same targets under a coverage-guided fuzzer.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from mpa_core.errors import MPAError

TARGETS = ("container", "coder", "decode", "checkpoint", "image")
WRITING = ("os.", "shutil.", "subprocess.", "socket.connect", "socket.bind", "ctypes.dlopen")
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.getxattr", "os.listxattr")
FAILED = 1


class Target(Protocol):
    """What a campaign runs. A module ``target_NAME.py`` has a class ``Target`` of this shape."""

    limit_s: float
    """Most processor time a case may take."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the target's own to write to, outside of cases."""

    def make(self, rng: random.Random) -> bytes:
        """A hostile input."""

    def prepare(self, case: bytes) -> Any:
        """What :meth:`run` takes; files of the case are written here."""

    def run(self, prepared: Any) -> str:
        """Hand it to the SDK; returns what to count, or raises."""

    def allowance(self, case: bytes) -> int:
        """Bytes that the case may take besides what the process has already."""


class BrokenPromiseError(Exception):
    """A case did what no case may do."""


class Memory:
    """Resident memory of this process, and its peak since the last look."""

    def __init__(self) -> None:
        self._status = Path("/proc/self/status")
        self._reset = Path("/proc/self/clear_refs")
        self.known = os.access(self._reset, os.W_OK)

    def start(self) -> int:
        """Forget the peak; returns what is resident now, in bytes."""
        if not self.known:
            return 0
        self._reset.write_text("5")
        return self._read("VmRSS")

    def peak(self) -> int:
        """The most that was resident since :meth:`start`."""
        return self._read("VmHWM") if self.known else 0

    def _read(self, name: str) -> int:
        for line in self._status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise LookupError(name)


class Watch:
    """Sees what a case does to the system; there is no removing an audit hook, hence the switch."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            if (isinstance(mode, str) and set(mode) & set("wax+")) or flags & writes:
                self.seen.append(f"open {path!r} to write")
        elif event.startswith(WRITING) and event not in HARMLESS:
            self.seen.append(f"{event} {arguments!r}")


def run_case(target: Target, case: bytes, watch: Watch, memory: Memory) -> tuple[str, int]:
    """What became of the case, and how many bytes of memory it took.

    Raises:
        BrokenPromiseError: with what it did.
    """
    prepared = target.prepare(case)
    before = memory.start()
    watch.on = True
    try:
        outcome = target.run(prepared)
    except MPAError as error:
        outcome = f"refused: {type(error).__name__}"
        if "\n" in str(error) or not str(error):
            raise BrokenPromiseError(f"text of the error: {str(error)!r}") from error
    except Exception as error:
        raise BrokenPromiseError(f"{type(error).__name__}: {error}") from error
    finally:
        watch.on = False
    if watch.seen:
        raise BrokenPromiseError("; ".join(watch.seen))
    taken = memory.peak() - before
    if taken > target.allowance(case):
        raise BrokenPromiseError(f"took {taken} bytes, allowed were {target.allowance(case)}")
    return outcome, taken


def campaign(name: str, cases: int, seed: int, keep: Path) -> int:
    """Run the cases in this process; returns the exit code."""
    faulthandler.enable()
    keep.mkdir(parents=True, exist_ok=True)
    outcomes: Counter[str] = Counter()
    watch, memory = Watch(), Memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "target")
        empty = Path(scratch, "empty")
        folder.mkdir()
        empty.mkdir()
        target: Target = importlib.import_module(f"target_{name}").Target(folder)
        os.chdir(empty)
        start, cpu = time.perf_counter(), time.process_time()
        slowest = 0.0
        most = failures = 0
        for number in range(cases):
            case = target.make(random.Random(seed * 2**32 + number))  # noqa: S311 (repeatable)
            # Native code that hangs holds the interpreter's lock: only this thread gets out. It
            # goes by the clock, and the machine may be busy.
            if number % 100 == 0 or target.limit_s > 1:
                faulthandler.dump_traceback_later(300 + 20 * target.limit_s, exit=True)
            began = time.process_time()
            try:
                outcome, taken = run_case(target, case, watch, memory)
                took = time.process_time() - began
                if took > target.limit_s:
                    raise BrokenPromiseError(f"took {took:.1f} s, allowed were {target.limit_s}")
            except BrokenPromiseError as broken:
                failures += 1
                kept = keep / f"{name}-{seed}-{number}"
                kept.write_bytes(case)
                print(f"case {number}: {broken}; kept as {kept}", flush=True)
                if broken.__cause__ is not None and failures < 10:
                    traceback.print_exception(broken.__cause__, file=sys.stdout)
                watch.seen.clear()
                outcome, taken, took = "BROKEN", 0, 0.0
            outcomes[outcome] += 1
            most, slowest = max(most, taken), max(slowest, took)
        faulthandler.cancel_dump_traceback_later()
        left = [str(path) for path in empty.iterdir()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{name}: {cases} cases, seed {seed}")
    for outcome, count in sorted(outcomes.items(), key=lambda item: (item[0], item[1])):
        print(f"  {outcome:<32} {count:>9}")
    print(
        f"  {time.perf_counter() - start:.0f} s ({time.process_time() - cpu:.0f} s of processor), "
        f"slowest case {slowest:.3f} s, peak of the process {peak / 1024:.0f} MiB, "
        + (f"{most / 2**20:.1f} MiB by one case" if memory.known else "by one case unknown")
    )
    if left:
        print(f"files left behind: {left}", file=sys.stderr)
    return FAILED if failures or left else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), metavar="FOLDER")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return campaign(args.target, args.cases, args.seed, args.keep.resolve())
    command = [sys.executable, __file__, *sys.argv[1:], "--inside"]
    done = subprocess.run(command)  # noqa: S603 (our own arguments)
    if done.returncode not in (0, FAILED):
        print(f"the process ended with {done.returncode}: a crash, or a hang", file=sys.stderr)
    return min(abs(done.returncode), 2)


if __name__ == "__main__":
    sys.exit(main())
