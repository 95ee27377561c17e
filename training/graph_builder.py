"""A small notation for ONNX graphs: each call adds a node and returns the name of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from asr.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OPSET = 18  # the first with `Split(num_outputs=…)` and the axes of `ReduceMax` as an input
IR_VERSION = 9  # what ONNX Runtime 1.20, our lower bound, certainly reads
STREAMS = "streams"  # the free first axis of every input and output
WEIGHT_PREFIX = "weights."  # before a trained tensor's name: `ahead` is both a tensor and a state


class GraphBuilder:
    """Collects nodes, weights and the graph's inputs and outputs.

    Values are referred to by name. Weights are held in float16, which is half the file; ONNX
    Runtime turns them into float32 once, while it loads.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, onnx.TensorProto] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._weights: dict[str, str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int) -> str:
        """Declare a float32 input [N, *shape] and return its name."""
        self._inputs.append(_value_info(name, shape))
        return name

    def output(self, name: str, value: str, *shape: int) -> None:
        """Give a value the name of a float32 output [N, *shape]."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(_value_info(name, shape))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result; attributes are those of the ONNX operator."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        results: int,
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several results and return their names."""
        number = len(self._nodes)
        names = [f"{operator.lower()}_{number}_{k}" for k in range(results)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, value: NDArray[Any]) -> str:
        """A constant of exactly this type and shape; equal ones are stored once."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._initialisers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
            self._constants[key] = name
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """A vector of int64, as shapes, axes and indices are given."""
        return self.constant(np.array(values, np.int64))

    def weight(self, name: str, value: NDArray[np.float16]) -> str:
        """A trained tensor, stored in float16 under `weights.` and its name, as a float32 value.

        Args:
            name: its key in PyTorch's state dict.
            value: the rounded weights.
        """
        if name not in self._weights:
            stored = WEIGHT_PREFIX + name
            self._initialisers[stored] = numpy_helper.from_array(
                np.asarray(value, order="C"), stored
            )
            self._weights[name] = self.node("Cast", stored, to=TensorProto.FLOAT)
        return self._weights[name]

    def concat(self, axis: int, *values: str) -> str:
        """Values joined along an axis; a single one is returned as it is."""
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=axis)

    def reshape(self, value: str, *shape: int) -> str:
        """The same numbers in another shape; one size may be -1."""
        return self.node("Reshape", value, self.integers(*shape))

    def slice(self, value: str, start: int, end: int, axis: int = 1) -> str:
        """Elements start … end - 1 along an axis, which keeps its place."""
        bounds = (self.integers(number) for number in (start, end, axis))
        return self.node("Slice", value, *bounds)

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model, checked.

        Raises:
            BundleError: onnx finds a fault in it.
        """
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initialisers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="asr",
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except onnx.checker.ValidationError as error:
            raise BundleError(f"graph {name}: {str(error).splitlines()[0]}") from error
        return model


def _value_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [STREAMS, *shape])
