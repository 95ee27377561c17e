"""Weights rounded for shipping: float16 for the float32 graph, 7-bit integers for the int8 graph.

Why these forms and no others: `docs/decisions/quantisation.md`.

Sizes: R rows (one per stream and frame), K inputs, M outputs of a matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from asr.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from training.graph_builder import GraphBuilder

WEIGHT_LEVELS = 63  # 7 bits: on CPUs without VNNI two products u8 · s8 are added in int16
ACTIVATION_LEVELS = 127
ZERO_POINT = 128  # activations are stored unsigned: level 0 is 128
SMALLEST_PEAK = 1e-9  # a row of zeros must not divide by zero


def round_weights(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float16]]:
    """A state dict in float16, the precision in which models ship.

    Args:
        weights: floating-point tensors by name.

    Raises:
        BundleError: a weight is not finite in float16 (beyond ±65504, infinite or not a number).
    """
    rounded = {}
    for name, tensor in weights.items():
        value = tensor.detach().cpu().float().numpy()
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.isfinite(half).all():
            raise BundleError(
                f"weight {name}: {np.abs(value).max()} does not fit into float16; "
                "the training diverged, export an earlier checkpoint"
            )
        rounded[name] = half
    return rounded


def quantise_weight(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers and scales such that integers · scales ≈ weight, each output with its own scale.

    Args:
        weight: [M, K].

    Returns:
        Integers in ±63 [M, K] and one float32 scale > 0 per output [M]. No weight is off by more
        than half its scale.
    """
    values = weight.astype(np.float32)
    scales = np.maximum(np.abs(values).max(1) / WEIGHT_LEVELS, SMALLEST_PEAK).astype(np.float32)
    levels = np.clip(np.rint(values / scales[:, None]), -WEIGHT_LEVELS, WEIGHT_LEVELS)
    return levels.astype(np.int8), scales


def quantised_rows(graph: GraphBuilder, rows: str) -> tuple[str, str]:
    """Quantise activations with one scale per row, so that no row knows of another.

    Args:
        graph: takes the nodes.
        rows: float32 [R, K].

    Returns:
        uint8 [R, K] around 128, and the scales [R, 1].
    """
    peak = graph.node("ReduceMax", graph.node("Abs", rows), graph.integers(-1), keepdims=1)
    peak = graph.node("Max", peak, graph.constant(np.array([SMALLEST_PEAK], np.float32)))
    levels = graph.constant(np.array([ACTIVATION_LEVELS], np.float32))
    scaled = graph.node("Mul", rows, graph.node("Div", levels, peak))
    shifted = graph.node(
        "Add", graph.node("Round", scaled), graph.constant(np.array([ZERO_POINT], np.float32))
    )
    # Not "Mul": ONNX Runtime would fuse two Muls behind MatMulInteger into an operator of its own,
    # whose arithmetic for one row and for many is not ours to promise.
    step = graph.node("Div", peak, levels)
    return graph.node("Cast", shifted, to=TensorProto.UINT8), step


def quantised_product(graph: GraphBuilder, rows: str, weight: NDArray[Any]) -> str:
    """Rows times a quantised weight [M, K]: float32 [R, K] → float32 [R, M].

    The sums are of integers, hence exact: they are the same on every CPU, in any order and company.
    """
    integers, scales = quantise_weight(weight)
    levels, step = quantised_rows(graph, rows)
    zero = graph.constant(np.array(ZERO_POINT, np.uint8))
    sums = graph.node("MatMulInteger", levels, graph.constant(integers.T), zero)
    sums = graph.node("Mul", graph.node("Cast", sums, to=TensorProto.FLOAT), step)
    return graph.node("Mul", sums, graph.constant(scales))
