"""One training run on several processes, by Accelerate.

A step's batch is cut into ``data.shards`` equal parts. Of P processes, process r computes shards r,
r + P, …, each with noise seeded by (seed, step, shard), and the gradients are averaged. So the
number of processes changes nothing but rounding, and one process with several shards accumulates
gradients. Models are not wrapped, so that a stage may call any part of one.

Decisions that depend on the clock or on a signal are made by the main process (rank 0), which alone
writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mpa_core.errors import TrainingError
from mpa_core.requirements import missing
from mpa_core.training.data.places import Shard
from mpa_core.training.engine.optim import Trained
from mpa_core.training.settings.base import RunSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(run: RunSettings) -> Accelerator:
    """Make Accelerate's view of this process: its device, its rank, its precision.

    Processes are started by ``accelerate launch``. Accelerate keeps one state for the process, so
    an accelerator made earlier takes over the precision of this one.

    Raises:
        MissingDependencyError: Accelerate is not installed.
        TrainingError: the device or the precision that ``run`` asks for is not available, or the
            launched processes cannot be joined on it.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise missing("training needs", "accelerate", "train", error) from error
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not joined)
    precision = run.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    # Processes on a machine without a GPU find one another only where a CPU is asked for.
    cpu = run.device == "cpu" or (run.device == "auto" and not torch.accelerator.is_available())
    try:
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision)
    except ValueError as error:
        raise TrainingError(
            f"run.mixed_precision={precision} on run.device={run.device}: {error}; "
            "set run.mixed_precision=no"
        ) from error
    found = accelerator.device.type
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise TrainingError(
            f"{launched} processes were launched and Accelerate joins {accelerator.num_processes} "
            f"on {found}; set run.device=cpu, or launch one process"
        )
    if precision == "fp16" and found == "cpu":
        # Accelerate would silently train in float32.
        raise TrainingError("run.mixed_precision=fp16 needs a GPU and found a CPU; take bf16 or no")
    if run.device not in ("auto", found):
        raise TrainingError(
            f"run.device is {run.device}, but Accelerate offers {found}; set run.device=auto to "
            "take that"
        )
    return accelerator


@contextmanager
def joined(run: RunSettings, accelerator: Accelerator | None = None) -> Iterator[Accelerator]:
    """Yield ``accelerator``, or a new one, whose processes are separated at the end."""
    if accelerator is not None:
        yield accelerator
        return
    accelerator = make_accelerator(run)
    try:
        yield accelerator
    finally:
        accelerator.end_training()


def own_shards(accelerator: Accelerator, batch: int, shards: int) -> list[Shard]:
    """Return the shards of this process, of ``shards`` that ``batch`` rows are cut into.

    Raises:
        TrainingError: the processes cannot have equally many.
    """
    processes = accelerator.num_processes
    if shards % processes:
        raise TrainingError(
            f"data.shards is {shards} for {processes} processes; start a new run with a multiple "
            f"of {processes}, for example --set data.shards={processes}, or other processes"
        )
    size = batch // shards
    return [
        Shard(number, range(number * size, (number + 1) * size))
        for number in range(accelerator.process_index, shards, processes)
    ]


def run_forward(accelerator: Accelerator, function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``, run in the run's precision, with all its tensors as float32."""
    if accelerator.mixed_precision == "no":
        return function(*args)
    from accelerate.utils import convert_to_fp32

    with accelerator.autocast():
        out = function(*args)
    return convert_to_fp32(out)


@torch.no_grad()
def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in one exchange.

    A process without a gradient counts as zero where another one has it; where none has, there is
    none afterwards.
    """
    if accelerator.num_processes == 1:
        return
    own = list(parameters)
    present = torch.tensor([float(p.grad is not None) for p in own], device=accelerator.device)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in own]
    mean = accelerator.reduce(torch.cat([present, *flat]), "mean")
    pieces = mean[len(own) :].split([p.numel() for p in own])
    for parameter, anywhere, piece in zip(own, mean[: len(own)].tolist(), pieces, strict=True):
        if anywhere:
            parameter.grad = piece.view_as(parameter).clone()


def settle_gradients(
    accelerator: Accelerator, trained: Sequence[Trained], losses: Sequence[Tensor]
) -> tuple[dict[str, Tensor], bool]:
    """Average the gradients over the processes, undo the loss scale of fp16, and clip.

    Returns:
        The norms before clipping, by name, and whether they and all ``losses`` are finite on every
            process: if not, nothing may be stepped.
    """
    scaler = accelerator.scaler
    for each in trained:
        average_gradients(accelerator, each.parameters.values())
        if scaler is not None:
            scaler.unscale_(each.optimizer)
    norms = {each.name: each.clip_gradients() for each in trained}
    if scaler is not None:
        scaler.update()
    here = torch.isfinite(torch.stack([*losses, *norms.values()])).all()
    if accelerator.num_processes == 1:
        return norms, bool(here)
    return norms, bool(accelerator.reduce(here.float(), "mean") == 1.0)


def from_main(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Return the main process's ``values``, on every process."""
    if accelerator.num_processes == 1:
        return list(values)
    from accelerate.utils import broadcast

    tensor = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    found: list[float] = broadcast(tensor).tolist()
    return found


@torch.no_grad()
def share_state(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite ``tensors`` by the main process's, so that all go on from the same bits."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast

    for tensor in tensors.values():
        tensor.copy_(broadcast(tensor.to(accelerator.device, copy=True).contiguous()))


def gathered(accelerator: Accelerator, tensor: Tensor) -> Tensor:
    """Return ``tensor`` [N, ...] of all processes one after the other, [P * N, ...]."""
    tensor = tensor.to(accelerator.device)
    if accelerator.num_processes == 1:
        return tensor
    found: Tensor = accelerator.gather(tensor)
    return found


def scaler_state(accelerator: Accelerator) -> dict[str, Any]:
    """Return the loss scale of fp16, in values that JSON can hold; empty in other precisions."""
    return {} if accelerator.scaler is None else dict(accelerator.scaler.state_dict())


def load_scaler(accelerator: Accelerator, state: Mapping[str, Any]) -> None:
    """Restore :func:`scaler_state`; a run resumed in another precision starts with a new scale."""
    if accelerator.scaler is not None and state:
        accelerator.scaler.load_state_dict(dict(state))
