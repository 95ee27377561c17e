"""The path `/`, which two kinds of client take because they know host and port only, without I/O.

Clients of vosk-server mostly say something in JSON first, or send 16-bit samples at once; those of
sherpa-onnx's streaming server send float32 samples without any header, and the text `Done` at last.
So text tells which of them speaks, and so do samples, as soon as they are no silence: a float32 of
a sample of sound has one of 25 exponents of 256, and every second number of 16 bits would have to
lie in a band that is not symmetric around zero. Digital silence is the same in both, and a few
samples of sound prove nothing. They are kept, in bounds, until all that has come together tells.
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

MAX_UNTOLD: Final = 640_000  # bytes that are kept while they do not tell: 10 s of float32
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
        self._guess = Guess()
        self._untold = bytearray()  # what came before it could be told

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
        name = self._guess.hear(message)
        if name is None and self._otherwise == "vosk" and self._keep(message):
            # A client of vosk-server waits for this; the others take no notice of it.
            return [Answer(write({"partial": ""}))]
        self._spoken = spoken = SPEAKERS[name or self._otherwise](self._hello)
        commands = spoken.opening()
        if self._untold:
            kept = spoken.receive(bytes(self._untold))
            commands += [command for command in kept if not isinstance(command, Ping)]  # answered
            self._untold.clear()
        return [*commands, *spoken.receive(message)]

    def encode(self, reply: Reply, now: float) -> Message | tuple[Message, ...]:
        """The messages that tell the client of `reply`."""
        spoken = self._spoken or SPEAKERS[self._otherwise](self._hello)
        return spoken.encode(reply, now)

    def _keep(self, message: bytes | str) -> bool:
        """Keep a message that does not tell, if there is room."""
        if isinstance(message, str) or len(self._untold) + len(message) > MAX_UNTOLD:
            return False
        self._untold += message
        return True


class Guess:
    """Whose client it is, from all that it has sent.

    Messages are only counted, and each is looked at once: whoever sends ten seconds in pieces of
    one sample costs no more than others.
    """

    def __init__(self) -> None:
        self._sounding = 0  # samples that are not 0, were they float32
        self._likely = 0  # of them with an exponent that float32 of sound has

    def hear(self, message: bytes | str) -> str | None:
        """Take in the next message: `vosk`, `sherpa`, or None if nothing has told by now."""
        if isinstance(message, str):
            return "sherpa" if message == DONE else "vosk"
        if len(message) % 4:
            return "vosk"  # the others cut between samples
        bits = np.frombuffer(message, "<u4")
        exponents = (bits[bits << 1 != 0] >> 23) & 0xFF
        lowest, highest = EXPONENTS
        self._sounding += len(exponents)
        self._likely += int(np.count_nonzero((exponents >= lowest) & (exponents <= highest)))
        if self._sounding < ENOUGH:
            return None
        share = self._likely / self._sounding
        if share >= MOSTLY:
            return "sherpa"
        return "vosk" if share <= HARDLY else None
