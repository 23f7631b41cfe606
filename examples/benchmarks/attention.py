"""Time of neighborhood attention against the rate of a plain matrix product in the same process.

    python examples/benchmarks/attention.py [--quick]

Prints the inference time of one layer with its projections (256 x 384 tokens of 128 channels,
8 heads, window 7, two threads), and for training sizes the time of a forward and backward pass on
one thread. "floor" is the layer's arithmetic (projections and the k x k keys that each query
really sees, 2 operations per multiply-add, three times that with the backward) over the rate of
``torch.mm`` on 1024 x 1024 floats, measured in the same process; "ratio" is time over floor, so
it can be compared between machines. Training is timed in the thread's own CPU time, which a busy
machine disturbs less; inference on the clock, so it wants two idle cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from mpa_core.base.tinylic.attention import NeighborhoodAttention

TRAINING_MAPS = ((64, 32, 2), (32, 64, 4), (16, 128, 8), (8, 192, 12))
"""Side of the map, channels, heads: the stages of a small codec on crops of 128 x 128."""


def best_time(
    run: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Shortest of the runs that fit in ``seconds``, after one to warm up; at least three."""
    run()
    times: list[float] = []
    deadline = clock() + seconds
    while len(times) < 3 or clock() < deadline:
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def product_rate(seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Multiply-adds per second of a square float32 matrix product."""
    left, right = torch.randn(2, 1024, 1024)
    return 1024**3 / best_time(lambda: left @ right, seconds, clock)


def multiply_adds(batch: int, height: int, width: int, dim: int, window: int) -> int:
    """Of one forward pass: qkv and proj, and two products with k * k keys per token."""
    return batch * height * width * (4 * dim * dim + 2 * window * window * dim)


def inference(seconds: float) -> None:
    torch.set_num_threads(2)
    height, width, dim, heads, window = 256, 384, 128, 8, 7
    layer = NeighborhoodAttention(dim, heads, window).eval()
    tokens = torch.randn(1, height, width, dim)
    with torch.no_grad():
        elapsed = best_time(lambda: layer(tokens), seconds)
    rate = product_rate(seconds)
    floor = multiply_adds(1, height, width, dim, window) / rate
    print(f"inference, 2 threads, {height} x {width} x {dim}, {heads} heads, window {window}:")
    print(f"  {elapsed:.3f} s, floor {floor:.3f} s at {2 * rate / 1e9:.0f} GFLOP/s,", end=" ")
    print(f"ratio {elapsed / floor:.2f}\n")


def training(seconds: float) -> None:
    torch.set_num_threads(1)
    clock = time.thread_time  # one thread: other processes' share of the core does not count
    batch = 8
    print("forward + backward, 1 thread, batch 8")
    print(f"{'map':>12} {'heads':>5} {'window':>6} {'ms':>8} {'floor ms':>9} {'ratio':>6}")
    for window in (7, 5, 3):
        for side, dim, heads in TRAINING_MAPS:
            layer = NeighborhoodAttention(dim, heads, window)
            tokens = torch.randn(batch, side, side, dim, requires_grad=True)
            weight = torch.randn_like(tokens)
            inputs = (tokens, *layer.parameters())

            def step() -> None:
                torch.autograd.grad(layer(tokens), inputs, weight)  # noqa: B023 (run at once)

            rate = product_rate(seconds / 4, clock)
            elapsed = best_time(step, seconds, clock)
            rate = max(rate, product_rate(seconds / 4, clock))
            floor = 3 * multiply_adds(batch, side, side, dim, window) / rate
            name = f"{side}x{side}x{dim}"
            print(
                f"{name:>12} {heads:>5} {window:>6} {elapsed * 1e3:>8.1f} {floor * 1e3:>9.1f}"
                f" {elapsed / floor:>6.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    seconds = 0.2 if parser.parse_args().quick else 2.0
    torch.manual_seed(0)
    inference(seconds)
    training(seconds)


if __name__ == "__main__":
    main()
