"""Settings of OpenAI's transcription sessions, in both shapes, as asked for and as told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from asr.state import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, Options, plain
from server.dialogue import AudioFormat
from server.formats import MAX_RATE, MIN_RATE
from server.protocols.wire import (
    LANGUAGE,
    MAX_PHRASE,
    MAX_PHRASE_WORDS,
    MAX_PHRASES,
    Fields,
    show,
    understood,
    whole_number,
)

if TYPE_CHECKING:
    from server.dialogue import ModelInfo

PCM_RATE: Final = 24_000
G711_RATE: Final = 8000
SILENCE_MS: Final = 500
PREFIX_MS: Final = 300
THRESHOLD: Final = 0.5

_BETA_FORMATS: Final = {
    "pcm16": AudioFormat("s16le", PCM_RATE, 1),
    "g711_ulaw": AudioFormat("mulaw", G711_RATE, 1),
    "g711_alaw": AudioFormat("alaw", G711_RATE, 1),
}
_GA_FORMATS: Final = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}


class Invalid(Exception):  # noqa: N818 - not an error of ours: it is told to the client
    """An event that cannot be obeyed; the session goes on.

    Attributes:
        code: for programs.
        param: the field that is wrong, or None.
    """

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds in a session.

    Attributes:
        format: of the audio.
        silence_ms: the pause that closes an item, as asked for; None where the client commits.
        keywords: what is likely to be said, as the client wrote it.
        unsupported: names of what was asked for in vain.
    """

    format: AudioFormat = _BETA_FORMATS["pcm16"]
    silence_ms: int | None = SILENCE_MS
    keywords: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()

    @property
    def endpoint_ms(self) -> int:
        """The pause at which the recogniser closes a segment."""
        return Options().endpoint_ms if self.silence_ms is None else self.silence_ms

    @property
    def phrases(self) -> tuple[str, ...]:
        """The keywords as the recogniser expects them."""
        return tuple(map(plain, self.keywords))


def describe(settings: Settings, model: ModelInfo, session: str, *, beta: bool) -> Fields:
    """The session as the client is told of it: what holds, not what was asked for."""
    about: Fields = {"id": session, "object": "realtime.transcription_session"}
    if beta:
        return {
            **about,
            "input_audio_format": _beta_name(settings.format),
            "input_audio_transcription": _transcription(settings, model),
            "turn_detection": _turn_detection(settings),
            "input_audio_noise_reduction": None,
            "include": None,
        }
    heard = {
        "format": _ga_format(settings.format),
        "transcription": _transcription(settings, model),
        "turn_detection": _turn_detection(settings),
        "noise_reduction": None,
    }
    return {**about, "type": "transcription", "audio": {"input": heard}, "include": None}


def ga_settings(settings: Settings, wanted: Fields) -> Settings:
    """The settings after `audio.input` of a `session.update`."""
    unsupported: list[str] = []
    if "format" in wanted:
        settings = replace(settings, format=_read_ga_format(table(wanted, "format")))
    settings = _common(settings, wanted, unsupported, "audio.input.")
    unsupported += asking(wanted, list(wanted), "audio.input.")
    return replace(settings, unsupported=tuple(unsupported))


def beta_settings(settings: Settings, wanted: Fields) -> Settings:
    """The settings after the session of a `transcription_session.update`."""
    unsupported: list[str] = []
    name = wanted.pop("input_audio_format", None)
    if name is not None:
        if not isinstance(name, str) or name not in _BETA_FORMATS:
            raise Invalid(
                f"input_audio_format {show(name)} is none of {', '.join(_BETA_FORMATS)}",
                param="session.input_audio_format",
            )
        settings = replace(settings, format=_BETA_FORMATS[name])
    wanted |= {
        name.removeprefix("input_audio_"): wanted.pop(name)
        for name in ("input_audio_transcription", "input_audio_noise_reduction")
        if name in wanted
    }
    settings = _common(settings, wanted, unsupported, "")
    return replace(settings, unsupported=tuple(unsupported))


def _common(settings: Settings, wanted: Fields, unsupported: list[str], place: str) -> Settings:
    """Turn detection and transcription, which both shapes have."""
    if "turn_detection" in wanted:
        settings = _detect(settings, wanted.pop("turn_detection"), unsupported, place)
    transcription = wanted.pop("transcription", None)
    if isinstance(transcription, dict):
        transcription.pop("model", None)  # the session tells which one listens
        language = transcription.pop("language", None)
        if language and not understood(language):
            unsupported.append(f"{place}transcription.language")
        if "keywords" in transcription:
            keywords = _read_keywords(transcription.pop("keywords"), place)
            settings = replace(settings, keywords=keywords)
        unsupported += asking(transcription, list(transcription), f"{place}transcription.")
    elif transcription is not None:
        raise Invalid(f"transcription must be an object, not {show(transcription)}")
    return settings


def _read_keywords(wanted: object, place: str) -> tuple[str, ...]:
    given = [] if wanted is None else wanted
    texts = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    fits = isinstance(given, list) and len(texts) == len(given) <= MAX_PHRASES
    if not fits or any(not 0 < len(plain(text)) <= MAX_PHRASE for text in texts):
        raise Invalid(
            f"keywords must be a list of at most {MAX_PHRASES} texts of 1 to {MAX_PHRASE} "
            f"characters, not {show(wanted)}",
            param=f"session.{place}transcription.keywords",
        )
    if sum(len(text.split()) for text in texts) > MAX_PHRASE_WORDS:
        raise Invalid(
            f"keywords may have {MAX_PHRASE_WORDS} words in all",
            param=f"session.{place}transcription.keywords",
        )
    return tuple(texts)


def _detect(settings: Settings, wanted: object, unsupported: list[str], place: str) -> Settings:
    if wanted is None:
        return replace(settings, silence_ms=None)
    if not isinstance(wanted, dict):
        raise Invalid(
            f"turn_detection must be an object or null, not {show(wanted)}",
            param=f"session.{place}turn_detection",
        )
    kind = wanted.get("type", "server_vad")
    if kind == "semantic_vad":
        unsupported.append(f"{place}turn_detection.semantic_vad")
        return replace(settings, silence_ms=Options().endpoint_ms)
    if kind != "server_vad":
        raise Invalid(
            f"turn_detection.type {show(kind)} is neither server_vad nor semantic_vad",
            param=f"session.{place}turn_detection.type",
        )
    silence = wanted.get("silence_duration_ms")
    silence_ms = SILENCE_MS if silence is None else whole_number(silence, 0, MAX_ENDPOINT_MS)
    if silence_ms is None:
        raise Invalid(
            f"silence_duration_ms must be 0 to {MAX_ENDPOINT_MS}, not {show(silence)}",
            param=f"session.{place}turn_detection.silence_duration_ms",
        )
    # The recogniser's words start and end an item, not the loudness of sound.
    for name, usual in (("threshold", THRESHOLD), ("prefix_padding_ms", PREFIX_MS)):
        if wanted.get(name) not in (None, usual):
            unsupported.append(f"{place}turn_detection.{name}")
    if silence_ms < MIN_ENDPOINT_MS:
        unsupported.append(f"{place}turn_detection.silence_duration_ms")
    return replace(settings, silence_ms=max(MIN_ENDPOINT_MS, silence_ms))


def _read_ga_format(wanted: Fields) -> AudioFormat:
    kind = wanted.get("type", "audio/pcm")
    if not isinstance(kind, str) or kind not in _GA_FORMATS:
        raise Invalid(
            f"format.type {show(kind)} is none of {', '.join(_GA_FORMATS)}",
            param="session.audio.input.format.type",
        )
    if kind != "audio/pcm":
        return AudioFormat(_GA_FORMATS[kind], G711_RATE, 1)
    given = wanted.get("rate", PCM_RATE)
    rate = whole_number(given, MIN_RATE, MAX_RATE)
    if rate is None:
        raise Invalid(
            f"format.rate {show(given)} is not supported; send {MIN_RATE} to {MAX_RATE}",
            param="session.audio.input.format.rate",
        )
    return AudioFormat("s16le", rate, 1)


def _ga_format(audio_format: AudioFormat) -> Fields:
    for kind, encoding in _GA_FORMATS.items():
        if encoding == audio_format.encoding and encoding != "s16le":
            return {"type": kind}
    return {"type": "audio/pcm", "rate": audio_format.sample_rate}


def _beta_name(audio_format: AudioFormat) -> str:
    names = (name for name, known in _BETA_FORMATS.items() if known == audio_format)
    return next(names, "pcm16")


def _turn_detection(settings: Settings) -> Fields | None:
    if settings.silence_ms is None:
        return None
    return {
        "type": "server_vad",
        "threshold": THRESHOLD,
        "prefix_padding_ms": PREFIX_MS,
        "silence_duration_ms": settings.silence_ms,
    }


def _transcription(settings: Settings, model: ModelInfo) -> Fields:
    told: Fields = {"model": model.name, "language": LANGUAGE, "prompt": ""}
    return {**told, "keywords": list(settings.keywords)} if settings.keywords else told


def table(fields: Fields, name: str) -> Fields:
    """Take an object out of an object."""
    value = fields.pop(name, None)
    if not isinstance(value, dict):
        raise Invalid(f"{name} must be an object, not {show(value)}", param=name)
    return value


def asking(fields: Fields, names: list[str], place: str = "") -> list[str]:
    """Those of the names that ask for something: not null, false or empty."""
    return [f"{place}{name}" for name in names if fields.get(name, True)]
