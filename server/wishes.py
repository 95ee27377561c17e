"""What a client wishes for, and what of it the recogniser can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asr.decoding.beam import BeamDecoder
from asr.errors import ConfigError, ProtocolError
from asr.state import Options

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.state import State
    from server.dialogue import Start


def begin(recognizer: Recognizer, start: Start) -> tuple[State, tuple[str, ...]]:
    """The state of a stream before its first sample, and the names of wishes that cannot be met.

    Raises:
        ProtocolError: there are too many phrases.
    """
    phrases, unsupported = expected(recognizer, start.phrases)
    n_best = start.n_best
    if n_best > 1 and not isinstance(recognizer.decoder, BeamDecoder):
        n_best, unsupported = 1, (*unsupported, "options.n_best")
    endpoint_ms = Options().endpoint_ms if start.endpoint_ms is None else start.endpoint_ms
    try:
        wanted = Options(endpoint_ms, start.partials, phrases or (), n_best)
        return recognizer.start(wanted), unsupported
    except ConfigError as error:
        raise refused(error) from error


def expected(
    recognizer: Recognizer, phrases: tuple[str, ...] | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Those of the phrases that the model can expect, and the names of the others.

    A phrase that holds a word without a known sound is left out: whoever has a list of names does
    not know which of them the model knows.
    """
    if not phrases:
        return phrases, ()
    decoder = recognizer.decoder
    if not isinstance(decoder, BeamDecoder):
        return None, ("options.phrases",)
    known = [decoder.knows(phrase) for phrase in phrases]
    return (
        tuple(phrase for phrase, can in zip(phrases, known, strict=True) if can),
        tuple(f"options.phrases[{n}]" for n, can in enumerate(known) if not can),
    )


def refused(error: ConfigError) -> ProtocolError:
    """The error for a wish that makes no sense, as the client is told."""
    return ProtocolError(f"options: {error}", "bad_message", 1007)
