"""The recording that `asr demo` plays, with what is said in it; `NOTE.md` tells how it was made."""

from __future__ import annotations

from pathlib import Path

RECORDING = Path(__file__).with_name("recording.flac")
REFERENCE = Path(__file__).with_name("reference.txt")


def reference() -> str:
    """What is said in the recording: one line, lower case, no punctuation."""
    return REFERENCE.read_text("utf-8").strip()
