"""A client that resumes, by the page: what docs/protocol.md says, and nothing more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.server.sockets import Peer
from tests.server.tones import sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Caller:
    """One session over as many connections as it takes.

    Attributes:
        samples: what is to be said.
        sent: how many of them were.
        kept: audio before this sample may be forgotten, as the server says.
        token: of the session.
        finals: of its segments, in order; of the first channel, if each is heard apart.
        finals_apart: of every channel.
        heard: all messages.
    """

    def __init__(self, song: str, rate: int = 16_000, *others: str) -> None:
        """A session to be; with other songs, each is on a channel of its own."""
        channels = [sing(one, rate) for one in (song, *others)]
        length = max(map(len, channels))
        together = [np.pad(channel, (0, length - len(channel))) for channel in channels]
        self.samples = np.stack(together, 1) if others else channels[0]
        self._format = {"encoding": "f32le", "sample_rate": rate, "channels": len(channels)}
        self._apart = bool(others)
        self.sent = 0
        self.kept = 0
        self.token = ""
        self.finals_apart: list[list[dict[str, Any]]] = [[] for _ in channels]
        self.finals = self.finals_apart[0]
        self.heard: list[dict[str, Any]] = []

    @contextlib.asynccontextmanager
    async def call(self, url: str, **options: Any) -> AsyncIterator[Peer]:
        """A connection on which the session is open: it is begun, or gone on with."""
        async with connect(url, compression=None) as connection:
            peer = Peer(connection)
            if self.token:
                await peer.tell("start", version=1, resume=self.resume())
            else:
                asked = {"resume": True, "channels_apart": self._apart, **options}
                await peer.tell("start", version=1, format=self._format, options=asked)
            ready = await peer.hear()
            assert ready["type"] == "ready", ready
            assert ready["resumable"]
            assert self.kept <= ready["position"] <= self.sent
            self.token, self.sent = ready["token"], ready["position"]
            yield peer

    def resume(self) -> dict[str, Any]:
        """What to say in a start."""
        counts = [len(finals) for finals in self.finals_apart]
        segments = counts if self._apart else counts[0]
        return {"token": self.token, "position": self.sent, "segments": segments}

    async def send(self, peer: Peer, end: int, size: int = 1280) -> None:
        """Send audio up to a sample."""
        end = min(end, len(self.samples))
        while self.sent < end:
            first, self.sent = self.sent, min(self.sent + size, end)
            await peer.say(self.samples[first : self.sent])

    async def finish(self, peer: Peer) -> list[dict[str, Any]]:
        """Send the rest, hear everything, and return the finals of the whole session."""
        await self.send(peer, len(self.samples))
        await peer.tell("finish")
        await self.hear(peer)
        assert self.heard[-1]["type"] == "done", self.heard[-1]
        assert self.heard[-1]["position"] == len(self.samples)
        assert peer.close_code == 1000
        return self.finals

    async def hear(self, peer: Peer, last: str = "") -> None:
        """Take in messages up to the first of a kind, or up to the close."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await peer.hear()
                self.take(message)
                if message["type"] == last:
                    return

    async def hear_some(self, peer: Peer, manner: str) -> None:
        """Hear nothing (`at once`), all (`heard`) or half of what is said to the audio so far."""
        if manner == "at once":
            return
        await peer.tell("ping")
        messages = [await peer.hear()]
        while messages[-1]["type"] != "pong":
            messages.append(await peer.hear())
        count = len(messages) if manner == "heard" else len(messages) // 2
        for message in messages[:count]:
            self.take(message)

    def take(self, message: dict[str, Any]) -> None:
        """Note a message; what belongs to a segment belongs to the open one."""
        self.heard.append(message)
        finals = self.finals_apart[message.get("channel", 0)]
        if message["type"] in {"partial", "final"}:
            assert message["segment"] == len(finals)  # nothing twice, nothing left out
        if message["type"] == "final":
            finals.append(message)
        elif message["type"] == "saved":
            self.kept = message["position"]


def cut(peer: Peer) -> None:
    """Break the connection without a word."""
    peer.connection.transport.abort()
