"""The recogniser: samples in, words out, everything remembered in a value.

    recognizer = asr.load()
    state = recognizer.start()
    state, events = recognizer.step(state, samples)   # any number of them, as often as they come
    state, events = recognizer.finish(state)

Audio is cut into blocks of one shape, however it arrives; see `docs/architecture.md`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from asr import bundle, progress
from asr import state as states_module
from asr.decoding.greedy import GreedyDecoder
from asr.errors import ConfigError, StateError
from asr.features import (
    BLOCK_SAMPLES,
    BLOCK_SUPPORT,
    FRAME_SAMPLES,
    LOOK_BACK,
    SAMPLE_RATE,
    Normalisation,
    log_mel_blocks,
)
from asr.state import Options, State
from asr.transcript import Event, Final, Transcript, Word

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterable, Iterator, Sequence

    from asr.acoustic import AcousticModel, Array
    from asr.bundle import Bundle
    from asr.decoding import Decoder
    from asr.decoding.beam import BeamDecoder
    from asr.progress import Progress

RECENT = 4  # sets of phrases that are kept ready: 1 MB each with a large lexicon
MAX_BATCH = 64  # streams stepped together: beyond that only memory grows
DEFAULTS = Options()
NOTHING = np.zeros(0, np.float32)  # no samples
DECODERS = ("beam", "greedy")


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    precision: str = "int8",
    threads: int = 1,
    decoder: str | None = None,
) -> Recognizer:
    """The recogniser of a model bundle.

    Args:
        name_or_path: a shipped model's name or a bundle's folder; None is the default model.
        precision: `int8` (small and fast) or `float32`.
        threads: cores for one step, ≥ 1; more than 1 seldom pays.
        decoder: `beam` (search with lexicon and language model) or `greedy` (spell what the first
            head says); None is `beam` where the bundle has a language, else `greedy`.

    Raises:
        BundleError: the bundle is missing, damaged, partial or of another version.
        ConfigError: `threads` is below 1; there is no such decoder, or no language for it.
    """
    from asr.onnx_backend import OnnxModel

    if threads < 1:
        raise ConfigError(f"threads is {threads}; it must be 1 or more")
    found = bundle.read(bundle.find(name_or_path))
    about = found.description
    settings = about.acoustic
    normalisation = Normalisation(
        np.array(about.features.mean, np.float32), np.array(about.features.deviation, np.float32)
    )
    chosen, identity = _decoder(found, decoder)
    look_ahead = settings.look_ahead_of(chosen.head)
    acoustic = OnnxModel(found.acoustic_file(precision), settings.heads, look_ahead, threads)
    if precision != "int8":  # another arithmetic does not go on identically from a saved state
        identity = _hash(f"{identity} {precision}")
    return Recognizer(acoustic, chosen, normalisation, bundle_id=identity, name=about.name)


def _decoder(found: Bundle, wanted: str | None) -> tuple[Decoder, str]:
    """A decoder of a bundle, and the id of what it makes of that bundle."""
    settings = found.description.decoding
    if wanted not in {None, *DECODERS}:
        raise ConfigError(f"decoder {wanted!r} is none of {', '.join(DECODERS)}")
    if wanted == "beam" and settings is None:
        raise ConfigError(
            f"{found.path}: the bundle has no language to search; use the greedy decoder"
        )
    if settings is None or wanted == "greedy":
        head = next(iter(found.units))
        decoder = GreedyDecoder(found.units[head], head)
        # Saved states are bound to the id, and those of the two decoders have nothing in common.
        identity = found.id if settings is None else _hash(f"{found.id} greedy")
        return decoder, identity
    from asr.decoding.beam import BeamDecoder
    from asr.decoding.language import read_language

    units = found.units[settings.head]
    return BeamDecoder(read_language(found.path, units), settings, len(units)), found.id


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Recognizer:
    """Streaming speech recognition over a network and a decoder. Holds nothing of any stream.

    Attributes:
        bundle_id: stands for everything that can change a result; saved states are bound to it.
        name: of the model.
        acoustic: the network.
        decoder: makes words of its log-probabilities.
        look_ahead_samples: output frame t, which hears samples up to 640 (t + 1) itself, needs none
            beyond so many more: the network's look-ahead and the rest of the block.
    """

    def __init__(
        self,
        acoustic: AcousticModel,
        decoder: Decoder,
        normalisation: Normalisation,
        *,
        bundle_id: str,
        name: str = "",
    ) -> None:
        """Put a recogniser together; `asr.load` does it for a bundle.

        Raises:
            ConfigError: the network has no head of the name that the decoder wants.
        """
        if decoder.head not in acoustic.heads:
            raise ConfigError(
                f"the decoder wants head {decoder.head!r}; the network has "
                f"{', '.join(acoustic.heads)}"
            )
        self.acoustic = acoustic
        self.decoder = decoder
        self.bundle_id = bundle_id
        self.name = name
        # Frame t comes out of block (t + L) // 2, whose samples end before 640 (t + L) + 1280.
        self.look_ahead_samples = FRAME_SAMPLES * (acoustic.look_ahead + 1)
        self._normalisation = normalisation
        self._blank = progress.blank_rows(acoustic.heads[decoder.head])
        self._initial = acoustic.initial()
        # Decoders that expect phrases, as long as a state has one, and the last few for the next
        # stream: streams that expect the same share one.
        self._expecting: WeakValueDictionary[tuple[str, ...], BeamDecoder] = WeakValueDictionary()
        self._recent: deque[BeamDecoder] = deque(maxlen=RECENT)

    def start(self, options: Options = DEFAULTS) -> State:
        """The state of a stream before its first sample.

        Raises:
            ConfigError: phrases are expected of a model without a language, or with a word that it
                does not know.
        """
        codec = self._decoder_for(options)
        silence = np.zeros(LOOK_BACK, np.float32)  # what the first block looks back to
        return State(self.bundle_id, options, silence, self._initial, codec.start(), codec=codec)

    def expect(self, state: State, phrases: Iterable[str]) -> State:
        """The state with other expected phrases from here on; none are none.

        What is committed stays; a phrase that has begun to be recognised is weighed anew.

        Raises:
            ConfigError: the model has no language, or a word is not in it.
            StateError: the stream belongs to another model.
        """
        self._open(state)
        options = replace(state.options, phrases=tuple(phrases))
        codec = self._decoder_for(options)
        decoder = state.decoder
        if codec is not state.codec:
            decoder = codec.adopt(decoder, state.codec)  # type: ignore[attr-defined]  # both search
        return replace(state, options=options, decoder=decoder, codec=codec)

    def step(self, state: State, samples: Array) -> tuple[State, list[Event]]:
        """Take in samples and tell what follows from them.

        Args:
            state: of the stream so far; it stays as it is and may be used again.
            samples: float32 [n] in [-1, 1], 16 kHz mono, n ≥ 0. What is no audio (not finite or
                beyond ±1e6) is replaced by zero and counted in `State.repaired`.

        Returns:
            The new state, and the events in order: those of each block that became complete.

        Raises:
            AudioError: `samples` has another type or shape.
            StateError: the stream is finished, or belongs to another model.
        """
        return self.step_many([state], [samples])[0]

    def step_many(
        self, states: Sequence[State], samples: Sequence[Array]
    ) -> list[tuple[State, list[Event]]]:
        """Take in samples of many streams at once; each gets what `step` would give it alone.

        A stream that has ended (see `end`) takes no samples, but does one more block in each call,
        the last of which finishes it.

        Args:
            states: of N streams.
            samples: what arrived for each; lengths may differ and be 0.

        Raises:
            AudioError: samples of another type or shape; then no stream has moved.
            StateError: a stream is finished, belongs to another model, or has ended and is given
                samples.
            ValueError: there are more states than samples, or fewer.
        """
        if len(states) != len(samples):
            raise ValueError(f"step_many: {len(states)} states, but samples for {len(samples)}")
        streams = []
        for state, arrived in zip(states, samples, strict=True):
            streams.append(self._open(state))
            streams[-1].take_in(arrived)
        self._advance(streams)
        return [(stream.state(), stream.events) for stream in streams]

    def end(self, state: State, samples: Array = NOTHING) -> State:
        """The state of a stream whose audio ends with these samples.

        What that brings is told by `step`, a block at a time, until the state is `finished`: so the
        ends of some streams can be stepped together with the audio of others.

        Args:
            state: of the stream so far.
            samples: the last of the audio, as in `step`.

        Raises:
            AudioError: `samples` has another type or shape.
            StateError: the stream is finished already, or belongs to another model.
        """
        stream = self._open(state)
        stream.take_in(samples)
        stream.end()
        return stream.state()

    def finish(self, state: State) -> tuple[State, list[Event]]:
        """End a stream: the events of its last frames, and the final of its open segment.

        Returns:
            A state that takes no more audio, and the events.

        Raises:
            StateError: the stream is finished already, or belongs to another model.
        """
        return self.finish_many([state])[0]

    def finish_many(self, states: Sequence[State]) -> list[tuple[State, list[Event]]]:
        """End many streams at once; each gets what `finish` would give it alone."""
        done: list[tuple[State, list[Event]]] = [(self.end(state), []) for state in states]
        while going := [n for n, (state, _) in enumerate(done) if not state.finished]:
            stepped = self.step_many([done[n][0] for n in going], [NOTHING] * len(going))
            for n, (state, events) in zip(going, stepped, strict=True):
                done[n] = state, [*done[n][1], *events]
        return done

    def flush(self, state: State) -> list[Event]:
        """What `finish` would say if the audio ended here. The stream goes on as if never asked."""
        return self.finish(state)[1]

    def restore(self, saved: bytes) -> State:
        """The state that `State.dump` wrote, in this or any other process.

        Raises:
            StateError: the bytes are damaged, of another version or of another model.
        """
        return states_module.restore(
            saved, self.bundle_id, self._decoder_for, self._initial, self._waiting_lengths
        )

    def _waiting_lengths(self, state: State) -> Container[int]:
        """How many samples can wait in a stream."""
        if not state.ended:
            return range(LOOK_BACK, BLOCK_SUPPORT)
        left = progress.blocks_left(state.samples, state.blocks, self.acoustic.look_ahead)
        return 0, LOOK_BACK + max(0, left) * BLOCK_SAMPLES

    def stream(self, options: Options = DEFAULTS) -> Stream:
        """A stream that keeps its own state, for scripts."""
        return Stream(self, self.start(options))

    def transcribe(
        self, source: str | os.PathLike[str] | Array, options: Options = DEFAULTS
    ) -> Transcript:
        """The transcript of a recording.

        Args:
            source: a file of any rate and channel count, or samples at 16 kHz, float32 [n].
            options: `partials` plays no part.

        Returns:
            Segments with times in samples of the recording at its own rate.

        Raises:
            AudioError: the file cannot be read, or the samples are of another type or shape.
        """
        stream = self.stream(replace(options, partials=False))
        if isinstance(source, np.ndarray):
            return Transcript(
                tuple(_finals([*stream.feed(source), *stream.finish()])), SAMPLE_RATE, len(source)
            )
        from asr import audio, resampling

        finals: list[Final] = []
        converter: resampling.ResamplerState | None = None
        for piece in audio.blocks(source):
            converter = converter or resampling.start(piece.sample_rate)
            converter, samples = resampling.step(converter, piece.samples)
            finals += _finals(stream.feed(samples))
        assert converter is not None  # noqa: S101  # a file has at least one piece
        finals += _finals([*stream.feed(resampling.finish(converter)[1]), *stream.finish()])
        rate, length = converter.rate, converter.received
        segments = tuple(at_rate(final, rate, length) for final in finals)
        return Transcript(segments, rate, length)

    def _decoder_for(self, options: Options) -> Decoder:
        """The decoder of a stream: one of its own if it expects phrases."""
        if not options.phrases and options.n_best == 1:
            return self.decoder
        from asr.decoding.beam import BeamDecoder

        if not isinstance(self.decoder, BeamDecoder):
            wish = "phrases" if options.phrases else "n_best"
            raise ConfigError(
                f"{wish}: only a model with a language can do that, and by search; leave out "
                "--decoder greedy, or take such a model"
            )
        if not options.phrases:
            return self.decoder
        expecting = self._expecting.get(options.phrases)
        if expecting is None:
            expecting = self._expecting[options.phrases] = self.decoder.boosted(options.phrases)
            self._recent.append(expecting)
        return expecting

    def _open(self, state: State) -> Progress:
        if state.bundle_id != self.bundle_id:
            raise StateError(
                f"this stream belongs to model {state.bundle_id[:12]}…, not to "
                f"{self.bundle_id[:12]}…"
            )
        return progress.Progress(state, self._blank, self.acoustic.look_ahead)

    def _advance(self, streams: Sequence[Progress]) -> None:
        """Do all blocks that are ready, those of all streams together round by round.

        Of a stream that has ended, do one.
        """
        ready = [stream for stream in streams if stream.ready()]
        while ready:
            stepping = [stream for stream in ready if not stream.pass_silence()]
            for first in range(0, len(stepping), MAX_BATCH):
                self._step_blocks(stepping[first : first + MAX_BATCH])
            ready = [stream for stream in ready if stream.ready() and not stream.ended]
        for stream in streams:
            if stream.ended and not stream.ready():
                stream.close()

    def _step_blocks(self, streams: list[Progress]) -> None:
        """Step the network over one block of each stream."""
        features = self._normalisation(log_mel_blocks(np.stack([s.block() for s in streams])))
        outputs, after = self.acoustic.step(features, [stream.acoustic for stream in streams])
        log_probs = outputs[self.decoder.head]
        _decode(streams, [s.take(log_probs[n], after[n]) for n, s in enumerate(streams)])


class Stream:
    """One stream with its state inside, for scripts. Servers keep the states themselves.

    Attributes:
        state: the stream so far; may be saved with `state.dump()`, or replaced by a restored one.
    """

    def __init__(self, recognizer: Recognizer, state: State) -> None:
        self.state = state
        self._recognizer = recognizer

    def feed(self, samples: Array) -> list[Event]:
        """Take in samples, float32 [n] at 16 kHz, and tell what follows; see `Recognizer.step`."""
        self.state, events = self._recognizer.step(self.state, samples)
        return events

    def flush(self) -> list[Event]:
        """What `finish` would say now; the stream goes on as if never asked."""
        return self._recognizer.flush(self.state)

    def finish(self) -> list[Event]:
        """End the stream: the last events. Afterwards it takes no more audio."""
        self.state, events = self._recognizer.finish(self.state)
        return events


def at_rate(final: Final, rate: int, length: int) -> Final:
    """A final whose times count samples at 16 kHz, with times in samples of the input instead.

    Args:
        final: from a stream whose input was converted to 16 kHz.
        rate: samples per second of the input.
        length: samples of the input so far, > 0: no time lies beyond.

    Returns:
        The final with each time t at round(t · rate / 16000); words keep at least one sample.
    """
    from asr.resampling import input_position

    def times(start: int, end: int) -> tuple[int, int]:
        first = input_position(start, rate, length - 1)
        return first, max(first + 1, input_position(end, rate, length))

    def timed(words: tuple[Word, ...]) -> tuple[Word, ...]:
        return tuple(Word(w.text, *times(w.start, w.end), w.confidence) for w in words)

    return replace(
        final,
        words=timed(final.words),
        position=input_position(final.position, rate, length),
        alternatives=tuple(replace(a, words=timed(a.words)) for a in final.alternatives),
    )


def _decode(streams: Sequence[Progress], rows: Sequence[Array]) -> None:
    """Decode the rows of each stream, those of one decoder together."""
    together: dict[int, list[int]] = {}  # a stream that expects phrases has a decoder of its own
    for number, stream in enumerate(streams):
        together.setdefault(id(stream.codec), []).append(number)
    for members in together.values():
        done = streams[members[0]].codec.advance_many(
            [streams[n].decoder for n in members], [rows[n] for n in members]
        )
        for number, (state, words) in zip(members, done, strict=True):
            streams[number].decoded(state, words)


def _finals(events: Iterable[Event]) -> Iterator[Final]:
    return (event for event in events if isinstance(event, Final))
