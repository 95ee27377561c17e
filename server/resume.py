"""Which sessions live in this process, and what becomes of those whose clients are cut off.

Every session has a *hold*: its token and the right to write its snapshots. A client that comes
back gets a new hold on the same session; the connection that had the old one, if it still stands,
is closed.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from typing import Protocol as Interface

from asr.errors import ConfigError, ProtocolError
from server.dialogue import Start
from server.snapshot import Record, Seal
from server.store import MemoryStore, NoStore, RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from asr.recognizer import Recognizer
    from server.dialogue import Protocol, Resume
    from server.limits import Limits
    from server.snapshot import Snapshot
    from server.store import Store

SECRET_VARIABLE: Final = "ASR_RESUME_SECRET"  # noqa: S105 - the name of the place


def reopen(resume: Resume, snapshot: Snapshot, protocol: Protocol) -> tuple[Start, Record]:
    """Put a fresh conversation where a session was left.

    Args:
        resume: what the client says it has.
        snapshot: of the session.
        protocol: the conversation, in which nothing but `resume` was received.

    Returns:
        What the session was started with, and what the client has of it.

    Raises:
        ProtocolError: what the client has and what is left of the session leave a gap.
    """
    if resume.position < snapshot.position:
        _gap(
            f"it has heard {snapshot.position} samples, more than the {resume.position} that you "
            "say were sent"
        )
    if snapshot.finished and resume.position > snapshot.position:
        _gap(f"its audio was finished at {snapshot.position}, before {resume.position}")
    has = snapshot.first if resume.segments is None else resume.segments
    if len(has) != len(snapshot.first):
        raise ProtocolError(
            f"resume.segments must tell of {len(snapshot.first)} channels, not {len(has)}",
            "bad_message",
            1007,
        )
    for number, first in zip(has, snapshot.first, strict=True):
        if number < first:
            _gap(f"the finals of segments {number} to {first - 1} are not kept any more")
    for command in protocol.receive(snapshot.start):
        if isinstance(command, Start):
            return command, Record(snapshot.start, snapshot.finals, has)
    raise TypeError(snapshot.start)  # it was a start when it was written


def _gap(why: str) -> NoReturn:
    raise ProtocolError(
        f"resume: the session cannot go on ({why}); start a new one", "resume_gap", 1008
    )


class Holder(Interface):
    """A connection whose session can be taken over."""

    def hand_over(self) -> Snapshot | None:
        """Stop here; what the session has come to, or None if there is nothing to go on from."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """One connection's hold on a session.

    Attributes:
        token: of the session.
        owner: of its snapshots, while this hold is the last.
        resumable: whether a snapshot of it was written.
    """

    token: str
    owner: str
    resumable: bool


class Resumption:
    """Begins sessions, resumes them and lets them go. All calls come from one event loop.

    Args:
        seal: makes tokens.
        store: of snapshots.

    Attributes:
        resumed: sessions resumed here so far.
    """

    def __init__(self, seal: Seal, store: Store) -> None:
        self._seal = seal
        self._store = store
        self._live: dict[str, tuple[Hold, Holder]] = {}
        self._toucher: asyncio.Task[None] | None = None
        self.resumed = 0

    @property
    def shared(self) -> bool:
        """Whether a session can go on in another process."""
        return self._store.shared

    async def open(self) -> None:
        """Begin to work."""
        await self._store.open()
        self._toucher = asyncio.create_task(self._touch())

    async def close(self) -> None:
        """Write what waits, in bounded time, and end."""
        if self._toucher is not None:
            self._toucher.cancel()
        await self._store.close()

    async def begin(self, holder: Holder, snapshot: Snapshot) -> Hold:
        """A hold on a new session."""
        token, owner = self._seal.token(), _owner()
        hold = Hold(token, owner, await self._store.keep(token, owner, snapshot))
        self._live[token] = hold, holder
        return hold

    async def take_over(
        self, token: str, holder: Holder, recognizer: Recognizer
    ) -> tuple[Hold, Snapshot]:
        """A new hold on a session that lives here or has left a snapshot, and that snapshot.

        Args:
            token: of the session.
            holder: the connection on which its client has come back.
            recognizer: what goes on with it.

        Raises:
            ProtocolError: there is no such session, its snapshot cannot be used, or the store
                cannot be reached.
        """
        if not self._seal.knows(token):
            raise ProtocolError(
                "resume: this token was not made by this service; start a new session",
                "resume_unknown",
                1008,
            )
        owner = _owner()
        here = None
        if token in self._live:
            _, former = self._live.pop(token)
            here = former.hand_over()
        try:
            there = await self._store.claim(token, owner, recognizer)
        except ProtocolError:
            if here is None:
                raise
            there = None
        snapshot = _later(here, there)
        if snapshot is None:
            raise ProtocolError(
                "resume: the session is over, or was left more than "
                f"{self._store.seconds:g} s ago; start a new one",
                "resume_unknown",
                1008,
            )
        hold = Hold(token, owner, await self._store.keep(token, owner, snapshot))
        self._live[token] = hold, holder
        self.resumed += 1
        return hold, snapshot

    async def keep(self, hold: Hold, snapshot: Snapshot) -> bool:
        """Write a snapshot now; whether it is there."""
        return await self._store.keep(hold.token, hold.owner, snapshot)

    def put(self, hold: Hold, snapshot: Snapshot, stored: Callable[[bool], None]) -> None:
        """Write a snapshot soon, and call `stored`; see `Store.put`."""
        self._store.put(hold.token, hold.owner, snapshot, stored)

    def release(self, hold: Hold, snapshot: Snapshot | None) -> None:
        """The connection is gone; its session waits as that snapshot, or (None) is over."""
        alive = self._live.get(hold.token)
        if alive is not None and alive[0] is hold:
            del self._live[hold.token]
        if snapshot is None:
            self._store.forget(hold.token, hold.owner)
        else:
            self._store.put(hold.token, hold.owner, snapshot, lambda _: None)

    async def _touch(self) -> None:
        """Keep the snapshots of sessions whose clients are silent, but there."""
        while True:
            await asyncio.sleep(max(1.0, self._store.seconds / 3))
            self._store.touch(list(self._live))


def keep_here(limits: Limits) -> Resumption:
    """Resumption within this process, with a secret that nobody else knows."""
    return Resumption(Seal(), MemoryStore(limits.resume_seconds, limits.resume_sessions))


def keep_nowhere() -> Resumption:
    """No resumption: sessions are told so."""
    return Resumption(Seal(), NoStore())


def keep_in(url: str, secret: bytes, limits: Limits) -> Resumption:
    """Resumption by every server that has the same Redis and the same secret.

    Raises:
        ConfigError: the address or the secret cannot be used.
    """
    seal = Seal(secret)
    return Resumption(seal, RedisStore(url, seal, limits.resume_seconds))


def read_secret(file: Path | None, environment: Mapping[str, str]) -> bytes:
    """The secret in a file, or else in `ASR_RESUME_SECRET`, without white space around it.

    Raises:
        ConfigError: there is none.
    """
    if file is not None:
        try:
            return file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    secret = environment.get(SECRET_VARIABLE, "")
    if not secret:
        raise ConfigError(
            "a store needs the secret that its servers share: --resume-secret FILE, or "
            f"{SECRET_VARIABLE}; openssl rand -hex 32 makes one"
        )
    return secret.strip().encode()


def _owner() -> str:
    return secrets.token_hex(8)


def _later(one: Snapshot | None, other: Snapshot | None) -> Snapshot | None:
    """The snapshot that has come further."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda s: (s.position, s.finished))
