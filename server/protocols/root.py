"""The path `/`, which two kinds of client take because they know host and port only, without I/O.

Clients of vosk-server mostly say something in JSON first, or send 16-bit samples at once; those of
sherpa-onnx's streaming server send float32 samples without any header, and the text `Done` at last.
So text tells which of them speaks, and so do samples, as soon as they are no silence: a float32 of
a sample of sound has one of 25 exponents of 256, and every second number of 16 bits would have to
lie in a band that is not symmetric around zero. Digital silence is the same in both. It is kept, in
bounds, until something else comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from server.dialogue import Answer, Command, Hello, Message, Ping, Protocol, Reply
from server.protocols.sherpa import DONE, Sherpa
from server.protocols.vosk import Vosk
from server.protocols.wire import write

if TYPE_CHECKING:
    from collections.abc import Callable

SPEAKERS: Final[dict[str, Callable[[Hello], Protocol]]] = {"vosk": Vosk, "sherpa": Sherpa}

MAX_SILENCE: Final = 640_000  # bytes of silence that are kept: 10 s of float32
ENOUGH: Final = 64  # float32 that are not 0, from which a format is told
EXPONENTS: Final = 103, 127  # of float32 from 2^-24, which is less than a step of 24 bits, below 2
MOSTLY: Final = 0.9  # of float32 samples have such an exponent
HARDLY: Final = 0.5  # of pairs of 16-bit samples look as if they had one: at most, in loud sound


class Root:
    """One client's conversation in whichever of the two protocols its first words belong to.

    Args:
        hello: the address says nothing.
        otherwise: which of `SPEAKERS` it is where the first words do not tell.
    """

    def __init__(self, hello: Hello, otherwise: str = "vosk") -> None:
        self._hello = hello
        self._otherwise = otherwise
        self._spoken: Protocol | None = None
        self._silence = b""  # that came before it could be told

    def opening(self) -> list[Command]:
        """Nothing: the client speaks first."""
        return []

    def receive(self, message: bytes | str) -> list[Command]:
        """Take in a message of either protocol.

        Raises:
            ProtocolError: as the protocol spoken does. The caller must end the session with it.
        """
        if self._spoken is not None:
            return list(self._spoken.receive(message))
        name = speaker(message)
        if name is None and self._otherwise == "vosk" and self._keep(message):
            # A client of vosk-server waits for this; the others take no notice of it.
            return [Answer(write({"partial": ""}))]
        self._spoken = spoken = SPEAKERS[name or self._otherwise](self._hello)
        commands = spoken.opening()
        if self._silence:
            kept = spoken.receive(self._silence)
            commands += [command for command in kept if not isinstance(command, Ping)]  # answered
        return [*commands, *spoken.receive(message)]

    def encode(self, reply: Reply, now: float) -> Message | tuple[Message, ...]:
        """The messages that tell the client of `reply`."""
        spoken = self._spoken or SPEAKERS[self._otherwise](self._hello)
        return spoken.encode(reply, now)

    def _keep(self, message: bytes | str) -> bool:
        """Keep a message of nothing but silence, if there is room."""
        if isinstance(message, str) or len(self._silence) + len(message) > MAX_SILENCE:
            return False
        if any(message):
            return False
        self._silence += message
        return True


def speaker(message: bytes | str) -> str | None:
    """Whose client sends this as its first message: `vosk`, `sherpa`, or None if none can tell."""
    if isinstance(message, str):
        return "sherpa" if message == DONE else "vosk"
    if len(message) % 4:
        return "vosk"  # the others cut between samples
    bits = np.frombuffer(message, "<u4")
    exponents = (bits[bits << 1 != 0] >> 23) & 0xFF
    if len(exponents) < ENOUGH:
        return None
    lowest, highest = EXPONENTS
    share = np.count_nonzero((exponents >= lowest) & (exponents <= highest)) / len(exponents)
    if share >= MOSTLY:
        return "sherpa"
    return "vosk" if share <= HARDLY else None
