"""Makes the recogniser's weights and its list of characters from the ONNX file of rapidocr.

Once, where ``onnx`` and the file are::

    python -m mpa_plugin_ocr.convert ch_PP-OCRv4_rec_infer.onnx

The file is ``rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx`` in the wheel of
``rapidocr-onnxruntime`` 1.4.4 (Apache-2.0). Its tensors are called as in PaddlePaddle and numbered
in the order in which they are used. Batch normalisation, and the scale and shift behind each
re-parameterised convolution, are folded into the convolution before them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from mpa_plugin_ocr.network import TextRecogniser
from mpa_plugin_ocr.reader import CHARACTERS, WEIGHTS

Constants = Mapping[str, NDArray[Any]]


def convert(source: Path, weights: Path, characters: Path, *, dtype: torch.dtype) -> None:
    """Write the recogniser in ``source`` as safetensors, and its characters, one in a line."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    nodes = list(model.graph.node)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    state = recogniser_state(constants, nodes)
    (listed,) = [item.value for item in model.metadata_props if item.key == "character"]
    about = {
        "source": f"{source.name} of rapidocr-onnxruntime 1.4.4",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "license": "Apache-2.0",
    }
    save_file({name: value.to(dtype) for name, value in state.items()}, weights, metadata=about)
    characters.write_text(listed.rstrip("\n") + "\n", encoding="utf-8")


def recogniser_state(constants: Constants, nodes: Sequence[Any]) -> dict[str, Tensor]:
    """The state of :class:`TextRecogniser`, float32, from an ONNX graph's constants and nodes."""
    network = TextRecogniser()
    found: dict[str, NDArray[Any]] = {}
    separable = 0
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    for (name, _), node in zip(_parts(network, nn.Conv2d), convolutions, strict=True):
        weight, bias = _folded(node, nodes, constants)
        block, _, place = name.rpartition(".")
        if place in ("depthwise", "pointwise"):
            scale, shift = _pair(constants, f"mobile_one_block_{separable}.w_")
            weight, bias = weight * scale, bias * scale + shift
            separable += 1
            activation = f"{block}.{'first' if place == 'depthwise' else 'second'}"
            scale, shift = _pair(constants, f"whswish_b_{separable}.w_")
            found |= {f"{activation}.scale": scale, f"{activation}.shift": shift}
        found |= {f"{name}.weight": weight, f"{name}.bias": bias}
    for kind, prefix in ((nn.Linear, "linear"), (nn.LayerNorm, "layer_norm")):
        numbers = sorted(
            int(match[1])
            for key in constants
            if (match := re.fullmatch(rf"{prefix}_(\d+)\.w_0", key))
        )
        for (name, _), number in zip(_parts(network, kind), numbers, strict=True):
            # Paddle's matrices are [in, out].
            found[f"{name}.weight"] = constants[f"{prefix}_{number}.w_0"].T
            found[f"{name}.bias"] = constants[f"{prefix}_{number}.b_0"]
    state = {
        name: torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
        for name, value in found.items()
    }
    network.load_state_dict(state)  # all that the network has, each of its shape
    return state


def _parts(network: nn.Module, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in network.named_modules() if isinstance(part, kind)]


def _pair(constants: Constants, prefix: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return constants[f"{prefix}0"].astype(np.float64), constants[f"{prefix}1"].astype(np.float64)


def _folded(
    node: Any, nodes: Sequence[Any], constants: Constants
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight and bias of a convolution, with the batch normalisation behind it if there is one."""
    weight = constants[node.input[1]].astype(np.float64)
    bias = constants.get(node.input[1].replace(".w_", ".b_"), np.zeros(len(weight)))
    for user in nodes:
        if user.op_type == "BatchNormalization" and user.input[0] == node.output[0]:
            gain, offset, mean, variance = (
                constants[name].astype(np.float64) for name in user.input[1:5]
            )
            (epsilon,) = [item.f for item in user.attribute if item.name == "epsilon"]
            factor = gain / np.sqrt(variance + epsilon)
            return weight * factor[:, None, None, None], (bias - mean) * factor + offset
    return weight, bias.astype(np.float64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="ch_PP-OCRv4_rec_infer.onnx")
    convert(parser.parse_args().source, WEIGHTS, CHARACTERS, dtype=torch.float16)
