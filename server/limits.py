"""The bounds of the server. Every queue has one, and every one has an answer to the client."""

from __future__ import annotations

from dataclasses import dataclass, fields

from asr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a client may ask of the server.

    Attributes:
        sessions: open sessions at a time; one more is refused with HTTP 503 before the upgrade.
        message_bytes: size of one message; a larger one closes its connection with 1009.
        queue_bytes: audio that may wait for recognition, a session. Beyond it the socket is not
            read until half of it is done: the client is told `slow_down`, and TCP holds it back.
        unread_messages: messages that may wait for a slow reader, a session. Beyond it the
            session's audio is not recognised until the client reads.
        start_seconds: time from the upgrade to `start`.
        silent_seconds: time without any message after which the server pings, and again the time in
            which the pong must come. A client may be silent for ever, but it must be there.
        write_seconds: time a single message may take to leave; a client that reads nothing for so
            long is disconnected.
        close_seconds: time the client has for the closing handshake.
        drain_seconds: time in which running sessions are finished when the server stops.
        retry_seconds: what `Retry-After` says to a refused client.
    """

    sessions: int = 64
    message_bytes: int = 2**20
    queue_bytes: int = 2**20
    unread_messages: int = 64
    start_seconds: float = 10.0
    silent_seconds: float = 20.0
    write_seconds: float = 20.0
    close_seconds: float = 5.0
    drain_seconds: float = 5.0
    retry_seconds: int = 5

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could work.

        Raises:
            ConfigError: a limit is not positive.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"limit {field.name} is {value}; it must be greater than 0")
