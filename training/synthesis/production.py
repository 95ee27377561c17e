"""A manifest of synthetic speech, line by line, in several processes, resumable.

In the folder: `manifest.jsonl`, `audio/` and `synthesis.json`, the settings. A row is written when
its recording is, in the order of the script; so what is there is always the beginning of what will
be, whoever stops it when.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile

from asr import parallel
from asr.errors import ConfigError, DataError
from training.settings import differences
from training.synthesis.delivery import Variation, deliver, manner_of
from training.synthesis.script import transcript
from training.synthesis.voices import SAMPLE_RATE, Unspeakable
from training.synthetic import word_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from training.synthesis.script import Line
    from training.synthesis.voices import Speech, Voice

SHORTEST, LONGEST = 0.3, 20.0  # seconds of an utterance
SLOWEST, FASTEST = 4.0, 30.0  # characters of its transcript a second
FOLDER_SIZE = 1000  # recordings in a folder
CODECS = {"opus": ("ogg", {"format": "OGG", "subtype": "OPUS"})}
CODECS["flac"] = ("flac", {"format": "FLAC", "subtype": "PCM_16"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides how an utterance sounds.

    Attributes:
        voice: the voice's name; it begins every id.
        seed: of everything that is left to chance.
        variation: rate, pitch, level, silence.
        codec: `opus` or `flac`.
    """

    voice: str
    seed: int
    variation: Variation
    codec: str = "opus"


@dataclass(slots=True)
class Produced:
    """What there is when it is over.

    Attributes:
        utterances: in the manifest.
        seconds: of audio.
        refused: lines that were passed over, by reason.
    """

    utterances: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Take:
    """One line, spoken: its row and its recording; or why it is passed over."""

    row: dict[str, Any] = field(default_factory=dict)
    recording: bytes = b""
    refused: str = ""


class Production:
    """Speaks a script into a folder, or goes on with it.

    Args:
        out: the folder, which is made.
        settings: how it is spoken.
        about: what decides the script, kept beside the settings: JSON values.

    Raises:
        ConfigError: the folder was begun with other settings, or cannot be written.
        DataError: what is in it is damaged.
    """

    def __init__(self, out: Path, settings: Settings, about: dict[str, Any]) -> None:
        self.out, self.settings = out, settings
        self.manifest = out / "manifest.jsonl"
        try:
            _begin(out, settings, about)
            rows = read_back(self.manifest)
        except OSError as error:
            raise _unwritable(out, error) from error
        self.found = Produced(len(rows), sum(row["samples"] for row in rows) / SAMPLE_RATE)
        self._done = max((row["number"] for row in rows), default=-1) + 1

    def run(
        self,
        load: Callable[[], Voice],
        script: Sequence[Line],
        *,
        hours: float = 0.0,
        jobs: int = 1,
        progress: Callable[[Produced], None] = lambda _: None,
    ) -> Produced:
        """Speak what has not been spoken before.

        Args:
            load: makes the voice; must be picklable for several jobs.
            script: all lines, those that were spoken before, too.
            hours: stop after so much audio, that from before included; 0: at the script's end.
            jobs: processes, ≥ 1.
            progress: called after each line.

        Raises:
            ConfigError: the folder cannot be written.
            DataError: nothing could be spoken.
        """
        enough = hours * 3600 if hours else float("inf")
        left = script[self._done :] if self.found.seconds < enough else []
        if left:
            takes = parallel.each(load, functools.partial(speak, self.settings), left, jobs)
            with contextlib.closing(takes):
                self._keep_all(takes, enough, progress)
        if not self.found.utterances:
            reasons = [f"{n} × {reason}" for reason, n in self.found.refused.most_common()]
            raise DataError(f"nothing could be spoken: {', '.join(reasons) or 'there is no text'}")
        return self.found

    def _keep_all(
        self, takes: Iterable[_Take], enough: float, progress: Callable[[Produced], None]
    ) -> None:
        try:
            with self.manifest.open("a", encoding="utf-8") as file:
                for take in takes:
                    self._keep(take, file)
                    progress(self.found)
                    if self.found.seconds >= enough:
                        return
        except OSError as error:
            raise _unwritable(self.out, error) from error

    def _keep(self, take: _Take, file: IO[str]) -> None:
        if take.refused:
            self.found.refused[take.refused] += 1
            return
        path = self.out / take.row["audio"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(take.recording)
        file.write(json.dumps(take.row, ensure_ascii=False) + "\n")
        file.flush()
        self.found.utterances += 1
        self.found.seconds += take.row["samples"] / SAMPLE_RATE


def speak(settings: Settings, voice: Voice, line: Line) -> _Take:
    """One line, spoken and packed; can be called in another process."""
    manner = manner_of(line, settings.variation, settings.seed)
    rng = np.random.default_rng((settings.seed, 4, line.number))
    try:
        speech = voice.speak(line.text, manner)
        samples, cut = deliver(speech.samples, settings.variation, rng)
        text = transcript(line.text)
        _refuse_odd(len(samples) / SAMPLE_RATE, text)
    except Unspeakable as error:
        return _Take(refused=str(error))
    suffix, kind = CODECS[settings.codec]
    name = f"{settings.voice}-{settings.seed}-{line.number:06d}"
    row = {
        "id": name,
        "audio": f"audio/{line.number // FOLDER_SIZE:04d}/{name}.{suffix}",
        "samples": len(samples),
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        "text": text,
        "speaker": f"{settings.voice}-{settings.seed}-s{line.speaker:05d}",
        "kind": "synthetic",
        "number": line.number,
        "rate": round(manner.rate, 4),
    }
    packed = io.BytesIO()
    soundfile.write(packed, samples, SAMPLE_RATE, **kind)
    return _Take(row | times(speech, text, cut, len(samples)), packed.getvalue())


def times(speech: Speech, text: str, cut: int, samples: int) -> dict[str, Any]:
    """The keys that tell when what is said, where the voice knows (see docs/training.md).

    Args:
        speech: what the voice said.
        text: the transcript.
        cut: samples cut off in front of it.
        samples: length of the recording; no word ends beyond it.
    """
    if not speech.frames:
        return {}
    told: dict[str, Any] = {"phones": speech.phones, "frames": list(speech.frames), "cut": cut}
    words = word_times(text, speech.phones, speech.frames, cut)
    inside = [[word, start, min(end, samples)] for word, start, end in words if start < samples]
    if inside and len(inside) == len(words):
        told["words"] = inside
    return told


def _refuse_odd(seconds: float, text: str) -> None:
    """Refuse what is too long or short, or so fast or slow that something went wrong."""
    if not SHORTEST <= seconds <= LONGEST:
        raise Unspeakable(f"shorter than {SHORTEST:g} s or longer than {LONGEST:g} s")
    if len(text) > 5 and not SLOWEST <= len(text) / seconds <= FASTEST:
        raise Unspeakable("spoken too fast or too slowly")


def _begin(out: Path, settings: Settings, about: dict[str, Any]) -> None:
    """Make the folder, or refuse to mix two kinds of speech in it."""
    variation = {
        name: list(getattr(settings.variation, name)) for name in Variation.__dataclass_fields__
    }
    wanted = {
        "voice": settings.voice,
        "seed": settings.seed,
        "codec": settings.codec,
        "variation": variation,
        **about,
    }
    file = out / "synthesis.json"
    if file.exists():
        try:
            before = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"{file}: damaged; delete the folder or choose another") from error
        if changed := differences(before, wanted):
            raise ConfigError(
                f"{out}: begun with other settings ({', '.join(changed)}); choose another folder"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    if (out / "manifest.jsonl").exists():
        raise ConfigError(f"{out}: holds a manifest that is none of ours; choose another folder")
    file.write_text(json.dumps(wanted, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{out}: cannot be written: {error.strerror}")


def read_back(manifest: Path) -> list[dict[str, Any]]:
    """The rows that are there. A last line that a crash left unfinished is taken away.

    Raises:
        DataError: another line is damaged.
    """
    if not manifest.exists():
        return []
    text = manifest.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        manifest.write_text(whole, "utf-8")
    rows = []
    for number, line in enumerate(whole.split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            rows.append({"samples": int(row["samples"]), "number": int(row["number"])})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{manifest}:{number}: damaged; delete the folder") from error
    return rows


def digest(path: Path) -> str:
    """What tells one text from another, whatever it is called."""
    hashed = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()[:16]
