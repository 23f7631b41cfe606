"""Makes the weights of the recogniser and of the detector, and the list of characters, from the
ONNX files of rapidocr.

Once, where ``onnx`` and the files are::

    python -m mpa_plugin_ocr.convert rapidocr_onnxruntime/models

That is the folder in the wheel of ``rapidocr-onnxruntime`` 1.4.4 (Apache-2.0). Tensors in its files
are called as in PaddlePaddle and numbered in the order in which they are used. Batch normalisation,
and the scale and shift behind each re-parameterised convolution, are folded into the convolution
before them.
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

from mpa_plugin_ocr.detector_network import TextDetector
from mpa_plugin_ocr.finder import WEIGHTS as DETECTOR_WEIGHTS
from mpa_plugin_ocr.network import TextRecogniser
from mpa_plugin_ocr.reader import CHARACTERS, WEIGHTS

RECOGNISER = "ch_PP-OCRv4_rec_infer.onnx"
DETECTOR = "ch_PP-OCRv4_det_infer.onnx"

Constants = Mapping[str, NDArray[Any]]


def convert_recogniser(
    source: Path, weights: Path, characters: Path, *, dtype: torch.dtype
) -> None:
    """Write the recogniser in ``source`` as safetensors, and its characters, one in a line."""
    model, constants = _opened(source)
    _save(recogniser_state(constants, model.graph.node), source, weights, dtype)
    (listed,) = [item.value for item in model.metadata_props if item.key == "character"]
    characters.write_text(listed.rstrip("\n") + "\n", encoding="utf-8")


def convert_detector(source: Path, weights: Path, *, dtype: torch.dtype) -> None:
    """Write the detector in ``source`` as safetensors."""
    model, constants = _opened(source)
    _save(detector_state(constants, model.graph.node), source, weights, dtype)


def recogniser_state(constants: Constants, nodes: Sequence[Any]) -> dict[str, Tensor]:
    """The state of :class:`TextRecogniser`, float32, from an ONNX graph's constants and nodes."""
    network = TextRecogniser()
    found = _convolutions(network, constants, nodes)
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
    return _state(network, found)


def detector_state(constants: Constants, nodes: Sequence[Any]) -> dict[str, Tensor]:
    """The state of :class:`TextDetector`, float32, from an ONNX graph's constants and nodes."""
    network = TextDetector()
    found = _convolutions(network, constants, nodes)
    enlarging = [node for node in nodes if node.op_type == "ConvTranspose"]
    for (name, _), node in zip(_parts(network, nn.ConvTranspose2d), enlarging, strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = _folded(node, nodes, constants)
    return _state(network, found)


def _opened(source: Path) -> tuple[Any, Constants]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return model, constants


def _save(state: Mapping[str, Tensor], source: Path, weights: Path, dtype: torch.dtype) -> None:
    about = {
        "source": f"{source.name} of rapidocr-onnxruntime 1.4.4",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "license": "Apache-2.0",
    }
    save_file({name: value.to(dtype) for name, value in state.items()}, weights, metadata=about)


def _convolutions(
    network: nn.Module, constants: Constants, nodes: Sequence[Any]
) -> dict[str, NDArray[Any]]:
    """Weights, biases and activations of all convolutions, in the order of the graph."""
    found: dict[str, NDArray[Any]] = {}
    separable = 0
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    for (name, part), node in zip(_parts(network, nn.Conv2d), convolutions, strict=True):
        weight, bias = _folded(node, nodes, constants)
        block, _, place = name.rpartition(".")
        if place in ("depthwise", "pointwise"):
            scale, shift = _pair(constants, f"mobile_one_block_{separable}.w_")
            weight, bias = weight * scale, bias * scale + shift
            separable += 1
            activation = f"{block}.{'first' if place == 'depthwise' else 'second'}"
            if not isinstance(network.get_submodule(activation), nn.Identity):
                scale, shift = _pair(constants, f"whswish_b_{separable}.w_")
                found |= {f"{activation}.scale": scale, f"{activation}.shift": shift}
        found[f"{name}.weight"] = weight
        if part.bias is not None:
            found[f"{name}.bias"] = bias
    return found


def _state(network: nn.Module, found: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
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
    # Weights are [out, in, h, w], and [in, out, h, w] of those that enlarge.
    outgoing = 1 if node.op_type == "ConvTranspose" else 0
    name = node.input[1].replace(".w_", ".b_")
    bias = constants.get(name, np.zeros(weight.shape[outgoing])).astype(np.float64).flatten()
    given = {*node.output, *(n.output[0] for n in nodes if n.op_type == "Add" and name in n.input)}
    for user in nodes:
        if user.op_type == "BatchNormalization" and user.input[0] in given:
            gain, offset, mean, variance = (
                constants[name].astype(np.float64) for name in user.input[1:5]
            )
            (epsilon,) = [item.f for item in user.attribute if item.name == "epsilon"]
            factor = gain / np.sqrt(variance + epsilon)
            shape = [-1 if axis == outgoing else 1 for axis in range(4)]
            return weight * factor.reshape(shape), (bias - mean) * factor + offset
    return weight, bias


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="the folder of rapidocr's ONNX files")
    models = parser.parse_args().models
    convert_recogniser(models / RECOGNISER, WEIGHTS, CHARACTERS, dtype=torch.float16)
    convert_detector(models / DETECTOR, DETECTOR_WEIGHTS, dtype=torch.float16)
