"""Real-time streaming speech recognition: samples in, words out, the same however they are cut.

recognizer = asr.load()
transcript = recognizer.transcribe("speech.wav")
"""

from asr.errors import (
    AudioError,
    BundleError,
    ConfigError,
    DataError,
    DeviceError,
    Error,
    ProtocolError,
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
    "State",
    "StateError",
    "Stream",
    "Transcript",
    "Word",
    "load",
]
