"""A session as a value: what must be known to go on with it here, or on another machine.

Written down, little-endian: the magic `asr-session`, a byte for the version, the length of the head
(4 bytes), the head (JSON in UTF-8), the recogniser's S states and the intake's as they write
themselves, then the SHA-256 of all that, which tells damage, and the HMAC-SHA256 of all that and of
the session's token, which tells who wrote it. Nothing is unpickled.

Sizes: S streams: 1, or as many as there are channels where each is heard apart.

A token is 16 random bytes and the first 16 of their HMAC, in URL-safe base64: a forged one is known
without a look into any store.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from asr.errors import ConfigError, ProtocolError, StateError
from asr.features import BLOCK_SAMPLES
from asr.transcript import Alternative, Final, Partial, Word
from server.intake import IntakeState, restore_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.recognizer import Recognizer
    from asr.state import State

VERSION: Constant = 2
MIN_SECRET_BYTES: Constant = 32
KEPT_WORDS: Constant = 1000  # of a stream's finals that were not acknowledged: 6 minutes of speech
_MAGIC: Constant = b"asr-session"
_START: Constant = struct.Struct(f"<{len(_MAGIC)}sBI")
_RANDOM_BYTES: Constant = 16
_HASH_BYTES: Constant = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session between two rounds of the engine.

    Attributes:
        start: the message that began it, from which its format and options are read again.
        states: of the recogniser, one a stream.
        intake: of what reads the audio; it counts what has come.
        finals: of each stream what was said and not acknowledged, oldest first, with times in input
            samples. Those before them the client has, or they are beyond `KEPT_WORDS`.
    """

    start: str
    states: tuple[State, ...]
    intake: IntakeState
    finals: tuple[tuple[Final, ...], ...]

    @property
    def position(self) -> int:
        """What was taken in: the first sample to send again, of a container the first byte."""
        return self.intake.received

    @property
    def finished(self) -> bool:
        """Whether the audio has ended."""
        return self.states[0].finished

    @property
    def first(self) -> tuple[int, ...]:
        """Of each stream the first segment whose final can be said again, or else the open one."""
        return tuple(
            finals[0].segment if finals else state.segment
            for state, finals in zip(self.states, self.finals, strict=True)
        )

    def shown(self, stream: int) -> Partial | None:
        """A stream's open segment as it was shown last, or None where there is nothing to see.

        Returns:
            With its position in samples at 16 kHz.
        """
        state = self.states[stream]
        if not any(state.shown) or state.finished:
            return None
        heard = min(state.blocks * BLOCK_SAMPLES, state.samples)
        return Partial(state.segment, *state.shown, heard)


class Record:
    """What a line has said to a client that may come back. Used by one thread at a time.

    Args:
        start: the message that began the session.
        finals: of each stream those said before and not acknowledged.
        has: of each stream the finals that the client has: what belongs to a segment below is not
            said again.
    """

    def __init__(
        self, start: str, finals: Sequence[tuple[Final, ...]], has: tuple[int, ...]
    ) -> None:
        self.start = start
        self.has = has
        self.finals = tuple(finals)
        self.acknowledge(has)

    @classmethod
    def new(cls, start: str, streams: int) -> Record:
        """The record of a session in which nothing was said yet."""
        return cls(start, [()] * streams, (0,) * streams)

    def acknowledge(self, segments: tuple[int, ...]) -> None:
        """The client has the finals below these numbers, one a stream: they need not be kept."""
        self.finals = tuple(
            tuple(final for final in finals if final.segment >= least)
            for finals, least in zip(self.finals, segments, strict=True)
        )

    def keep(self, final: Final, stream: int) -> None:
        """Note a final that is on its way to the client."""
        finals = (*self.finals[stream], final)
        words = sum(len(kept.words) for kept in finals)
        while words > KEPT_WORDS:
            words -= len(finals[0].words)
            finals = finals[1:]
        self.finals = (*self.finals[:stream], finals, *self.finals[stream + 1 :])

    def snapshot(self, states: Sequence[State], intake: IntakeState) -> Snapshot:
        """The session as it is now."""
        return Snapshot(self.start, tuple(states), intake, self.finals)


class Seal:
    """Makes tokens and signs snapshots with a secret that all servers of a service share.

    Args:
        secret: at least 32 bytes; None makes one at random, which no other process knows.

    Raises:
        ConfigError: the secret is too short.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < MIN_SECRET_BYTES:
            raise ConfigError(
                f"the secret for resuming has {len(secret)} bytes; it must have "
                f"{MIN_SECRET_BYTES} or more: openssl rand -hex 32 makes one"
            )
        self._secret = secret or secrets.token_bytes(MIN_SECRET_BYTES)

    def token(self) -> str:
        """The token of a new session: 43 characters, 128 random bits."""
        random = secrets.token_bytes(_RANDOM_BYTES)
        return urlsafe_b64encode(random + self._mark(random)).decode().rstrip("=")

    def knows(self, token: str) -> bool:
        """Whether the token was made with this secret."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=")
        except (ValueError, binascii.Error):
            return False
        random, mark = raw[:_RANDOM_BYTES], raw[_RANDOM_BYTES:]
        return hmac.compare_digest(mark, self._mark(random))

    def close(self, token: str, snapshot: Snapshot) -> bytes:
        """The snapshot of the token's session as signed bytes, tens of kB."""
        states = [state.dump() for state in snapshot.states]
        head = {
            "bundle": snapshot.states[0].bundle_id,
            "start": snapshot.start,
            "finals": [[_as_list(final) for final in finals] for finals in snapshot.finals],
            "states": [len(state) for state in states],
        }
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
        start = _START.pack(_MAGIC, VERSION, len(text))
        body = b"".join([start, text, *states, snapshot.intake.dump()])
        checked = body + hashlib.sha256(body).digest()
        return checked + self._sign(token, checked)

    def open(self, token: str, data: bytes, recognizer: Recognizer) -> Snapshot:
        """The snapshot that `close` wrote for the same token.

        Raises:
            ProtocolError: the bytes are damaged, of another version, signed by somebody else or for
                another session, or the session belongs to another model.
        """
        head, rest = _split(data)
        signed, signature = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
        if not hmac.compare_digest(signature, self._sign(token, signed)):
            raise _damaged("it was signed with another secret or for another session")
        if head.get("bundle") != recognizer.bundle_id:
            raise ProtocolError(
                f"resume: the session belongs to model {str(head.get('bundle'))[:12]}, this server "
                f"has {recognizer.bundle_id[:12]}; start a new session",
                "resume_model",
                1008,
            )
        try:
            ends = [0, *accumulate(head["states"])]
            return Snapshot(
                head["start"],
                tuple(recognizer.restore(rest[a:b]) for a, b in pairwise(ends)),
                restore_state(rest[ends[-1] :]),
                tuple(tuple(_final(*fields) for fields in some) for some in head["finals"]),
            )
        except (KeyError, StateError, TypeError, ValueError) as error:
            raise _damaged(f"it does not hold a session: {error}") from error

    def _mark(self, random: bytes) -> bytes:
        return hmac.digest(self._secret, b"token" + random, "sha256")[:_RANDOM_BYTES]

    def _sign(self, token: str, data: bytes) -> bytes:
        return hmac.digest(self._secret, b"session" + token.encode() + data, "sha256")


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and states of a written snapshot, once magic, version and checksum fit."""
    if len(data) < _START.size + 2 * _HASH_BYTES or not data.startswith(_MAGIC):
        raise _damaged("it is cut off, or something else")
    _, version, length = _START.unpack_from(data)
    if version != VERSION:
        raise _damaged(f"it is of version {version}, and this server reads {VERSION}")
    body, checksum = data[: -2 * _HASH_BYTES], data[-2 * _HASH_BYTES : -_HASH_BYTES]
    if hashlib.sha256(body).digest() != checksum:
        raise _damaged("its checksum does not fit")
    try:
        head = json.loads(body[_START.size : _START.size + length])
    except ValueError as error:
        raise _damaged("its head is not JSON") from error
    if not isinstance(head, dict):
        raise _damaged("its head is not an object")
    return head, body[_START.size + length :]


def _as_list(final: Final) -> list[Any]:
    others = [[_plain(other.words), other.score] for other in final.alternatives]
    return [final.segment, final.reason, final.position, _plain(final.words), others]


def _plain(words: tuple[Word, ...]) -> list[list[Any]]:
    return [[w.text, w.start, w.end, w.confidence] for w in words]


def _final(
    segment: int, reason: str, position: int, words: list[list[Any]], others: list[list[Any]]
) -> Final:
    alternatives = tuple(Alternative(_words(some), score) for some, score in others)
    return Final(segment, _words(words), reason, position, alternatives)


def _words(plain: list[list[Any]]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in plain)


def _damaged(how: str) -> ProtocolError:
    return ProtocolError(
        f"resume: the saved session cannot be used ({how}); start a new session",
        "resume_damaged",
        1008,
    )
