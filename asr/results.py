"""A folder of transcripts that knows which are done, so that a job that was killed can go on.

Beside the transcripts lies a ledger, `.asr-<format>.jsonl`. Its first line says what made them
(model, settings, version), each further line is `[target, size, mtime_ns]` of a recording that is
done. A transcript is written under another name, forced to the disk and renamed before its line is
added: whatever dies in between, no transcript is ever half there, and at worst one is made again.

A recording is done if its line has the size and time that the recording has now and its transcript
is there. A ledger of another model or other settings is refused, not mixed with. While a job works
it holds a lock, `.asr-<format>.lock`, since two would get into each other's way.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from asr.errors import Error
from asr.writers import EXTENSIONS, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from asr.recordings import Recording

    Done = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Results:
    """Transcripts of one format in a folder.

    Attributes:
        folder: where they are; made when a job begins.
        form: their format, of `asr.writers.FORMATS`.
        made_by: what decides what they say: names and JSON values.
    """

    folder: Path
    form: str
    made_by: Mapping[str, Any]

    @property
    def ledger(self) -> Path:
        """The file that says what is done."""
        return self.folder / f".asr-{self.form}.jsonl"

    def path(self, recording: Recording) -> Path:
        """The transcript of a recording."""
        return self.folder / f"{recording.target}.{EXTENSIONS[self.form]}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other jobs out meanwhile, where the file system has locks and not on Windows.

        Raises:
            Error: another job is at work there, or the folder cannot be written.
        """
        path = self.ledger.with_suffix(".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileExistsError:
            raise Error(
                f"{self.folder}: is a file, transcripts cannot be written into it; name a folder"
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        with file:
            if sys.platform != "win32":
                self._lock(file)
            yield

    def missing(
        self, recordings: Sequence[Recording], *, overwrite: bool = False
    ) -> list[Recording]:
        """The recordings that are not done, in their order.

        Args:
            recordings: all of the job.
            overwrite: forget what is done, and whose it was.

        Raises:
            Error: the ledger cannot be read or is that of another job, or there is none and a
                transcript would replace a file of somebody else.
        """
        if overwrite:
            self._forget()
            return list(recordings)
        done = self._done()
        if done is None:
            self._refuse_strangers(recordings)
            return list(recordings)
        return [
            recording
            for recording in recordings
            if recording.stamp is None
            or done.get(recording.target) != recording.stamp
            or not self.path(recording).is_file()
        ]

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """What adds transcripts: in `alone`, after `missing`, which checks whose folder it is.

        Raises:
            Error: the folder cannot be written.
        """
        try:
            if not self.ledger.exists():
                self._begin()
            ledger = self.ledger.open("r+b")
        except OSError as error:
            raise _unwritable(self.ledger, error) from None
        with ledger:
            # A line that was cut off by a kill or a full disk is taken back.
            ledger.seek(_whole(ledger.read()))
            ledger.truncate()
            yield Writer(self, ledger)

    def _lock(self, file: IO[bytes]) -> None:
        """Lock a file until it is closed or this process ends, however it ends."""
        import fcntl  # Windows has none

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Error(
                f"{self.folder}: another job is writing {self.form} transcripts into it; wait for "
                "its end, or take another folder"
            ) from None
        except OSError:
            pass  # a file system without locks

    def _begin(self) -> None:
        """Write the ledger's first line, wholly or not at all."""
        unfinished = self.ledger.with_suffix(".part")
        unfinished.write_bytes(_line({"made_by": self.made_by}))
        unfinished.replace(self.ledger)

    def _forget(self) -> None:
        try:
            self.ledger.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.ledger, error) from None

    def _done(self) -> Done | None:
        """Size and time of what is done by target; None where there is no ledger."""
        try:
            data = self.ledger.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Error(f"{self.ledger}: cannot be read ({error.strerror})") from None
        head, *lines = data[: _whole(data)].split(b"\n")[:-1] or [b""]
        try:
            made_by = json.loads(head)["made_by"]
            rows = [json.loads(line) for line in lines]
            done = {str(target): (int(size), int(time)) for target, size, time in rows}
        except (ValueError, TypeError, KeyError):
            raise Error(f"{self.ledger}: damaged; take another folder, or --overwrite") from None
        self._compare(made_by)
        return done

    def _compare(self, made_by: Mapping[str, Any]) -> None:
        here = json.loads(_line(dict(self.made_by)))
        for key in sorted({*here, *made_by}):
            if here.get(key) != made_by.get(key):
                raise Error(
                    f"{self.folder}: its {self.form} transcripts were made with {key} "
                    f"{_short(made_by.get(key))}, this job has {_short(here.get(key))}; take "
                    "another folder, or --overwrite"
                )

    def _refuse_strangers(self, recordings: Sequence[Recording]) -> None:
        for recording in recordings:
            if (path := self.path(recording)).exists():
                raise Error(
                    f"{path}: is there, and {self.ledger.name} does not say who made it; take "
                    "another folder, or --overwrite"
                )


class Writer:
    """Adds transcripts to a folder, each wholly or not at all."""

    def __init__(self, results: Results, ledger: IO[bytes]) -> None:
        self._results = results
        self._ledger = ledger

    def write(self, recording: Recording, content: str) -> None:
        """Write a transcript, then its line in the ledger.

        Raises:
            Error: it cannot be written.
        """
        path = self._results.path(recording)
        unfinished = self._results.ledger.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content.encode("utf-8", "surrogateescape"))  # names may be no UTF-8
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            if recording.stamp is not None:
                self._ledger.write(_line([recording.target, *recording.stamp]))
                self._ledger.flush()
        except OSError as error:
            raise _unwritable(path, error) from None


def _whole(data: bytes) -> int:
    """Length of the lines that are complete."""
    return data.rfind(b"\n") + 1


def _line(value: object) -> bytes:
    return to_json(value).encode() + b"\n"


def _short(value: object) -> str:
    told = str(value)
    return told if len(told) <= 40 else f"{told[:12]}…"


def _unwritable(path: Path, error: OSError) -> Error:
    return Error(f"{path}: cannot be written ({error.strerror})")
