"""Deepgram's protocol: what its client is promised, by itself and under the real deepgram-sdk."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asr.audio import to_s16le
from asr.errors import ProtocolError
from server import keys
from server.admission import Access
from server.keys import make_key
from server.limits import Limits
from server.protocols.deepgram import Deepgram
from tests import tiny
from tests.asr.small_language import language
from tests.server.conversations import ANYTHING, Desk, hello, objects, survives
from tests.server.sockets import Service, in_a_loop, serving, until
from tests.server.sounds import encode, pieces
from tests.server.tones import RATE, alone, sing

if TYPE_CHECKING:
    from collections.abc import Iterator

SONG = "ab c  d"
RAW = (("encoding", "linear16"), ("sample_rate", str(RATE)), ("model", "nova-3"))
INTERIM = (*RAW, ("interim_results", "true"))
FINALIZE, CLOSE, KEEP = ({"type": kind} for kind in ("Finalize", "CloseStream", "KeepAlive"))


def desk(*query: tuple[str, str]) -> Desk:
    """A conversation whose address says this."""
    return Desk(Deepgram(hello(*query)))


def chunks(song: str, size: int = 3200) -> Iterator[bytes]:
    """A song in messages of so many bytes, as a live client sends it."""
    data = to_s16le(sing(song))
    return (data[first : first + size] for first in range(0, len(data), size))


def results(said: list[dict[str, Any]], **wanted: bool) -> list[dict[str, Any]]:
    """The Results with these flags."""
    found = [message for message in said if message["type"] == "Results"]
    return [m for m in found if all(m[name] is value for name, value in wanted.items())]


def transcript(result: dict[str, Any]) -> str:
    """What a result says."""
    return str(result["channel"]["alternatives"][0]["transcript"])


def words(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The words of all final results."""
    found = results(said, is_final=True)
    return [word for result in found for word in result["channel"]["alternatives"][0]["words"]]


def expected(song: str) -> list[tuple[str, float, float]]:
    """The words that a recogniser at hand hears, with times in seconds."""
    return [(w.text, w.start / RATE, w.end / RATE) for f in alone(sing(song)) for w in f.words]


@given(st.integers(301, 9000), st.booleans())
@settings(max_examples=6)
def test_final_words_are_those_of_the_recogniser_however_the_bytes_are_cut(
    size: int,
    interim: bool,  # noqa: FBT001 - hypothesis passes it by position
) -> None:
    """Half samples included; times are exact to the sample, and count audio, not the clock."""
    said = desk(*(INTERIM if interim else RAW)).answers(*chunks("ab c", size), KEEP, CLOSE)
    heard = [(w["word"], w["start"], w["end"]) for w in words(said)]
    assert heard == [
        (w, pytest.approx(a, abs=1e-6), pytest.approx(b, abs=1e-6)) for w, a, b in expected("ab c")
    ]
    assert bool(results(said, is_final=False)) is interim


@given(st.lists(st.sampled_from("abcd "), max_size=8).map("".join), st.data())
@settings(max_examples=20)
def test_a_final_range_is_never_revised_wherever_finalize_falls(
    song: str, data: st.DataObject
) -> None:
    """Ranges follow one another, words lie in them, and none is told twice."""
    client = desk(*INTERIM)
    messages = list(chunks(song, data.draw(st.sampled_from([700, 2560, 8000]))))
    finalizes = 0
    said = []
    for message in messages:
        said += client.answers(message)
        if data.draw(st.booleans()):
            finalizes += 1
            said += client.answers(FINALIZE)
    said += client.answers(CLOSE)
    finals = results(said, is_final=True)
    assert len(results(finals, from_finalize=True)) == finalizes
    starts = [result["start"] for result in finals]
    assert starts == sorted(starts)
    told = words(said)
    for before, after in itertools.pairwise(told):
        assert before["end"] <= after["start"]
    for result in results(said):
        for word in result["channel"]["alternatives"][0]["words"]:
            assert result["start"] <= word["start"]
            assert word["end"] <= round(result["start"] + result["duration"], 6)


def test_a_sentence_is_what_is_final_up_to_speech_final() -> None:
    """Interim results come first and say the same range; the last is final, and ends the speech."""
    said = desk(*INTERIM).answers(*chunks(SONG), CLOSE)
    sentences: list[list[str]] = [[]]
    for result in results(said, is_final=True):
        sentences[-1] += transcript(result).split()
        if result["speech_final"]:
            sentences.append([])
    assert [" ".join(s) for s in sentences] == ["a b", "c", "d", ""]
    assert transcript(results(said)[0]) == "a"
    assert said[-1]["type"] == "Metadata"


def test_every_field_is_there() -> None:
    """The SDK validates nothing: an application crashes on whatever is missing."""
    said = desk(*INTERIM).answers(*chunks("a"), CLOSE)
    for result in results(said):
        assert result["channel_index"] == [0, 1]
        assert set(result) == {
            "type", "channel_index", "start", "duration", "is_final", "speech_final",
            "from_finalize", "channel", "metadata",
        }  # fmt: skip
        about = result["metadata"]
        assert about["model_info"] == {"name": "tones", "version": "70e5", "arch": "asr"}
        assert about["request_id"] == said[-1]["request_id"]
        (alternative,) = result["channel"]["alternatives"]
        assert set(alternative) == {"transcript", "confidence", "words"}
        for word in alternative["words"]:
            assert set(word) == {"word", "start", "end", "confidence", "punctuated_word"}
            assert 0 <= word["confidence"] <= 1


def test_the_last_message_tells_what_was_received() -> None:
    """Seconds of audio, its SHA-256, and when."""
    last = desk(*RAW).answers(*chunks("ab"), CLOSE)[-1]
    assert last["duration"] == pytest.approx(len(sing("ab")) / RATE, abs=1e-6)
    assert last["sha256"] == hashlib.sha256(b"".join(chunks("ab"))).hexdigest()
    assert last["channels"] == 1
    assert last["transaction_key"] == "deprecated"


def test_finalize_is_answered_even_when_nothing_was_said() -> None:
    """Or clients wait for ever."""
    (answer,) = desk(*RAW).answers(FINALIZE)
    assert (answer["is_final"], answer["from_finalize"]) == (True, True)
    assert (transcript(answer), answer["duration"]) == ("", 0.0)


def test_keep_alive_gets_no_answer() -> None:
    """It only says that the client is there."""
    assert desk(*RAW).hear(json.dumps(KEEP)) == []


def test_a_stream_ends_with_an_empty_message_too() -> None:
    """As clients did before there was CloseStream; what comes after it is not heard."""
    said = desk(*RAW).answers(*chunks("a"), b"", b"\0\0", "nonsense")
    assert [message["type"] for message in said] == ["Results", "Metadata"]


def test_the_end_of_an_utterance_comes_from_the_times_of_words() -> None:
    """Once for each pause that is long enough, behind the last word, whatever the messages."""
    query = (*RAW, ("utterance_end_ms", "1000"), ("endpointing", "2000"))
    for size in (2560, 10**6):
        said = desk(*query).answers(*chunks("ab c", size), CLOSE)
        ends = [m["last_word_end"] for m in said if m["type"] == "UtteranceEnd"]
        song = expected("ab c")
        assert ends == [pytest.approx(song[1][2]), pytest.approx(song[2][2])]


def test_speech_is_told_to_start_before_its_first_result() -> None:
    """Once an utterance, at its first word."""
    said = desk(*RAW, ("vad_events", "true")).answers(*chunks("ab c"), CLOSE)
    assert [m["type"] for m in said] == ["SpeechStarted", "Results"] * 2 + ["Metadata"]
    song = expected("ab c")
    stamps = [m["timestamp"] for m in said if m["type"] == "SpeechStarted"]
    assert stamps == [pytest.approx(song[0][1]), pytest.approx(song[2][1])]


@pytest.mark.parametrize(
    ("given_pause", "finals", "ends", "warned"),
    [
        (None, 3, 3, False),
        ("true", 3, 3, False),
        ("300", 3, 3, True),
        ("1500", 2, 2, False),
        ("false", 3, 1, False),  # only the end of the stream ends the speech
    ],
)
def test_endpointing_is_done_as_asked_or_the_answer_says_otherwise(
    given_pause: str | None, finals: int, ends: int, *, warned: bool
) -> None:
    """A pause of 480 ms is the least; `false` never says that speech is over."""
    query = RAW if given_pause is None else (*RAW, ("endpointing", given_pause))
    said = desk(*query).answers(*chunks(SONG), CLOSE)
    assert len(results(said, is_final=True)) == finals
    assert len(results(said, speech_final=True)) == ends
    assert bool(said[-1]["warnings"]) is warned


def test_what_is_asked_for_in_vain_is_named_in_every_answer() -> None:
    """The model and switches that are off are no requests."""
    query = (*RAW, ("punctuate", "true"), ("diarize", "false"), ("language", "de"), ("x", "1"))
    said = desk(*query, ("language", "fr")).answers(*chunks("a"), CLOSE)
    for warnings in (said[0]["metadata"]["warnings"], said[-1]["warnings"]):
        assert [warning["parameter"] for warning in warnings] == ["language", "punctuate", "x"]
    assert desk(*RAW, ("language", "en-GB")).answers(CLOSE)[-1]["warnings"] == []


@pytest.mark.parametrize("change", [{"keyterms": ["x"]}, {"features": {"numerals": True}}, {}])
def test_what_cannot_be_configured_is_refused_in_its_own_shape(change: dict[str, Any]) -> None:
    """Nothing is changed in silence, and the stream goes on."""
    client = desk(*RAW)
    (answer,) = client.answers({"type": "Configure", **change})
    assert answer["type"] == "ConfigureFailure"
    assert set(answer) == {"type", "request_id", "code", "description"}
    assert client.answers(CLOSE)[-1]["type"] == "Metadata"


def test_more_keyterms_than_a_model_expects_are_refused_in_mid_stream() -> None:
    """The stream goes on with those before."""
    client = desk(*RAW)
    (answer,) = client.answers({"type": "Configure", "keyterms": ["new york"] * 501})
    assert answer["type"] == "ConfigureFailure"
    assert answer["description"] == "keyterms: 1002 words in all; at most 1000"
    assert client.answers(CLOSE)[-1]["type"] == "Metadata"


def test_keyterms_are_expected_where_the_model_can() -> None:
    """At the start and in mid-stream; those that it cannot are named, or left out of the answer."""
    known = next(filter(tiny.searching().knows, language(3, words=30, phones=9, longest=2).words))
    protocol = Deepgram(hello(*RAW, ("keyterm", known.upper()), ("keyterm", "Qwxyz")))
    client = Desk(protocol, tiny.recognizer("plain", "beam"))
    (answer,) = client.answers({"type": "Configure", "keyterms": ["Qwxyz", known]})
    assert (answer["type"], answer["keyterms"]) == ("ConfigureSuccess", [known])
    (warning,) = client.answers(CLOSE)[-1]["warnings"]
    assert (warning["parameter"], "qwxyz" in warning["message"]) == ("keyterm", True)


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_audio_of_telephones_is_heard(encoding: str) -> None:
    """One byte a sample, at 8 kHz."""
    client = desk(("encoding", encoding), ("sample_rate", "8000"))
    said = client.answers(encode(sing("ab", 8000)[:, None], 8000, encoding), CLOSE)
    assert transcript(said[0]) == "a b"
    assert said[-1]["duration"] == pytest.approx(len(sing("ab", 8000)) / 8000)


FILES = ("wav-s16le", "wav-rf64", "flac-16", "ogg-opus")


def heard_in(said: list[dict[str, Any]]) -> str:
    """All that is final."""
    return " ".join(transcript(r) for r in results(said, is_final=True) if transcript(r))


@given(st.sampled_from(FILES), st.integers(1, 5000), st.booleans())
@settings(max_examples=12)
def test_a_file_says_itself_what_it_is(
    kind: str,
    size: int,
    utterances: bool,  # noqa: FBT001 - hypothesis passes it by position
) -> None:
    """Without an `encoding`, however it is cut: times and duration are by its own rate."""
    rate = 48_000 if kind == "ogg-opus" else 44_100
    data = encode(sing("ab", rate)[:, None], rate, kind)
    client = desk(*((("utterance_end_ms", "1000"),) if utterances else ()))
    said = client.answers(*pieces(data, range(size, len(data), size)), CLOSE)
    assert heard_in(said) == "a b"
    (first, second) = words(said)
    assert first["start"] == pytest.approx(expected("ab")[0][1], abs=0.05)
    assert second["end"] < said[-1]["duration"]
    assert said[-1]["duration"] == pytest.approx(len(sing("ab")) / RATE, abs=0.02)
    assert said[-1]["sha256"] == hashlib.sha256(data).hexdigest()
    assert said[-1]["warnings"] == []


def test_a_file_may_be_announced_and_its_header_is_right() -> None:
    """`opus` of the service is Ogg Opus; a rate that is another is told as a warning."""
    data = encode(sing("ab", 48_000)[:, None], 48_000, "ogg-opus")
    said = desk(("encoding", "opus"), ("sample_rate", "16000"), ("channels", "1")).answers(
        data, CLOSE
    )
    assert heard_in(said) == "a b"
    (warning,) = said[-1]["warnings"]
    assert (warning["parameter"], "48000" in warning["message"]) == ("sample_rate", True)


def test_channels_of_a_file_are_heard_apart_where_that_is_wanted() -> None:
    """Its header says how many there are."""
    stereo = np.stack([sing("ab"), sing("c d")[: len(sing("ab"))]], axis=1)
    data = encode(stereo, RATE, "wav-s16le")
    said = desk(("multichannel", "true")).answers(data, CLOSE)
    by_channel = [[r for r in results(said) if r["channel_index"] == [n, 2]] for n in (0, 1)]
    assert [heard_in(results) for results in by_channel] == ["a b", "c"]


def test_a_file_may_be_left_off() -> None:
    """Whoever stops in the middle of a recording gets its words and Metadata, and no error."""
    data = encode(sing("ab  ")[:, None], RATE, "wav-s16le")
    said = desk().answers(data[: len(data) // 2], CLOSE)
    assert heard_in(said) == "a b"
    assert said[-1]["type"] == "Metadata"


def test_what_is_asked_before_a_file_begins_is_answered() -> None:
    """Finalize and CloseStream at once, Configure when the stream begins."""
    client = desk()
    assert client.answers(KEEP) == []
    (answer,) = client.answers(FINALIZE)
    assert (answer["from_finalize"], transcript(answer), answer["duration"]) == (True, "", 0.0)
    assert client.answers({"type": "Configure", "keyterms": ["a"]}) == []
    said = client.answers(encode(sing("a")[:, None], RATE, "flac-16"), FINALIZE, CLOSE)
    assert said[0]["type"] == "ConfigureFailure"  # of a model without a language
    assert (heard_in(said), said[-1]["type"]) == ("a", "Metadata")
    (last,) = desk().answers(CLOSE)
    assert (last["type"], last["duration"], last["channels"]) == ("Metadata", 0.0, 1)
    refused = desk().answers(*[{"type": "Configure", "keyterms": ["a"]}] * 40)
    assert {m["type"] for m in refused} == {"ConfigureFailure"}


@pytest.mark.parametrize("sent", [to_s16le(sing("a")), b"\x1aE\xdf\xa3" + bytes(40), b"RIFF"])
def test_what_begins_as_no_file_is_refused_with_what_can_be_had(sent: bytes) -> None:
    """Samples without a word on how they are written are not guessed at."""
    said = desk().answers(sent, CLOSE)
    assert [m["type"] for m in said] == ["Error"]


def test_channels_are_heard_apart_where_that_is_wanted() -> None:
    """Each has its own results, ranges, finalisation and utterances."""
    stereo = np.stack([sing("ab"), sing("c d")[: len(sing("ab"))]], axis=1)
    data = to_s16le(stereo.ravel())
    query = (*INTERIM, ("channels", "2"), ("multichannel", "true"), ("vad_events", "true"))
    said = desk(*query).answers(data, FINALIZE, CLOSE)
    by_channel = {
        index: [m for m in said if m.get("channel_index", m.get("channel")) == [index, 2]]
        for index in (0, 1)
    }
    assert [w["word"] for w in words(by_channel[0])] == ["a", "b"]
    assert [w["word"] for w in words(by_channel[1])] == ["c"]
    for heard in by_channel.values():
        assert len(results(heard, from_finalize=True)) == 1
        assert [m["type"] for m in heard].count("SpeechStarted") == 1
    assert said[-1]["channels"] == 2


def test_channels_are_one_where_that_is_not_wanted() -> None:
    """Their mean is heard."""
    data = to_s16le(np.repeat(sing("ab"), 2))
    said = desk(*RAW, ("channels", "2")).answers(data, CLOSE)
    assert transcript(said[0]) == "a b"
    assert said[0]["channel_index"] == [0, 1]


@pytest.mark.parametrize("message", ["no json", "[1]", '{"type":"Listen"}', '{"x":1}', "[" * 10**5])
def test_text_that_cannot_be_read_ends_the_stream_with_its_words(message: str) -> None:
    """What was said before is told, then the error, then the close with the service's reason."""
    client = desk(*RAW)
    said = client.answers(*chunks("a"), message)
    assert [m["type"] for m in said] == ["Results", "Error"]
    assert said[-1]["variant"] == "SchemaError"
    assert client.ended
    assert (client.ended.error.code, client.ended.error.close_code) == ("DATA-0000", 1008)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoding": "amr-nb"}, "linear16"),
        ({"encoding": ""}, "linear16"),
        ({"encoding": "flac", "sample_rate": "fast"}, "whole number"),
        ({"sample_rate": "7999"}, "8000 to 48000"),
        ({"sample_rate": "1e4"}, "whole number"),
        ({"sample_rate": "96000"}, "8000 to 48000"),
        ({"channels": "9"}, "channels is 9"),
        ({"interim_results": "yes"}, "true or false"),
        ({"endpointing": "-1"}, "endpointing"),
        ({"endpointing": "60001"}, "endpointing"),
        ({"endpointing": "0000000009999999"}, "endpointing"),
        ({"endpointing": "0" * 9 + "9" * 4400}, "endpointing"),  # Python reads 4300 digits
        ({"keyterm": "new " * 1001}, "keyterm: 1001 words in all; at most 1000"),
        ({"utterance_end_ms": "500"}, "1000"),
    ],
)
def test_an_address_that_cannot_be_met_is_refused(changes: dict[str, str], named: str) -> None:
    """Before the upgrade, with a line that says what can be had."""
    with pytest.raises(ProtocolError, match=named):
        Deepgram(hello(*(dict(RAW) | changes).items()))


typed = objects("type", "keyterms", "features").map(json.dumps)
kinds = st.sampled_from([json.dumps(m) for m in (FINALIZE, CLOSE, KEEP, {"type": "Configure"})])
messages = st.binary(max_size=3000) | st.text() | ANYTHING.map(json.dumps) | typed | kinds


@given(st.lists(messages, max_size=8))
@settings(max_examples=40)
def test_any_messages_are_understood_or_refused_in_order(sent: list[bytes | str]) -> None:
    """The parser's law."""
    error = survives(Deepgram(hello(*INTERIM, ("utterance_end_ms", "1000"))), sent)
    assert error is None or (error.code, error.close_code) == ("DATA-0000", 1008)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([k for k, _ in RAW] + ["endpointing", "channels"]) | st.text(),
            st.text(),
        ),
        max_size=6,
    )
)
@settings(max_examples=60)
def test_any_address_is_understood_or_refused_in_order(query: list[tuple[str, str]]) -> None:
    """The address comes from strangers, too."""
    try:
        outcome = ""
        Deepgram(hello(*RAW, *query)).opening()
    except ProtocolError as error:
        outcome = str(error)
    assert "\n" not in outcome
    assert len(outcome) < 300


def listen(service: Service, *query: tuple[str, str], **options: Any) -> connect:
    """A plain websocket to the path."""
    joined = "&".join(f"{name}={value}" for name, value in query)
    return connect(f"ws://127.0.0.1:{service.port}/v1/listen?{joined}", **options)


@in_a_loop
async def test_a_bad_address_is_answered_before_the_upgrade_in_the_protocols_shape() -> None:
    """HTTP 400 with `err_code` and `err_msg`, as the service does."""
    async with serving() as service:
        with pytest.raises(InvalidStatus) as caught:
            async with listen(service, ("encoding", "mp3")):
                pass
    response = caught.value.response
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/json")
    assert {"err_code", "err_msg", "request_id"} == set(json.loads(response.body))


@in_a_loop
async def test_an_unreadable_message_closes_with_the_services_code_and_reason() -> None:
    """1008 DATA-0000."""
    async with serving() as service, listen(service, *RAW) as socket:
        await socket.send("nonsense")
        assert json.loads(await socket.recv())["type"] == "Error"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (socket.close_code, socket.close_reason) == (1008, "DATA-0000")


@pytest.mark.parametrize("query", [RAW, ()])
@in_a_loop
async def test_a_client_has_begun_with_its_address(query: tuple[tuple[str, str], ...]) -> None:
    """It may be silent as long as it likes, also where a file is to say what the audio is."""
    limits = Limits(start_seconds=0.02)
    async with serving(limits=limits) as service, listen(service, *query) as socket:
        (session,) = service.server.sessions
        now = asyncio.get_running_loop().time
        await until(lambda: now() > session.watch.opened + 0.2)  # the watch has looked many times
        await socket.send(json.dumps(CLOSE))
        assert json.loads(await socket.recv())["type"] == "Metadata"


def sdk(port: int, name: str, key: str = "secret") -> Any:
    """A client of the real deepgram-sdk, which takes our server for the service."""
    deepgram = pytest.importorskip("deepgram", reason="needs deepgram-sdk: pip install .[oracles]")
    environment = pytest.importorskip("deepgram.environment").DeepgramClientEnvironment
    ours = f"ws://127.0.0.1:{port}"
    there = environment(base=ours, production=ours, agent=ours, agent_rest=ours)
    return getattr(deepgram, name)(api_key=key, environment=there)


OPTIONS = {
    "model": "nova-3", "encoding": "linear16", "sample_rate": RATE, "interim_results": True,
    "utterance_end_ms": 1000, "vad_events": True, "smart_format": True, "keyterm": ["a", "b"],
}  # fmt: skip


@in_a_loop
async def test_the_real_asynchronous_sdk_is_served() -> None:
    """Its events by its own classes: everything that an application reads is there."""
    async with serving() as service:
        client = sdk(service.port, "AsyncDeepgramClient")
        async with client.listen.v1.connect(**OPTIONS) as socket:
            for chunk in chunks(SONG):
                await socket.send_media(chunk)
            await socket.send_keep_alive()
            await socket.send_finalize()
            await socket.send_close_stream()
            heard = [message async for message in socket]
    check_sdk(heard)


@in_a_loop
async def test_the_real_sdk_brings_its_key() -> None:
    """As it does to the service, in a header; without the key it is refused before the upgrade."""
    key = make_key()
    access = Access(keys.parse(keys.line_of("sdk", key), "a test"))
    async with serving(access=access) as service:
        client = sdk(service.port, "AsyncDeepgramClient", key)
        async with client.listen.v1.connect(model="nova-3") as socket:
            await socket.send_media(encode(sing("ab", 44_100)[:, None], 44_100, "flac-16"))
            await socket.send_close_stream()
            heard = [message async for message in socket]
        with pytest.raises(Exception, match="401"):
            async with sdk(service.port, "AsyncDeepgramClient").listen.v1.connect(model="nova-3"):
                pass
    finals = [m.channel.alternatives[0].transcript for m in heard if m.type == "Results"]
    assert " ".join(filter(None, finals)) == "a b"
    assert heard[-1].duration == pytest.approx(len(sing("ab")) / RATE, abs=1e-3)


@in_a_loop
async def test_a_browser_brings_its_key_as_a_subprotocol() -> None:
    """`token, KEY`, of which `token` is chosen: a browser waits to hear one of them back."""
    key = make_key()
    access = Access(keys.parse(keys.line_of("page", key), "a test"))
    async with serving(access=access) as service:
        async with listen(service, *RAW, subprotocols=["token", key]) as socket:
            assert socket.subprotocol == "token"
            await socket.send(json.dumps(CLOSE))
            assert json.loads(await socket.recv())["type"] == "Metadata"
        with pytest.raises(InvalidStatus, match="401"):
            async with listen(service, *RAW, subprotocols=["token", make_key()]):
                pass


@in_a_loop
async def test_the_real_synchronous_sdk_is_served() -> None:
    """The same by the other client, which has another websocket underneath."""

    def talk(port: int) -> list[Any]:
        with sdk(port, "DeepgramClient").listen.v1.connect(**OPTIONS) as socket:
            for chunk in chunks(SONG):
                socket.send_media(chunk)
            socket.send_keep_alive()
            socket.send_finalize()
            socket.send_close_stream()
            return list(socket)

    async with serving() as service:
        check_sdk(await asyncio.to_thread(talk, service.port))


def check_sdk(heard: list[Any]) -> None:
    """What the SDK made of our messages."""
    kinds = [type(message).__name__ for message in heard]
    assert set(kinds) == {
        "ListenV1Results", "ListenV1SpeechStarted", "ListenV1UtteranceEnd", "ListenV1Metadata"
    }  # fmt: skip
    assert kinds[-1] == "ListenV1Metadata"
    finals = [m for m in heard if m.type == "Results" and m.is_final]
    told = [w for m in finals for w in m.channel.alternatives[0].words]
    song = expected(SONG)
    assert [(w.word, w.start, w.end) for w in told] == [
        (word, pytest.approx(start), pytest.approx(end)) for word, start, end in song
    ]
    assert sum(bool(m.from_finalize) for m in finals) == 1
    assert finals[0].metadata.model_info.name == "tones"
    assert {w["parameter"] for w in heard[-1].warnings} == {"smart_format", "keyterm"}
    assert heard[-1].duration == pytest.approx(len(sing(SONG)) / RATE)
