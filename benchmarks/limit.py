"""How many streams a core could carry at most: by its multiply-adds, by the network, by all of it.

Three bounds, each below the one before: what the processor could multiply if it did nothing else,
the network alone stepped 64 streams at a time, and the whole recogniser (features, network,
decoding) likewise. What a server carries is below the last by what sockets and waiting cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from asr import bundle
from asr.acoustic import BLOCK_FRAMES
from asr.features import BANDS
from asr.together import transcribe_together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from asr.audio import Samples

BLOCK_SECONDS: Final = 0.08
RATE: Final = 16_000
STREAMS: Final = 64
ROWS: Final = {"weights.conv1.weight": 4}  # frames of a block that a matrix is applied to; else 2
PRODUCT: Final = (64, 1024, 4096)  # rows, and a matrix of 4 MB, which no second cache holds


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one core.

    Attributes:
        multiply_adds: of the network for a second of one stream.
        peak: multiply-adds a second of an 8-bit product that ONNX Runtime does on one thread.
        network_seconds: processor time of the network for a second of one stream of 64.
        recogniser_seconds: the same of everything from samples to words.
    """

    multiply_adds: float
    peak: float
    network_seconds: float
    recogniser_seconds: float

    def details(self) -> dict[str, object]:
        """For a figure: the bounds in streams, and what they are made of."""
        return {
            "limit_multiply_adds_streams": round(self.peak / self.multiply_adds),
            "limit_network_streams": round(1 / self.network_seconds),
            "limit_recogniser_streams": round(1 / self.recogniser_seconds),
            "network_mega_multiply_adds_per_s": round(self.multiply_adds / 1e6, 1),
            "core_giga_multiply_adds_per_s": round(self.peak / 1e9, 1),
        }


def measure(model: str | None, recognizer: Any, recordings: Sequence[Samples]) -> Limits:
    """Measure the bounds, on the core that the caller is kept on.

    Args:
        model: name or path of the bundle; a checkpoint has none of this.
        recognizer: of that bundle.
        recordings: at 16 kHz; they are repeated until there are 64.
    """
    return Limits(
        multiply_adds(bundle.find(model) / "acoustic.float32.onnx") / BLOCK_SECONDS,
        peak(),
        _network(recognizer),
        _recogniser(recognizer, recordings),
    )


def multiply_adds(graph: Path) -> int:
    """Multiply-adds of a step of one stream: every matrix times the frames it is applied to."""
    weights = onnx.load(graph).graph.initializer
    return sum(
        int(np.prod(weight.dims)) * ROWS.get(weight.name, 2)
        for weight in weights
        if weight.name.startswith("weights.") and len(weight.dims) > 1
    )


def peak() -> float:
    """Multiply-adds a second of a large 8-bit product, unsigned by signed, on one thread."""
    rows, inner, columns = PRODUCT
    matrix = numpy_helper.from_array(np.ones((inner, columns), np.int8), "B")
    node = helper.make_node("MatMulInteger", ["A", "B"], ["C"])
    given = helper.make_tensor_value_info("A", TensorProto.UINT8, [rows, inner])
    made = helper.make_tensor_value_info("C", TensorProto.INT32, [rows, columns])
    graph = helper.make_graph([node], "product", [given], [made], [matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = {"A": np.ones((rows, inner), np.uint8)}
    return rows * inner * columns / _best(lambda: session.run(None, values))


def _network(recognizer: Any) -> float:
    features = np.random.default_rng(0).standard_normal((STREAMS, BLOCK_FRAMES, BANDS))
    block = features.astype(np.float32)
    states = [recognizer.acoustic.initial()] * STREAMS
    return _best(lambda: recognizer.acoustic.step(block, states)) / (STREAMS * BLOCK_SECONDS)


def _recogniser(recognizer: Any, recordings: Sequence[Samples]) -> float:
    many = list(islice(cycle(recordings), STREAMS))
    seconds = sum(map(len, many)) / RATE
    begin = time.process_time()
    transcribe_together(recognizer, many, streams=STREAMS, chunk_samples=int(BLOCK_SECONDS * RATE))
    return (time.process_time() - begin) / seconds


def _best(work: Callable[[], object], times: int = 20) -> float:
    """The shortest processor time of several."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)
