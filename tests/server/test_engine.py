"""The engine without threads or sockets: `work` does one round when the test says so."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ProtocolError
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
from server.engine import AHEAD_SECONDS, FEW, GRACE_SECONDS, STRANGERS, Engine
from server.intake import Intake
from server.line import CREDIT_SECONDS, JOB_BYTES, Delivered, End, Line, Room
from tests.server.tones import ToneNetwork, alone, events_alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = AudioFormat("f32le", 16000)
SONG = "ab c  dd"


class Listener:
    """A line and what it was told."""

    def __init__(self, engine: Engine, opened: float = 0.0, options: Options | None = None) -> None:
        self.engine = engine
        self.said: list[Delivered] = []
        state = recognizer().start(options or Options())
        self.line: Line = engine.open([state], Intake(FORMAT), self.read, opened)

    def read(self, replies: list[Delivered]) -> None:
        """Note the replies and make room for more."""
        self.said += replies
        for reply in replies:
            if not isinstance(reply, Room) and not isinstance(reply, Pong):
                self.engine.taken(self.line)

    def send(self, song: str, arrived: float = 0.0) -> None:
        """Submit a song as one message."""
        self.engine.submit(self.line, sing(song).tobytes(), arrived)

    @property
    def finals(self) -> tuple[Final, ...]:
        """Segments so far."""
        return finals_of(self.said)


def finals_of(said: list[Delivered]) -> tuple[Final, ...]:
    """The segments among replies."""
    events = [r.event for r in said if isinstance(r, Heard)]
    return tuple(e for e in events if isinstance(e, Final))


@pytest.fixture
def network() -> ToneNetwork:
    """A network whose steps can be looked at."""
    return ToneNetwork()


@pytest.fixture
def engine(network: ToneNetwork) -> Engine:
    """An engine that works only when told, on the test's own thread."""
    return made(network)


def made(network: ToneNetwork | None = None, company: int = 64, **more: Any) -> Engine:
    """An engine for use inside a property."""
    return Engine(recognizer(network), lambda call: call(), company, **more)


def drain(engine: Engine) -> None:
    """Work until nothing waits."""
    while engine.work():
        pass


songs = st.text("abcd ", max_size=5)


@settings(max_examples=25)
@given(st.lists(songs, min_size=1, max_size=4), st.integers(1, 3), st.data())
def test_every_line_hears_what_it_would_hear_alone(
    sung: list[str], company: int, data: st.DataObject
) -> None:
    """Neighbours, message sizes and the moments of arrival change no event, partials included."""
    engine = made(company=company)
    listeners = [Listener(engine) for _ in sung]
    rest = [sing(song).tobytes() for song in sung]
    now = 0.0
    while any(rest):
        number = data.draw(st.sampled_from([n for n, audio in enumerate(rest) if audio]))
        size = 4 * data.draw(st.integers(1500, 20_000))
        engine.submit(listeners[number].line, rest[number][:size], now)
        rest[number] = rest[number][size:]
        now += 0.01
        if data.draw(st.booleans()):
            engine.work()
    for listener in listeners:
        engine.submit(listener.line, End(), now)
    drain(engine)
    for song, listener in zip(sung, listeners, strict=True):
        *heard, done = listener.said
        assert [r.event for r in heard if isinstance(r, Heard)] == events_alone(sing(song))
        assert done == Done(len(sing(song)), 16000, 0, now)


def test_lines_are_stepped_together(engine: Engine, network: ToneNetwork) -> None:
    """Company is what makes many sessions cheap: one step of the network for all that wait."""
    listeners = [Listener(engine) for _ in range(5)]
    for listener in listeners:
        listener.send("a")
    drain(engine)
    assert set(network.company) == {5}


def test_what_can_wait_is_stepped_a_few_at_a_time(engine: Engine, network: ToneNetwork) -> None:
    """Fifty files that are sent at once make no long rounds, in which whoever speaks would wait."""
    live = [Listener(engine, 0.0) for _ in range(FEW + 4)]
    for one in live:
        one.send("ab", 0.0)
    drain(engine)
    files = [Listener(engine, 2.0) for _ in range(50)]
    for file in files:
        file.send("abcd", 2.0)
    for _ in range(3):  # what is due at once, and the blocks that need 95 ms of audio
        engine.work()
    network.company.clear()
    engine.work()
    assert network.company == [FEW]
    for one in live:
        one.send("a", 2.06)
        one.send("a", 2.06)
    engine.work()
    engine.work()
    assert network.company[-1] == len(live)
    drain(engine)
    assert all(one.line.backlog_ms == 0 for one in [*files, *live])


def beside_strangers(engine: Engine) -> tuple[Listener, list[Listener]]:
    """One that has been heard, and ten that have not; each has something to say at 0.5 s."""
    speaker, strangers = Listener(engine, 0.0), [Listener(engine, 0.5) for _ in range(10)]
    speaker.send("ab", 0.0)
    drain(engine)
    for one in (speaker, *strangers):
        one.send("a", 0.5)
    return speaker, strangers


def test_who_speaks_goes_before_strangers(engine: Engine) -> None:
    """Nonsense on many connections is many strangers: whoever speaks waits for none of them."""
    _, strangers = beside_strangers(engine)
    engine.work()
    assert not any(stranger.line.intake.position for stranger in strangers)
    engine.work()
    heard = [stranger for stranger in strangers if stranger.line.intake.position]
    assert len(heard) == STRANGERS  # a short round, whatever comes during it
    drain(engine)
    assert all(stranger.line.backlog_ms == 0 for stranger in strangers)


def test_more_is_expected_of_who_speaks_and_of_nobody_else(engine: Engine) -> None:
    """A stranger may never send again, and a file comes when it comes."""
    speaker, stranger, file = (Listener(engine, 0.0) for _ in range(3))
    for one in (speaker, file):
        one.send("a" * 10, 0.4)
    drain(engine)
    piece = sing("a").tobytes()[: 4 * 1280]
    assert speaker.line.proved
    for line in (stranger.line, file.line):
        engine.submit(line, piece * (1 if line is stranger.line else 20), 1.0)
    engine.submit(file.line, piece, 1.0)
    assert not engine.expects(1.08)
    now = 0.4 + speaker.line.ahead(0.4)  # all that it said has been spoken
    engine.submit(speaker.line, piece, now)
    assert not engine.expects(now + 0.07)
    assert engine.expects(now + 0.08)
    assert not engine.expects(now + 0.09)


def test_strangers_wait_a_little_and_no_more(engine: Engine) -> None:
    """Their turn comes however much is said: a few of them in each round."""
    speaker, strangers = beside_strangers(engine)
    now = 0.5
    for rounds in range(1, 12):
        now += GRACE_SECONDS
        speaker.send("a", now)
        engine.work()
        heard = sum(stranger.line.intake.position > 0 for stranger in strangers)
        assert heard == min(STRANGERS * rounds, len(strangers))
        if heard == len(strangers):
            break
    assert speaker.line.waits


def test_strangers_wait_no_longer_for_a_backlog() -> None:
    """Their time comes while rounds go by, also if nobody sends anything meanwhile."""
    now = 0.0
    engine = made(clock=lambda: now)
    speaker, stranger = Listener(engine, 0.0), Listener(engine, 0.0)
    speaker.send("abcd", 0.0)
    drain(engine)
    now = 60.0
    speaker.send("abcd", now)
    stranger.send("a", now)
    while not stranger.line.intake.position:
        assert now <= 60.0 + GRACE_SECONDS
        assert engine.work()
        now += GRACE_SECONDS / 3
    assert speaker.line.waits


def test_a_pause_gives_no_credit(engine: Engine) -> None:
    """A file that is sent after a minute of silence is no minute overdue, and no microphone."""
    listener = Listener(engine, 0.0)
    listener.send("abcd", 0.0)
    drain(engine)
    listener.send("abcd" * 4, 60.0)
    assert listener.line.ahead(60.0) < AHEAD_SECONDS  # so much may have been held up
    while listener.line.deadline == 60.0:
        assert engine.work()
    late = listener.line.intake.position - len(sing("abcd"))
    assert late / 16_000 == pytest.approx(CREDIT_SECONDS, abs=0.1)


def test_a_fast_sound_card_is_no_file(engine: Engine) -> None:
    """Whose clock is half a percent fast is never ahead of his speech, however long he speaks."""
    block, now = sing("a")[:1280].tobytes(), 0.0
    listener = Listener(engine, now)
    for _ in range(2000):
        now += 0.08 * 0.995
        engine.submit(listener.line, block, now)
        assert listener.line.deadline == now
        engine.work()


def test_flushes_and_phrases_are_done_one_in_a_round(engine: Engine, network: ToneNetwork) -> None:
    """Each takes as long as a round: fifty at once would hold up whoever speaks for fifty."""
    flushing, live = [Listener(engine) for _ in range(5)], Listener(engine)
    for one in (live, *flushing):
        one.send("ab")
        drain(engine)
    for one in flushing:
        engine.submit(one.line, Flush(1), 1.0)
    for rounds in range(1, 6):
        live.send("a", 1.0)
        steps = len(network.company)
        engine.work()
        assert sum(isinstance(r, Flushed) for one in flushing for r in one.said) == rounds
        assert len(network.company) > steps


def test_after_what_takes_long_speech_has_its_time(network: ToneNetwork) -> None:
    """Whoever floods the server with it has half of the time, and not nearly all."""
    now = 0.0

    def clock() -> float:
        return now

    engine = made(network, clock=clock)
    live, flushing = Listener(engine), Listener(engine)
    for one in (live, flushing):
        one.send("ab")
        drain(engine)
    state_of, flush = engine._recognizer.flush, 0.1  # noqa: SLF001

    def slow(state: Any) -> Any:
        nonlocal now
        now += flush
        return state_of(state)

    engine._recognizer.flush = slow  # type: ignore[method-assign]  # noqa: SLF001
    now = 1.0
    for number in range(3):
        engine.submit(flushing.line, Flush(number), now)
    engine.work()
    assert sum(isinstance(r, Flushed) for r in flushing.said) == 1
    for _ in range(9):
        live.send("a", now)
        engine.work()
        now += 0.01
        assert sum(isinstance(r, Flushed) for r in flushing.said) == 1
    now += 0.02
    engine.work()
    assert sum(isinstance(r, Flushed) for r in flushing.said) == 2


@pytest.mark.parametrize("job", [Flush(7), Configure(500, phrases=("a",)), Configure(500)])
def test_what_is_repeated_behind_an_end_is_answered(engine: Engine, job: Flush | Configure) -> None:
    """A client that resumes a session which had ended repeats what was not answered."""
    ended = recognizer().finish(recognizer().start())[0]
    said: list[Delivered] = []
    line = engine.open([ended], Intake(FORMAT), said.extend, 0.0)
    engine.submit(line, job, 0.0)
    engine.submit(line, End(), 0.0)
    drain(engine)
    assert [type(reply) for reply in said] == [
        Flushed if isinstance(job, Flush) else Configured,
        Done,
    ]


def test_audio_behind_an_end_is_refused(engine: Engine) -> None:
    """It is the client's fault, and said to be."""
    ended = recognizer().finish(recognizer().start())[0]
    said: list[Delivered] = []
    line = engine.open([ended], Intake(FORMAT), said.extend, 0.0)
    engine.submit(line, bytes(4 * 1280), 0.0)
    engine.submit(line, End(), 0.0)
    drain(engine)
    assert [type(reply) for reply in said] == [Failed]
    assert isinstance(said[0], Failed)
    assert said[0].error.code == "out_of_order"


def test_among_strangers_nobody_waits(engine: Engine, network: ToneNetwork) -> None:
    """Where nobody has spoken for a while they are stepped together, as many as there are."""
    speaker, strangers = beside_strangers(engine)
    drain(engine)
    newcomers = [Listener(engine, 2.0) for _ in range(10)]
    for one in newcomers:
        one.send("a", 2.0)
    drain(engine)
    assert network.company[-1] == len(newcomers)
    assert not speaker.line.waits
    assert not any(stranger.line.waits for stranger in strangers)


def test_an_end_is_stepped_with_the_audio_of_others(engine: Engine, network: ToneNetwork) -> None:
    """The last blocks of a stream would cost as much alone as those of twenty streams together."""
    ending, live = Listener(engine), Listener(engine)
    ending.send("a")
    live.send("abcd")
    engine.submit(ending.line, End(), 0.0)
    while not ending.said or not isinstance(ending.said[-1], Done):
        assert engine.work()
    assert network.company.count(1) == 1  # while the end was taken in
    assert ending.finals == alone(sing("a"))


def test_an_end_that_is_under_way_can_be_cut_off(engine: Engine) -> None:
    """Until everything is said nothing is: whoever resumes the session hears the end once."""
    listener = Listener(engine)
    listener.send("a")
    engine.submit(listener.line, End(), 0.0)
    while listener.line.ending is None:
        engine.work()
    said = list(listener.said)
    engine.close(listener.line)
    assert not engine.work()
    assert not listener.line.states[0].ended
    assert listener.said == said


def test_a_round_takes_one_block_however_long_the_message(
    engine: Engine, network: ToneNetwork
) -> None:
    """A client that sends a minute in one message holds nobody up longer than any other."""
    bulk, live = Listener(engine), Listener(engine)
    bulk.send("abcdabcdabcd", 0.0)
    engine.work()
    live.send("a", 0.1)
    engine.work()
    engine.work()  # a block needs 95 ms of audio
    assert network.company[-1] == 2
    assert bulk.line.backlog_ms > 1000


def test_a_live_stream_goes_before_a_file_that_came_earlier(network: ToneNetwork) -> None:
    """Earliest deadline first: audio is due when it would have been spoken, or when it came."""
    engine = made(network, company=1)
    bulk, live = Listener(engine, 0.0), Listener(engine, 0.0)
    bulk.send("abcdabcd", 0.0)  # 1.9 s of audio at once
    engine.work()
    engine.work()  # the next slice is due at 0.16
    live.send("a", 0.1)
    before = bulk.line.backlog_ms
    engine.work()
    assert bulk.line.backlog_ms == before
    assert live.line.backlog_ms < 240


def test_nobody_waits_for_ever(network: ToneNetwork) -> None:
    """A deadline does not move, so the latest becomes the earliest in the end."""
    engine = made(network, company=1)
    bulk, live = Listener(engine, 0.0), Listener(engine, 0.0)
    bulk.send("abcd", 0.0)
    for number in range(1, 40):
        live.send("a", 0.24 * number)
        for _ in range(4):  # as much as the live stream alone needs, and one round more
            engine.work()
    assert bulk.line.backlog_ms == 0


def test_answers_come_behind_the_audio_before_them(engine: Engine) -> None:
    """`pong` and `flushed` mean: all audio before has been recognised."""
    listener = Listener(engine)
    listener.send("a b")
    engine.submit(listener.line, Ping(1), 0.0)
    engine.submit(listener.line, Flush(2), 0.0)
    listener.send("c")
    drain(engine)
    before = listener.said[: listener.said.index(Pong(1, len(sing("a b"))))]
    assert [f.text for f in finals_of(before)] == ["a"]
    flushed = next(r for r in listener.said if isinstance(r, Flushed))
    assert [word.text for word in flushed.words] == ["b"]
    assert flushed.position == len(sing("a b"))


@settings(max_examples=20)
@given(st.text("abcd ", min_size=1, max_size=6), st.lists(st.integers(0, 40), max_size=4))
def test_flushes_change_nothing_that_follows(song: str, places: list[int]) -> None:
    """A flush works on copies: the stream goes on as if nobody had asked."""
    engine = made()
    listener = Listener(engine)
    audio = sing(song)
    for number, first in enumerate(range(0, len(audio), 2000)):
        engine.submit(listener.line, audio[first : first + 2000].tobytes(), 0.0)
        for _ in range(places.count(number)):
            engine.submit(listener.line, Flush(number), 0.0)
    engine.submit(listener.line, End(), 0.0)
    drain(engine)
    assert [r.event for r in listener.said if isinstance(r, Heard)] == events_alone(audio)


def test_a_new_endpoint_delay_moves_the_cuts_and_no_word(engine: Engine) -> None:
    """Endpoints are neutral, so they may change in mid-stream."""
    listener = Listener(engine, options=Options(endpoint_ms=60_000))
    listener.send("a b")
    engine.submit(listener.line, Configure(500, ("x",)), 0.0)
    listener.send(" c ")
    engine.submit(listener.line, End(), 0.0)
    drain(engine)
    assert Configured(("x",), len(sing("a b"))) in listener.said
    assert [[w.text for w in final.words] for final in listener.finals] == [["a", "b"], ["c"]]
    assert listener.finals[0].reason == "endpoint"


def test_a_stream_that_breaks_recognition_ends_alone(engine: Engine) -> None:
    """Stepped together, and yet one's failure is nobody else's: the words are the same."""
    good, bad = Listener(engine), Listener(engine)
    good.send(SONG)
    bad.send("ab!")
    for listener in (good, bad):
        engine.submit(listener.line, End(), 0.0)
    drain(engine)
    assert good.finals == alone(sing(SONG))
    assert isinstance(good.said[-1], Done)
    (failed,) = [r for r in bad.said if isinstance(r, Failed)]
    assert bad.said[-1] is failed
    assert (failed.error.code, failed.error.close_code) == ("internal", 1011)
    assert engine.submit(bad.line, b"\0\0\0\0", 0.0) == 0


@pytest.mark.parametrize("job", [End(), Flush(1)])
def test_a_failure_outside_the_common_step_is_as_harmless(engine: Engine, job: End | Flush) -> None:
    """Flushing and finishing run alone, and the engine outlives their failures too."""
    good, bad = Listener(engine), Listener(engine)
    engine.submit(bad.line, sing("!")[:1500].tobytes(), 0.0)  # less than a block: no step yet
    engine.submit(bad.line, job, 0.0)
    good.send(SONG)
    engine.submit(good.line, End(), 0.0)
    drain(engine)
    assert [type(r) for r in bad.said] == [Failed]
    assert good.finals == alone(sing(SONG))


def test_a_flush_at_another_rate_keeps_what_the_resampler_holds(engine: Engine) -> None:
    """The end of the audio is only looked at, not used up."""
    rate = 44100
    samples = sing("ab c", rate)
    said: list[list[Delivered]] = [[], []]
    for number in range(2):
        intake = Intake(AudioFormat("f32le", rate))
        line = engine.open([recognizer().start()], intake, said[number].extend, 0.0)
        for first in range(0, len(samples), 5000):
            engine.submit(line, samples[first : first + 5000].tobytes(), 0.0)
            if number:
                engine.submit(line, Flush(first), 0.0)
        engine.submit(line, End(), 0.0)
    drain(engine)
    assert finals_of(said[1]) == finals_of(said[0])
    assert said[1][-1] == said[0][-1] == Done(len(samples), rate, 0, 0.0)
    assert [w.text for r in said[1] if isinstance(r, Flushed) for w in r.words][:2] == ["a", "a"]


def test_it_is_occupied_while_a_round_is_under_way() -> None:
    """Not any more when the replies are handed over: whoever takes them may do other things."""
    handed: list[bool] = []

    def post(call: Callable[[], None]) -> None:
        handed.append(works.occupied)
        call()

    network = ToneNetwork()
    works = Engine(recognizer(network), post)
    stepping = network.step

    def step(*args: Any) -> Any:
        assert works.occupied
        return stepping(*args)

    network.step = step  # type: ignore[assignment, method-assign]
    listener = Listener(works)
    listener.send("ab")
    works.submit(listener.line, End(), 0.0)
    assert not works.occupied
    drain(works)
    assert listener.finals == alone(sing("ab"))
    assert set(handed) == {False}
    assert not works.occupied


def test_an_error_comes_behind_the_finals_of_what_was_accepted(engine: Engine) -> None:
    """Even a client that broke the protocol gets the words of the audio before."""
    listener = Listener(engine)
    listener.send("ab")
    error = ProtocolError("odd", "bad_payload", 1007)
    engine.submit(listener.line, End(error), 0.0)
    drain(engine)
    assert listener.finals == alone(sing("ab"))
    assert listener.said[-1] == Failed(error)


def test_a_line_whose_replies_are_not_taken_waits_with_its_audio() -> None:
    """For a client that does not read nothing is recognised, and nothing is lost either."""
    engine = Engine(recognizer(), lambda call: call(), unread=2)
    listener, other = Listener(engine), Listener(engine)
    for number in range(5):
        engine.submit(listener.line, Ping(number), 0.0)
    engine.submit(other.line, Ping(9), 0.0)
    drain(engine)
    assert listener.said == [Pong(0), Pong(1)]
    assert other.said == [Pong(9)]
    engine.taken(listener.line)
    drain(engine)
    assert listener.said == [Pong(0), Pong(1), Pong(2)]


def test_room_is_told_once_when_the_backlog_is_half_done(engine: Engine) -> None:
    """What lets the session read its socket again."""
    listener = Listener(engine)
    assert not engine.ask_room(listener.line, 1)
    listener.send("abcd")
    half = listener.line.backlog_bytes // 2
    assert engine.ask_room(listener.line, half)
    while not any(isinstance(r, Room) for r in listener.said):
        assert listener.line.backlog_bytes >= half
        assert engine.work()
    assert listener.line.backlog_bytes < half
    drain(engine)
    assert sum(isinstance(r, Room) for r in listener.said) == 1


def test_small_messages_are_counted_at_what_they_cost(engine: Engine) -> None:
    """A million one-sample messages would take 130 MB, not 4: the bound must see that."""
    listener = Listener(engine)
    backlog = 0
    for _ in range(10):
        backlog = engine.submit(listener.line, bytes(4), 0.0)
    assert backlog == 10 * (JOB_BYTES + 4)


@settings(max_examples=30)
@given(
    st.builds(
        AudioFormat,
        st.sampled_from(["f32le", "s16le", "mulaw"]),
        st.sampled_from([8000, 16000, 44100]),
    ),
    st.lists(st.integers(1, 3000), min_size=1, max_size=60),
)
def test_a_round_is_begun_for_what_may_complete_a_block_only(
    form: AudioFormat, sizes: list[int]
) -> None:
    """Small messages cost no rounds, and none is late: no round is owed for what has come."""
    works = made()
    line = works.open([recognizer().start()], Intake(form), lambda _: None, 0.0)
    eager, state = Intake(form), recognizer().start()
    rounds = 0
    for size in sizes:
        works.submit(line, bytes(size), 0.0)
        while works.work():
            rounds += 1
        state, _ = recognizer().step(state, eager.take([(bytes(size), 0.0)])[0])
        assert line.states[0].blocks == state.blocks
    assert rounds <= state.blocks


def test_who_waits_for_room_gets_it_from_any_audio(engine: Engine) -> None:
    """A session that takes no more before there is room would wait for ever for a whole block."""
    listener = Listener(engine)
    for _ in range(100):
        engine.submit(listener.line, bytes(4), 0.0)
    assert not engine.work()
    assert engine.ask_room(listener.line, 1)
    drain(engine)
    assert [type(reply) for reply in listener.said] == [Room]


def test_a_block_is_due_when_its_last_piece_came(engine: Engine) -> None:
    """Not when its first did: that one had nothing to wait for."""
    listener = Listener(engine)
    for number in range(4):
        engine.submit(listener.line, bytes(4 * 320), 1.0 + 0.02 * number)
    assert listener.line.deadline == 1.0 + 0.02 * 3


def test_a_closed_line_is_forgotten(engine: Engine) -> None:
    """A client that vanished costs nothing more and hears nothing more."""
    listener = Listener(engine)
    listener.send("abcd")
    engine.work()
    engine.close(listener.line)
    assert not engine.work()
    assert engine.submit(listener.line, bytes(4), 0.0) == 0
    assert listener.line.backlog_bytes == 0


def test_the_worker_thread_does_the_same_and_stops(network: ToneNetwork) -> None:
    """`start` and `stop` add a thread and change nothing else."""
    done = threading.Event()
    engine = Engine(recognizer(network), lambda call: call())
    listener = Listener(engine)

    def deliver(replies: list[Delivered]) -> None:
        listener.read(replies)
        if any(isinstance(r, Done) for r in replies):
            done.set()

    listener.line.deliver = deliver
    engine.start()
    listener.send(SONG)
    engine.submit(listener.line, End(), 0.0)
    assert done.wait(30)
    engine.stop()
    assert listener.finals == alone(sing(SONG))
