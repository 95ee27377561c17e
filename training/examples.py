"""From numbers of utterances to what the network is trained on: features and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from asr.errors import DataError
from asr.features import output_frames
from training.augment import Augmenter, Distorted, Samples, mask, warp
from training.data import Faults, Utterance, needed_frames
from training.losses import BLANK, UNKNOWN, Labels, frame_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.audio_store import AudioStore
    from training.batching import Batch
    from training.features import LogMel


Example = tuple[Utterance, Distorted, np.random.Generator]


@dataclass(frozen=True, slots=True)
class Examples:
    """A batch, ready for the network.

    Attributes:
        features: normalised log-mel [B, F, 80]; all utterances in one view, then in the next.
        labels: what it should give.
        seconds: of audio in all views, without padding.
    """

    features: Tensor
    labels: Labels
    seconds: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the network needs of an example.

    Attributes:
        look_ahead: output frames of silence behind each utterance.
        heads: names of the heads.
        frame_heads: for each head that learns from frames, the number of each phone's unit.
        views: how often each utterance comes, distorted in other ways each time.
    """

    look_ahead: int
    heads: tuple[str, ...]
    frame_heads: dict[str, dict[str, int]]
    views: int = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An utterance that turned out to be unusable.

    Attributes:
        source: number of its source.
        member: its number there.
        kind: of fault.
        message: which it is, or what is wrong with it.
    """

    source: int
    member: int
    kind: str
    message: str


class ExampleMaker:
    """Makes examples from batches, distorted by a generator seeded per utterance and pass.

    Utterances that turn out to be unusable only now are left out, and each counted once.

    Args:
        stores: audio of each source.
        log_mel: normalised features.
        augmenter: distortion, or None for none.
        wanted: what the network needs.
        seed: of the distortion.

    Attributes:
        faults: what was wrong with them.
    """

    def __init__(
        self,
        stores: Sequence[AudioStore],
        log_mel: LogMel,
        augmenter: Augmenter | None,
        wanted: Wanted,
        seed: int,
    ) -> None:
        self.stores, self.log_mel, self.augmenter = stores, log_mel, augmenter
        self.wanted, self.seed = wanted, seed
        self.faults = Faults()
        self._bad: list[set[int]] = [set() for _ in stores]

    def bad_share(self) -> float:
        """Share of the source with most unusable utterances that turned out to be unusable."""
        return max(
            len(bad) / len(store.utterances)
            for bad, store in zip(self._bad, self.stores, strict=True)
        )

    def __call__(self, batch: Batch) -> Examples | None:
        """The examples of a batch without those that cannot be read; None when none can."""
        examples, left_out = self.prepare(batch)
        self.note(left_out)
        return examples

    def note(self, left_out: Sequence[LeftOut]) -> None:
        """Count what was left out, each utterance once."""
        for one in left_out:
            if one.member not in self._bad[one.source]:
                self._bad[one.source].add(one.member)
                self.faults.add(one.kind, one.message)

    def prepare(self, batch: Batch) -> tuple[Examples | None, list[LeftOut]]:
        """The examples of a batch, and what was left out of it; nothing is counted."""
        store = self.stores[batch.source]
        left_out: list[LeftOut] = []
        kept: list[list[Example]] = []
        for member in batch.members:
            utterance = store.utterances[member]
            rng = np.random.default_rng((self.seed, 3, batch.source, batch.rounds, member))
            try:
                samples = store.read(member)
            except DataError as error:
                left_out.append(LeftOut(batch.source, member, "unreadable audio", str(error)))
                continue
            views = self._views(samples, rng)
            longest = max(map(needed_frames, utterance.targets.values()), default=0)
            if output_frames(len(views[0].samples)) < longest and not views[0].wordless:
                kind = "transcript longer than the frames allow"
                left_out.append(LeftOut(batch.source, member, kind, utterance.name))
                continue
            kept.append([(utterance, distorted, rng) for distorted in views])
        rows = [row for view in zip(*kept, strict=True) for row in view]
        return self._collate(rows) if rows else None, left_out

    def _views(self, samples: Samples, rng: np.random.Generator) -> list[Distorted]:
        if self.augmenter is None:
            return [Distorted(samples, 1, 0)] * self.wanted.views
        course = self.augmenter.course(rng)
        return [self.augmenter(samples, rng, course) for _ in range(self.wanted.views)]

    def _collate(self, kept: list[Example]) -> Examples:
        lengths = [len(distorted.samples) for _, distorted, _ in kept]
        samples = np.zeros((len(kept), max(lengths)), np.float32)
        for row, (_, distorted, _) in zip(samples, kept, strict=True):
            row[: len(distorted.samples)] = distorted.samples
        frames = [output_frames(length) for length in lengths]
        features = self.log_mel(
            torch.from_numpy(samples), 4 * (max(frames) + self.wanted.look_ahead)
        )
        if self.augmenter:
            settings = self.augmenter.settings
            for row, count, (_, _, rng) in zip(features, frames, kept, strict=True):
                if settings.warp:
                    warp(row, settings.warp, rng)
                mask(row, 4 * count, settings, rng)
        targets = {
            h: [NOTHING if d.wordless else target_of(utterance, h) for utterance, d, _ in kept]
            for h in self.wanted.heads
        }
        frame_targets = self._frame_targets(kept, max(frames))
        labels = Labels(torch.tensor(frames), targets, frame_targets, self.wanted.views)
        return Examples(features, labels, sum(lengths) / 16000)

    def _frame_targets(self, kept: list[Example], length: int) -> dict[str, Tensor]:
        labels = {}
        for head, number in self.wanted.frame_heads.items():
            rows = np.full((len(kept), length), UNKNOWN, np.int64)
            for row, (utterance, distorted, _) in zip(rows, kept, strict=True):
                n = len(distorted.samples)
                known = frame_labels(utterance.phones, number, n, distorted.speed, distorted.lead)
                row[: len(known)] = BLANK if distorted.wordless else known
            labels[head] = torch.from_numpy(rows)
        return labels


NOTHING = torch.zeros(0, dtype=torch.int64)  # what is to be written where nobody speaks


def target_of(utterance: Utterance, head: str) -> Tensor | None:
    """Unit numbers of an utterance's text for a head, None where the head cannot write it."""
    target = utterance.targets.get(head)
    return None if target is None else torch.from_numpy(target)
