"""Many recordings into a folder: by this process, by several, by a server or by a cluster.

All four work on what is missing in the folder and write what they get in the same way.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands import recognition
from asr.commands.counts import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from asr.batch import Failure, Settings, Written
    from asr.cluster import Cluster
    from asr.recordings import Recording

    Outcomes = Iterator[tuple[Recording, Written | Failure]]


SILENCE_SECONDS = 60  # after which progress is told though no tenth is done


def run(args: argparse.Namespace, recordings: Sequence[Recording]) -> int:
    """Transcribe what is missing; a recording that cannot be is told, and the others go on.

    Returns:
        0, or 1 if any recording failed.

    Raises:
        UsageError: the arguments contradict each other.
        Error: the model cannot be loaded, the folder is another job's or cannot be written, the
            server of `--url` cannot be reached, the cluster fails, or a process died. What was
            written until then stays done.
    """
    if args.jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded
    from asr.batch import Settings
    from asr.results import Results

    engine = _engine(args, Settings(args.format, recognition.options(args), args.raw))
    results = Results(Path(args.output), args.format, engine.made_by())
    with results.alone():
        missing = results.missing(recordings, overwrite=args.overwrite)
        progress = _Progress(len(recordings), len(recordings) - len(missing))
        with results.writer() as writer:
            try:
                for recording, outcome in engine.outcomes(missing) if missing else ():
                    if (content := progress.count(recording, outcome)) is not None:
                        writer.write(recording, content)
                    progress.show()
            finally:
                progress.clear()
    progress.conclude()
    return 1 if progress.failed else 0


def _engine(args: argparse.Namespace, settings: Settings) -> _Here | _Server | _Machines:
    """Who is to recognise."""
    if args.url is not None:
        return _Server(args.url, settings, recognition.choose(args))
    model = recognition.Model(_everywhere(args.model), args.precision, args.decoder)
    # Loaded here whoever works: what is wrong with model or phrases is told before anything else.
    recognizer = model()
    recognizer.start(settings.options)
    if args.cluster is None:
        return _Here(settings, model, recognizer, args.jobs)
    return _Machines(settings, model, recognizer.bundle_id, _cluster(args))


@dataclass(frozen=True, slots=True)
class _Here:
    """A model on this machine."""

    settings: Settings
    model: recognition.Model
    recognizer: Any
    jobs: int

    def made_by(self) -> dict[str, object]:
        """What decides the words."""
        return _made_by(self.recognizer.bundle_id, self.settings)

    def outcomes(self, missing: Sequence[Recording]) -> Outcomes:
        """What becomes of each recording, as it becomes known."""
        from asr import batch, parallel

        jobs = min(self.jobs, len(missing))
        load = self.model if jobs > 1 else lambda: self.recognizer
        return parallel.as_done(
            load, functools.partial(batch.transcribe, self.settings), missing, jobs
        )


@dataclass(frozen=True, slots=True)
class _Server:
    """A server of `asr serve`."""

    url: str
    settings: Settings
    recognise: recognition.Recognition

    def made_by(self) -> dict[str, object]:
        """What decides the words: the server's model is its own affair."""
        from asr.client import shown

        return _made_by(shown(self.url), self.settings)

    def outcomes(self, missing: Sequence[Recording]) -> Outcomes:
        """What becomes of each recording, in their order."""
        from asr import batch

        for recording in missing:
            yield (
                recording,
                batch.attempt(
                    self.settings,
                    lambda chunks, rate: self.recognise(chunks, rate, None),
                    recording,
                ),
            )


@dataclass(frozen=True, slots=True)
class _Machines:
    """A cluster, whose workers see the recordings under the same paths."""

    settings: Settings
    model: recognition.Model
    bundle_id: str
    cluster: Cluster

    def made_by(self) -> dict[str, object]:
        """What decides the words: the same as here, so that either can go on with the other's."""
        return _made_by(self.bundle_id, self.settings)

    def outcomes(self, missing: Sequence[Recording]) -> Outcomes:
        """What becomes of each recording, as it becomes known."""
        from asr import batch, cluster

        if self.cluster.exposed:
            recognition.tell(
                f"{self.cluster.address} is open to all who reach it, and they can run programs on "
                "its workers; use tls:// (docs/operation.md)"
            )
        return cluster.as_done(
            self.cluster,
            cluster.Loader(self.model, self.bundle_id),
            functools.partial(batch.transcribe, self.settings),
            (replace(recording, path=_absolute(recording.path)) for recording in missing),
            lost=_lost,
            notice=recognition.tell,
        )


def _lost(recording: Recording, reason: str) -> Failure:
    from asr.batch import Failure

    return Failure(f"{recording.name}: {reason}")


def _cluster(args: argparse.Namespace) -> Cluster:
    from asr.cluster import Cluster

    return Cluster(args.cluster, args.tls_ca, args.tls_cert, args.tls_key)


def _everywhere(model: str | None) -> str | None:
    """The model by a name that means the same in another folder and process."""
    from asr.bundle import HEADER, SHIPPED

    if model is None or (SHIPPED / model / HEADER).is_file():
        return model
    return _absolute(model) if Path(model).exists() else model


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, which move


def _made_by(model: str, settings: Settings) -> dict[str, object]:
    from asr.commands import version

    wishes = {f"option {name}": value for name, value in asdict(settings.options).items()}
    return {"model": model, "version": version(), "raw rate": settings.raw, **wishes}


class _Progress:
    """What is told meanwhile and at the end, on standard error."""

    def __init__(self, total: int, there: int) -> None:
        self.failed = 0
        self._total, self._there = total, there
        self._written = 0
        self._audio_s = 0.0
        self._tenth = 0
        self._start = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._clear = "\r\x1b[K" if self._terminal else ""  # the line that is drawn anew

    def count(self, recording: Recording, outcome: Written | Failure) -> str | None:
        """Take in an outcome, and tell what is wrong with it; the content to write, if any."""
        from asr.batch import Failure

        if isinstance(outcome, Failure):
            self.failed += 1
            self._tell(f"asr: {outcome.message}")
            return None
        self._written += 1
        self._audio_s += outcome.seconds
        if outcome.repaired:
            self._tell(f"asr: {repaired(recording.name, outcome.repaired)}")
        return outcome.content

    def show(self) -> None:
        """Draw the line anew on a terminal; elsewhere tell every tenth of the way, and at times."""
        done, todo, now = self._written + self.failed, self._total - self._there, time.monotonic()
        tenth = 10 * done // todo
        due = self._terminal or tenth > self._tenth or now - self._told >= SILENCE_SECONDS
        if todo < 2 or not due:
            return
        self._tenth, self._told = tenth, now
        seconds = (now - self._start) * (todo - done) / done
        left = f", about {_span(seconds)} left" if done < todo else ""
        line = f"{done} of {todo} recordings, {self._pace()}{left}"
        if self._terminal:
            print(f"{self._clear}{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away that is drawn anew, whatever is told next."""
        print(self._clear, end="", file=sys.stderr, flush=True)

    def conclude(self) -> None:
        """Tell how it went, where there is more to tell than one recording that is written."""
        if self._total == 1 and self._written:
            return
        parts = [f"{self._written} written ({self._pace()})"]
        parts += [f"{self._there} already there"] if self._there else []
        parts += [f"{self.failed} failed"] if self.failed else []
        self._tell(f"asr: {counted(self._total, 'recording')}: {', '.join(parts)}")

    def _pace(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-3)
        return f"{_span(self._audio_s)} of audio at {self._audio_s / seconds:.1f} × real time"

    def _tell(self, line: str) -> None:
        print(f"{self._clear}{line}", file=sys.stderr, flush=True)


def repaired(name: str, samples: int) -> str:
    """The line on samples that were no audio."""
    return f"{name}: {samples} samples were not finite or absurdly large; they counted as silence"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
