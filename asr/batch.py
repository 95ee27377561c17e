"""What is done with one recording of a job: it becomes a transcript in a format, or a reason.

The same function runs in this process, in others on this machine (`asr.parallel`) and on those of a
cluster (`asr.cluster`); what it returns depends on the recording, the model and the settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr import live, writers
from asr.errors import Error, ServerError
from asr.recordings import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asr.audio import Samples
    from asr.recordings import Recording
    from asr.state import Options
    from asr.together import StreamingRecognizer
    from asr.transcript import Transcript

    Recognise = Callable[[Iterable[Samples], int], tuple[Transcript, int]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a job wants, the model apart.

    Attributes:
        form: format of the transcripts, of `asr.writers.FORMATS`.
        options: what is wanted of the recogniser.
        raw: sample rate of recordings in raw PCM; None for audio files.
    """

    form: str
    options: Options
    raw: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A transcript as it belongs in its file.

    Attributes:
        content: all of the file.
        seconds: of audio.
        repaired: samples that were no audio and counted as silence.
    """

    content: str
    seconds: float
    repaired: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a recording has no transcript, in one line that names it."""

    message: str


def transcribe(
    settings: Settings, recognizer: StreamingRecognizer, recording: Recording
) -> Written | Failure:
    """The transcript of one recording. What is wrong with it is returned, not raised."""
    return attempt(
        settings,
        lambda chunks, rate: live.transcribe(recognizer, chunks, rate, settings.options),
        recording,
    )


def attempt(settings: Settings, recognise: Recognise, recording: Recording) -> Written | Failure:
    """As `transcribe`, with whatever makes a transcript of chunks and their sample rate.

    Raises:
        ServerError: it is a server that was not reached: no recording can be recognised.
    """
    try:
        rate, chunks = opened(recording.path, settings.raw)
        transcript, repaired = recognise(chunks, rate)
    except Error as error:
        if isinstance(error, ServerError) and not error.reached:
            raise
        return Failure(str(error))
    content = writers.FORMATS[settings.form](transcript, recording.name)
    return Written(content, transcript.duration / rate, repaired)
