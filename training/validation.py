"""How good the network is: loss and unit errors of each head, word errors of the recogniser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from asr.decoding.greedy import GreedyDecoder
from asr.evaluate import validate
from asr.features import Normalisation, output_frames
from asr.onnx_backend import OnnxModel
from asr.recognizer import Recognizer
from training.audio_store import decode
from training.examples import target_of
from training.graph import write_graph
from training.losses import ctc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.checkpoint import Checkpoint
    from training.data import Utterance
    from training.features import LogMel
    from training.model import AcousticNetwork

GROUP = 20  # utterances that go through the network together


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What one head makes of the validation set.

    Attributes:
        loss: CTC, nats per unit.
        errors: edit distance of the best path to the target, over the target's length.
    """

    loss: float
    errors: float


def head_results(
    network: AcousticNetwork, log_mel: LogMel, utterances: Sequence[Utterance]
) -> dict[str, HeadResult]:
    """Loss and unit errors of every head, over whole utterances in float32."""
    totals: dict[str, list[float]] = {name: [0.0, 0.0, 0.0] for name in network.config.heads}
    ordered = sorted(utterances, key=lambda utterance: utterance.samples)
    for first in range(0, len(ordered), GROUP):
        group = ordered[first : first + GROUP]
        for name, (loss, errors, units) in _group_results(network, log_mel, group).items():
            totals[name] = [a + b for a, b in zip(totals[name], (loss, errors, units), strict=True)]
    return {
        name: HeadResult(loss / max(1, units), errors / max(1, units))
        for name, (loss, errors, units) in totals.items()
    }


@torch.inference_mode()
def _group_results(
    network: AcousticNetwork, log_mel: LogMel, group: Sequence[Utterance]
) -> dict[str, tuple[float, float, int]]:
    samples = np.zeros((len(group), max(u.samples for u in group)), np.float32)
    for row, utterance in zip(samples, group, strict=True):
        row[: utterance.samples] = decode(utterance)
    frames = torch.tensor([output_frames(utterance.samples) for utterance in group])
    device = network.ahead.device
    length = 4 * (int(frames.max()) + network.config.longest_look_ahead())
    logits = network(log_mel(torch.from_numpy(samples), length).to(device))
    results = {}
    for name, values in logits.items():
        targets = [target_of(utterance, name) for utterance in group]
        units = sum(len(target) for target in targets if target is not None)
        loss = float(ctc(values, frames, targets)) * units
        paths = values.argmax(-1).cpu().numpy()
        errors = sum(
            Levenshtein.distance(best_path(path[:count]), target.tolist())
            for path, count, target in zip(paths, frames.tolist(), targets, strict=True)
            if target is not None
        )
        results[name] = loss, float(errors), units
    return results


def best_path(units: np.ndarray) -> list[int]:
    """Units of a path without repeats and blanks."""
    changed = np.flatnonzero(np.diff(units, prepend=-1))
    return [int(unit) for unit in units[changed] if unit]


def word_error_rate(checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> float:
    """Word-error rate of the streaming recogniser, as it will ship (int8), greedy."""
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "acoustic.int8.onnx"
        network = checkpoint.build()
        write_graph(network, graph, "int8")
        heads = network.config.exported_heads()
        head = next(iter(heads))
        model = OnnxModel(graph, heads, network.config.look_ahead_of(head))
        recognizer = Recognizer(
            model,
            GreedyDecoder(checkpoint.units[head], head),
            Normalisation(
                np.array(checkpoint.mean, np.float32), np.array(checkpoint.deviation, np.float32)
            ),
            bundle_id="validation",
        )
        return validate(recognizer, utterances).wer


def summary(results: Mapping[str, HeadResult], wer: float | None) -> dict[str, float]:
    """The figures of one validation under the names they have in `metrics.jsonl`."""
    values = {f"{name}.loss": result.loss for name, result in results.items()}
    values |= {f"{name}.errors": result.errors for name, result in results.items()}
    return values if wer is None else values | {"wer": wer}
