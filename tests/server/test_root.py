"""The path `/`: whoever knows host and port only is understood, vosk-server's or sherpa-onnx's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from asr.audio import to_s16le
from server.protocols.root import ENOUGH, MAX_UNTOLD, Guess, Root
from server.routes import with_root
from tests.server.command import serve
from tests.server.conversations import ANYTHING, Desk, hello, survives
from tests.server.sockets import in_a_loop, serving
from tests.server.tones import RATE, sing

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

SONG = "ab c  d"
EOF = '{"eof" : 1}'
SILENCE = bytes(3200)  # the 50 ms of the published microphone client


def waves(rate: int, amplitude: float, frequency: float, noise: float, seed: int) -> Any:
    """A tone and hiss, float32 in [-1, 1]."""
    time = np.arange(rate // 20) / rate
    hiss = np.random.default_rng(seed).standard_normal(len(time)) * noise
    return (amplitude * np.sin(2 * np.pi * frequency * time) + hiss).clip(-1, 1).astype(np.float32)


sounds = st.builds(
    waves,
    st.sampled_from([8000, 16000, 48000]),
    st.floats(0, 4),  # up to one that is clipped for most of the time
    st.floats(20, 4000),
    st.floats(1e-4, 1),
    st.integers(0, 99),
)


@given(sounds)
def test_sound_is_never_taken_for_the_other_format(sound: Any) -> None:
    """However loud, low or noisy it is, clipped included."""
    assert Guess().hear(to_s16le(sound)) == "vosk"
    assert Guess().hear(sound.tobytes()) == "sherpa"


@pytest.mark.parametrize(
    ("message", "who"),
    [
        ('{"config": {"sample_rate": 16000}}', "vosk"),
        (EOF, "vosk"),
        ("nonsense", "vosk"),
        ("Done", "sherpa"),
        (b"", None),
        (SILENCE, None),
        (b"abc", "vosk"),
    ],
)
def test_the_first_message_tells_or_is_silence(message: bytes | str, who: str | None) -> None:
    """Text always tells; nothing and silence never do."""
    assert Guess().hear(message) == who


def test_silence_is_answered_and_kept_until_sound_tells_who_speaks() -> None:
    """A microphone often begins with it: time counts from its beginning, for either."""
    for sent, last in ((sing(SONG).tobytes(), "Done"), (to_s16le(sing(SONG, 8000)), EOF)):
        silent, whole = (Desk(Root(hello())) for _ in range(2))
        assert silent.answers(SILENCE, SILENCE) == [{"partial": ""}] * 2
        assert _begins(silent.hear(sent, last)) == _begins(whole.hear(2 * SILENCE + sent, last))


@given(st.integers(1, ENOUGH - 1), st.integers(0, 3))
@settings(max_examples=10)
def test_a_few_samples_of_sound_are_kept_like_silence(few: int, silent: int) -> None:
    """A recording may begin anywhere in a message: of its first samples no more tell than of 0."""
    song = sing(SONG)
    song = song[np.argmax(song != 0) :]
    for sent, last in ((song.tobytes(), "Done"), (to_s16le(song), EOF)):
        cut = 4 * few
        pieces, whole = (Desk(Root(hello())) for _ in range(2))
        kept = [SILENCE] * silent + [SILENCE + sent[:cut]]
        assert pieces.answers(*kept) == [{"partial": ""}] * len(kept)
        at_once = whole.hear(b"".join(kept) + sent[cut:], last)
        assert _begins(pieces.hear(sent[cut:], last)) == _begins(at_once)


@given(st.integers(1, 20), st.booleans())
@settings(max_examples=10)
def test_sound_tells_however_small_its_pieces(samples: int, floats: bool) -> None:  # noqa: FBT001 - hypothesis passes it by position
    """What was kept counts: no single message need hold enough."""
    song = sing(SONG)[: RATE // 2]
    data = song.tobytes() if floats else to_s16le(song)
    guess, size = Guess(), 4 * samples
    told = [guess.hear(data[at : at + size]) for at in range(0, len(data) - size, size)]
    assert set(told) == {None, "sherpa" if floats else "vosk"}


def _begins(messages: list[Any]) -> list[tuple[str, float]]:
    """The words that were told, each with a time."""
    results = [json.loads(message) for message in messages if message != "Done!"]
    if "is_final" in results[-1]:
        return [(r["text"], r["start_time"]) for r in results if r["is_final"]]
    return [(w["word"], w["start"]) for r in results for w in r.get("result", [])]


@pytest.mark.parametrize(
    ("last", "answers"), [(EOF, [{"text": ""}]), ('{"reset":1}', [{"text": ""}])]
)
def test_an_end_behind_silence_is_answered_once(last: str, answers: list[dict[str, str]]) -> None:
    """The silence had its answers already."""
    desk = Desk(Root(hello()))
    assert desk.answers(SILENCE, last) == [{"partial": ""}, *answers]


def test_silence_is_kept_in_bounds() -> None:
    """Then it is decided without: who is silent for ever costs no more memory than others."""
    desk = Desk(Root(hello()))
    silence = bytes(64_000)
    for _ in range(2 * MAX_UNTOLD // len(silence)):
        assert desk.answers(silence) == [{"partial": ""}]
    assert desk.answers(to_s16le(sing(SONG, 8000)), EOF)[0]["text"] == "a b c"


def test_the_operator_says_who_is_meant_where_nothing_tells() -> None:
    """With `sherpa` silence is heard at once."""
    desk = Desk(Root(hello(), "sherpa"))
    assert desk.hear(SILENCE) == []
    assert desk.hear("Done")[-1] == "Done!"
    assert Desk(Root(hello(), "sherpa")).answers('{"config":{}}', EOF) == [{"text": ""}]


@given(
    st.lists(
        st.binary(max_size=3000)
        | st.text()
        | ANYTHING.map(json.dumps)
        | st.sampled_from(["Done", EOF, SILENCE, b""]),
        max_size=6,
    )
)
@settings(max_examples=30)
def test_any_messages_are_understood_or_refused_in_order(sent: list[bytes | str]) -> None:
    """The parser's law."""
    error = survives(Root(hello()), sent)
    assert error is None or error.close_code in {1003, 1007}


async def sherpa_client(socket: ClientConnection) -> list[tuple[str, float]]:
    """The sequence of online-websocket-client.cc: messages of 8000 float32, `Done`, to `Done!`."""
    data = sing(SONG).tobytes()
    for first in range(0, len(data), 32_000):
        await socket.send(data[first : first + 32_000])
    await socket.send("Done")
    heard = []
    while (message := await socket.recv()) != "Done!":
        heard.append(message)
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    return _begins(heard)


async def vosk_client(socket: ClientConnection, *, configured: bool) -> str:
    """The sequence of vosk-server's test.py: each message waits for its answer."""
    rate = RATE if configured else 8000
    data = to_s16le(sing(SONG, rate))
    if configured:
        await socket.send(f'{{ "config" : {{ "sample_rate" : {rate} }} }}')
    answers = []
    for first in range(0, len(data), rate * 2 // 5):
        await socket.send(data[first : first + rate * 2 // 5])
        answers.append(json.loads(await socket.recv()))
    await socket.send(EOF)
    answers.append(json.loads(await socket.recv()))
    return " ".join(answer["text"] for answer in answers if answer.get("text"))


@pytest.mark.parametrize("otherwise", ["vosk", "sherpa"])
@in_a_loop
async def test_the_published_clients_are_served_on_one_address(otherwise: str) -> None:
    """Whichever the operator prefers: they tell who they are."""
    async with serving() as service:
        service.server.routes = with_root(otherwise)
        url = f"ws://127.0.0.1:{service.port}"
        async with connect(url) as socket:
            assert " ".join(text for text, _ in await sherpa_client(socket)) == "a b c d"
        for configured in (True, False):
            async with connect(url) as socket:
                assert await vosk_client(socket, configured=configured) == "a b c d"


def test_the_command_has_the_option() -> None:
    """`--root-protocol sherpa`: a microphone that is silent yet gets no answer of vosk-server's."""
    with serve("--root-protocol", "sherpa") as command:

        @in_a_loop
        async def talk() -> None:
            async with connect(f"ws://127.0.0.1:{command.port}/") as socket:
                await socket.send(SILENCE)
                await socket.send("Done")
                assert json.loads(await socket.recv())["is_eof"]
                assert await socket.recv() == "Done!"

        talk()
