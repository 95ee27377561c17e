"""Formats and channels in the engine: bytes in, the events of the samples that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.state import Options
from asr.transcript import Final
from server.dialogue import (
    AudioFormat,
    Configure,
    Configured,
    Done,
    Failed,
    Flush,
    Flushed,
    Heard,
    Ping,
    Pong,
)
from server.engine import Engine
from server.intake import Intake, restore_state
from server.line import Delivered, End, Line, Room
from tests.server.sounds import KINDS, announced, encode, noise, pieces, truth
from tests.server.tones import ToneNetwork, alone, events_alone, recognizer, sing
from tests.tiny import recognizer as tiny

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.resampling import Samples
    from asr.transcript import Event

LOSSLESS = [kind for kind in KINDS if kind != "ogg-opus"]
FLAC = AudioFormat("flac", 0, 0)


class Listener:
    """A line of a format, and what it was told."""

    def __init__(
        self, engine: Engine, audio_format: AudioFormat, listens: Recognizer | None = None
    ) -> None:
        self.engine = engine
        self.said: list[Delivered] = []
        state, intake = (listens or recognizer()).start(Options()), Intake(audio_format)
        self.line: Line = engine.open([state] * intake.streams, intake, self.read, 0.0)

    def read(self, replies: list[Delivered]) -> None:
        """Note the replies and make room for more."""
        self.said += replies
        for reply in replies:
            if not isinstance(reply, Room):
                self.engine.taken(self.line)

    def events(self, channel: int | None = None) -> list[Event]:
        """Events so far."""
        return [r.event for r in self.said if isinstance(r, Heard) and r.channel == channel]

    def finals(self, channel: int | None = None) -> tuple[Final, ...]:
        """Segments so far."""
        return tuple(event for event in self.events(channel) if isinstance(event, Final))


def made(network: ToneNetwork | None = None) -> Engine:
    """An engine that works only when told, on the test's own thread."""
    return Engine(recognizer(network), lambda call: call())


def drain(engine: Engine) -> None:
    """Work until nothing waits."""
    while engine.work():
        pass


def heard(audio_format: AudioFormat, parts: list[bytes]) -> Listener:
    """What a line says to bytes that come in these messages."""
    engine = made()
    listener = Listener(engine, audio_format)
    for part in parts:
        engine.submit(listener.line, part, 0.0)
    engine.submit(listener.line, End(), 0.0)
    drain(engine)
    return listener


def column(song: str, rate: int = 16_000) -> Samples:
    """A song, float32 [n, 1]."""
    return sing(song, rate)[:, None]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_format_says_what_the_samples_say(kind: str) -> None:
    """Partials too, to the bit; so a socket has the transcript of the file."""
    stream = encode(column("ab c "), 16_000, kind)
    listener = heard(announced(kind, 16_000, 1), pieces(stream, range(0, len(stream), 999)))
    samples = truth(stream, 16_000, 1, kind)[:, 0]
    assert listener.events() == events_alone(samples)
    assert listener.said[-1] == Done(len(samples), 16_000, 0, 0.0)


@settings(max_examples=20)
@given(st.sampled_from(KINDS), st.sampled_from([8000, 24_000, 48_000]), st.data())
def test_how_the_bytes_fall_changes_no_event(kind: str, rate: int, data: st.DataObject) -> None:
    """Of any format at any rate: positions, times and confidences are the same."""
    stream = encode(column("ab", rate), rate, kind)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    audio_format = announced(kind, rate, 1)
    if audio_format.raw:
        cuts = [cut - cut % audio_format.frame_bytes for cut in cuts]
    assert heard(audio_format, pieces(stream, cuts)).said == heard(audio_format, [stream]).said


def test_opus_is_understood() -> None:
    """Lossy, so the words are the same and the times nearly."""
    listener = heard(
        announced("ogg-opus", 0, 0), [encode(column("a bc d", 48_000), 48_000, "ogg-opus")]
    )
    assert [final.text for final in listener.finals()] == ["a", "b c", "d"]
    assert isinstance(listener.said[-1], Done)
    assert listener.said[-1].sample_rate == 48_000


@settings(max_examples=12)
@given(
    st.sampled_from(["s16le", "wav-f32le", "flac-16"]),
    st.lists(st.text("abcd ", max_size=4), min_size=1, max_size=8),
)
def test_channels_apart_hear_what_each_would_hear_alone(kind: str, songs: list[str]) -> None:
    """Neighbours change no event; and all are stepped together."""
    length = max(1000, *(len(sing(song)) for song in songs))
    samples = np.zeros((length, len(songs)), np.float32)
    for number, song in enumerate(songs):
        samples[: len(sing(song)), number] = sing(song)
    stream = encode(samples, 16_000, kind)
    known = announced(kind, 16_000, len(songs))
    apart = AudioFormat(known.encoding, known.sample_rate, len(songs), channels_apart=True)
    listener = heard(apart, [stream])
    columns = truth(stream, 16_000, len(songs), kind).T
    for number, samples_alone in enumerate(columns):
        assert listener.events(number) == events_alone(np.ascontiguousarray(samples_alone))
    assert listener.said[-1] == Done(length, 16_000, 0, 0.0)


def test_channels_are_stepped_together() -> None:
    """Eight channels cost hardly more than one."""
    network = ToneNetwork()
    engine = made(network)
    listener = Listener(engine, AudioFormat("f32le", 16_000, 8, channels_apart=True))
    engine.submit(listener.line, np.repeat(column("ab"), 8, axis=1).tobytes(), 0.0)
    drain(engine)
    assert set(network.company) == {8}


def test_without_a_wish_channels_are_mixed() -> None:
    """To their mean, as those of a file."""
    samples = np.concatenate([column("ab "), column("ab ")], axis=1)
    samples[:, 1] = 0
    listener = heard(AudioFormat("f32le", 16_000, 2), [samples.tobytes()])
    assert listener.events() == events_alone(samples.mean(1, dtype=np.float32))


def test_every_channel_answers_a_flush() -> None:
    """On copies, each with the words of its own open segment."""
    engine = made()
    listener = Listener(engine, AudioFormat("f32le", 16_000, 2, channels_apart=True))
    both = np.concatenate([column("ab"), column("cd")], axis=1)
    engine.submit(listener.line, both.tobytes(), 0.0)
    engine.submit(listener.line, Flush(1), 2.0)
    drain(engine)
    flushed = [r for r in listener.said if isinstance(r, Flushed)]
    assert [(f.channel, [w.text for w in f.words]) for f in flushed] == [
        (0, ["a", "b"]),
        (1, ["c", "d"]),
    ]
    assert {(f.position, f.since) for f in flushed} == {(len(both), 2.0)}


def test_an_answer_waits_for_the_whole_frame_before_it() -> None:
    """A frame is recognised in many rounds; what was asked behind it is answered behind it."""
    engine = made()
    listener = Listener(engine, FLAC)
    song = "ab c"
    engine.submit(listener.line, encode(column(song), 16_000, "flac-16"), 0.0)
    engine.submit(listener.line, Ping(1), 0.0)
    drain(engine)
    assert listener.said[-1] == Pong(1, len(sing(song)), 0.0)
    assert [final.text for final in listener.finals()] == ["a b"]


def test_a_round_takes_one_slice_of_a_frame() -> None:
    """So a frame of a second holds nobody up longer than any other."""
    engine = made()
    listener = Listener(engine, FLAC)
    engine.submit(listener.line, encode(column("abcd"), 16_000, "flac-16"), 0.0)
    before = 0
    while engine.work():
        position = listener.line.intake.position
        assert position - before <= 1280
        before = position
    assert before == len(sing("abcd"))


def test_hours_in_a_few_bytes_wait_for_their_turn() -> None:
    """They are due when they would have been spoken: who speaks now goes first."""
    engine = Engine(recognizer(), lambda call: call(), company=1)
    bomb = Listener(engine, FLAC)
    stream = encode(np.zeros((2_000_000, 1), np.float32), 8000, "flac-16")
    assert len(stream) < 20_000
    engine.submit(bomb.line, stream, 0.0)
    live = Listener(engine, AudioFormat("f32le", 16_000))
    for _ in range(5):
        engine.work()
    engine.submit(live.line, column("a").tobytes(), 0.1)
    before = bomb.line.intake.position
    for _ in range(3):
        engine.work()
    assert live.line.backlog_ms == 0
    assert bomb.line.intake.position == before


@pytest.mark.parametrize("kind", ["flac-16", "wav-s16le", "ogg-opus"])
def test_a_damaged_stream_ends_behind_the_finals_of_what_came(kind: str) -> None:
    """Nothing that was accepted is lost, and the neighbours hear nothing of it."""
    engine = made()
    bad, good = (
        Listener(engine, announced(kind, 0, 0)),
        Listener(engine, announced("s16le", 16_000, 1)),
    )
    stream = encode(column("ab c  ", 48_000), 48_000, kind)
    engine.submit(bad.line, stream[: len(stream) // 2], 0.0)
    if kind == "wav-s16le":
        engine.submit(bad.line, End(), 0.0)  # too early
    else:
        engine.submit(bad.line, b"damage" * 20_000, 1.0)
    engine.submit(good.line, encode(column("ab c"), 16_000, "s16le"), 0.0)
    engine.submit(good.line, End(), 0.0)
    drain(engine)
    assert [final.text for final in bad.finals()][:1] == ["a b"]
    (failed,) = [r for r in bad.said if isinstance(r, Failed)]
    assert bad.said[-1] is failed
    assert failed.error.code == "bad_payload"
    assert engine.submit(bad.line, b"more", 2.0) == 0
    assert isinstance(good.said[-1], Done)


def test_a_stream_that_breaks_off_is_told_behind_its_finals() -> None:
    """`finish` in the middle of a frame: the words are there, and so is the error."""
    listener = heard(FLAC, [encode(column("ab c"), 16_000, "flac-16")[:-5]])
    assert [final.text for final in listener.finals()] == ["a b", "c"]
    assert isinstance(listener.said[-1], Failed)
    assert "middle of a frame" in str(listener.said[-1].error)


def test_a_container_without_a_byte_is_an_empty_recording() -> None:
    """Who opens a session and says nothing gets `done`."""
    assert heard(FLAC, []).said == [Done(0, 16_000, 0, 0.0)]


@settings(max_examples=10)
@given(st.sampled_from(["s16le", "wav-s16le", "flac-16", "ogg-opus"]), st.data())
def test_a_line_goes_on_from_its_intake_and_state(kind: str, data: st.DataObject) -> None:
    """What a snapshot holds is enough, wherever it was taken and whatever was pending."""
    stream = encode(column("ab", 24_000), 24_000, kind)
    audio_format = announced(kind, 24_000, 1)
    engine = made()
    first = Listener(engine, audio_format)
    engine.submit(first.line, stream, 0.0)
    for _ in range(data.draw(st.integers(0, 12), "rounds")):
        engine.work()
    engine.close(first.line)
    saved, (state,) = restore_state(first.line.intake.saved.dump()), first.line.states
    second = Listener(engine, audio_format)
    second.line = engine.open([state], Intake(audio_format, saved), second.read, 0.0)
    unit = audio_format.frame_bytes if audio_format.raw else 1
    engine.submit(second.line, stream[saved.received * unit :], 0.0)
    engine.submit(second.line, End(), 0.0)
    drain(engine)
    entire = heard(audio_format, [stream])
    assert [*first.events(), *second.events()] == entire.events()
    assert second.said[-1] == entire.said[-1]


# Phrases


def searching() -> Engine:
    """An engine whose model has a language."""
    return Engine(tiny("plain", "beam"), lambda call: call())


def test_phrases_change_exactly_where_they_are_changed() -> None:
    """As if the recogniser had been told between these two samples."""
    listens = tiny("plain", "beam")
    samples = noise(30_000, 1, 3)[:, 0]
    engine = searching()
    listener = Listener(engine, AudioFormat("f32le", 16_000), listens)
    engine.submit(listener.line, samples[:17_777].tobytes(), 0.0)
    engine.submit(listener.line, Configure(None, (), ("w2", "w6")), 1.0)
    engine.submit(listener.line, samples[17_777:].tobytes(), 1.0)
    engine.submit(listener.line, End(), 1.0)
    drain(engine)
    state, events = listens.step(listens.start(), samples[:17_777])
    state, more = listens.step(listens.expect(state, ["w2", "w6"]), samples[17_777:])
    assert listener.events() == [*events, *more, *listens.finish(state)[1]]
    assert Configured((), 17_777, 1.0) in listener.said


def test_phrases_with_unknown_words_are_named_and_the_others_expected() -> None:
    """A list of names does not fail for one of them."""
    engine = searching()
    listener = Listener(engine, AudioFormat("f32le", 16_000), tiny("plain", "beam"))
    engine.submit(listener.line, Configure(None, ("x",), ("w2", "w2 xylophone")), 0.0)
    drain(engine)
    assert listener.said == [Configured(("x", "options.phrases[1]"), 0, 0.0)]
    assert listener.line.states[0].options.phrases == ("w2",)


def test_a_model_without_a_language_says_so() -> None:
    """It can expect nothing."""
    engine = made()
    listener = Listener(engine, AudioFormat("f32le", 16_000))
    engine.submit(listener.line, Configure(900, (), ("a",)), 0.0)
    drain(engine)
    assert listener.said == [Configured(("options.phrases",), 0, 0.0)]
    assert listener.line.states[0].options.endpoint_ms == 900


def test_the_finals_of_a_file_are_those_of_its_samples() -> None:
    """What the tests above call alone is what `transcribe` says."""
    samples = sing("ab c ")
    assert heard(AudioFormat("f32le", 16_000), [samples.tobytes()]).finals() == alone(samples)
