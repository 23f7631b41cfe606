"""The fingerprint: fixed for ever, and a stranger can recompute it from the spec alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.errors import CheckpointError

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "checkpoint.md"


def sample() -> dict[str, torch.Tensor]:
    return {
        "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8 - 0.5,
        "a": torch.tensor(1.5),
        "é": torch.tensor([[-3, 70000]], dtype=torch.int32),
        "z.empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
        "long": torch.tensor([2**40], dtype=torch.int64),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    }


def documented():
    """The function printed in the specification."""
    (code,) = re.findall(r"```python\n(import hashlib.*?)```", SPEC.read_text(), re.DOTALL)
    namespace: dict = {}
    exec(code, namespace)
    return namespace["fingerprint"]


def test_is_what_it_always_was():
    # Changing this number gives every published base another identity.
    assert fingerprint(sample()) == (
        "0838607a311798f1b041662b3cf0827c3b3a3d50e036ec488cb59291142a80fc"
    )


def test_specification_recomputes_it(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(sample(), file)
    assert documented()(file) == fingerprint(sample())


def test_specification_recomputes_it_from_float16_storage(tmp_path):
    file = tmp_path / "a.safetensors"
    tensors = sample()
    halved = tensors | {"b.weight": tensors["b.weight"].half()}
    save_file(halved, file)
    assert documented()(file) == fingerprint(tensors | {"b.weight": halved["b.weight"].float()})


def test_order_of_insertion_and_metadata_make_no_difference(tmp_path):
    tensors = sample()
    turned = dict(reversed(tensors.items()))
    assert fingerprint(turned) == fingerprint(tensors)
    save_file(tensors, tmp_path / "a", metadata={"x": "1", "y": "2"})
    save_file(turned, tmp_path / "b", metadata={"y": "3"})
    assert documented()(tmp_path / "a") == documented()(tmp_path / "b")


def test_memory_layout_makes_no_difference():
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    strided = torch.empty(6, 4).t().copy_(values)
    assert not strided.is_contiguous()
    assert fingerprint({"a": strided}) == fingerprint({"a": values})
    assert fingerprint({"a": values.requires_grad_()}) == fingerprint({"a": values.detach()})


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_change_shows(data):
    tensors = {name: t.clone() for name, t in sample().items()}
    before = fingerprint(tensors)
    name = data.draw(st.sampled_from(sorted(set(tensors) - {"z.empty"})))
    kind = data.draw(st.sampled_from(["value", "name", "shape", "drop", "add"]))
    tensor = tensors[name]
    if kind == "value":
        flat = tensor.reshape(-1)
        index = data.draw(st.integers(0, flat.numel() - 1))
        flat[index] = ~flat[index] if tensor.dtype == torch.bool else flat[index] + 1
    elif kind == "name":
        tensors[name + "."] = tensors.pop(name)
    elif kind == "shape":
        tensors[name] = tensor[None]
    elif kind == "drop":
        del tensors[name]
    else:
        tensors["new"] = torch.zeros(0)
    assert fingerprint(tensors) != before


def test_type_is_part_of_it():
    zeros = [torch.zeros(4, dtype=d) for d in (torch.float32, torch.int32)]
    assert fingerprint({"a": zeros[0]}) != fingerprint({"a": zeros[1]})
    assert fingerprint({"a": torch.tensor(0.0)}) != fingerprint({"a": torch.tensor(-0.0)})


def test_names_cannot_run_into_values():
    one = {"a": torch.tensor([1], dtype=torch.uint8), "b": torch.tensor([2], dtype=torch.uint8)}
    other = {"a": torch.tensor([2], dtype=torch.uint8), "b": torch.tensor([1], dtype=torch.uint8)}
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_refuses_types_no_model_uses(dtype):
    with pytest.raises(CheckpointError, match=r"tensor 'a' is torch\..*cast it first"):
        fingerprint({"a": torch.zeros(1, dtype=dtype)})
