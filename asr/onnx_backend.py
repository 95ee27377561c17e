"""The acoustic model run by ONNX Runtime on the CPU.

Settings were measured (`docs/decisions/`): one thread per session and no spinning, since threads
that wait by spinning cost ten times the work itself when audio comes in real time; more streams are
served by batches and processes.

Sizes: N streams, V units of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from asr.acoustic import BLOCK_FRAMES, BLOCK_OUTPUTS
from asr.errors import BundleError
from asr.features import BANDS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from asr.acoustic import AcousticState, Array

INPUT = "features"
OUTPUT = "log_probs."  # and the head's name
NEXT = ".next"  # behind a state's name


class OnnxModel:
    """A step graph of a bundle; see `asr.acoustic.AcousticModel`.

    Attributes:
        look_ahead: output frames by which results lag their input.
        heads: number of units of each head; the first is the one that greedy decoding reads.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        heads: Mapping[str, int],
        look_ahead: int,
        threads: int = 1,
    ) -> None:
        """Load a graph.

        Args:
            path: the ONNX file.
            heads: the heads that it is to have, with their units.
            look_ahead: output frames, as the bundle says.
            threads: cores for one step, ≥ 1.

        Raises:
            BundleError: the file is missing, damaged, or not such a graph.
        """
        self.look_ahead = look_ahead
        self.heads = dict(heads)
        try:
            self._session = ort.InferenceSession(
                str(path), _options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no other base
            reason = " ".join(str(error).split())
            raise BundleError(f"{path}: no network that can be run: {reason}") from error
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        self._states = [name for name in inputs if name != INPUT]
        self._outputs = [*(OUTPUT + head for head in self.heads), *(s + NEXT for s in self._states)]
        wanted = {OUTPUT + head: [BLOCK_OUTPUTS, units] for head, units in self.heads.items()}
        wanted |= {name + NEXT: inputs[name][1:] for name in self._states}
        found = {name: outputs[name][1:] for name in wanted if name in outputs}
        if inputs.get(INPUT, [])[1:] != [BLOCK_FRAMES, BANDS] or found != wanted:
            raise BundleError(f"{path}: a graph of other inputs or outputs than the bundle's")
        self._shapes = [tuple(inputs[name][1:]) for name in self._states]

    def initial(self) -> AcousticState:
        """The state of one stream before any audio."""
        return tuple(np.zeros(shape, np.float32) for shape in self._shapes)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Advance N streams by one block each; see `asr.acoustic.AcousticModel.step`."""
        parts = zip(*states, strict=True)
        inputs = {name: np.stack(part) for name, part in zip(self._states, parts, strict=True)}
        results = self._session.run(self._outputs, inputs | {INPUT: features})
        log_probs = dict(zip(self.heads, results, strict=False))
        after = results[len(self.heads) :]
        if len(states) == 1:
            return log_probs, [tuple(array[0] for array in after)]
        # Copies: a slice would keep the whole batch alive in every stream's state.
        return log_probs, [tuple(a[k].copy() for a in after) for k in range(len(states))]


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # failures arrive as exceptions; nothing is written to stderr
    return options
