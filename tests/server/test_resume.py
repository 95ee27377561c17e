"""A session outlives its connection: cut anywhere, it goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.app import Server
from server.resume import Resumption
from server.snapshot import KEPT_WORDS, Seal
from server.store import MemoryStore
from tests.server.caller import Caller, cut
from tests.server.sockets import Peer, Service, fields_heard, fields_of, in_a_loop, serving, until
from tests.server.tones import ToneNetwork, alone, recognizer, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asr.recognizer import Recognizer
    from server.snapshot import Snapshot

SONG = "ab c  dd a"
cuts_of_a_song = st.lists(
    st.tuples(st.integers(0, 60_000), st.sampled_from(["at once", "heard", "half heard"])),
    max_size=4,
)


@settings(max_examples=12)
@given(
    st.text("abcd ", min_size=1, max_size=6),
    cuts_of_a_song,
    st.sampled_from([160, 1280, 5000]),
    st.sampled_from([16000, 8000]),
)
def test_a_session_cut_anywhere_says_what_an_uncut_one_says(
    song: str, cuts: list[tuple[int, str]], size: int, rate: int
) -> None:
    """Wherever sockets break, whatever was on its way: no word twice, none missing, same times."""

    @in_a_loop
    async def run() -> None:
        async with serving() as service:
            uncut, caller = Caller(song, rate), Caller(song, rate)
            async with uncut.call(service.url) as peer:
                expected = fields_heard(await uncut.finish(peer))
            for place, manner in sorted(cuts):
                async with caller.call(service.url) as peer:
                    await caller.send(peer, place, size)
                    await caller.hear_some(peer, manner)
                    cut(peer)
            async with caller.call(service.url) as peer:
                assert fields_heard(await caller.finish(peer)) == expected
            assert service.server.resumption.resumed == len(cuts)

    run()


@settings(max_examples=8)
@given(
    st.lists(st.text("abcd ", max_size=6), min_size=2, max_size=3), cuts_of_a_song, st.booleans()
)
def test_channels_apart_that_are_cut_anywhere_say_what_they_say_uncut(
    songs: list[str],
    cuts: list[tuple[int, str]],
    elsewhere: bool,  # noqa: FBT001 - hypothesis passes it by position
) -> None:
    """Each goes on in its own state and with its own numbers, also on another server."""

    @in_a_loop
    async def run() -> None:
        async with sharing() as one, sharing() as other:
            uncut = Caller(songs[0], 16_000, *songs[1:])
            caller = Caller(songs[0], 16_000, *songs[1:])
            async with uncut.call(one.url) as peer:
                await uncut.finish(peer)
            for number, (place, manner) in enumerate(sorted(cuts)):
                service = other if elsewhere and number % 2 else one
                async with caller.call(service.url) as peer:
                    await caller.send(peer, place)
                    await caller.hear_some(peer, manner)
                    cut(peer)
                await until(lambda: not (one.server.sessions or other.server.sessions))
            async with caller.call(other.url) as peer:
                await caller.finish(peer)
            expected = [fields_heard(finals) for finals in uncut.finals_apart]
            assert [fields_heard(finals) for finals in caller.finals_apart] == expected
            heard = ["".join(m["text"] for m in finals) for finals in caller.finals_apart]
            assert [h.replace(" ", "") for h in heard] == [s.replace(" ", "") for s in songs]

    run()


@in_a_loop
async def test_channels_are_acknowledged_and_resumed_one_by_one() -> None:
    """A list of numbers; another number of them makes no sense."""
    async with serving() as service:
        caller = Caller("a b c ", 16_000, "d  ")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await peer.tell("ack", segments=[2, 0])
            await peer.tell("ping")
            await peer.hear_until("pong")
            cut(peer)
        right = caller.resume()
        for segments in (2, [2], [2, 0, 0]):
            code, close_code, message = await refusal(service, **right | {"segments": segments})
            assert (code, close_code) == ("bad_message", 1007)
            assert "2 channels" in message
        assert (await refusal(service, **right))[0] == "resume_gap"
        async with service.connect() as connection:
            peer = Peer(connection)
            await peer.tell("start", version=1, resume=right | {"segments": [2, 0]})
            await peer.hear_until("ready")
            await peer.tell("ack", segments=3)
            heard = await peer.hear_all()
        assert [(m["channel"], m["text"]) for m in heard if m["type"] == "final"] == [
            (0, "c"), (1, "d")
        ]  # fmt: skip
        assert heard[-1]["code"] == "bad_message"


@in_a_loop
async def test_finals_that_were_lost_on_the_way_are_said_again() -> None:
    """In order and with their numbers, behind `ready` and before anything new."""
    async with serving() as service:
        caller = Caller(SONG)
        async with caller.call(service.url) as peer:
            await caller.send(peer, 60_000)
            await peer.tell("ping")
            await peer.hear_until("pong")  # all that was said is thrown away
            cut(peer)
        async with caller.call(service.url) as peer:
            first, second = await peer.hear(), await peer.hear()
            assert (first["type"], first["segment"], first["text"]) == ("final", 0, "a b")
            assert second["type"] in {"final", "partial"}
            caller.take(first)
            caller.take(second)
            assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_a_client_that_does_not_say_what_it_has_is_sent_all_that_is_kept() -> None:
    """It knows finals by their numbers; what it has acknowledged does not come again."""
    async with serving() as service:
        caller = Caller("a b c d ")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            assert len(caller.finals) == 4
            await peer.tell("ack", segments=2)
            await peer.tell("ping")
            await peer.hear_until("pong")
            cut(peer)
        async with service.connect() as connection:
            peer = Peer(connection)
            asked = {"token": caller.token, "position": caller.sent}
            await peer.tell("start", version=1, resume=asked)
            await peer.hear_until("ready")
            await peer.tell("finish")
            again = [m["segment"] for m in await peer.hear_all() if m["type"] == "final"]
    assert again == [2, 3]


@in_a_loop
async def test_the_open_segment_is_shown_at_once() -> None:
    """The screen of a client that lost its partials is right before anybody speaks."""
    async with serving() as service:
        caller = Caller("abc")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            cut(peer)
        before = [m for m in caller.heard if m["type"] == "partial"][-1]
        async with caller.call(service.url) as peer:
            partial = await peer.hear()
    assert partial.pop("position") >= before.pop("position")
    assert partial | {"latency_ms": 0} == before | {"latency_ms": 0}


async def lose_the_end(service: Service, peer: Peer) -> None:
    """Finish, and let everything be sent that follows, and nothing arrive."""
    (session,) = service.server.sessions
    peer.connection.transport.pause_reading()
    await peer.tell("finish")
    await until(lambda: session.line and session.line.states[0].finished)
    await until(lambda: not session.outbox)


@pytest.mark.parametrize("manner", ["at once", "when all was sent"])
@in_a_loop
async def test_an_end_that_was_lost_comes_again(manner: str) -> None:
    """Cut between `finish` and the last words: another `finish` brings what is missing."""
    async with serving() as service:
        caller = Caller(SONG)
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            if manner == "at once":
                await peer.tell("finish")
            else:
                await lose_the_end(service, peer)
            cut(peer)
        async with caller.call(service.url) as peer:
            assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_who_comes_back_while_the_old_connection_stands_takes_the_session_over() -> None:
    """A cut that only one side has seen: the old socket is closed, and says nothing more."""
    async with serving() as service:
        caller = Caller(SONG)
        async with caller.call(service.url) as old:
            await caller.send(old, 30_000)
            await old.tell("ping")
            await caller.hear(old, "pong")
            async with caller.call(service.url) as peer:
                assert caller.sent == 30_000  # nothing is to be sent again
                assert await old.hear_all() == []
                assert old.close_code == 1008
                assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))
        await until(lambda: not service.server.sessions)


@in_a_loop
async def test_what_waits_unrecognised_on_the_old_connection_is_asked_for_again() -> None:
    """A backlog is dropped with its connection, and no sample of it is recognised twice."""
    network = ToneNetwork()
    async with serving(recognizer(network)) as service:
        caller = Caller(SONG)
        async with caller.call(service.url) as old:
            await caller.send(old, 2560)
            await old.tell("ping")
            await caller.hear(old, "pong")
            network.gate.clear()
            await caller.send(old, 60_000)
            (session,) = service.server.sessions
            await until(lambda: session.line and session.line.backlog_ms > 3000)
            async with caller.call(service.url) as peer:
                assert caller.sent <= 2560
                network.gate.set()
                assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_saved_tells_what_need_not_be_kept() -> None:
    """About once a second of audio, and never more than the server has heard."""
    async with serving() as service:
        caller = Caller("abcd" * 6)
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            seconds = len(caller.samples) / 16_000
            places = [m["position"] for m in caller.heard if m["type"] == "saved"]
            assert seconds - 2 <= len(places) <= seconds + 1
            assert places == sorted(places)
            assert places[-1] <= len(caller.samples)


@in_a_loop
async def test_options_and_changes_of_them_survive() -> None:
    """A resumed session is configured as it was left."""
    async with serving() as service:
        caller = Caller("a b c d")
        async with caller.call(service.url, endpoint_ms=60_000, words=False) as peer:
            await caller.send(peer, 25_000)
            await peer.tell("configure", options={"endpoint_ms": 500})
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            cut(peer)
        async with caller.call(service.url) as peer:
            finals = await caller.finish(peer)
    assert [m["text"] for m in finals] == ["a b", "c", "d"]
    assert not any("words" in m for m in finals)


async def refusal(service: Service, **resume: Any) -> tuple[str, int | None, str]:
    """Code, close code and message that a resume meets."""
    async with service.connect() as connection:
        peer = Peer(connection)
        await peer.tell("start", version=1, resume=resume)
        (error,) = await peer.hear_all()
        assert error["type"] == "error"
        return error["code"], peer.close_code, error["message"]


@in_a_loop
async def test_tokens_that_lead_nowhere_get_one_clear_line_each() -> None:
    """Forged, long over, or nonsense."""
    async with serving() as service:
        forged = await refusal(service, token=Seal().token(), position=0)
        assert forged[:2] == ("resume_unknown", 1008)
        assert "not made by this service" in forged[2]
        for nonsense in ("", "ü", "a" * 43):
            assert (await refusal(service, token=nonsense, position=0))[0] == "resume_unknown"
        caller = Caller("a")
        async with caller.call(service.url) as peer:
            await caller.finish(peer)
        over = await refusal(service, **caller.resume())
        assert over[:2] == ("resume_unknown", 1008)
        assert "is over, or was left more than 300 s ago" in over[2]


@pytest.mark.parametrize(
    "resume",
    [
        {"position": 1},
        {"token": 7, "position": 1},
        {"token": "x" * 129, "position": 1},
        {"token": "x"},
        {"token": "x", "position": -1},
        {"token": "x", "position": 1.0},
        {"token": "x", "position": True},
        {"token": "x", "position": 1, "segments": None},
        {"token": "x", "position": 1, "segments": []},
        {"token": "x", "position": 1, "segments": [0] * 9},
        {"token": "x", "position": 1, "segments": [-1]},
        {"token": "x", "position": 2**53},
    ],
)
@in_a_loop
async def test_a_resume_that_makes_no_sense_is_refused(resume: dict[str, Any]) -> None:
    """Before anything is looked up."""
    async with serving() as service:
        assert (await refusal(service, **resume))[:2] == ("bad_message", 1007)


@in_a_loop
async def test_what_leaves_a_gap_is_refused_and_can_be_asked_again_better() -> None:
    """Rather no session than one with a hole in it."""
    async with serving() as service:
        caller = Caller("a b c ")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await peer.tell("ack", segments=2)
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            cut(peer)
        right = caller.resume()
        for wrong, why in [
            ({"position": 5}, r"more than the 5 that you say"),
            ({"segments": 1}, r"finals of segments 1 to 1 are not kept"),
        ]:
            code, close_code, message = await refusal(service, **right | wrong)
            assert (code, close_code) == ("resume_gap", 1008)
            assert why in message
        async with caller.call(service.url) as peer:
            assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing("a b c ")))


@in_a_loop
async def test_audio_behind_the_end_leaves_a_gap() -> None:
    """A session that was finished cannot be told more."""
    async with serving() as service:
        caller = Caller("a")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await lose_the_end(service, peer)
            cut(peer)
        more = caller.resume() | {"position": caller.sent + 1}
        code, _, message = await refusal(service, **more)
        assert code == "resume_gap"
        assert "was finished" in message


@in_a_loop
async def test_whoever_closes_in_order_wants_no_more() -> None:
    """Its session is forgotten at once."""
    async with serving() as service:
        caller = Caller("ab")
        async with caller.call(service.url) as peer:
            await caller.send(peer, 5000)
            await peer.connection.close(1000)
        await until(lambda: not service.server.sessions)
        assert (await refusal(service, **caller.resume()))[0] == "resume_unknown"


@in_a_loop
async def test_a_session_that_failed_is_not_gone_on_with() -> None:
    """What broke it would break it again."""
    async with serving() as service:
        caller = Caller("a!")
        async with caller.call(service.url) as peer:
            await caller.send(peer, len(caller.samples))
            await caller.hear(peer, "error")
        assert (await refusal(service, **caller.resume()))[0] == "resume_unknown"


@in_a_loop
async def test_a_start_too_long_to_be_kept_cannot_be_resumed_and_says_so() -> None:
    """Every snapshot carries it: so it is bounded."""
    async with serving() as service, service.connect() as connection:
        audio_format = {"encoding": "f32le", "sample_rate": 16000, "x": "y" * 70_000}
        await connection.send(json.dumps({"type": "start", "version": 1, "format": audio_format}))
        ready = json.loads(await connection.recv())
        assert (ready["token"], ready["resumable"]) == ("", False)


# Two servers with one store, as on two machines.


@contextlib.asynccontextmanager
async def sharing(listens: Recognizer | None = None) -> AsyncIterator[Service]:
    """A server whose store others share."""
    server = Server(listens or recognizer())
    server.resumption = Resumption(SEAL, SHARED)
    host, port = await server.start("127.0.0.1", 0)
    try:
        yield Service(server, f"ws://{host}:{port}/v1/stream", port)
    finally:
        await server.stop()


class SharedMemory(MemoryStore):
    """Stands in for Redis where only the servers' side of migration is looked at."""

    shared = True

    async def claim(self, token: str, owner: str, recognizer: Recognizer) -> Snapshot | None:
        """The snapshot, by way of its bytes."""
        snapshot = await super().claim(token, owner, recognizer)
        return snapshot and SEAL.open(token, SEAL.close(token, snapshot), recognizer)

    async def close(self) -> None:
        """It outlives the server."""


SEAL = Seal(b"k" * 32)
SHARED = SharedMemory(60.0, 99)


@in_a_loop
async def test_a_server_that_stops_sends_its_sessions_elsewhere_in_mid_word() -> None:
    """Close 1012, no `done`, no cut segment: the other server says the rest of the word."""
    async with sharing() as second:
        async with sharing() as first:
            caller = Caller(SONG)
            async with caller.call(first.url) as peer:
                await caller.send(peer, 2000)
                await peer.tell("ping")
                await caller.hear(peer, "pong")
                await first.server.stop()
                await caller.hear(peer)
                assert peer.close_code == 1012
                assert "done" not in {m["type"] for m in caller.heard}
        async with caller.call(second.url) as peer:
            assert caller.sent > 0
            assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_a_client_that_does_not_resume_is_told_all_when_the_server_stops() -> None:
    """Nobody loses words for not knowing of another server."""
    async with sharing() as service:
        caller = Caller(SONG)
        async with caller.call(service.url, resume=False) as peer:
            await caller.send(peer, 5000)
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            await service.server.stop()
            await caller.hear(peer)
            assert (peer.close_code, caller.heard[-1]["type"]) == (1001, "done")
            assert fields_heard(caller.finals) == fields_of(alone(sing(SONG)[:5000]))


@in_a_loop
async def test_a_session_that_went_on_elsewhere_is_given_up_here() -> None:
    """Two servers cannot both write it; the one whose client is gone learns of it."""
    async with sharing() as first, sharing() as second:
        caller = Caller(SONG)
        async with caller.call(first.url) as old:
            await caller.send(old, 20_000)
            await old.tell("ping")
            await caller.hear(old, "pong")
            sent = caller.sent
            async with caller.call(second.url) as peer:
                await caller.send(peer, 30_000)
                await old.say(caller.samples[sent : sent + 20_000])  # a saved second, and more
                await old.hear_all()
                assert old.close_code == 1008
                assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_a_server_with_another_model_does_not_go_on() -> None:
    """And leaves the session to one that can."""
    other = recognizer()
    other.bundle_id = "0ther"
    async with sharing() as first, sharing(other) as second:
        caller = Caller(SONG)
        async with caller.call(first.url) as peer:
            await caller.send(peer, 20_000)
            await peer.tell("ping")
            await caller.hear(peer, "pong")
            cut(peer)
        await until(lambda: not first.server.sessions)
        assert (await refusal(second, **caller.resume()))[0] == "resume_model"
        async with caller.call(first.url) as peer:
            assert fields_heard(await caller.finish(peer)) == fields_of(alone(sing(SONG)))


@in_a_loop
async def test_many_finals_without_an_acknowledgement_are_bounded() -> None:
    """In the line itself: 1000 words, whatever the client does."""
    async with serving() as service:
        caller = Caller("")
        async with caller.call(service.url) as peer:
            (session,) = service.server.sessions
            assert session.line is not None
            record = session.line.record
            assert record is not None
            (final,) = alone(sing("abcd"))
            for _ in range(KEPT_WORDS):
                record.keep(final, 0)
            assert len(record.finals[0]) == KEPT_WORDS // 4
            await peer.connection.close(1000)
