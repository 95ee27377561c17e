"""One step of the acoustic network as an ONNX graph, written node by node from the weights.

By hand, because PyTorch's exporters either freeze the number of streams or keep the recurrent
operators whole, and those cannot be quantised so that a stream's result is its own: see
`docs/decisions/quantisation.md`.

Sizes: N streams, 8 feature frames in a block, M = 80 mel bands, T = 2 output frames, C channels of
the front, H width, D depth, L look-ahead, V units of a head. "Rows" are values [N · T, …], the two
frames of a stream next to each other.

The state's arrays, in the order of `AcousticNetwork.initial`: `conv1` [N, 3, 80], `conv2`
[N, 1, C], `h` [N, D, H], with an LSTM also `c` [N, D, H], `ahead` [N, L, H], and for each head that
reads another its own `<head>.h` (and `<head>.c`) [N, width]. `ahead` stays when L is 0: an empty
array in and out, so that every model of the same heads has the same list of states.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr.acoustic import BLOCK_FRAMES, BLOCK_OUTPUTS
from training.graph_builder import GraphBuilder
from training.model import BANDS, FIRST_KERNEL, SECOND_KERNEL
from training.quantise import quantised_product, round_weights

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from training.model import AcousticNetwork, NetworkConfig

Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

STRIDE = 2  # of both convolutions
NORM_EPSILON = 1e-5  # PyTorch's default


def write_graph(network: AcousticNetwork, path: str | Path, precision: Precision) -> None:
    """Write the network's step as an ONNX file; the same weights give the same bytes.

    Args:
        network: its weights are rounded to float16 on the way; the network itself is left alone.
        path: the file, replaced if it exists.
        precision: `float32` (weights stored in float16, each named `weights.` and its key in the
            state dict) or `int8`.

    Raises:
        BundleError: a weight does not fit into float16.
    """
    weights = round_weights(network.state_dict())
    model = StepGraph(network.config, weights, precision).build()
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


class StepGraph:
    """Builds the graph of one block for one configuration and one set of weights.

    Args:
        config: shape of the network.
        weights: the state dict in float16.
        precision: form of the recurrent layers' matrices; the few weights of front and heads stay
            in float32, which costs nothing and makes no error.
    """

    def __init__(
        self, config: NetworkConfig, weights: dict[str, NDArray[np.float16]], precision: Precision
    ) -> None:
        self.config = config
        self.weights = weights
        self.precision = precision
        self.graph = GraphBuilder()
        self.memories = ("h", "c") if config.cell == "lstm" else ("h",)

    def build(self) -> onnx.ModelProto:
        """The checked model."""
        c, graph = self.config, self.graph
        shapes = {
            "conv1": (FIRST_KERNEL - STRIDE, BANDS),
            "conv2": (SECOND_KERNEL - STRIDE, c.front),
            **dict.fromkeys(self.memories, (c.depth, c.width)),
            "ahead": (c.look_ahead, c.width),
            **{
                f"{name}.{memory}": (head.width,)
                for name, head in c.readers().items()
                for memory in self.memories
            },
        }
        features = graph.input("features", BLOCK_FRAMES, BANDS)
        states = {name: graph.input(name, *shape) for name, shape in shapes.items()}
        rows, after = self._network(features, states)
        logits = {
            name: self._linear(rows, f"heads.{name}")
            for name in c.exported_heads()
            if name not in c.readers()
        }
        for name, head in c.readers().items():
            logits[name], spelled = self._spell(name, logits[head.reads], states)
            after |= spelled
        for name, units in c.exported_heads().items():
            log_probs = graph.node("LogSoftmax", logits[name], axis=-1)
            framed = graph.reshape(log_probs, -1, BLOCK_OUTPUTS, units)
            graph.output(f"log_probs.{name}", framed, BLOCK_OUTPUTS, units)
        for name, shape in shapes.items():
            graph.output(f"{name}.next", after[name], *shape)
        return graph.model("acoustic step")

    def _network(self, features: str, states: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Everything below the heads: rows [N · T, H] and the new states."""
        after: dict[str, str] = {}
        x, after["conv1"] = self._convolution(features, states["conv1"], "conv1", FIRST_KERNEL)
        x = self.graph.reshape(x, -1, BLOCK_FRAMES // STRIDE, self.config.front)
        x, after["conv2"] = self._convolution(x, states["conv2"], "conv2", SECOND_KERNEL)
        x = self._norm(self._linear(x, "project"), "project_norm")
        ends = []
        for number in range(self.config.depth):
            before = {name: self._pick(states[name], number) for name in self.memories}
            y, end = self._layer(x, f"layers.{number}", before, self.config.width, BLOCK_OUTPUTS)
            x = self.graph.node("Add", x, self._norm(y, f"norms.{number}"))
            ends.append(end)
        for name in self.memories:
            parts = [self.graph.reshape(end[name], -1, 1, self.config.width) for end in ends]
            after[name] = self.graph.concat(1, *parts)
        x, after["ahead"] = self._look_ahead(x, states["ahead"])
        return x, after

    def _spell(self, name: str, read: str, states: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The logits of a head that reads another's logits [N · T, V], and its new states."""
        before = {memory: states[f"{name}.{memory}"] for memory in self.memories}
        head = self.config.heads[name]
        said = self.graph.node("Softmax", read, axis=-1)
        pairs = self.graph.reshape(said, -1, BLOCK_OUTPUTS * self.config.heads[head.reads].units)
        y, end = self._layer(pairs, f"readers.{name}", before, head.width, 1)
        spelled = self._linear(self._norm(y, f"reader_norms.{name}"), f"heads.{name}")
        logits = self.graph.reshape(spelled, -1, head.units)
        return logits, {f"{name}.{memory}": value for memory, value in end.items()}

    def _affine(self, rows: str, weight_name: str, bias: str = "") -> str:
        """Rows [R, K] times a weight [M, K] or [M, channels, taps], plus a bias [M] if given.

        One Gemm with the weight as it is stored: turned around first, ONNX Runtime would hold every
        weight twice.
        """
        weight = self.weights[weight_name]
        matrix = self.graph.weight(weight_name, weight)
        if weight.ndim == 3:  # a convolution: channels of a frame lie next to each other
            matrix = self.graph.node("Transpose", matrix, perm=[0, 2, 1])
            matrix = self.graph.reshape(matrix, weight.shape[0], -1)
        return self.graph.node("Gemm", rows, matrix, *([bias] if bias else []), transB=1)

    def _linear(self, rows: str, name: str) -> str:
        return self._affine(rows, f"{name}.weight", self._vector(f"{name}.bias"))

    def _recurrent(self, rows: str, weight_name: str, bias: str) -> str:
        """As `_affine`, in the form of this graph's precision."""
        if self.precision == "float32":
            return self._affine(rows, weight_name, bias)
        product = quantised_product(self.graph, rows, self.weights[weight_name])
        return self.graph.node("Add", product, bias) if bias else product

    def _vector(self, name: str) -> str:
        return self.graph.weight(name, self.weights[name])

    def _norm(self, rows: str, name: str) -> str:
        gain, bias = self._vector(f"{name}.weight"), self._vector(f"{name}.bias")
        return self.graph.node(
            "LayerNormalization", rows, gain, bias, axis=-1, epsilon=NORM_EPSILON
        )

    def _pick(self, value: str, index: int) -> str:
        """[N, D, …] → [N, …]."""
        return self.graph.node("Gather", value, self.graph.constant(np.array(index)), axis=1)

    def _convolution(self, frames: str, tail: str, name: str, kernel: int) -> tuple[str, str]:
        """Causal convolution of stride 2 and ReLU over [N, F, K], as one product over its windows.

        Returns:
            Rows [N · F / 2, C], and the new tail [N, kernel - 2, K].
        """
        graph = self.graph
        channels = self.weights[f"{name}.weight"].shape[1]
        count = BLOCK_FRAMES if name == "conv1" else BLOCK_FRAMES // STRIDE
        joined = graph.concat(1, tail, frames)
        taps = graph.constant(np.arange(0, count, STRIDE)[:, None] + np.arange(kernel))
        windows = graph.node("Gather", joined, taps, axis=1)  # [N, F / 2, kernel, K]
        rows = graph.reshape(windows, -1, kernel * channels)
        after = graph.slice(joined, count, count + kernel - STRIDE)
        return graph.node("Relu", self._linear(rows, name)), after

    def _layer(
        self, rows: str, name: str, state: dict[str, str], width: int, steps: int
    ) -> tuple[str, dict[str, str]]:
        """A recurrent layer over rows, one step after the other.

        Args:
            rows: its input [N · S, K].
            name: prefix of its weights.
            state: `h` (and `c`) before, [N, H] each.
            width: H.
            steps: S.

        Returns:
            Its output [N · S, H], and the state after.
        """
        graph, H = self.graph, width
        cell = {"rnn": self._rnn, "gru": self._gru, "lstm": self._lstm}[self.config.cell]
        bias = self._vector(f"{name}.bias_ih_l0")
        memory_bias = self._vector(f"{name}.bias_hh_l0")
        if self.config.cell != "gru":  # whose reset gate acts on the second bias, too
            bias, memory_bias = graph.node("Add", bias, memory_bias), ""
        inputs = self._recurrent(rows, f"{name}.weight_ih_l0", bias)
        gates = self.weights[f"{name}.bias_ih_l0"].shape[0]
        inputs = graph.reshape(inputs, -1, steps, gates)
        outputs = []
        for step in range(steps):
            memory = self._recurrent(state["h"], f"{name}.weight_hh_l0", memory_bias)
            state = cell(self._pick(inputs, step), memory, state)
            outputs.append(graph.reshape(state["h"], -1, 1, H))
        return graph.reshape(graph.concat(1, *outputs), -1, H), state

    def _rnn(self, inputs: str, memory: str, _state: dict[str, str]) -> dict[str, str]:
        """PyTorch's tanh cell."""
        return {"h": self.graph.node("Tanh", self.graph.node("Add", inputs, memory))}

    def _gru(self, inputs: str, memory: str, state: dict[str, str]) -> dict[str, str]:
        """PyTorch's GRU: gates r, z, n; the reset gate acts after the product."""
        node = self.graph.node
        inputs_rzn = self.graph.nodes("Split", [inputs], 3, axis=1, num_outputs=3)
        memory_rzn = self.graph.nodes("Split", [memory], 3, axis=1, num_outputs=3)
        reset, update = (
            node("Sigmoid", node("Add", *parts))
            for parts in zip(inputs_rzn[:2], memory_rzn[:2], strict=True)
        )
        new_in, new_h = inputs_rzn[2], memory_rzn[2]
        new = node("Tanh", node("Add", new_in, node("Mul", reset, new_h)))
        kept = node("Mul", update, node("Sub", state["h"], new))
        return {"h": node("Add", new, kept)}

    def _lstm(self, inputs: str, memory: str, state: dict[str, str]) -> dict[str, str]:
        """PyTorch's LSTM: gates i, f, g, o."""
        node = self.graph.node
        gates = node("Add", inputs, memory)
        i, f, g, o = self.graph.nodes("Split", [gates], 4, axis=1, num_outputs=4)
        written = node("Mul", node("Sigmoid", i), node("Tanh", g))
        c = node("Add", node("Mul", node("Sigmoid", f), state["c"]), written)
        return {"h": node("Mul", node("Sigmoid", o), node("Tanh", c)), "c": c}

    def _look_ahead(self, rows: str, tail: str) -> tuple[str, str]:
        """Weighted sum over frames t … t + L per channel.

        Args:
            rows: frames [N · T, H].
            tail: the L frames before them [N, L, H].

        Returns:
            Frames that lag by L [N · T, H], and the new tail.
        """
        graph, H, L = self.graph, self.config.width, self.config.look_ahead
        joined = graph.concat(1, tail, graph.reshape(rows, -1, BLOCK_OUTPUTS, H))
        weights = self._vector("ahead")
        total = ""
        for k in range(L + 1):
            weight = graph.slice(weights, k, k + 1, axis=0)
            term = graph.node("Mul", graph.slice(joined, k, k + BLOCK_OUTPUTS), weight)
            total = graph.node("Add", total, term) if total else term
        after = graph.slice(joined, BLOCK_OUTPUTS, BLOCK_OUTPUTS + L)
        return graph.reshape(total, -1, H), after
