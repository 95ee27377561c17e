"""N load clients at a time, for a while: they come one after the other, speak, and come again.

Each of N places holds one session after the other, each with another recording. All places are
taken by the end of the ramp; a second later the *window* begins, in which everything is measured
that happens. Sessions that are open at its end still say what they have to say, unmeasured, so that
every transcript is whole and can be compared.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asr.client import shown
from asr.errors import ConfigError, ServerError
from asr.loadtest import processes
from asr.loadtest.client import Heard, Session, address_of, speak
from asr.loadtest.recordings import CHUNK_MS, Recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from websockets.uri import WebSocketURI

    from asr.loadtest.processes import Usage

SETTLE_SECONDS: Final = 1.0  # from the end of the ramp to the beginning of the window
AGAIN_SECONDS: Final = 1.0  # before a place whose session failed tries another
SAMPLE_SECONDS: Final = 1.0  # between two looks at the server's processes

References = dict[str, tuple[Heard, ...]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How much load, and for how long.

    Attributes:
        streams: N, sessions at a time.
        seconds: length of the window.
        ramp_seconds: time in which the N come.
        seed: of the order of recordings, and of the moments at which clients begin to speak.
    """

    streams: int
    seconds: float = 30.0
    ramp_seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ConfigError: a value is not positive; the ramp may be 0.
        """
        if self.streams < 1 or not self.seconds > 0 or self.ramp_seconds < 0:
            raise ConfigError(
                f"{self.streams} streams for {self.seconds:g} s after {self.ramp_seconds:g} s: "
                "give 1 or more, for more than 0 s, after 0 s or more"
            )


@dataclass(slots=True)
class Run:
    """What happened. Moments are seconds on the event loop's clock.

    Attributes:
        settings: what was asked for.
        references: the words of every recording, as one session alone heard them.
        begin: of the window.
        end: of the window.
        sessions: all there were, in the order of their ends.
        usage: moment, and what the server's processes had taken; empty where they are not here.
        processes: how many those are.
        idle: what they had taken before the first session, references included.
        generator: fraction of a core that the load clients took in the window.
    """

    settings: Settings
    references: Mapping[str, tuple[Heard, ...]]
    begin: float = 0.0
    end: float = 0.0
    sessions: list[Session] = field(default_factory=list)
    usage: list[tuple[float, Usage]] = field(default_factory=list)
    processes: int = 0
    idle: Usage | None = None
    generator: float = 0.0


def alone(url: str, recordings: Sequence[Recording]) -> References:
    """What one session at a time hears of every recording, said as fast as the server takes it.

    Raises:
        ServerError: a session fails: a server that cannot serve one need not be asked for many.
    """

    async def each() -> References:
        address, tls, place = address_of(url), _tls(url), shown(url)
        heard: References = {}
        for recording in recordings:
            session = await speak(address, recording, phase=None, tls=tls)
            if session.error is not None:
                raise ServerError(
                    f"{place}: {recording.name}: {session.error}, though it was alone"
                )
            heard[recording.name] = tuple(session.words)
        return heard

    return asyncio.run(each())


def run(
    url: str, recordings: Sequence[Recording], references: References, settings: Settings
) -> Run:
    """Put load on a server.

    Args:
        url: of the server, such as `ws://127.0.0.1:8765`; the path may be left out.
        recordings: what is said, at least one.
        references: of each of them.
        settings: how much load.

    Raises:
        ServerError: `url` is no address. All else that fails is told in the sessions.
    """
    return asyncio.run(_Places(url, recordings, Run(settings, references)).fill())


def _tls(url: str) -> ssl.SSLContext | None:
    return ssl.create_default_context() if url.startswith("wss:") else None


class _Places:
    """The N places and who watches them."""

    def __init__(self, url: str, recordings: Sequence[Recording], found: Run) -> None:
        self._address: WebSocketURI = address_of(url)
        self._tls = _tls(url)
        self._recordings = recordings
        self._run = found
        self._pids = processes.behind(self._address.host, self._address.port)

    async def fill(self) -> Run:
        """Fill the places for as long as the window is not over, then wait for the last words."""
        found, settings = self._run, self._run.settings
        found.processes, found.idle = len(self._pids), processes.usage(self._pids)
        now = asyncio.get_running_loop().time()
        found.begin = now + settings.ramp_seconds + SETTLE_SECONDS
        found.end = found.begin + settings.seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for place in range(settings.streams):
                group.create_task(self._hold(place))
        return found

    async def _hold(self, place: int) -> None:
        """One session after the other."""
        found, settings = self._run, self._run.settings
        chance = random.Random(f"{settings.seed} {place}")  # noqa: S311 - no secret
        now = asyncio.get_running_loop().time
        await asyncio.sleep(place * settings.ramp_seconds / settings.streams)
        while now() < found.end:
            session = await speak(
                self._address,
                chance.choice(self._recordings),
                phase=chance.uniform(0, CHUNK_MS / 1000),
                tls=self._tls,
            )
            found.sessions.append(session)
            if session.error is not None:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        """Look at the server's processes, and at our own, through the window."""
        found = self._run
        now = asyncio.get_running_loop().time
        await asyncio.sleep(found.begin - now())
        began, ours = now(), time.process_time()
        while True:
            usage = processes.usage(self._pids)
            if usage is not None:
                found.usage.append((now(), usage))
            left = found.end - now()
            if left <= 0:
                break
            await asyncio.sleep(min(SAMPLE_SECONDS, left))
        found.generator = (time.process_time() - ours) / (now() - began)
