"""Real-time streaming speech recognition: samples in, words out, the same however they are cut.

recognizer = asr.load()
transcript = recognizer.transcribe("speech.wav")

Names are imported when they are first used: `asr --help` need not wait for NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.errors import (
        AudioError,
        BundleError,
        ConfigError,
        DataError,
        DeviceError,
        Error,
        ProtocolError,
        ServerError,
        StateError,
    )
    from asr.recognizer import Recognizer, Stream, load
    from asr.state import Options, State
    from asr.transcript import Event, Final, Partial, Transcript, Word

__all__ = [
    "AudioError",
    "BundleError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "Error",
    "Event",
    "Final",
    "Options",
    "Partial",
    "ProtocolError",
    "Recognizer",
    "ServerError",
    "State",
    "StateError",
    "Stream",
    "Transcript",
    "Word",
    "load",
]

_RECOGNIZER = ("Recognizer", "Stream", "load")
_STATE = ("Options", "State")
_TRANSCRIPT = ("Event", "Final", "Partial", "Transcript", "Word")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    from importlib import import_module

    if name in _RECOGNIZER:
        module = "asr.recognizer"
    elif name in _STATE:
        module = "asr.state"
    else:
        module = "asr.transcript" if name in _TRANSCRIPT else "asr.errors"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
