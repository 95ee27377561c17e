"""One stream on its way from a state to the next, block by block. Lives within one call.

Everything that happens to a stream depends on its blocks alone, never on how audio was cut into
calls: which blocks are silent, which frames they give, which events follow.

Sizes: V units of the decoded head, L the network's look-ahead in output frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from asr.acoustic import BLOCK_OUTPUTS
from asr.endpoint import MAX_WORDS, closing_reason
from asr.errors import StateError
from asr.features import (
    BLOCK_SAMPLES,
    BLOCK_SUPPORT,
    LOOK_BACK,
    blocks_for,
    check_samples,
    frame_span,
    output_frames,
)
from asr.state import State
from asr.transcript import Alternative, Event, Final, Partial, Word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asr.acoustic import AcousticState, Array
    from asr.decoding import DecodedWord

# A block is silent if its own 1,280 samples are zero. From the 20th in a row on (1.5 s) the network
# is not stepped and says blank. With the 12 blank frames after which a word is complete that makes
# 2 s, from which on more silence of whole blocks changes no word, whatever the network would say.
SILENT_STEPS = 19
LOUDEST = 1e6  # audio lies in ±1; beyond this float32 energies would overflow
NEVER = -80.0  # log-probability of what cannot be, kept finite for decoders' arithmetic


def blank_rows(units: int) -> Array:
    """Log-probabilities [2, V] of a block in which there is certainly nothing."""
    rows = np.full((BLOCK_OUTPUTS, units), NEVER, np.float32)
    rows[:, 0] = 0.0
    return rows


def blocks_left(samples: int, blocks: int, look_ahead: int) -> int:
    """Blocks still to do in a stream of so many samples, of which so many are done."""
    return blocks_for(output_frames(samples), look_ahead) - blocks


def repair(samples: Array) -> tuple[Array, int]:
    """The samples with zero for what is no audio (not finite or beyond ±1e6), and how many.

    Raises:
        AudioError: `samples` is not float32 [n].
    """
    check_samples(samples)
    good = np.abs(samples) <= LOUDEST
    bad = len(samples) - int(np.count_nonzero(good))
    return (np.where(good, samples, np.float32(0)), bad) if bad else (samples, 0)


class Progress:
    """A stream within one call of the recogniser: a state's fields that may be written to.

    Attributes:
        acoustic: state of the network.
        codec: the decoder.
        decoder: its state.
        ended: whether the audio has ended.
        events: what has happened in this call.
    """

    def __init__(self, state: State, blank: Array, look_ahead: int) -> None:
        """Begin at a state, which stays as it is.

        Args:
            state: of a stream that has something to come.
            blank: as `blank_rows` makes it.
            look_ahead: L.

        Raises:
            StateError: the stream is finished.
        """
        if state.finished:
            raise StateError("this stream is finished and takes no more audio; start another one")
        self.acoustic: AcousticState = state.acoustic
        self.events: list[Event] = []
        self._before = state
        self._blank = blank
        self._look_ahead = look_ahead
        self.codec = state.codec
        self.decoder = state.decoder
        self._pool = state.waiting  # samples at hand, from those that the next block looks back to
        self._offset = 0  # where in them it looks back to
        self._samples = state.samples
        self._repaired = state.repaired
        self._words = state.words
        self._readings = state.readings
        self._shown = state.shown
        self._blocks = state.blocks
        self._first_block = state.first_block
        self._silent_blocks = state.silent_blocks
        self._segment = state.segment
        self.ended = state.ended

    def take_in(self, samples: Array) -> None:
        """Append arriving samples, float32 [n].

        Raises:
            AudioError: they are anything else.
            StateError: the audio has ended, and these are more of it.
        """
        samples, bad = repair(samples)
        if self.ended and len(samples):
            raise StateError("this stream has ended and takes no more audio; start another one")
        self._pool = np.concatenate((self._pool, samples))  # a copy, even of nothing and samples
        self._samples += len(samples)
        self._repaired += bad

    def end(self) -> None:
        """Append the digital silence under which the last output frames come out."""
        self.ended = True
        missing = blocks_left(self._samples, self._blocks, self._look_ahead)
        pool = np.zeros(LOOK_BACK + missing * BLOCK_SAMPLES, np.float32)
        pool[: len(self._pool)] = self._pool
        self._pool = pool

    def ready(self) -> bool:
        """Whether all samples of the next block are there."""
        return len(self._pool) - self._offset >= BLOCK_SUPPORT

    def block(self) -> Array:
        """The samples of the next block [1520]; to be asked only when it is `ready`."""
        return self._pool[self._offset : self._offset + BLOCK_SUPPORT]

    def pass_silence(self) -> bool:
        """Pass over the next block if its silence needs no network; whether that was so."""
        if self.block()[LOOK_BACK:].any():
            self._silent_blocks = 0
        else:
            self._silent_blocks = min(self._silent_blocks, SILENT_STEPS) + 1
            if self._first_block < 0 or self._silent_blocks > SILENT_STEPS:
                self.decoded(*self.codec.advance(self.decoder, self._frames_of(self._blank)))
                return True
        if self._first_block < 0:
            self._first_block = self._blocks
        return False

    def take(self, log_probs: Array, acoustic: AcousticState) -> Array:
        """Take in what the network made of the next block.

        Args:
            log_probs: [2, V].
            acoustic: its new state.

        Returns:
            Those rows that are frames of this stream, to decode and tell with `decoded`.
        """
        self.acoustic = acoustic
        # Frames before the first block that was stepped come out of an empty look-ahead.
        early = BLOCK_OUTPUTS * (self._first_block - self._blocks) + self._look_ahead
        if early > 0:
            log_probs = np.concatenate((self._blank[:early], log_probs[early:]))
        return self._frames_of(log_probs)

    def decoded(self, decoder: Any, committed: Iterable[DecodedWord]) -> None:
        """Go on with what the decoder made of the next block: its new state, and words."""
        before, self.decoder = self.decoder, decoder
        self._blocks += 1
        self._offset += BLOCK_SAMPLES
        self._add(before, tuple(committed))
        self._tell()

    def close(self) -> None:
        """Close the last segment, when all blocks of a stream that has ended are done."""
        self._add(self.decoder, self.codec.finish(self.decoder))
        while len(self._words) > MAX_WORDS:
            self._cut("length")
        if self._words:
            self._cut("finish")
        self._pool, self._offset = self._pool[:0], 0

    def state(self) -> State:
        """The state after all that."""
        return State(
            self._before.bundle_id,
            self._before.options,
            self._pool[self._offset :].copy() if self._offset else self._pool,
            self.acoustic,
            self.decoder,
            self._words,
            self._readings,
            self._shown,
            self._samples,
            self._repaired,
            self._blocks,
            self._first_block,
            self._silent_blocks,
            self._segment,
            self.ended,
            codec=self.codec,
        )

    def _frames_of(self, log_probs: Array) -> Array:
        """Those rows of the next block that are frames of this stream."""
        first = BLOCK_OUTPUTS * self._blocks - self._look_ahead  # frame of the first row
        stop = output_frames(self._samples) - first if self.ended else BLOCK_OUTPUTS
        return log_probs[max(0, -first) : stop]

    def _add(self, before: Any, committed: tuple[DecodedWord, ...]) -> None:
        """Add words that were committed in a state of the decoder, and what else they may be."""
        if not committed:
            return
        self._words += self._timed(committed)
        n = self._before.options.n_best
        if n > 1:
            others = self.codec.readings(before, committed, n)
            more = [Alternative(self._timed(words), score) for score, words in others]
            self._readings = joined(self._readings, more, n)

    def _timed(self, words: Iterable[DecodedWord]) -> tuple[Word, ...]:
        """Words with frames as words with samples."""
        return tuple(
            Word(w.text, *frame_span(w.start, w.end, self._samples), w.confidence) for w in words
        )

    def _tell(self) -> None:
        """The events of the block just done: finals, then at most one partial."""
        options = self._before.options
        tentative = self.codec.tentative(self.decoder)
        silence = self.codec.silence(self.decoder)
        while reason := closing_reason(
            len(self._words),
            open_words=bool(tentative),
            silent_frames=silence,
            endpoint_ms=options.endpoint_ms,
        ):
            self._cut(reason)
        if not options.partials:
            return
        shown = _text(self._words), _text(tentative)
        if shown != self._shown:
            self._shown = shown
            self.events.append(Partial(self._segment, *shown, self._position()))

    def _cut(self, reason: str) -> None:
        """Close the open segment behind its last word, or its 100th."""
        words, self._words = self._words[:MAX_WORDS], self._words[MAX_WORDS:]
        alternatives, self._readings = self._readings[1:], ()
        if self._words and self._before.options.n_best > 1:  # a cut between words, not readings
            alternatives, self._readings = (), (Alternative(self._words, 0.0),)
        self.events.append(Final(self._segment, words, reason, self._position(), alternatives))
        self._segment += 1
        self._shown = ("", "")

    def _position(self) -> int:
        """Samples that the blocks done rest on."""
        return min(self._blocks * BLOCK_SAMPLES, self._samples)


def joined(
    before: tuple[Alternative, ...], more: Iterable[Alternative], n: int
) -> tuple[Alternative, ...]:
    """The n likeliest readings of what was said before and what was said now.

    Args:
        before: readings, best first; none at the beginning of a segment.
        more: of the words that follow, best first.
        n: how many, at most.

    Returns:
        Each with other words; the first of both come first.
    """
    both = (
        Alternative((*a.words, *b.words), a.score + b.score)
        for a in before or (Alternative((), 0.0),)
        for b in more
    )
    found: dict[str, Alternative] = {}
    for reading in sorted(both, key=lambda reading: -reading.score):
        found.setdefault(reading.text, reading)
    return tuple(found.values())[:n]


def _text(words: Iterable[Word | DecodedWord]) -> str:
    return " ".join(word.text for word in words)
