"""What is minimised: CTC (Graves et al. 2006), and cross-entropy of frames of known times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's custom

from asr.features import FRAME_SAMPLES, LOOK_BACK, output_frames
from training.crf import log_partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from training.crf import UnitTrigram

UNKNOWN = -100  # label of a frame that is not counted
BLANK = 0  # label of a frame in which nothing is said


@dataclass(frozen=True, slots=True)
class Labels:
    """What a batch should give.

    Attributes:
        frames: output frames of each utterance [B].
        targets: for each head the unit numbers of each utterance, None where it cannot write the
            text.
        frame_targets: for each head that learns from frames the unit of each frame [B, T],
            `UNKNOWN` where none.
        views: of each utterance: row b is followed by its next view in row b + B / views.
    """

    frames: Tensor
    targets: Mapping[str, Sequence[Tensor | None]]
    frame_targets: Mapping[str, Tensor]
    views: int = 1


def ctc(logits: Tensor, frames: Tensor, targets: Sequence[Tensor | None]) -> Tensor:
    """CTC loss per unit of the targets, in float32 or better.

    Args:
        logits: [B, T, V], unnormalised, blank at 0.
        frames: [B] used frames of each row.
        targets: unit numbers of each row; rows with None do not count.

    Returns:
        Nats per target unit, summed over rows; a row whose target cannot fit counts as 0.
    """
    rows = [row for row, target in enumerate(targets) if target is not None]
    if not rows:
        return logits.sum() * 0
    known = [target for target in targets if target is not None]
    lengths = torch.tensor([len(target) for target in known])
    wide = logits if logits.dtype == torch.float64 else logits.float()
    log_probs = wide[rows].log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(
        log_probs,
        torch.cat(known).to(logits.device),
        frames[rows],
        lengths,
        reduction="sum",
        zero_infinity=True,
    )
    return loss / max(1, int(lengths.sum()))


def ctc_crf(
    logits: Tensor, frames: Tensor, targets: Sequence[Tensor | None], trigram: UnitTrigram
) -> Tensor:
    """CTC-CRF loss per unit of the targets, without the part that training cannot change.

    Args:
        logits: [B, T, V], unnormalised, blank at 0.
        frames: [B] used frames of each row.
        targets: unit numbers of each row; rows with None do not count.
        trigram: weights of all sequences of units.
    """
    rows = [row for row, target in enumerate(targets) if target is not None]
    if not rows:
        return logits.sum() * 0
    units = sum(len(target) for target in targets if target is not None)
    log_probs = logits[rows].float().log_softmax(-1)
    log_z = log_partition(log_probs, frames[rows].to(logits.device), trigram)
    return ctc(logits, frames, targets) + log_z.sum() / max(1, units)


def disagreement(logits: Tensor, frames: Tensor, targets: Sequence[Tensor | None]) -> Tensor:
    """How far two views of the same utterances are apart (Yao et al. 2025, "CR-CTC", section 3).

    Each frame's distribution is drawn towards that of the other view, which is taken as given.

    Args:
        logits: [2 B, T', V], of the one view of each utterance, then of the other.
        frames: [2 B] used frames of each row.
        targets: unit numbers of each row; rows with None do not count.

    Returns:
        The mean of both Kullback-Leibler divergences, in nats per target unit of one view.
    """
    half, T = len(logits) // 2, int(frames.max())
    rows = [row for row, target in enumerate(targets[:half]) if target is not None]
    if not rows:
        return logits.sum() * 0
    log_probs = logits[:, :T].float().log_softmax(-1)
    one, other = log_probs[:half][rows], log_probs[half:][rows]
    apart = _towards(one, other) + _towards(other, one)
    used = torch.arange(T) < frames[:half][rows, None]
    units = sum(len(target) for target in targets[:half] if target is not None)
    return (apart * used.to(apart.device)).sum() / (2 * max(1, units))


def _towards(given: Tensor, log_probs: Tensor) -> Tensor:
    """Divergence of log-probabilities [B, T, V] from given ones, frame by frame [B, T]."""
    wanted = given.detach()
    return (wanted.exp() * (wanted - log_probs)).sum(-1)


def frame_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the frames whose label is known (0 when there is none).

    Args:
        logits: [B, T', V] with T' ≥ T.
        labels: [B, T].
    """
    if not bool((labels != UNKNOWN).any()):
        return logits.sum() * 0
    flat = logits[:, : labels.shape[1]].float().flatten(0, 1)
    return F.cross_entropy(flat, labels.flatten(), ignore_index=UNKNOWN)


def frame_labels(
    phones: Sequence[tuple[str, int, int]],
    number: Mapping[str, int],
    samples: int,
    speed: float,
    lead: int,
) -> NDArray[np.int64]:
    """The unit that sounds in the middle of each output frame, the blank between phones.

    Args:
        phones: phone, first sample, last sample + 1 in the undistorted recording; none: all
            unknown.
        number: number of each phone's unit; frames of other phones are unknown.
        samples: length of the distorted recording.
        speed: it was played that much faster,
        lead: and begins with that many samples of silence.

    Returns:
        Unit numbers [T], T the output frames of `samples`; `UNKNOWN` where nothing is known.
    """
    T = output_frames(samples)
    if not phones:
        return np.full(T, UNKNOWN, np.int64)
    labels = np.zeros(T, np.int64)
    for phone, start, end in phones:
        # frame t stands for the samples of [t, t + 1) times 640, less what windows look back
        first, last = (
            (lead + position / speed + LOOK_BACK) / FRAME_SAMPLES - 0.5 for position in (start, end)
        )
        labels[max(0, math.ceil(first)) : max(0, math.ceil(last))] = number.get(phone, UNKNOWN)
    return labels
