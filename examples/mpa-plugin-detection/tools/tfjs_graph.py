"""A TensorFlow.js graph model read from its files, and run operation by operation with torch."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class Graph:
    """The nodes and constants of a model: ``NAME.json`` and its ``NAME.bin``."""

    def __init__(self, path: Path) -> None:
        model = json.loads(path.read_text())
        self.nodes: dict[str, dict[str, Any]] = {
            node["name"]: node for node in model["modelTopology"]["node"]
        }
        self.constants: dict[str, NDArray[Any]] = {}
        for group in model["weightsManifest"]:
            data = b"".join((path.parent / name).read_bytes() for name in group["paths"])
            offset = 0
            for weight in group["weights"]:
                # Quantised to float16 here means: stored so, used as float32.
                kind = np.dtype(weight.get("quantization", weight)["dtype"])
                count = int(np.prod(weight["shape"]))
                array = np.frombuffer(data, kind, count, offset).reshape(weight["shape"])
                self.constants[weight["name"]] = array
                offset += array.nbytes
            if offset != len(data):
                raise ValueError(f"{path}: {len(data)} bytes of weights, {offset} were expected")

    def attribute(self, node: str, name: str) -> Any:
        """A number, a list of numbers or a string; None where the node has none."""
        found = self.nodes[node].get("attr", {}).get(name)
        if found is None:
            return None
        if "s" in found:
            return base64.b64decode(found["s"]).decode()
        if "list" in found:
            return [int(value) for value in found["list"]["i"]]
        return next(iter(found.values()))

    def run(self, inputs: dict[str, Tensor], wanted: list[str]) -> list[Tensor]:
        """The values of the nodes ``wanted``."""
        known: dict[str, tuple[Tensor, ...]] = {name: (x,) for name, x in inputs.items()}
        order: list[str] = []
        stack = list(wanted)
        while stack:  # depth first, without recursion: the graph is hundreds of nodes deep
            name = stack[-1]
            if name in known or name in order:
                stack.pop()
                continue
            before = [i.partition(":")[0] for i in self.nodes[name].get("input", ())]
            missing = [i for i in before if i not in known and i not in order]
            if missing:
                stack += missing
            else:
                order.append(stack.pop())
        for name in order:
            known[name] = self._evaluate(name, known)
        return [known[name][0] for name in wanted]

    def _evaluate(self, name: str, known: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        if name in self.constants:
            constant = torch.from_numpy(self.constants[name].copy())
            return (constant.float() if constant.is_floating_point() else constant,)
        values = []
        for text in self.nodes[name].get("input", ()):
            source, _, output = text.partition(":")
            values.append(known[source][int(output or 0)])
        found = self._apply(name, self.nodes[name]["op"], values)
        return found if isinstance(found, tuple) else (found,)

    def _apply(self, name: str, op: str, x: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        if op == "Identity":
            return x[0]
        if op in ("Add", "AddV2"):
            return x[0] + x[1]
        if op == "Sigmoid":
            return x[0].sigmoid()
        if op == "LeakyRelu":
            return F.leaky_relu(x[0], float(self.attribute(name, "alpha")))
        if op == "Transpose":
            return x[0].permute(*x[1].tolist())
        if op in ("Pad", "PadV2"):
            sides = [int(side) for pair in x[1].flip(0).tolist() for side in pair]
            return F.pad(x[0], sides, value=float(x[2]) if op == "PadV2" else 0.0)
        if op == "Conv2D":
            return _channels_last(
                F.conv2d,
                x[0],
                x[1].permute(3, 2, 0, 1),
                stride=self.attribute(name, "strides")[1:3],
            )
        if op == "MaxPool":
            return _channels_last(
                F.max_pool2d,
                x[0],
                self.attribute(name, "ksize")[1:3],
                stride=self.attribute(name, "strides")[1:3],
            )
        if op == "ResizeBilinear":
            return _channels_last(
                F.interpolate, x[0], tuple(x[1].tolist()), mode="bilinear", align_corners=False
            )
        if op == "ConcatV2":
            return torch.cat(x[:-1], dim=int(x[-1]))
        if op == "SplitV":
            return x[0].split(x[1].tolist(), dim=int(x[2]))
        if op == "Reshape":
            return x[0].reshape(x[1].tolist())
        if op == "SparseToDense":  # here always of no entries at all
            return torch.full(tuple(x[1].tolist()), x[3].item(), dtype=x[3].dtype)
        raise ValueError(f"{name}: operation {op} is not known; add it to Graph._apply")


def _channels_last(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Apply one of torch's functions, which want channels first, to [B, H, W, C]."""
    return function(x.permute(0, 3, 1, 2), *args, **kwargs).permute(0, 2, 3, 1)
