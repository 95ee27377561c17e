"""sherpa-onnx's websocket protocol, and the sequence of its published client."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from asr.transcript import Final
from server.protocols.sherpa import Sherpa
from tests.server.conversations import Desk, hello, survives
from tests.server.sockets import in_a_loop, serving
from tests.server.tones import RATE, alone, events_alone, sing

SONG = "ab c  d"
FIELDS = {
    "text", "tokens", "timestamps", "ys_probs", "lm_probs", "context_scores", "segment", "words",
    "start_time", "is_final", "is_eof",
}  # fmt: skip


def chunks(song: str, size: int = 32_000) -> list[bytes]:
    """A song in messages of so many bytes; 32,000 are the 8,000 samples of the published client."""
    data = sing(song).tobytes()
    return [data[first : first + size] for first in range(0, len(data), size)]


def talk(*messages: bytes | str) -> list[dict[str, Any]]:
    """All results of a whole conversation, without the `Done!` behind them."""
    *results, done = Desk(Sherpa(hello())).hear(*messages, "Done")
    assert done == "Done!"
    return [json.loads(result) for result in results]


def words(results: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The words of the final results, and when they begin."""
    return [
        (token.strip(), pytest.approx(result["start_time"] + time, abs=1e-6))
        for result in results
        if result["is_final"]
        for token, time in zip(result["tokens"], result["timestamps"], strict=True)
    ]


def expected(song: str) -> list[tuple[str, float]]:
    """What a recogniser at hand hears."""
    return [(w.text, w.start / RATE) for final in alone(sing(song)) for w in final.words]


@given(st.integers(801, 40_000))
@settings(max_examples=6)
def test_results_are_those_of_the_recogniser_however_the_bytes_are_cut(size: int) -> None:
    """Messages that are no multiple of four bytes included."""
    results = talk(*chunks(SONG, size))
    assert words(results) == expected(SONG)
    events = events_alone(sing(SONG))
    texts = [
        e.text if isinstance(e, Final) else f"{e.stable} {e.tentative}".strip() for e in events
    ]
    assert [result["text"] for result in results] == texts
    assert [result["segment"] for result in results] == [event.segment for event in events]


def test_every_field_is_there_and_fits_the_others() -> None:
    """Tokens are the text; each has a time and a logarithm of its confidence."""
    for result in talk(*chunks(SONG)):
        assert set(result) == FIELDS
        assert "".join(result["tokens"]).strip() == result["text"]
        assert len(result["tokens"]) == len(result["timestamps"]) == len(result["ys_probs"])
        assert all(math.log(1e-6) <= p <= 0 for p in result["ys_probs"])
        assert result["timestamps"] == sorted(result["timestamps"])
        assert all(time >= 0 for time in result["timestamps"])


def test_the_last_result_says_so() -> None:
    """`is_eof` comes once and last, behind an endpoint with an empty text, as it does there."""
    for song, last in ((SONG, "d"), (SONG + "  ", ""), ("", "")):
        results = talk(*chunks(song))
        assert [r["text"] for r in results if r["is_eof"]] == [last]
        assert results[-1]["is_eof"]
        assert results[-1]["is_final"]


@pytest.mark.parametrize("message", ["done", "Done!", "", "{}"])
def test_another_text_is_refused_behind_the_words_before_it(message: str) -> None:
    """It is not ignored in silence."""
    desk = Desk(Sherpa(hello()))
    heard = desk.hear(*chunks("a"), message)
    assert json.loads(heard[-1])["text"] == "a"
    assert desk.ended
    assert (desk.ended.error.code, desk.ended.error.close_code) == ("unknown_type", 1003)  # type: ignore[union-attr]


@given(st.lists(st.binary(max_size=3000) | st.text() | st.just("Done"), max_size=8))
@settings(max_examples=30)
def test_any_messages_are_understood_or_refused_in_order(sent: list[bytes | str]) -> None:
    """The parser's law: samples that are no numbers included."""
    error = survives(Sherpa(hello()), [np.array([np.nan, np.inf], "<f4").tobytes(), *sent])
    assert error is None or error.code == "unknown_type"


@in_a_loop
async def test_the_published_client_is_served() -> None:
    """The sequence of online-websocket-client-decode-file.py: send all, read until `Done!`."""

    async def receive_results() -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        async for message in socket:
            if message == "Done!":
                return results
            results.append(json.loads(message))
        pytest.fail("no Done!")

    async with serving() as service, connect(f"ws://127.0.0.1:{service.port}/sherpa") as socket:
        receiving = asyncio.create_task(receive_results())
        for message in chunks(SONG):
            await socket.send(message)
        await socket.send("Done")
        results = await receiving
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert socket.close_code == 1000
    assert words(results) == expected(SONG)
