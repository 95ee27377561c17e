"""The voices that there are, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from asr.errors import ConfigError, install

if TYPE_CHECKING:
    from pathlib import Path

    from training.synthesis.voices import Voice

Kind = Literal["hibari", "kokoro"]


def load_voice(kind: Kind, folder: Path | None) -> Voice:
    """A voice by its name; can be called in another process.

    Args:
        kind: `hibari` (one voice, fast, without times) or `kokoro` (many, slower, with times).
        folder: for kokoro: its voice files.

    Raises:
        ConfigError: the packages of the voice are not installed.
        DataError: the folder holds no voices.
    """
    try:
        if kind == "kokoro":
            from training.synthesis.kokoro_voices import KokoroVoices

            if folder is None:
                raise ConfigError(
                    "kokoro needs its voice files, --voices FOLDER: they are in `npm pack "
                    "kokoro-js`, package/voices/*.bin"
                )
            return KokoroVoices(folder)
        from training.synthesis.hibari_voice import HibariVoice

        return HibariVoice()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the voice {kind} needs {error.name}: {install('synthesise')}"
        ) from error
