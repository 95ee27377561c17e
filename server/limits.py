"""The bounds of the server. Every queue has one, and every one has an answer to the client."""

from __future__ import annotations

from dataclasses import dataclass, fields

from asr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a client may ask of the server.

    Attributes:
        sessions: open sessions at a time; one more is refused with HTTP 503 before the upgrade.
        address_sessions: of them from one address; one more is refused with HTTP 429.
        connects_per_second: connections an address may make for long; beyond it, HTTP 429.
        connects_burst: how many of them may come at once.
        handshakes: connections that have not sent their request yet. One more, and the one that
            has been thinking for the longest is cut off.
        overload_seconds: while audio waits longer than this for recognition, new sessions are
            refused with HTTP 503; those there are held back as `queue_bytes` says.
        message_bytes: size of one message; a larger one closes its connection with 1009.
        queue_bytes: audio that may wait for recognition, a session. Beyond it the socket is not
            read until half of it is done: the client is told `slow_down`, and TCP holds it back.
        unread_messages: messages that may wait for a slow reader, a session. Beyond it the
            session's audio is not recognised until the client reads.
        handshake_seconds: time for the TLS handshake, and again for the request.
        start_seconds: time from the upgrade to the first message, where the client speaks first.
        session_seconds: time a session may last in all; it then gets its last finals and the error
            `too_long`.
        silent_seconds: time without any message after which the server pings, and again the time in
            which the pong must come. A client may be silent for ever, but it must be there.
        write_seconds: time a single message may take to leave; a client that reads nothing for so
            long is disconnected.
        close_seconds: time the client has for the closing handshake.
        drain_seconds: time that running sessions have for finishing by themselves when the server
            stops; 0 ends them at once.
        finish_seconds: time after which those that had to be ended are cut off, if in it nothing
            was recognised.
        stuck_seconds: a single round of recognition that lasts longer makes the server unhealthy.
        retry_seconds: what `Retry-After` says to a refused client.
        resume_seconds: how long a session waits for its client to come back.
        resume_sessions: how many snapshots wait in memory. Beyond it one is forgotten of a session
            in which nothing was heard yet, or else of the longest unheard of.
    """

    sessions: int = 64
    address_sessions: int = 64
    connects_per_second: float = 50.0
    connects_burst: int = 200
    handshakes: int = 256
    overload_seconds: float = 1.0
    message_bytes: int = 2**20
    queue_bytes: int = 2**20
    unread_messages: int = 64
    handshake_seconds: float = 10.0
    start_seconds: float = 10.0
    session_seconds: float = 12 * 3600.0
    silent_seconds: float = 20.0
    write_seconds: float = 20.0
    close_seconds: float = 5.0
    drain_seconds: float = 5.0
    finish_seconds: float = 5.0
    stuck_seconds: float = 60.0
    retry_seconds: int = 5
    resume_seconds: float = 300.0
    resume_sessions: int = 512

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could work.

        Raises:
            ConfigError: a limit is not positive; `drain_seconds` may be 0.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "drain_seconds" and value == 0:
                continue
            if not value > 0:
                raise ConfigError(f"limit {field.name} is {value}; it must be greater than 0")
