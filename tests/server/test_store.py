"""Where snapshots wait: in memory and in a real Redis, the same promises."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError, ProtocolError
from server.dialogue import AudioFormat
from server.intake import Intake
from server.snapshot import Seal, Snapshot
from server.store import MemoryStore, RedisStore
from tests.server.redises import RedisServer, needs_redis, running_redis
from tests.server.sockets import in_a_loop, until
from tests.server.tones import recognizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from server.store import Store

SECRET = b"s" * 32
SEAL = Seal(SECRET)
LISTENS = recognizer()


def at(position: int) -> Snapshot:
    """A session that has come so far."""
    intake = Intake(AudioFormat("f32le", 16000))
    (samples,) = intake.take([(bytes(4 * position), 0.0)])
    state, _ = LISTENS.step(LISTENS.start(), samples)
    return Snapshot("{}", (state,), intake.saved, ((),))


SNAPSHOTS = [at(position) for position in range(3)]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do not hurt it."""
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def kind(request: pytest.FixtureRequest) -> str:
    """Each store in turn; Redis is started only where it is wanted."""
    return str(request.param)


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    """A store at work."""
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def made(kind: str, request: pytest.FixtureRequest, seconds: float = 60.0) -> Store:
    """A store of that kind."""
    if kind == "memory":
        return MemoryStore(seconds, 8)
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisStore(server.url, SEAL, seconds)


async def position(store: Store, token: str, owner: str) -> int | None:
    """How far the session had come that is claimed."""
    snapshot = await store.claim(token, owner, LISTENS)
    return None if snapshot is None else snapshot.position


def test_the_last_snapshot_is_the_one_that_is_claimed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Whatever was put before it."""

    @in_a_loop
    async def run() -> None:
        async with opened(made(kind, request)) as store:
            token, stored = SEAL.token(), asyncio.Event()
            assert await position(store, token, "a") is None
            assert await store.keep(token, "a", at(1))
            for place in range(2, 9):
                store.put(token, "a", at(place), lambda _: stored.set())
            await stored.wait()
            assert await position(store, token, "b") == 8

    run()


def test_only_the_last_owner_writes(kind: str, request: pytest.FixtureRequest) -> None:
    """A server whose client has gone on elsewhere cannot turn the session back."""

    @in_a_loop
    async def run() -> None:
        async with opened(made(kind, request)) as store:
            token = SEAL.token()
            assert await store.keep(token, "old", at(5))
            assert await position(store, token, "new") == 5
            assert await store.keep(token, "new", at(9))
            answers: list[bool] = []
            store.put(token, "old", at(6), answers.append)
            await until(lambda: answers)
            assert answers == [False]
            assert not await store.keep(token, "old", at(7))
            store.forget(token, "old")
            assert await position(store, token, "newer") == 9

    run()


def test_what_is_over_is_forgotten(kind: str, request: pytest.FixtureRequest) -> None:
    """Nobody goes on with a session that has ended."""

    @in_a_loop
    async def run() -> None:
        async with opened(made(kind, request)) as store:
            token, other = SEAL.token(), SEAL.token()
            answers: list[bool] = []
            assert await store.keep(token, "a", at(5))
            store.forget(token, "a")
            store.put(other, "a", at(1), answers.append)  # behind it
            await until(lambda: answers)
            assert await position(store, token, "b") is None

    run()


def test_what_is_left_too_long_is_forgotten_unless_it_is_alive(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Age is bounded; a client that is there and silent keeps its snapshot."""
    now = 0.0

    @in_a_loop
    async def run() -> None:
        nonlocal now
        store = made(kind, request, seconds=0.3)
        if isinstance(store, MemoryStore):
            store._clock = lambda: now  # noqa: SLF001 - time passes when the test says so
        async with opened(store):
            token, silent = SEAL.token(), SEAL.token()
            assert await store.keep(token, "a", at(5))
            assert await store.keep(silent, "a", at(7))
            begun = asyncio.get_running_loop().time()
            while now < 0.5:
                store.touch([silent])
                await asyncio.sleep(0.01)  # Redis has a clock of its own
                now = asyncio.get_running_loop().time() - begun
            assert await position(store, token, "b") is None
            assert await position(store, silent, "b") == 7

    run()


def test_memory_keeps_no_more_than_it_may() -> None:
    """The longest unheard of goes first."""

    @in_a_loop
    async def run() -> None:
        store = MemoryStore(60.0, 3)
        for number in range(5):
            assert await store.keep(f"t{number}", "a", at(1 + number))
            store.touch(["t0"])
        assert len(store) == 3
        kept = [await position(store, f"t{n}", "b") for n in range(5)]
        assert kept == [1, None, None, 4, 5]

    run()


def test_sessions_in_which_nothing_was_heard_push_out_each_other() -> None:
    """Whoever opens connections and leaves costs the others, who come back, no word."""

    @in_a_loop
    async def run() -> None:
        store = MemoryStore(60.0, 3)
        for number in range(2):
            assert await store.keep(f"heard{number}", "a", at(5))
        for number in range(9):
            assert await store.keep(f"empty{number}", "a", at(0))
        assert len(store) == 3
        assert [await position(store, f"heard{n}", "b") for n in range(2)] == [5, 5]
        assert [await position(store, f"empty{n}", "b") for n in (7, 8)] == [None, 0]

    run()


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0, 0, 1, 2])), max_size=40),
)
def test_memory_keeps_what_was_kept_last(room: int, kept: list[tuple[str, int]]) -> None:
    """In bounds, each session once, with its last snapshot, empty or not."""

    @in_a_loop
    async def run() -> None:
        store = MemoryStore(60.0, room)
        for number, (token, place) in enumerate(kept, start=1):
            assert await store.keep(token, "a", SNAPSHOTS[place])
            assert len(store) <= min(room, number)
            assert await position(store, token, "a") == place
        for token in "abcdef":
            store.forget(token, "a")
        assert len(store) == 0

    run()


@needs_redis
def test_what_waits_is_written_before_the_end(redis_server: RedisServer) -> None:
    """A server that stops leaves all that it knows."""

    @in_a_loop
    async def run() -> None:
        tokens = [SEAL.token() for _ in range(40)]
        async with opened(RedisStore(redis_server.url, SEAL, 60.0)) as store:
            for number, token in enumerate(tokens):
                store.put(token, "a", at(number), lambda _: None)
        async with opened(RedisStore(redis_server.url, SEAL, 60.0)) as store:
            assert [await position(store, token, "b") for token in tokens] == list(range(40))

    run()


@needs_redis
def test_a_redis_that_dies_costs_one_line_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Meanwhile nothing is held up, and what waited is written afterwards."""

    @in_a_loop
    async def run() -> None:
        with running_redis() as server:
            async with opened(RedisStore(server.url, SEAL, 60.0)) as store:
                token, answers = SEAL.token(), list[bool]()
                assert await store.keep(token, "a", at(1))
                server.stop()
                assert not await store.keep(token, "a", at(2))
                assert not await store.keep(token, "a", at(3))
                with pytest.raises(ProtocolError, match="does not answer; try again") as caught:
                    await store.claim(token, "b", LISTENS)
                assert (caught.value.code, caught.value.close_code) == ("resume_unavailable", 1013)
                store.put(token, "a", at(4), answers.append)
                await asyncio.to_thread(server.start)
                await until(lambda: answers)
                assert await position(store, token, "b") == 4
        lines = [r.getMessage() for r in caplog.records if r.name == "server.store"]
        assert len(lines) == 2
        assert "does not answer" in lines[0]
        assert lines[1].endswith("answers again")

    with caplog.at_level(logging.WARNING):
        run()


@needs_redis
def test_what_was_tampered_with_is_refused(redis_server: RedisServer) -> None:
    """Redis is trusted to keep, not to tell the truth."""

    @in_a_loop
    async def run() -> None:
        from redis.asyncio import Redis

        url = redis_server.url.removesuffix("0") + "1"  # a database of its own
        async with opened(RedisStore(url, SEAL, 60.0)) as store, Redis.from_url(url) as redis:
            token = SEAL.token()
            assert await store.keep(token, "a", at(5))
            (key,) = await redis.keys()
            assert "asr:session:" in str(key)
            assert token not in str(key)
            assert 0 < await redis.pttl(key) <= 60_000
            await redis.hset(key, "snapshot", b"asr-session and more" * 9)
            with pytest.raises(ProtocolError, match="cannot be used"):
                await store.claim(token, "b", LISTENS)

    run()


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://h:port"])
def test_an_address_that_is_none_gives_one_line(url: str) -> None:
    """It says how it is written."""
    with pytest.raises(ConfigError, match="redis://HOST:PORT/DATABASE"):
        RedisStore(url, SEAL, 60.0)


def test_a_missing_package_is_named_with_the_versions_that_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its own name: what is called `asr` on PyPI is another program than this."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    (wanted,) = project["project"]["optional-dependencies"]["redis"]
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=rf"pip install '{re.escape(wanted)}'$"):
        RedisStore("redis://localhost:6379/0", SEAL, 60.0)
