"""vosk-server's protocol: one answer a message, and the sequences of its published scripts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from asr.audio import from_s16le, to_s16le
from asr.state import Options
from asr.transcript import Alternative, Final, Word
from server.dialogue import Failed, Heard, Pong, Start
from server.limits import Limits
from server.protocols.vosk import Vosk
from tests import tiny
from tests.asr.small_language import language
from tests.server.conversations import ANYTHING, Desk, hello, objects, survives
from tests.server.sockets import in_a_loop, serving, until
from tests.server.tones import RATE, alone, sing

SONG = "ab c  d"
EOF = '{"eof" : 1}'


def config(**options: Any) -> str:
    """The message that sets options."""
    return json.dumps({"config": {"sample_rate": RATE, **options}})


def chunks(song: str, size: int = 6400) -> list[bytes]:
    """A song in messages of so many bytes; 6400 are the 0.2 s of the published script."""
    data = to_s16le(sing(song))
    return [data[first : first + size] for first in range(0, len(data), size)]


def talk(*messages: bytes | str) -> list[dict[str, Any]]:
    """All answers to a whole conversation."""
    return Desk(Vosk(hello())).answers(*messages)


def words(answers: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """The words of all results, with times."""
    return [
        (word["word"], word["start"], word["end"])
        for answer in answers
        for word in answer.get("result", [])
    ]


def expected(song: str) -> list[tuple[str, Any, Any]]:
    """What a recogniser at hand hears."""
    heard = alone(from_s16le(to_s16le(sing(song))))
    return [
        (w.text, pytest.approx(w.start / RATE), pytest.approx(w.end / RATE))
        for final in heard
        for w in final.words
    ]


@given(st.integers(401, 20_000), st.sampled_from([EOF, '{"eof":1}', '{"eof": true}']))
@settings(max_examples=6)
def test_every_message_has_one_answer_and_all_words_are_told_once(size: int, eof: str) -> None:
    """In step, however the bytes are cut; half samples included, and however eof is written."""
    sent = chunks(SONG, size)
    client = Desk(Vosk(hello()))
    assert client.hear(config()) == []
    answers = []
    messages: list[bytes | str] = [*sent, eof]
    for message in messages:
        (answer,) = client.answers(message)
        assert ("partial" in answer) is not ("text" in answer)
        answers.append(answer)
    assert words(answers) == expected(SONG)
    assert client.ended


def test_several_segments_in_one_message_are_one_answer() -> None:
    """Lockstep before all."""
    answers = talk(config(), to_s16le(sing(SONG)), EOF)
    assert [answer["text"] for answer in answers] == ["a b c", "d"]
    assert words(answers) == expected(SONG)


def test_partials_say_the_open_segment_and_begin_anew_behind_a_result() -> None:
    """As the recogniser's: empty until something is said."""
    answers = talk(config(), *chunks("ab c", 2560), EOF)
    partials = [answer.get("partial") for answer in answers]
    assert partials[0] == ""
    assert "a b" in partials
    assert partials[partials.index(None) + 1] in {"", "c"}


def test_the_rate_is_8000_where_nothing_is_said() -> None:
    """As clients without `config` expect; telephones, mostly."""
    data = to_s16le(sing("ab", 8000))
    (_, last) = talk(data, EOF)
    assert last["text"] == "a b"


def test_words_can_be_left_out() -> None:
    """Then the text alone is told; and an empty text has no `result` at all."""
    *_, last = talk(config(words=0), *chunks("a"), EOF)
    assert last == {"text": "a"}
    *_, last = talk(config(words=1), *chunks(" "), EOF)
    assert last == {"text": ""}


def test_partial_words_come_with_times() -> None:
    """`partial_result`, where asked for."""
    answers = talk(config(partial_words=True), *chunks("ab", 2560), EOF)
    told = [a["partial_result"] for a in answers if "partial_result" in a]
    assert [word["word"] for word in told[-1]] == ["a", "b"]
    assert all(set(word) == {"word", "start", "end", "conf"} for word in told[-1])


def test_alternatives_have_their_own_shape_without_confidence_of_words() -> None:
    """One of a model without a language; more are asked for in vain, and the answer says so."""
    *_, last = talk(config(max_alternatives="3"), *chunks("a"), EOF)
    (alternative,) = last["alternatives"]
    assert set(alternative) == {"confidence", "result", "text"}
    assert set(alternative["result"][0]) == {"word", "start", "end"}
    assert last["unsupported"] == ["max_alternatives"]
    *_, last = talk(config(max_alternatives=1), *chunks("a"), EOF)
    assert set(last) == {"alternatives"}


def final(segment: int, *readings: tuple[str, float]) -> Final:
    """A segment with a reading of one word, and others with their scores."""
    spoken = [(Word(text, 0, 1600, 0.8), score) for text, score in readings]
    others = tuple(Alternative((word,), score) for word, score in spoken[1:])
    return Final(segment, (spoken[0][0],), "endpoint", 1600, others)


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [(1, ["a b"]), (2, ["a b", "a d"]), (9, ["a b", "a d", "c b", "c d"])],
)
def test_readings_of_several_segments_are_combined_in_one_answer(
    wanted: int, texts: list[str]
) -> None:
    """The likeliest first: clients take the one of the highest confidence."""
    vosk = Vosk(hello())
    start, *_ = [*vosk.receive(config(max_alternatives=wanted)), *vosk.receive(b"")]
    assert isinstance(start, Start)
    assert start.n_best == wanted
    for said in (final(0, ("a", 0.0), ("c", -2.0)), final(1, ("b", 0.0), ("d", -0.5))):
        assert vosk.encode(Heard(said, 0.0), 0.0) == ()
    (answer,) = vosk.encode(Pong(None), 0.0)
    told = json.loads(answer)["alternatives"]
    assert [alternative["text"] for alternative in told] == texts
    sure = [alternative["confidence"] for alternative in told]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == pytest.approx(0.8)


def test_readings_are_those_of_the_search() -> None:
    """By a model with a language, ten at most; that there are no more is told."""
    recognizer = tiny.recognizer("plain", "beam")
    noise = np.random.default_rng(5).standard_normal(3 * RATE).astype(np.float32) * 0.1
    sound = to_s16le(noise)
    client = Desk(Vosk(hello()), recognizer)
    *_, last = client.answers(config(max_alternatives=99), sound, EOF)
    stream = recognizer.stream(Options(n_best=10))
    heard = [*stream.feed(from_s16le(sound)), *stream.finish()]
    (one,) = [event for event in heard if isinstance(event, Final)]
    texts = [one.text, *(reading.text for reading in one.alternatives)]
    assert len(texts) > 1
    assert [alternative["text"] for alternative in last["alternatives"]] == texts
    assert last["unsupported"] == ["max_alternatives"]


def test_phrases_are_expected_where_the_model_can() -> None:
    """At the start and in mid-stream; those that it cannot are named by their place in the list."""
    known = next(filter(tiny.searching().knows, language(3, words=30, phones=9, longest=2).words))
    client = Desk(Vosk(hello()), tiny.recognizer("plain", "beam"))
    client.hear(config(phrase_list=[known.upper(), "[unk]", "qwxyz"]), b"")
    assert client.answers('{"reset":1}')[0]["unsupported"] == ["phrase_list[2]"]
    client.hear(b"", config(phrase_list=["x" * 101]), config(phrase_list=["", known, "", "q"]))
    assert client.answers(EOF)[0]["unsupported"] == [
        "phrase_list[2]", "phrase_list[0]", "phrase_list[3]"
    ]  # fmt: skip


def test_what_is_asked_for_in_vain_is_named_in_every_result() -> None:
    """No client chooses the model for everybody; a model without a language expects no phrases."""
    sent = config(model="other", phrase_list=["x"], spk=False)
    answers = [a for a in talk(sent, *chunks("a  b"), EOF) if "text" in a]
    assert [answer["unsupported"] for answer in answers] == [["model", "phrase_list"]] * 2


def test_a_reset_tells_the_rest_and_time_goes_on() -> None:
    """Seconds count from the beginning of the connection."""
    first, second = to_s16le(sing("ab")), to_s16le(sing("c"))
    _, reset, _, last = talk(config(), first, '{"reset" : 1}', second, EOF)
    assert (reset["text"], last["text"]) == ("a b", "c")
    begins = last["result"][0]["start"]
    assert begins >= len(first) / 2 / RATE
    assert begins == pytest.approx(len(first) / 2 / RATE + alone(sing("c"))[0].start / RATE)


def test_an_end_without_audio_is_answered() -> None:
    """A client waits for the last result, whatever it sent."""
    assert talk(EOF) == [{"text": ""}]
    assert talk(config(), '{"reset":1}', EOF) == [{"text": ""}, {"text": ""}]


@pytest.mark.parametrize(
    "message",
    [
        "audio?",
        "{}",
        '{"eof": 0}',
        '{"config": 1}',
        '{"config": {"sample_rate": 16000.5}}',
        '{"config": {"sample_rate": "fast"}}',
        '{"config": {"sample_rate": 1e400}}',
        '{"config": {"sample_rate": 44100}}',  # in mid-stream
        '{"config": {"max_alternatives": "two"}}',
        '{"config": {"phrase_list": "one two"}}',
        '{"config": {"phrase_list": [1]}}',
    ],
)
def test_text_that_makes_no_sense_ends_the_stream_with_its_words(message: str) -> None:
    """It is not handed to the recogniser as audio; what was said before is told with the error."""
    client = Desk(Vosk(hello()))
    last = client.answers(config(), *chunks("a"), message)[-1]
    assert last["text"] == "a"
    assert "\n" not in last["error"]
    assert isinstance(client.ended, Failed)
    assert client.ended.error.close_code == 1007


def test_a_rate_may_be_written_in_every_way_that_clients_do() -> None:
    """Numbers with and without a point, and in quotes."""
    for rate in (16000, 16000.0, "16000", "16000.0"):
        assert talk(config(sample_rate=rate), *chunks("a"), EOF)[-1]["text"] == "a"


options = objects(
    "sample_rate", "words", "max_alternatives", "phrase_list", "partial_words", "model"
)
typed = st.one_of(
    options.map(lambda fields: json.dumps({"config": fields})),
    objects("eof", "reset", "config").map(json.dumps),
    st.sampled_from([EOF, '{"reset":1}', config()]),
)


@given(
    st.lists(st.binary(max_size=3000) | st.text() | ANYTHING.map(json.dumps) | typed, max_size=8)
)
@settings(max_examples=30)
def test_any_messages_are_understood_or_refused_in_order(sent: list[bytes | str]) -> None:
    """The parser's law."""
    error = survives(Vosk(hello()), sent)
    assert error is None or error.close_code == 1007


@pytest.mark.parametrize("configured", [True, False])
@in_a_loop
async def test_the_published_script_is_served(*, configured: bool) -> None:
    """The sequence of websocket/test.py: each message waits for its answer; eof for the last."""
    rate = RATE if configured else 8000
    data = to_s16le(sing(SONG, rate))
    step = rate * 2 // 5
    async with serving() as service, connect(f"ws://127.0.0.1:{service.port}") as socket:
        if configured:
            await socket.send(f'{{ "config" : {{ "sample_rate" : {rate} }} }}')
        answers = []
        for first in range(0, len(data), step):
            await socket.send(data[first : first + step])
            answers.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        answers.append(json.loads(await socket.recv()))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert socket.close_code == 1000
    assert " ".join(a["text"] for a in answers if a.get("text")) == "a b c d"
    if configured:
        assert words(answers) == expected(SONG)


@in_a_loop
async def test_the_published_script_with_phrases_is_served_and_told() -> None:
    """The sequence of websocket/test_words.py; a model without a language says what it cannot."""
    async with serving() as service, connect(f"ws://127.0.0.1:{service.port}/") as socket:
        await socket.send(
            """{"config" :
                    { "phrase_list" : ["zero one two three four five", "six seven eight nine oh"],
                      "sample_rate" : 16000.0,
                      "words" : 0}}"""
        )
        for message in chunks("a"):
            await socket.send(message)
            await socket.recv()
        await socket.send('{"eof" : 1}')
        last = json.loads(await socket.recv())
    assert last == {"text": "a", "unsupported": ["phrase_list"]}


@in_a_loop
async def test_a_client_that_leaves_without_eof_is_let_go() -> None:
    """As Asterisk's does: nobody is there to be told the rest, and its place is free again."""
    async with serving(limits=Limits(sessions=1)) as service:
        for _ in range(2):
            async with connect(f"ws://127.0.0.1:{service.port}/vosk") as socket:
                await socket.send(config())
                await socket.send(to_s16le(sing("ab")))
                assert json.loads(await socket.recv())["partial"] == "a b"
            await until(lambda: not service.server.reception.places and not service.server.sessions)
