"""Small networks with lively weights, and the ONNX Runtime session that runs their graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from training.model import AcousticNetwork, HeadConfig, NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Arrays = list["NDArray[Any]"]


def small_network(cell: str = "lstm", *, reads: bool = False, **sizes: Any) -> AcousticNetwork:
    """A network whose every parameter is random and exact in float16.

    Args:
        cell: of all its recurrent layers.
        reads: give it a head that reads another.
        sizes: of the network.
    """
    sizes = {"width": 24, "depth": 2, "look_ahead": 2, "front": 16} | sizes
    heads = {"pieces": HeadConfig(29, sizes["depth"]), "phones": HeadConfig(11, sizes["depth"])}
    if sizes["depth"] > 1:
        heads["helper"] = HeadConfig(7, 1)  # on a lower layer: helps training, is not exported
    if reads:
        heads["spelled"] = HeadConfig(13, sizes["depth"], "phones", 20, 2)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = AcousticNetwork(NetworkConfig(cell=cell, heads=heads, **sizes)).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
                parameter.copy_(parameter.half().float())
    return network


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session with one thread on the CPU, as the recogniser makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, features: NDArray[Any], states: Arrays) -> Arrays:
    """One step: all outputs, the states last."""
    names = [value.name for value in graph.get_inputs()]
    results: Arrays = graph.run(None, dict(zip(names, [features, *states], strict=True)))
    return results


def random_blocks(blocks: int, streams: int, seed: int = 3) -> NDArray[np.float32]:
    """Features of that many blocks, like normalised log-mel: [blocks, N, 8, 80]."""
    shape = blocks, streams, 8, 80
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def initial(network: AcousticNetwork, streams: int) -> Arrays:
    """The state of N streams before any audio."""
    return [part.numpy() for part in network.initial(streams)]
