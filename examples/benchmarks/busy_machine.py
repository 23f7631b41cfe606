"""Pictures a second by how OpenMP's threads wait: alone, side by side, and beside busy processes.

For each policy there are encoders, processes of their own that have loaded everything. They encode
one picture again and again for some seconds: one of them alone, all side by side, and one beside
as many busy processes as there are processors. The policies take turns, round by round, so that
whatever else the machine does slows all alike: compare the ratios to the first row, which is what
torch does by itself.

    python examples/benchmarks/busy_machine.py --photo PHOTO --seconds 10 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mpa_core.cli.machine import LoadMeter, usable_cpus
from mpa_core.cli.threads import COUNTING, WAITING

POLICIES: dict[str, dict[str, str]] = {
    "as torch does": {},
    "GOMP_SPINCOUNT=20000": {"GOMP_SPINCOUNT": "20000"},
    "GOMP_SPINCOUNT=2000": {"GOMP_SPINCOUNT": "2000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SITUATIONS = ("alone", "side by side", "beside busy processes")


class Encoder:
    """A process that encodes or decodes when it is told to."""

    def __init__(self, options: argparse.Namespace, policy: Mapping[str, str]) -> None:
        env = {name: text for name, text in os.environ.items() if name not in (*COUNTING, *WAITING)}
        env |= {"OMP_NUM_THREADS": str(options.threads), **policy}
        words = [sys.executable, __file__, "--serve", "--base", str(options.base)]
        words += ["--photo", str(options.photo), "--size", *map(str, options.size)]
        words += ["--decode"] if options.decode else []
        self.process = subprocess.Popen(  # noqa: S603 -- this script
            words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> bool:
        """Wait until it has loaded everything; False if it has failed."""
        return self._pipe("stdout").readline() == "ready\n"

    def begin(self, seconds: float) -> None:
        """Let it work for so long, and finish what it is at."""
        pipe = self._pipe("stdin")
        pipe.write(f"{seconds}\n")
        pipe.flush()

    def rate(self) -> float:
        """Pictures a second, when it is done."""
        return float(self._pipe("stdout").readline())

    def end(self) -> None:
        """It ends when nobody writes to it any more."""
        self._pipe("stdin").close()
        self.process.wait()
        self._pipe("stdout").close()

    def _pipe(self, name: str) -> Any:
        return getattr(self.process, name)


def serve(options: argparse.Namespace) -> None:
    """The life of an encoder."""
    from PIL import Image

    from mpa_core import MPACodec
    from mpa_core.evaluation.classic import pixels_only
    from mpa_core.io.images import load_image

    photo = pixels_only(load_image(options.photo)).resize(options.size, Image.Resampling.LANCZOS)
    codec = MPACodec.from_pretrained(options.base)
    data = codec.encode(photo)
    codec.decode(data)
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < float(line):
            codec.decode(data) if options.decode else codec.encode(photo)
            count += 1
        print(count / (time.perf_counter() - start), flush=True)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes that do nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(
    encoders_by_setting: Mapping[str, Sequence[Encoder]], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Pictures a second of each policy in each situation, of all its encoders together."""
    sums = {name: dict.fromkeys(SITUATIONS, 0.0) for name in encoders_by_setting}
    for _ in range(options.rounds):
        for situation in SITUATIONS:
            for name, encoders in encoders_by_setting.items():
                at_work = encoders if situation == "side by side" else encoders[:1]
                with busy_processes(usable_cpus() if situation == SITUATIONS[-1] else 0):
                    for encoder in at_work:
                        encoder.begin(options.seconds)
                    rates = [encoder.rate() for encoder in at_work]
                sums[name][situation] += sum(rates) / options.rounds
    return sums


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 if an encoder could not load what it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photo", type=Path, help="resized (default: bundled)")
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("W", "H"))
    parser.add_argument("--decode", action="store_true", help="decode instead of encoding")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="of an encoder")
    parser.add_argument("--encoders", type=int, default=2, help="side by side")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.photo = options.photo or Path(str(resources.files("mpa_core"))) / "assets/chelsea.png"
    if options.serve:
        serve(options)
        return 0
    others = LoadMeter().read()
    with ExitStack() as stack:
        encoders_by_setting: dict[str, list[Encoder]] = {}
        for name in options.policies:
            encoders_by_setting[name] = [
                Encoder(options, POLICIES[name]) for _ in range(options.encoders)
            ]
            for encoder in encoders_by_setting[name]:
                stack.callback(encoder.end)
            if not all(encoder.ready() for encoder in encoders_by_setting[name]):
                print("error: an encoder has ended; its last line says why", file=sys.stderr)
                return 1
        rates = measure(encoders_by_setting, options)
    show(rates, options, others)
    if options.json:
        figures = {
            "threads": options.threads,
            "cpus": usable_cpus(),
            "busy_before": others,
            "pictures_per_second": rates,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def show(
    rates: Mapping[str, Mapping[str, float]], options: argparse.Namespace, others: float
) -> None:
    """Print the table."""
    console = Console(highlight=False)
    console.print(
        f"{'decoding' if options.decode else 'encoding'} {options.size[0]}x{options.size[1]}, "
        f"{options.threads} threads on {usable_cpus()} processors, "
        f"{options.encoders} side by side; {others:.1f} processors busy before\n"
        "pictures a second, and times the first row\n"
    )
    shown = Table("policy", box=None, pad_edge=False)
    for heading in SITUATIONS:
        shown.add_column(heading, justify="right")
    first = next(iter(rates.values()))
    for name, row in rates.items():
        shown.add_row(name, *(f"{rate:.2f} ({rate / first[at]:.2f})" for at, rate in row.items()))
    console.print(shown)


if __name__ == "__main__":
    sys.exit(main())
