"""Where snapshots wait for clients that come back: in this process, or in Redis for many machines.

A store has bounds: how many sessions are kept in memory, for how long after they were last heard
of, and how much waits to be written to Redis. A store that cannot be reached costs resumption and
nothing else: one line in the log when it goes, one when it is back.

Two servers may hold the same session for a while: one whose client is gone without its knowing, and
one where that client went on. Whoever claimed the session last owns it, and only the owner writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from asr.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from asr.recognizer import Recognizer
    from server.snapshot import Seal, Snapshot

    Stored = Callable[[bool], None]

_log = logging.getLogger(__name__)

BATCH: Final = 16  # snapshots written in one go: 1 MB or so
WAITING: Final = 256  # changes that wait for a Redis that does not answer; then the oldest goes
ANSWER_SECONDS: Final = 2.0  # within which Redis must answer
REDIS: Final = "redis>=6,<9"  # what the extra `redis` of this package installs
RETRY_SECONDS: Final = 1.0  # until it is asked again after it has not


class Store(Protocol):
    """Keeps the snapshots of sessions under their tokens. All calls come from one event loop.

    Attributes:
        shared: whether other processes read the same store.
        seconds: how long a snapshot is kept after the session was last heard of.
    """

    shared: bool
    seconds: float

    async def open(self) -> None:
        """Begin to work. To be called once, first of all."""
        ...

    async def close(self) -> None:
        """Write what waits, in bounded time, and end."""
        ...

    async def keep(self, token: str, owner: str, snapshot: Snapshot) -> bool:
        """Write a snapshot now; whether it is there."""
        ...

    def put(self, token: str, owner: str, snapshot: Snapshot, stored: Stored) -> None:
        """Write a snapshot soon; a newer one of the session may take its place before.

        Args:
            token: of the session.
            owner: who writes.
            snapshot: to be written.
            stored: called once it is there (True), or when another owner has claimed the session
                (False); never when it cannot be written.
        """
        ...

    async def claim(self, token: str, owner: str, recognizer: Recognizer) -> Snapshot | None:
        """The last snapshot, which from now on belongs to `owner`; None if there is none.

        Args:
            token: of the session.
            owner: who goes on with it.
            recognizer: likewise.

        Raises:
            ProtocolError: it cannot be used, or the store cannot be reached.
        """
        ...

    def touch(self, tokens: Iterable[str]) -> None:
        """These sessions are alive: keep what there is of them."""
        ...

    def forget(self, token: str, owner: str) -> None:
        """The session is over, unless somebody else owns it."""
        ...


@dataclass(slots=True)
class _Kept:
    snapshot: Snapshot
    owner: str
    until: float


class MemoryStore:
    """Keeps snapshots in this process: frozen values, which cost no copy.

    Args:
        seconds: how long a session is kept after it was last heard of.
        sessions: how many, at least 1. Where there are more, one goes in which nothing was heard
            yet, for its client loses nothing; or else the longest unheard of. The one that has just
            been kept stays.
        clock: monotonic seconds.
    """

    shared = False

    def __init__(
        self, seconds: float, sessions: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._sessions = sessions
        self._clock = clock
        # Each the longest unheard of first. A connection costs its client next to nothing, and
        # begins a session: were they all in one line, a flood of them would push out the others.
        self._empty: OrderedDict[str, _Kept] = OrderedDict()  # nothing was heard in them yet
        self._heard: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Sessions kept at present."""
        self._expire()
        return len(self._empty) + len(self._heard)

    async def open(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Forget everything."""
        self._empty.clear()
        self._heard.clear()

    async def keep(self, token: str, owner: str, snapshot: Snapshot) -> bool:
        """Keep it; False if somebody else owns the session."""
        return self._keep(token, owner, snapshot)

    def put(self, token: str, owner: str, snapshot: Snapshot, stored: Stored) -> None:
        """Keep it at once."""
        stored(self._keep(token, owner, snapshot))

    async def claim(self, token: str, owner: str, recognizer: Recognizer) -> Snapshot | None:
        """The snapshot, with its new owner."""
        del recognizer  # of this process, as the one before
        self._expire()
        kept = self._find(token)
        if kept is None:
            return None
        kept.owner = owner
        return kept.snapshot

    def touch(self, tokens: Iterable[str]) -> None:
        """Keep them longer."""
        for token in tokens:
            if (kept := self._find(token)) is not None:
                kept.until = self._clock() + self.seconds
                self._line_of(kept.snapshot).move_to_end(token)

    def forget(self, token: str, owner: str) -> None:
        """Drop it."""
        kept = self._find(token)
        if kept is not None and kept.owner == owner:
            del self._line_of(kept.snapshot)[token]

    def _find(self, token: str) -> _Kept | None:
        return self._heard.get(token) or self._empty.get(token)

    def _line_of(self, snapshot: Snapshot) -> OrderedDict[str, _Kept]:
        """Where the snapshot waits."""
        return self._heard if snapshot.position else self._empty

    def _keep(self, token: str, owner: str, snapshot: Snapshot) -> bool:
        kept = self._find(token)
        if kept is not None:
            if kept.owner != owner:
                return False
            del self._line_of(kept.snapshot)[token]
        self._line_of(snapshot)[token] = _Kept(snapshot, owner, self._clock() + self.seconds)
        self._expire()
        while len(self._empty) + len(self._heard) > self._sessions:
            others = next(iter(self._empty), token) != token  # it is the last of its line
            (self._empty if others else self._heard).popitem(last=False)
        return True

    def _expire(self) -> None:
        now = self._clock()
        for line in (self._empty, self._heard):
            while line and next(iter(line.values())).until <= now:
                line.popitem(last=False)


class NoStore:
    """Keeps nothing: where the processes behind one port share no store."""

    shared = False
    seconds = 0.0

    async def open(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Nothing is to be done."""

    async def keep(self, token: str, owner: str, snapshot: Snapshot) -> bool:
        """Not here."""
        del token, owner, snapshot
        return False

    def put(self, token: str, owner: str, snapshot: Snapshot, stored: Stored) -> None:
        """Drop it."""

    async def claim(self, token: str, owner: str, recognizer: Recognizer) -> Snapshot | None:
        """Nothing is ever there."""
        del token, owner, recognizer
        return None

    def touch(self, tokens: Iterable[str]) -> None:
        """Nothing is to be done."""

    def forget(self, token: str, owner: str) -> None:
        """Nothing is to be done."""


# A session in Redis is a hash of `owner` and `snapshot`. What must not be divided is a script.
_PUT: Final = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'snapshot', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_CLAIM: Final = """
local snapshot = redis.call('HGET', KEYS[1], 'snapshot')
if snapshot then
    redis.call('HSET', KEYS[1], 'owner', ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return snapshot
"""
_FORGET: Final = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class _Put:
    owner: str
    snapshot: Snapshot
    stored: Stored


@dataclass(frozen=True, slots=True)
class _Forget:
    owner: str


@dataclass(frozen=True, slots=True)
class _Touch:
    pass


_Change = _Put | _Forget | _Touch


class RedisStore:
    """Keeps snapshots in Redis, signed, under the hash of their token.

    Args:
        url: `redis://HOST:PORT/DATABASE`, or as the package `redis` takes it: `rediss://` with TLS,
            user and password before the host.
        seal: signs them.
        seconds: how long a session is kept after it was last heard of.

    Raises:
        ConfigError: the address is none, or the package `redis` is not installed.
    """

    shared = True

    def __init__(self, url: str, seal: Seal, seconds: float) -> None:
        self.seconds = seconds
        self._seal = seal
        self._redis = _connect(url)
        self._name = url.rpartition("@")[2]  # without a password
        self._waiting: OrderedDict[str, _Change] = OrderedDict()
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._down_until: float | None = None  # on the loop's clock; None while it answers

    async def open(self) -> None:
        """Start writing. Redis need not be there yet."""
        self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write what waits if Redis answers, and disconnect."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        while self._waiting and await self._write_some():
            pass
        if self._waiting:
            _log.error("%s: %d sessions could not be saved", self._name, len(self._waiting))
        await self._redis.aclose()

    async def keep(self, token: str, owner: str, snapshot: Snapshot) -> bool:
        """Write it now. While Redis is known not to answer it is not asked."""
        if self._silent():
            return False
        self._waiting.pop(token, None)  # it would be older
        arguments = (owner, self._milliseconds, self._seal.close(token, snapshot))
        answer = await self._ask(self._redis.eval(_PUT, 1, _key(token), *arguments))
        return bool(answer == 1)

    def put(self, token: str, owner: str, snapshot: Snapshot, stored: Stored) -> None:
        """Write it with others, in the background."""
        self._change(token, _Put(owner, snapshot, stored))

    async def claim(self, token: str, owner: str, recognizer: Recognizer) -> Snapshot | None:
        """Read the snapshot and take it over, in one step."""
        answer = await self._ask(
            self._redis.eval(_CLAIM, 1, _key(token), owner, self._milliseconds), failed=_FAILED
        )
        if answer is _FAILED:
            raise ProtocolError(
                "resume: the store of sessions does not answer; try again in a moment",
                "resume_unavailable",
                1013,
            )
        return None if answer is None else self._seal.open(token, answer, recognizer)

    def touch(self, tokens: Iterable[str]) -> None:
        """Let them expire later."""
        for token in tokens:
            if token not in self._waiting:
                self._change(token, _Touch())

    def forget(self, token: str, owner: str) -> None:
        """Delete it, in the background."""
        self._change(token, _Forget(owner))

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self.seconds * 1000))

    def _change(self, token: str, change: _Change) -> None:
        self._waiting[token] = change
        if len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)
        self._changed.set()

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting:
                if not await self._write_some():
                    await asyncio.sleep(RETRY_SECONDS)

    async def _write_some(self) -> bool:
        """Write the first that wait, in one go; False if Redis did not take them: they wait on."""
        batch = [self._waiting.popitem(last=False) for _ in range(min(BATCH, len(self._waiting)))]
        answers: Any = None
        try:
            # Signing takes a third of a millisecond each: not on the loop.
            pipeline = await asyncio.to_thread(self._pipeline, batch)
            answers = await self._ask(pipeline.execute(raise_on_error=False))
        finally:
            if answers is None:
                for token, change in reversed(batch):
                    if self._waiting.setdefault(token, change) is change:
                        self._waiting.move_to_end(token, last=False)
        if answers is None:
            return False
        for (_, change), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                _log.error("%s: a session could not be saved (%s)", self._name, answer)
            elif isinstance(change, _Put):
                change.stored(answer == 1)
        return True

    def _pipeline(self, batch: list[tuple[str, _Change]]) -> Pipeline:
        pipeline = self._redis.pipeline(transaction=False)
        for token, change in batch:
            key = _key(token)
            match change:
                case _Put(owner, snapshot):
                    data = self._seal.close(token, snapshot)
                    pipeline.eval(_PUT, 1, key, owner, self._milliseconds, data)
                case _Forget(owner):
                    pipeline.eval(_FORGET, 1, key, owner)
                case _Touch():
                    pipeline.pexpire(key, self._milliseconds)
        return pipeline

    def _silent(self) -> bool:
        """Whether Redis did not answer a moment ago."""
        now = asyncio.get_running_loop().time()
        return self._down_until is not None and now < self._down_until

    async def _ask(self, question: Awaitable[Any], failed: object = None) -> Any:
        """The answer of Redis, or `failed` if there is none in time."""
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await question
        except (RedisError, OSError, TimeoutError) as error:
            if self._down_until is None:
                why = " ".join(str(error).split()) or type(error).__name__
                _log.error(
                    "%s: the store of sessions does not answer (%s); sessions go on, but cannot be "
                    "resumed elsewhere until it does",
                    self._name,
                    why,
                )
            self._down_until = asyncio.get_running_loop().time() + RETRY_SECONDS
            return failed
        if self._down_until is not None:
            self._down_until = None
            _log.warning("%s: the store of sessions answers again", self._name)
        return answer


_FAILED: Final = object()


def _key(token: str) -> str:
    """Where a session lies. Whoever can read Redis does not learn tokens."""
    return f"asr:session:{hashlib.sha256(token.encode()).hexdigest()}"


def _connect(url: str) -> Redis:
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError:
        raise ConfigError(
            f"{url}: the package redis is not installed: pip install '{REDIS}'"
        ) from None
    with contextlib.suppress(ValueError):
        return Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the store itself comes back to what failed
        )
    raise ConfigError(f"{url}: no address of a store; write it as redis://HOST:PORT/DATABASE")
