"""Recordings with transcripts: JSON-lines manifests, LibriSpeech trees and plain folders.

Three forms become one list of `Utterance`. What is unsound as a whole (no such folder, a line that
is no JSON object, a recording without a transcript) is refused here by name; whether each recording
can be read shows when it is read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What asr.audio reads, by name.
AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aif", "aiff", "au", "caf", "flac", "mp3"),
        *("oga", "ogg", "opus", "rf64", "w64", "wav"),
    )
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it.

    Attributes:
        id: its name, unique in its list.
        path: the audio file; it need not exist.
        text: the transcript as it was written down; empty where nothing is said.
        speaker: who speaks, or empty where that is not known.
        words: each word with its first sample and last sample + 1 at 16 kHz, where that is known.
    """

    id: str
    path: Path
    text: str
    speaker: str = ""
    words: tuple[tuple[str, int, int], ...] = ()


def read_utterances(data: Path, split: str | None = None) -> list[Utterance]:
    """The utterances of a manifest, of a LibriSpeech tree or of a folder of audio with texts.

    Args:
        data: a file is a manifest (`read_manifest`); a folder with a `*.trans.txt` in it is a
            LibriSpeech tree (`read_librispeech`), any other folder holds audio (`read_folder`).
        split: the part of a manifest or tree to read, such as `dev-clean`.

    Returns:
        At least one utterance.

    Raises:
        DataError: there is no such file or folder, nothing in it, or what is in it is unsound.
    """
    if data.is_file():
        found = read_manifest(data, split)
    elif not data.is_dir():
        raise DataError(f"{data}: no such file or folder")
    elif next(data.rglob("*.trans.txt"), None):
        found = read_librispeech(data, split)
    elif split is not None:
        raise DataError(f"{data}: no LibriSpeech tree (no *.trans.txt), so it has no split {split}")
    else:
        found = read_folder(data)
    return _unique(found, data)


def read_manifest(path: Path, split: str | None = None) -> list[Utterance]:
    """The utterances of a manifest: UTF-8, one JSON object a line.

    Keys: `audio` (relative to the manifest) and `text`; `id` (default: the value of `audio`),
    `speaker` and `split`, if given, are strings or numbers; `words`, if given, is a list of
    `[word, first sample, last sample + 1]` at 16 kHz, as `asr align` writes it. Other keys and
    empty lines are ignored.

    Args:
        path: the manifest.
        split: leave out the rows whose `split` is another.

    Raises:
        DataError: the file cannot be read, or a line is no such object; the message has its number.
    """
    rows = read_rows(path, ("audio", "text"))
    if split is not None:
        rows = [(number, row) for number, row in rows if row.get("split") == split]
        if not rows:
            raise DataError(f"{path}: no row has the split {split}")
    return [
        Utterance(
            id=_name(row, "id", f"{path}:{number}") or row["audio"],
            path=path.parent / row["audio"],
            text=row["text"],
            speaker=_name(row, "speaker", f"{path}:{number}"),
            words=_words(row, f"{path}:{number}"),
        )
        for number, row in rows
    ]


def read_audio_paths(path: Path) -> list[str]:
    """The values of `audio` in a manifest whose rows need have no `text`, in their order.

    Raises:
        DataError: the file cannot be read, holds no row, or a line is no object with `audio`; the
            message has its number.
    """
    rows = read_rows(path, ("audio",))
    if not rows:
        raise DataError(f"{path}: names no recordings")
    return [row["audio"] for _, row in rows]


def read_rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a manifest, with their lines' numbers and a string for each key needed.

    UTF-8; a byte-order mark, as editors on Windows write it, is passed over.

    Raises:
        DataError: the file cannot be read, or a line is no such object.
    """
    try:
        # Not splitlines(): a text may hold U+2028 and its like.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"{path}: cannot be read as a manifest: {reason}") from error
    return [
        (number, _row(line, f"{path}:{number}", needed))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _row(line: str, where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON object: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: no JSON object, but {line[:40]}")
    for key in needed:
        if not isinstance(row.get(key), str):
            raise DataError(f"{where}: needs the key `{key}` with a string")
    return row


def _name(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key, "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: `{key}` must be a string or a whole number")
    return str(value)


def _words(row: dict[str, Any], where: str) -> tuple[tuple[str, int, int], ...]:
    try:
        return timed(row.get("words", ()))
    except ValueError as error:
        raise DataError(f"{where}: `words`: {error}") from error


def timed(values: object) -> tuple[tuple[str, int, int], ...]:
    """Words or phones with their times, as a manifest has them.

    Args:
        values: a list of `[text, first sample, last sample + 1]`.

    Raises:
        ValueError: it is anything else, or times are below 0, empty or run backwards.
    """
    if not isinstance(values, list | tuple):
        raise ValueError("no list")  # noqa: TRY004  # bad data, not a wrong call
    found: list[tuple[str, int, int]] = []
    for value in values:
        match value:
            case [str(text), int(start), int(end)] if text and 0 <= start < end:
                found.append((text, start, end))
            case _:
                raise ValueError(f"{value!r} is not [text, first sample, last sample + 1]")
    if any(a[2] > b[1] for a, b in pairwise(found)):
        raise ValueError("times run backwards or overlap")
    return tuple(found)


def named(name: object, audio: Path, message: str) -> str:
    """What is wrong with a recording, with its name once: in front, unless its path stands there.

    Args:
        name: its id.
        audio: its path.
        message: such as an `AudioError` has it, which begins with the path.
    """
    known = message.startswith(f"{audio}: ") and str(name) in str(audio)
    return message if known else f"{name}: {message}"


def write_manifest(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest whole, or leave what was there: somebody may be reading it.

    Args:
        path: of the manifest.
        rows: their `audio` is a path as seen from the working directory; it is written as seen
            from the manifest's folder.

    Raises:
        DataError: it cannot be written.
    """
    folder = path.resolve().parent
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            for row in rows:
                audio = Path(os.path.relpath(Path(row["audio"]).resolve(), folder)).as_posix()
                file.write(json.dumps({**row, "audio": audio}, ensure_ascii=False) + "\n")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def read_librispeech(folder: Path, split: str | None = None) -> list[Utterance]:
    """The utterances of LibriSpeech as it unpacks: `<split>/<speaker>/<chapter>/<id>.flac`.

    Args:
        folder: one that holds `LibriSpeech`, `LibriSpeech` itself, or one split or speaker of it.
        split: the split to read; needed where the folder holds several.

    Returns:
        In order of chapter and utterance.

    Raises:
        DataError: no such split, several and none was chosen, or a recording has no transcript.
    """
    transcripts: dict[str, list[Path]] = {}
    for file in sorted(folder.resolve().rglob("*.trans.txt")):
        transcripts.setdefault(file.parent.parent.parent.name, []).append(file)
    if split is None and len(transcripts) > 1:
        raise DataError(f"{folder}: holds {', '.join(transcripts)}; choose one with --split")
    name = next(iter(transcripts), "") if split is None else split
    if name not in transcripts:
        raise DataError(
            f"{folder}: no split {name or 'of LibriSpeech'} (it has: {', '.join(transcripts)})"
        )
    return [utterance for file in transcripts[name] for utterance in _chapter(file)]


def _chapter(transcript: Path) -> list[Utterance]:
    """The utterances of one chapter: a line is an id, a space and the text."""
    folder = transcript.parent
    speaker = folder.parent.name
    lines = transcript.read_text(encoding="utf-8").split("\n")
    texts = dict(_split_line(line) for line in lines if line.strip())
    for audio in sorted(folder.glob("*.flac")):
        if audio.stem not in texts:
            raise DataError(
                f"{audio.stem} has no transcript (looked in {transcript}); unpack the archive again"
            )
    return [Utterance(name, folder / f"{name}.flac", text, speaker) for name, text in texts.items()]


def _split_line(line: str) -> tuple[str, str]:
    name, _, text = line.partition(" ")
    return name, text


def read_folder(folder: Path) -> list[Utterance]:
    """The recordings in a folder and below it, each with its transcript beside it.

    `a/b.wav` goes with `a/b.txt` (UTF-8) and has the id `a/b`. Speakers are not known. Files that
    are not audio by their name (`AUDIO_SUFFIXES`) are passed over.

    Raises:
        DataError: a recording has no transcript, or the transcript cannot be read.
    """
    found = []
    for audio in sorted(folder.rglob("*")):
        if audio.suffix.lower() not in AUDIO_SUFFIXES or not audio.is_file():
            continue
        transcript = audio.with_suffix(".txt")
        try:
            text = " ".join(transcript.read_text(encoding="utf-8").split())
        except FileNotFoundError as error:
            raise DataError(f"{audio} has no transcript (looked for {transcript})") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{transcript}: cannot be read: {error}") from error
        found.append(Utterance(audio.relative_to(folder).with_suffix("").as_posix(), audio, text))
    return found


def _unique(utterances: list[Utterance], data: Path) -> list[Utterance]:
    if not utterances:
        raise DataError(f"{data}: holds no recordings with transcripts")
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise DataError(f"{data}: two recordings have the id {utterance.id}")
        seen.add(utterance.id)
    return utterances
