"""Foreign protocols without a socket: a conversation is driven as a session would drive it.

`Desk` stands in for session and engine: it carries out the commands of a protocol with a real
recogniser, at once, and gives back what the client would be sent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from asr.errors import ProtocolError
from server import wishes
from server.dialogue import (
    Answer,
    Audio,
    Command,
    Discard,
    Done,
    Failed,
    Finish,
    Hello,
    Message,
    ModelInfo,
    Pong,
    Protocol,
    Ready,
    Reply,
    Start,
)
from server.engine import Engine
from server.intake import Intake
from server.line import End, Job, Line
from tests import tiny
from tests.server.tones import recognizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asr.recognizer import Recognizer

MODEL = ModelInfo("tones", "70e5", 80, 80)
UNICODE = st.text(max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | UNICODE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UNICODE, inner, max_size=3),
    max_leaves=8,
)


def hello(*query: tuple[str, str], **headers: str) -> Hello:
    """The opening of a connection."""
    return Hello(query, {k.replace("_", "-"): v for k, v in headers.items()}, MODEL)


def objects(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, whatever they hold."""
    return st.dictionaries(st.sampled_from(names) | UNICODE, ANYTHING, max_size=5)


class Desk:
    """Session and engine in one, without a socket, a thread or a clock.

    Attributes:
        said: all that the client was sent, in order.
        ended: how the session ended; None while it goes on.
    """

    def __init__(self, protocol: Protocol, listens: Recognizer | None = None) -> None:
        self._protocol = protocol
        self._recognizer = listens or recognizer()
        self._engine = Engine(self._recognizer, lambda call: call(), unread=10**9)
        self._line: Line | None = None
        self.said: list[Message] = []
        self.ended: Reply | None = None
        self._obey(protocol.opening)

    def hear(self, *messages: bytes | str) -> list[Message]:
        """Take messages of the client; what is said to them."""
        before = len(self.said)
        for message in messages:
            if self.ended is None:
                self._obey(lambda message=message: self._protocol.receive(message))
        return self.said[before:]

    def answers(self, *messages: bytes | str | dict[str, Any]) -> list[dict[str, Any]]:
        """The same in JSON."""
        sent = (json.dumps(m) if isinstance(m, dict) else m for m in messages)
        return [json.loads(message) for message in self.hear(*sent)]

    def _obey(self, commands: Any) -> None:
        try:
            for command in commands():
                self._carry_out(command)
        except ProtocolError as error:
            if self._line is not None:
                self._submit(End(error))
            else:
                self._tell([Failed(error)])

    def _carry_out(self, command: Command) -> None:
        match command:
            case Start():
                assert self._line is None, "a stream began within a stream"
                state, unsupported = wishes.begin(self._recognizer, command)
                intake = Intake(command.format)
                states = [state] * intake.streams
                self._line = self._engine.open(states, intake, self._tell, 0.0)
                self._line.partial_words = command.partial_words
                self._tell([Ready(0, MODEL, (*command.unsupported, *unsupported))])
            case Answer(message):
                self.said += message if isinstance(message, tuple) else (message,)
            case Discard():
                if self._line is not None:
                    self._engine.close(self._line)
                    self._line = None
            case Finish(more):
                self._submit(End(None), more=more)
            case Audio(data):
                assert self._line is not None, "audio before a start"
                heard = self._line.intake.format
                assert not heard.raw or len(data) % heard.frame_bytes == 0
                self._submit(data)
            case _:
                self._submit(command)  # type: ignore[arg-type]

    def _submit(self, job: Job, *, more: bool = False) -> None:
        assert self._line is not None, "something before a start"
        self._more = more
        self._engine.submit(self._line, job, 0.0)
        while self._engine.work():
            pass
        if more:
            self._line = None

    def _tell(self, replies: Iterable[Any]) -> None:
        for reply in replies:
            said = self._protocol.encode(reply, 0.0)
            self.said += said if isinstance(said, tuple) else (said,)
            if isinstance(reply, Failed) or (isinstance(reply, Done) and not self._more):
                self.ended = reply


def survives(protocol: Protocol, messages: Iterable[bytes | str]) -> ProtocolError | None:
    """Whether every message is understood or refused in order; the error if one was refused."""
    desk = Desk(protocol, tiny.recognizer("plain", "numpy"))  # which no noise can poison
    desk.hear(*messages)
    return desk.ended.error if isinstance(desk.ended, Failed) else None


__all__ = ["ANYTHING", "MODEL", "Desk", "Pong", "hello", "objects", "survives"]
