"""How the gradient fades in the network of a run: as it began, and as it is now."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from asr.errors import DataError
from asr.features import output_frames
from training.audio_store import decode
from training.checkpoint import read_checkpoint
from training.examples import target_of
from training.fading import fade
from training.loop import loss_parts
from training.losses import UNKNOWN, Labels, frame_labels
from training.model import AcousticNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from training.data import Utterance
    from training.run import Run

UTTERANCES = 8
DIGITS = 4  # of a norm that is written down


def fades(run: Run, lags: int) -> list[dict[str, Any]]:
    """Rows for both networks, over the same validation recordings and without distortion.

    Args:
        run: over, on any device.
        lags: frames of 40 ms that the gradient is followed back.

    Returns:
        The fields of `training.fading.Fade`, with `when`: `before` or `after`.

    Raises:
        DataError: no validation recording is a quarter longer than `lags` frames.
    """
    torch.manual_seed(run.recipe.seed)  # as training.assembly does: the weights of step 0
    before = AcousticNetwork(run.trainer.network.config).eval()
    after = read_checkpoint(run.files.checkpoint).build()
    chosen = _long_enough(run.material.validation, lags)
    features, labels = _examples(run, chosen)

    def loss(logits: Mapping[str, Tensor]) -> Tensor:
        parts = loss_parts(run.recipe.heads, logits, labels, run.trainer.trigrams)
        return torch.stack(list(parts.values())).sum()

    rows = []
    for when, network in (("before", before), ("after", after)):
        for found in fade(network, features, labels.frames, loss, lags=lags):
            norms = [float(f"{norm:.{DIGITS}g}") for norm in found.norms]
            rows.append({"when": when, **asdict(found), "norms": norms})
    return rows


def _long_enough(utterances: Sequence[Utterance], lags: int) -> list[Utterance]:
    """The shortest of those that are a quarter longer than the lags."""
    wanted = [u for u in utterances if output_frames(u.samples) >= lags * 5 // 4]
    if not wanted:
        raise DataError(
            f"no validation recording has {lags * 5 // 4} frames of 40 ms; follow the gradient "
            "over fewer"
        )
    return sorted(wanted, key=lambda u: u.samples)[:UTTERANCES]


def _examples(run: Run, utterances: Sequence[Utterance]) -> tuple[Tensor, Labels]:
    samples = np.zeros((len(utterances), max(u.samples for u in utterances)), np.float32)
    for row, utterance in zip(samples, utterances, strict=True):
        row[: utterance.samples] = decode(utterance)
    frames = torch.tensor([output_frames(utterance.samples) for utterance in utterances])
    length = int(frames.max()) + run.recipe.network.look_ahead
    features = run.trainer.make.log_mel(torch.from_numpy(samples), 4 * length)
    heads = run.recipe.heads
    targets = {name: [target_of(u, name) for u in utterances] for name in heads}
    return features, Labels(frames, targets, _frame_targets(run, utterances, int(frames.max())))


def _frame_targets(run: Run, utterances: Sequence[Utterance], length: int) -> dict[str, Tensor]:
    found = {}
    for name, numbers in run.trainer.make.wanted.frame_heads.items():
        rows = np.full((len(utterances), length), UNKNOWN, np.int64)
        for row, utterance in zip(rows, utterances, strict=True):
            known = frame_labels(utterance.phones, numbers, utterance.samples, 1.0, 0)
            row[: len(known)] = known
        found[name] = torch.from_numpy(rows)
    return found
