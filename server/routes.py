"""Which protocol is spoken where, and what must be known of it before its first message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from server.native import Native
from server.protocols import deepgram, openai_realtime
from server.protocols.root import Root
from server.protocols.sherpa import Sherpa
from server.protocols.vosk import Vosk

if TYPE_CHECKING:
    from collections.abc import Callable

    from asr.errors import ProtocolError
    from server.dialogue import Hello, Protocol


def _plain(error: ProtocolError) -> tuple[str, str]:
    return "text/plain; charset=utf-8", f"{error}\n"


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the server.

    Attributes:
        speak: begins a conversation. It raises `ProtocolError` where the address or the headers
            ask for what cannot be had; the client then gets HTTP 400 instead of the upgrade.
        refusal: content type and body of that answer, in the protocol's own shape.
        message_bytes: the largest message, where the protocol names one; None is the server's own.
    """

    speak: Callable[[Hello], Protocol]
    refusal: Callable[[ProtocolError], tuple[str, str]] = _plain
    message_bytes: int | None = None


ROUTES: Final[dict[str, Route]] = {
    "/v1/stream": Route(lambda _: Native()),
    "/v1/listen": Route(deepgram.Deepgram, deepgram.refusal),
    "/v1/realtime": Route(
        openai_realtime.OpenAIRealtime, message_bytes=openai_realtime.MESSAGE_BYTES
    ),
    "/vosk": Route(Vosk),
    "/sherpa": Route(Sherpa),
    "/": Route(Root),
}


def with_root(otherwise: str) -> dict[str, Route]:
    """The routes, where a client of `/` whose first words tell nothing speaks this protocol.

    Args:
        otherwise: one of `server.protocols.root.SPEAKERS`.
    """
    return {**ROUTES, "/": Route(lambda hello: Root(hello, otherwise))}
