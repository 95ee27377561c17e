"""Which recordings are to be transcribed, and how each is read.

They are given as files, folders, manifests or lists of paths. A recording has a name (as it was
given), a place, and a target: the name of its transcript in a folder of results, which depends on
nothing but how the recording was given (and `apart`, on whether another differs by its extension
alone). So the same words on the command line mean the same transcripts tomorrow.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, cast

from asr.errors import AudioError, DataError
from asr.manifest import AUDIO_SUFFIXES, read_audio_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asr.audio import Samples

STDIN = "-"
MANIFEST_SUFFIX = ".jsonl"
PIECE_SECONDS = 0.25  # audio handed on at a time: words appear while a file is being read
RAW_BYTES = 8192
# How files with a header begin. No raw audio does, but once in 4 · 10⁹.
_HEADER = re.compile(rb"(?s)(RIFF|RF64)....WAVE|fLaC|OggS\0|FORM....AIF|ID3[\2-\4]")
_HEADER_BYTES = 12
# An MP3 without tags begins as raw audio may, so only its name makes it one.
_MP3_FRAME = re.compile(rb"\xff[\xe2\xe3\xea\xeb\xf2\xf3\xfa\xfb]")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that is to be transcribed.

    Attributes:
        name: what it is called in transcripts and messages: its path as it was given or found.
        path: where it is read; `-` is standard input.
        target: its transcript in a folder of results, with `/` between folders and no extension.
        stamp: size in bytes and time of the last change in nanoseconds, by which a changed file is
            known; None where there is no such file, and for standard input.
    """

    name: str
    path: str
    target: str
    stamp: tuple[int, int] | None

    @classmethod
    def of(cls, name: str, target: str) -> Recording:
        """The recording of that name, as it lies there now."""
        return cls(name, name, target, None if name == STDIN else _stamp(name))


def find(given: Sequence[str]) -> Iterator[Recording]:
    """The recordings behind words on a command line, in their order.

    Args:
        given: `-` is standard input; a folder is every recording in it and below, by name
            (`AUDIO_SUFFIXES`), sorted, and keeps its tree in the targets; a file ending in `.jsonl`
            is a manifest; any other is one recording, whose target is its stem. Files need not
            exist: that is told when they are read.

    Raises:
        DataError: a name is empty, a folder holds no recordings, or a manifest cannot be read.
    """
    for word in given:
        if not word:
            raise DataError("an empty name names no recording (a variable that is not set?)")
        if word == STDIN:
            yield Recording.of(STDIN, "stdin")
        elif os.path.isdir(word):  # noqa: PTH112 - Path.is_dir() raises, such as for long names
            yield from _in_folder(Path(word))
        elif word.endswith(MANIFEST_SUFFIX):
            yield from _in_manifest(Path(word))
        else:
            yield Recording.of(word, _bare(PurePath(Path(word).name)))


def listed(file: Path) -> Iterator[Recording]:
    """The recordings that a file names, a path on each line, as the bytes that names of files are.

    Paths are relative to where the program runs. Relative ones keep their folders in the targets,
    absolute ones all of them. Empty lines are passed over.

    Raises:
        DataError: the file cannot be read or names nothing, or a line cannot be a file.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read as a list of paths: {error.strerror}") from None
    if b"\0" in data:
        raise DataError(f"{file}: cannot be read as a list of paths, one a line: it has bytes of 0")
    lines = os.fsdecode(data.removeprefix(codecs.BOM_UTF8)).split("\n")
    names = [line.removesuffix("\r") for line in lines if line.strip()]
    if not names:
        raise DataError(f"{file}: names no recordings")
    for name in names:
        yield Recording.of(name, _tree(name))


def apart(found: Sequence[Recording]) -> list[Recording]:
    """The recordings, with their extensions in the targets of those that would share one.

    `talk.wav` and `talk.mp3` have the targets `talk.wav` and `talk.mp3`. Those that differ by their
    folders alone, and what is there twice, still share one.
    """
    found = list(found)
    whole: set[int] = set()  # those that have their extension
    while True:
        numbers = Counter(recording.target for recording in found)
        shared = {n for n, recording in enumerate(found) if numbers[recording.target] > 1} - whole
        if not shared:
            return found
        whole |= shared  # which may now share one with `talk.wav.mp3`
        for n in shared:
            extension = os.path.splitext(found[n].name)[1]  # noqa: PTH122 - as in `_bare`
            found[n] = replace(found[n], target=found[n].target + extension)


def opened(path: str, raw: int | None) -> tuple[int, Iterator[Samples]]:
    """Sample rate and mono pieces of a recording, float32 [n] each.

    Args:
        path: of the recording; `-` is standard input.
        raw: sample rate of raw PCM (signed 16 bits, little-endian, mono); None for audio files.

    Raises:
        AudioError: it cannot be read. Some of it shows only while the pieces are taken.
    """
    if raw is not None:
        return raw, _raw(path)
    from itertools import chain

    from asr import audio, resampling

    pieces = audio.blocks(sys.stdin.buffer if path == STDIN else path, PIECE_SECONDS)
    head = next(pieces)
    try:
        resampling.start(head.sample_rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None
    return head.sample_rate, (piece.samples for piece in chain([head], pieces))


def _raw(path: str) -> Iterator[Samples]:
    """Samples of raw PCM, as soon as they come."""
    if path == STDIN:
        yield from _pcm(sys.stdin.buffer, "standard input")
        return
    from asr.audio import open_file

    try:
        with open_file(path) as stream:
            yield from _pcm(stream, path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _pcm(stream: IO[bytes], name: str) -> Iterator[Samples]:
    from asr import audio

    read = cast("Callable[[int], bytes]", getattr(stream, "read1", stream.read))
    first = rest = b""
    while data := read(RAW_BYTES):
        if len(first) < _HEADER_BYTES:
            first += data[:_HEADER_BYTES]
            mp3 = name.lower().endswith(".mp3") and _MP3_FRAME.match(first)
            if mp3 or _HEADER.match(first):
                raise AudioError(
                    f"{name}: begins with the header of an audio file, and is no raw PCM: its "
                    "samples would be heard as noise; drop --raw"
                )
        data = rest + data
        whole = len(data) - len(data) % 2
        rest = data[whole:]
        yield audio.from_s16le(data[:whole])
    if rest:
        raise AudioError(
            f"{name}: ends in the middle of a 16-bit sample (odd number of bytes); it must be "
            "signed 16-bit little-endian PCM"
        )


def _in_folder(folder: Path) -> Iterator[Recording]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not found:
        raise DataError(
            f"{folder}: holds no recordings (looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )
    for path in found:
        yield Recording.of(str(path), _bare(path.relative_to(folder)))


def _in_manifest(manifest: Path) -> Iterator[Recording]:
    for audio in read_audio_paths(manifest):
        yield Recording.of(str(manifest.parent / audio), _tree(audio))


def _tree(path: str) -> str:
    """A path as a target: never outside the folder of results, no two paths the same."""
    plain = Path(path)
    if ".." in plain.parts:
        plain = Path(os.path.abspath(plain))  # noqa: PTH100 - resolve() would follow links
    if not plain.name:
        raise DataError(f"{path}: names no file")
    return _bare(plain.relative_to(plain.anchor))


def _bare(path: PurePath) -> str:
    """A path without its extension; a name of dots alone keeps them."""
    return os.path.splitext(path.as_posix())[0]  # noqa: PTH122 - pathlib makes `.` of `..wav`


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        about = Path(path).stat()
    except (OSError, ValueError):  # a NUL in the path
        return None
    return about.st_size, about.st_mtime_ns
