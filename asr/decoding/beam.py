"""Beam search over a lexicon and a word n-gram, as a streaming decoder.

`asr.decoding.reference` defines the search. Here its results become words with times, and its state
a value: a few kB that can be kept, copied, written down and gone on from.

Sizes: T frames of 40 ms, V units with the blank at 0.
"""

from __future__ import annotations

import binascii
import copy
import math
from base64 import b64decode, b64encode
from bisect import bisect_left
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asr.decoding import DecodedWord
from asr.decoding.boost import automaton
from asr.decoding.confidence import confidence
from asr.decoding.kernel import (
    ENTRY,
    HYPOTHESIS,
    MOST_FRAMES,
    WORD,
    Advanced,
    Engine,
    PythonEngine,
    Waiting,
    engine,
    pack,
    unpack_arena,
    unpack_hypotheses,
    unpack_words,
)
from asr.decoding.lexicon import look_ahead
from asr.decoding.ngram import UNKNOWN
from asr.decoding.reference import (
    FLOOR,
    NO_WORD,
    ONE,
    ROOT,
    SCALE,
    Entry,
    Hypothesis,
    Parameters,
    Tables,
    history,
)
from asr.decoding.settings import LOWEST, BeamSettings
from asr.decoding.spelling import RIGHT, heard, tolls
from asr.decoding.tables import frame_offset, log_add_table, share_table
from asr.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from asr.decoding.language import Language
    from asr.decoding.reference import Committed, Search

NEGLIGIBLE = 7 * SCALE  # a reading so far behind the best has a thousandth of its probability
DOUBT = 8 * SCALE  # hypotheses further behind the best are no alternatives to it
FREQUENT = 6 * SCALE  # a word with a unigram probability above e^-6 needs no help to be found
LIMIT = 2**31
LONGEST = 64  # frames at the end of an unknown word that are spelled


class BeamState(NamedTuple):
    """What the search remembers.

    Attributes:
        frame: frames taken in.
        score: what has been taken from the hypotheses' scores so far, in 1/1024 nat.
        end: one past the last frame of the last committed word.
        hypotheses: at most `beam` of them, packed, best first.
        arena: their words that are not committed, packed.
        sounds: the likeliest unit of each of the last frames, a byte each; none where no words are
            spelled.
        shown: the uncommitted words that were shown last, packed; none where `steadiness` is 0.
    """

    frame: int
    score: int
    end: int
    hypotheses: bytes
    arena: bytes
    sounds: bytes = b""
    shown: bytes = b""


class Reading(NamedTuple):
    """What an ending says.

    Attributes:
        score: in 1/1024 nat.
        weight: its probability, of that of the best one.
        history: of the hypothesis: the index of its last complete word, -1 for none.
        before: the words of that history; readings with the same history share them.
        last: the word that ends now, if there is one.
    """

    score: int
    weight: float
    history: int
    before: tuple[Entry, ...]
    last: tuple[Entry, ...]

    @property
    def words(self) -> tuple[Entry, ...]:
        """All of it."""
        return self.before + self.last


class BeamDecoder:
    """Beam search over one head; see `asr.decoding.Decoder`.

    Attributes:
        head: the head that it reads.
        settings: width and weights.
        units: V.
        tables: what is searched.
        engine: what takes the frames in.
        ahead: what is known of the words below each node.
    """

    def __init__(
        self,
        language: Language,
        settings: BeamSettings,
        units: int,
        make_engine: Callable[[Tables], Engine] = engine,
    ) -> None:
        """Put a decoder together.

        Args:
            language: its lexicon is made for the units of the head.
            settings: the head, width and weights.
            units: V.
            make_engine: what takes the frames in; the compiled one by default.

        Raises:
            ConfigError: the settings do not fit the units.
        """
        if len(settings.priors) not in ({units} if settings.prior_weight else {0, units}):
            raise ConfigError(
                f"decoding.priors has {len(settings.priors)} numbers for {units} units"
            )
        self.head = settings.head
        self.settings = settings
        self.units = units
        lexicon, lm, self._words, speller = language
        if settings.spelling is not None and speller is None:
            raise ConfigError("decoding.spelling: nothing in the bundle says how words are spelled")
        self._speller = None if settings.spelling is None else speller
        self._sounds = LONGEST + settings.horizon if self._speller else 0  # that a state keeps
        parameters = Parameters(
            beam=settings.beam,
            threshold=round(settings.threshold * SCALE),
            gap=settings.gap,
            horizon=settings.horizon,
            lm_weight=round(settings.lm_weight * SCALE),
            bonus=round(settings.word_bonus * SCALE),
            homophones=lexicon.homophones,
            units=units,
            lm_bits=(lm.words + lm.bigrams).bit_length(),
            reward=0,
            certainty=round(settings.certainty * ONE),
            loop=len(lexicon.phone),
            steadiness=round(settings.steadiness * SCALE),
        )
        self._language = language
        self.ahead = look_ahead(lexicon, lm.unigram_prob)
        tables = Tables(
            parameters,
            lexicon.phone,
            lexicon.first_child,
            lexicon.first_word,
            lexicon.words,
            (self.ahead.score.astype(np.int64) * parameters.lm_weight >> 10).astype(np.int32),
            self.ahead.word,
            log_add_table(),
            share_table(),
            np.zeros(0, np.int32),
            lm,
            automaton([], {}, 0),
        )
        if settings.spelling is not None:
            toll = tolls(lexicon, units, parameters.lm_weight)
            toll[0] -= round(settings.spelling * SCALE)
            tables = _with_loop(tables, toll)
        self._use(tables, make_engine(tables))
        self._offset = frame_offset(settings, units)
        start = Hypothesis(ROOT, lm.start, 0, FLOOR, -1, 0, 0, 0)
        self._start = BeamState(0, 0, 0, pack(HYPOTHESIS, [start]), b"")

    def boosted(self, phrases: Sequence[str], reward: float | None = None) -> BeamDecoder:
        """A decoder that expects phrases; this one stays as it is.

        A word of a phrase is paid what its unigram probability is below e^-6, but `reward` at most;
        the last word is paid the whole reward. What was paid for the beginning of a phrase is taken
        back where it breaks off.

        Args:
            phrases: words of the lexicon in lower case, with single spaces.
            reward: in nats; None is the settings' `phrase_reward`.

        Returns:
            A decoder whose states are its own: they know where in a phrase a hypothesis is.

        Raises:
            ConfigError: a word is not in the lexicon, or there are too many phrases.
        """
        lexicon, lm = self._language.lexicon, self._language.lm
        tables = self.tables
        number = self._spoken(phrases)
        for text in sorted({word for phrase in phrases for word in phrase.split()}):
            if text not in number:
                raise ConfigError(f"phrases: the lexicon does not say how {text!r} sounds")
        whole = round((self.settings.phrase_reward if reward is None else reward) * SCALE)
        rewards = {
            word: min(whole, max(0, -FREQUENT - int(lm.unigram_prob[word])))
            for word in number.values()
        }
        numbers = [[number[word] for word in phrase.split()] for phrase in phrases]
        boost = automaton(numbers, rewards, whole)
        most = 1 << (31 - tables.parameters.lm_bits)
        if len(boost.fail) > most:
            raise ConfigError(f"phrases: {len(boost.fail) - 1} words in all; at most {most - 1}")
        look = np.array(tables.look)
        for word, paid in rewards.items():
            score = (int(lm.unigram_prob[word]) * tables.parameters.lm_weight >> 10) + paid
            path = lexicon.path(word)
            look[path] = np.maximum(look[path], score)
        made = copy.copy(self)
        parameters = tables.parameters._replace(reward=whole)
        tables = tables._replace(parameters=parameters, look=look, boost=boost)
        made._use(tables, self.engine.expecting(tables))  # noqa: SLF001  # its own kind
        return made

    def knows(self, phrase: str) -> bool:
        """Whether the lexicon says how all words of a phrase sound, so that it can be expected."""
        return set(phrase.split()) <= set(self._spoken([phrase]))

    def _spoken(self, phrases: Iterable[str]) -> dict[str, int]:
        """The words of phrases that the lexicon knows, with their numbers."""
        found: dict[str, int] = {}
        for word in {word for phrase in phrases for word in phrase.split()}:
            place = bisect_left(self._alphabet, word, key=self._words.__getitem__)
            if place < len(self._alphabet) and self._words[self._alphabet[place]] == word:
                found[word] = int(self._alphabet[place])
        return {word: n for word, n in found.items() if self._sounding[n]}

    @cached_property
    def _sounding(self) -> NDArray[np.bool_]:
        """Of every word, whether the lexicon says how it sounds."""
        sounding = np.zeros(len(self._words), np.bool_)
        sounding[self._language.lexicon.words] = True
        return sounding

    @cached_property
    def _alphabet(self) -> NDArray[np.int32]:
        """The numbers of all words in the order of their spelling: a dictionary takes 20 times."""
        return np.array(sorted(range(len(self._words)), key=self._words.__getitem__), np.int32)

    def adopt(self, state: BeamState, before: BeamDecoder) -> BeamState:
        """A state of another decoder of the same language, made one of this.

        Hypotheses forget where in a phrase they are; what was paid for a phrase that is not
        complete is taken back.

        Args:
            state: of `before`.
            before: this decoder or one that expects other phrases.
        """
        bits, boost = self._parameters.lm_bits, before.tables.boost  # its own kind
        old, new = before.tables.look, self.tables.look
        search = before.search(state)
        found: dict[tuple[int, int], tuple[int, Hypothesis]] = {}
        for h in search.hypotheses:
            shift = int(new[h.node]) - int(old[h.node]) - int(boost.owed[h.lm >> bits])
            blank, sound = max(FLOOR, h.blank + shift), max(FLOOR, h.sound + shift)
            moved = h._replace(lm=h.lm & ((1 << bits) - 1), blank=blank, sound=sound)
            best = search.total(moved)
            if other := found.get((moved.node, moved.lm)):
                blank, sound = (
                    search.add(a, b) for a, b in ((other[1].blank, blank), (other[1].sound, sound))
                )
                kept = max((best, moved), other, key=lambda one: one[0])
                best, moved = kept[0], kept[1]._replace(blank=blank, sound=sound)
            found[moved.node, moved.lm] = best, moved
        hypotheses = sorted(
            (h for _, h in found.values()), key=lambda h: (-search.total(h), h.node, h.lm)
        )
        top = search.total(hypotheses[0])
        relative = [
            h._replace(blank=max(FLOOR, h.blank - top), sound=max(FLOOR, h.sound - top))
            for h in hypotheses
        ]
        return state._replace(score=state.score + top, hypotheses=pack(HYPOTHESIS, relative))

    def _use(self, tables: Tables, engine: Engine) -> None:
        self.tables = tables
        self._parameters = tables.parameters
        self.engine = engine
        self._python = PythonEngine(tables)  # for what is asked seldom

    def start(self) -> BeamState:
        """The state before the first frame."""
        return self._start

    def advance(
        self, state: BeamState, log_probs: NDArray[np.float32]
    ) -> tuple[BeamState, tuple[DecodedWord, ...]]:
        """Take in frames [T, V], T ≥ 0; return the new state and the words committed by them."""
        return self.advance_many([state], [log_probs])[0]

    def advance_many(
        self, states: Sequence[BeamState], log_probs: Sequence[NDArray[np.float32]]
    ) -> list[tuple[BeamState, tuple[DecodedWord, ...]]]:
        """As `advance`, for many streams in one go: each gets what it would get alone."""
        if not states:
            return []
        longest = max(map(len, log_probs))
        if longest > MOST_FRAMES:
            half = longest // 2
            begun = self.advance_many(states, [rows[:half] for rows in log_probs])
            states = [state for state, _ in begun]
            ended = self.advance_many(states, [rows[half:] for rows in log_probs])
            return [
                (state, (*before, *said))
                for (_, before), (state, said) in zip(begun, ended, strict=True)
            ]
        scores = self._scores(log_probs)
        advanced = self.engine.advance(
            [
                Waiting(state.frame, rows, state.hypotheses, state.arena, state.shown)
                for state, rows in zip(states, scores, strict=True)
            ]
        )
        return [
            self._after(state, rows, after)
            for state, rows, after in zip(states, scores, advanced, strict=True)
        ]

    def _scores(self, log_probs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int32]]:
        """Log-probabilities as whole numbers."""
        rows = log_probs[0] if len(log_probs) == 1 else np.concatenate(log_probs)
        # fmax and fmin give the other number for what is not a number.
        bounded = np.fmin(np.fmax(rows, -LOWEST), LOWEST)
        scores = np.rint(bounded * SCALE).astype(np.int32) + self._offset
        parts, begin = [], 0
        for rows in log_probs:
            parts.append(scores[begin : begin + len(rows)])
            begin += len(rows)
        return parts

    def _after(
        self, state: BeamState, rows: NDArray[np.int32], advanced: Advanced
    ) -> tuple[BeamState, tuple[DecodedWord, ...]]:
        """The state after some frames of scores, and the words committed in them."""
        score, hypotheses, arena, shown, committed = advanced
        frame, sounds = state.frame + len(rows), b""
        if self._speller:
            sounds = state.sounds + rows.argmax(1).astype(np.uint8).tobytes()
        after = BeamState(frame, state.score + score, state.end, hypotheses, arena, sounds, shown)
        said = self._line(committed, after, [word.share for word in committed])
        end = said[-1].end if said else state.end
        return after._replace(end=end, sounds=sounds[-self._sounds :]), said

    def tentative(self, state: BeamState) -> tuple[DecodedWord, ...]:
        """The uncommitted words that most of the probability agrees on, the open one included.

        A word is shown while it is being spoken: as what its sounds so far are likeliest to be. One
        that was shown stays until another is `steadiness` likelier.
        """
        foremost = self.engine.foremost(state.hypotheses, state.arena, state.shown)
        place = foremost.hypothesis * HYPOTHESIS.size
        h = Hypothesis._make(HYPOTHESIS.unpack_from(state.hypotheses, place))
        entries = history(_Arena(state.arena), h.history)
        if foremost.word != NO_WORD:
            cost = foremost.score - h.mark
            entries.append(Entry(foremost.word, h.start, h.end, -1, cost, foremost.word_lm))
        return self._line(entries, state, [ONE] * len(entries), tentative=True)

    def finish(self, state: BeamState) -> tuple[DecodedWord, ...]:
        """The words of the best hypothesis that ends with a word.

        A word cut off in the middle is left out, where no hypothesis that ends with a word is
        within 8 nats.
        """
        readings = list(self._readings(state, within=NEGLIGIBLE))
        words = readings[0].words
        return self._line(words, state, _shares(readings, words))

    def readings(
        self, state: BeamState, said: tuple[DecodedWord, ...], n: int
    ) -> list[tuple[float, tuple[DecodedWord, ...]]]:
        """What else words may be that are committed next; see `asr.decoding.Decoder`.

        A reading is what a hypothesis has up to the end of those words.
        """
        end = said[-1].end
        readings = list(self._readings(state, behind=DOUBT))
        found: dict[tuple[str, ...], tuple[int, Sequence[Entry]]] = {}
        looked_at: set[tuple[int, tuple[Entry, ...]]] = set()
        for reading in readings:
            last = reading.last if reading.last and reading.last[0].start < end else ()
            if (reading.history, last) in looked_at:  # most: their last words begin later
                continue
            looked_at.add((reading.history, last))
            begun = [*(entry for entry in reading.before if entry.start < end), *last]
            texts = tuple(filter(None, (self._text(entry, state) for entry in begun)))
            if texts:
                found.setdefault(texts, (reading.score, begun))
        top, _ = found.pop(tuple(word.text for word in said), (readings[0].score, None))
        others = sorted(found.values(), key=lambda reading: -reading[0])[: n - 1]
        best: list[tuple[float, tuple[DecodedWord, ...]]] = [(0.0, said)]
        for score, spoken in others:
            line = self._line(spoken, state, _shares(readings, spoken))
            cut = tuple(replace(word, end=min(word.end, end)) for word in line if word.start < end)
            best.append((min(0, score - top) / SCALE, cut))
        return best

    def n_best(self, state: BeamState, n: int) -> list[tuple[float, tuple[DecodedWord, ...]]]:
        """The likeliest readings of what is not committed, if no more frames come.

        Args:
            state: of the stream.
            n: how many, at most.

        Returns:
            Score in nats since the beginning of the stream, and words, best first; no two have the
            same texts.
        """
        found: dict[tuple[str, ...], tuple[float, tuple[DecodedWord, ...]]] = {}
        for reading in self._readings(state):
            line = self._line(reading.words, state, [ONE] * len(reading.words))
            score = (state.score + reading.score) / SCALE
            found.setdefault(tuple(word.text for word in line), (score, line))
            if len(found) == n:
                break
        return list(found.values())

    def silence(self, state: BeamState) -> int:
        """Frames since the last sound of the best hypothesis, 0 while one is sounding."""
        return state.frame - Hypothesis._make(HYPOTHESIS.unpack_from(state.hypotheses)).end

    def dump(self, state: BeamState) -> dict[str, Any]:
        """The state as numbers and texts."""
        counts = {"frame": state.frame, "score": state.score, "end": state.end}
        return {**counts, **{name: _text(getattr(state, name)) for name in self._parts()}}

    def restore(self, values: dict[str, Any]) -> BeamState:
        """The state that `dump` described.

        Raises:
            StateError: the values do not describe a state of this search.
        """
        parts = self._parts()
        if set(values) != {"frame", "score", "end", *parts}:
            raise StateError("the saved decoder state is not one of beam search")
        frame, score, end = (values[name] for name in ("frame", "score", "end"))
        if not all(_whole(count, -(2**62), 2**62) for count in (frame, score, end)):
            raise StateError("the saved decoder state holds numbers that cannot be")
        state = BeamState(frame, score, end, **{name: _bytes(values[name]) for name in parts})
        packed = (HYPOTHESIS, state.hypotheses), (ENTRY, state.arena), (WORD, state.shown)
        if any(len(part) % layout.size for layout, part in packed):
            raise StateError("the saved decoder state is cut off")
        if not self._possible(state):
            raise StateError("the saved decoder state holds numbers that cannot be")
        return state

    def _parts(self) -> list[str]:
        """What a state has in bytes, with these settings."""
        spelled, steady = self._speller is not None, self._parameters.steadiness > 0
        return ["hypotheses", "arena", *["sounds"] * spelled, *["shown"] * steady]

    def search(self, state: BeamState) -> Search:
        """The search in Python at a state: to look at its hypotheses."""
        return self._python.search(state.frame, state.hypotheses, state.arena, state.shown)

    def _possible(self, state: BeamState) -> bool:
        """Whether the kernel can go on from a state without leaving its tables."""
        p = self._parameters
        hypotheses, arena = unpack_hypotheses(state.hypotheses), unpack_arena(state.arena)
        if not 1 <= len(hypotheses) <= p.beam or len(arena) > p.beam * (p.horizon + 1):
            return False
        if not 0 <= state.end <= state.frame < LIMIT:
            return False
        if len(state.sounds) != min(state.frame, self._sounds) or (
            max(state.sounds, default=0) >= self.units
        ):
            return False
        shown = unpack_words(state.shown)
        if len(shown) > p.horizon + 1 or not all(0 <= word < len(self._words) for word in shown):
            return False
        if len({(h.node, h.lm) for h in hypotheses}) < len(hypotheses):
            return False
        return all(self._possible_hypothesis(h, len(arena), state.frame) for h in hypotheses) and (
            all(
                -1 <= e.previous < n
                and 0 <= e.word < len(self._words)
                and state.frame - p.horizon < e.end <= state.frame
                and 0 <= e.start < e.end
                and (e.previous < 0 or arena[e.previous].end < e.end)
                for n, e in enumerate(arena)
            )
        )

    def _possible_hypothesis(self, h: Hypothesis, entries: int, frame: int) -> bool:
        lm, bits = self.tables.lm, self._parameters.lm_bits
        return (
            0 <= h.node < len(self.tables.phone)
            and 0 <= h.lm < LIMIT
            and h.lm & ((1 << bits) - 1) < lm.words + lm.bigrams
            and h.lm >> bits < len(self.tables.boost.fail)
            and FLOOR <= h.blank <= SCALE
            and FLOOR <= h.sound <= SCALE
            and -1 <= h.history < entries
            and 0 <= h.start <= frame
            and 0 <= h.end <= frame
            and FLOOR <= h.mark <= -FLOOR
        )

    def _readings(
        self, state: BeamState, behind: int = -FLOOR, within: int = -FLOOR
    ) -> Iterator[Reading]:
        """What may have been said, if no more frames come, best first; see `Search.endings`."""
        arena = _Arena(state.arena)
        known: dict[int, tuple[Entry, ...]] = {}  # few histories have many hypotheses
        endings = self.engine.endings(state.hypotheses, behind, within)
        top = endings[0].score
        for score, hypothesis, word, cost, word_lm in endings:
            place = hypothesis * HYPOTHESIS.size
            h = Hypothesis._make(HYPOTHESIS.unpack_from(state.hypotheses, place))
            before = known.get(h.history)
            if before is None:
                before = known[h.history] = tuple(history(arena, h.history))
            last = () if word == NO_WORD else (Entry(word, h.start, h.end, -1, cost, word_lm),)
            yield Reading(score, math.exp((score - top) / SCALE), h.history, before, last)

    def _line(
        self,
        entries: Sequence[Entry | Committed],
        state: BeamState,
        shares: Sequence[int],
        *,
        tentative: bool = False,
    ) -> tuple[DecodedWord, ...]:
        """Words, each in its place: not before the end of the one before, and one frame at least.

        One that is to be spelled and sounds like nothing is left out.
        """
        line: list[DecodedWord] = []
        end = state.end
        for said, share in zip(entries, shares, strict=True):
            if text := self._text(said, state):
                start = max(said.start, end)
                end = max(said.end, start + 1)
                sure = self.confidence(said, share, tentative=tentative)
                line.append(DecodedWord(text, start, end, sure))
        return tuple(line)

    def _text(self, said: Entry | Committed, state: BeamState) -> str:
        """A word of the lexicon, or what the likeliest units of its frames spell.

        A state keeps the frames of `horizon` and so many before that the last `LONGEST` frames of a
        word are there whenever it is committed, however the frames are cut into calls.
        """
        if said.word != UNKNOWN or self._speller is None:
            return self._words[said.word]
        first = state.frame - len(state.sounds)
        begin = max(said.start, said.end - LONGEST, first)
        return self._speller.spell(heard(state.sounds[begin - first : said.end - first]))

    def confidence(self, said: Entry | Committed, share: int, *, tentative: bool = False) -> float:
        """How surely a word was said; see `asr.decoding.confidence`.

        Of a spelled one, how surely it was said and is written right. A tentative word has weights
        of its own: nobody counts how many hypotheses agree on it.
        """
        weights = self.settings.calibration
        if tentative:
            weights = self.settings.calibration_tentative or weights
        sure = confidence(said, share, weights)
        return sure * RIGHT if self._speller and said.word == UNKNOWN else sure


def _with_loop(tables: Tables, toll: NDArray[np.int32]) -> Tables:
    """Tables with a branch that spells: a node for each phone behind those of the lexicon.

    No node is below another of them, the unknown word is complete at each, and its unigram score is
    paid as it is anywhere in the tree.

    Args:
        tables: of a lexicon alone.
        toll: what a phone costs behind another, [V, V].
    """
    V, N, E = len(toll), len(tables.phone), len(tables.words)
    paid = int(tables.lm.unigram_prob[UNKNOWN]) * tables.parameters.lm_weight >> 10

    def longer(numbers: Any, more: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([numbers, more.astype(numbers.dtype)])

    one = np.ones(V - 1)
    return tables._replace(
        phone=longer(tables.phone, np.arange(1, V)),
        first_child=longer(tables.first_child, N * one),
        first_word=longer(tables.first_word, E + np.arange(1, V)),
        words=longer(tables.words, UNKNOWN * one),
        look=longer(tables.look, paid * one),
        guess=longer(tables.guess, UNKNOWN * one),
        tolls=toll.ravel(),
    )


class _Arena:
    """Entries unpacked one by one: showing the best hypothesis needs few of them."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __getitem__(self, n: int) -> Entry:
        return Entry._make(ENTRY.unpack_from(self._packed, n * ENTRY.size))


def _shares(readings: Sequence[Reading], words: Sequence[Entry]) -> list[int]:
    """Share of the readings' probability, of 32768, that has each of the words in its place.

    A reading agrees if it has that word at a time that overlaps.
    """
    everything = sum(reading.weight for reading in readings)
    histories = {reading.history: reading.before for reading in readings}
    shares = []
    for wanted in words:
        agreeing = {n for n, before in histories.items() if _says(before, wanted)}
        agreed = sum(
            weight
            for _, weight, n, _, last in readings
            if n in agreeing or (last and last[0].word == wanted.word and _says(last, wanted))
        )
        shares.append(round(ONE * agreed / everything))
    return shares


def _says(entries: Iterable[Entry], wanted: Entry) -> bool:
    """Whether one of the words is this one, at a time that overlaps."""
    word, start, end = wanted[:3]
    return any(e.word == word and e.start < end and start < e.end for e in entries)


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise StateError("the saved decoder state holds something else than text")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise StateError("the saved decoder state is damaged") from error
