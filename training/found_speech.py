"""Manifests of free transcribed speech out of public git repositories (docs/data.md).

Each source is read from a clone or a mirror as git keeps it: no work tree is needed, and what is
taken is one named commit. A function per source lists its clips; what is done with them after that
is the same for all: the text becomes a transcript (`transcript`), the audio 16 kHz (`speech`), and
what breaks a rule is left out and counted by the rule. The manifest comes last and whole.

The file is long because it is the whole recipe of a data set: git, text, sound, sources, in order.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

import numpy as np
import soundfile
import soxr

from asr.errors import DataError, Error
from asr.manifest import read_manifest, write_manifest
from training.data import SAMPLE_RATE
from training.language_model.overlap import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

SHORTEST, LONGEST = 0.5, 25.0  # seconds of a clip
SLOWEST, FASTEST = 3.0, 25.0  # characters of its transcript a second
QUIETEST = 0.005  # peak of a clip that is not silent, of full scale
ADULT = 18  # years
POINTER = b"version https://git-lfs"  # begins a file of Git LFS that was not fetched

VALIDATION = Path("../shared/corpus/validation.jsonl")
KNOWN = Path("../shared/corpus/other/other.jsonl")


class LeftOut(Exception):  # noqa: N818 - no error: a clip that is passed over and counted
    """Why a clip is not used; the message is the name of the rule."""


# --- git ---

_ANSWER = re.compile(rb"[0-9a-f]+ blob (\d+)\n")  # then the content and a line's end


class Repository:
    """The files of one commit, out of a clone or a mirror. Use it in a `with` statement.

    Args:
        folder: the clone, or the mirror itself.
        commit: which one; a few digits are enough.

    Raises:
        DataError: there is no git repository, or it has no such commit.
    """

    def __init__(self, folder: Path, commit: str) -> None:
        git = folder / ".git" if (folder / ".git").exists() else folder
        self.folder = folder
        self._git = ["git", f"--git-dir={git}"]
        # A clone without some of its files must not fetch them one by one behind our back.
        self._environment = {**os.environ, "GIT_NO_LAZY_FETCH": "1"}
        found = self._ask("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        if found is None:
            raise DataError(f"{folder}: no git repository with the commit {commit}; clone it anew")
        self.commit = found.decode().strip()
        self._files = subprocess.Popen(  # noqa: S603 - git, and a folder that the user names
            [*self._git, "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.communicate()  # closes its input, at which it ends

    def paths(self) -> list[str]:
        """The files of the commit, in git's order."""
        listed = self._ask("ls-tree", "-r", "-z", "--name-only", "--full-tree", self.commit) or b""
        return listed.decode("utf-8", "surrogateescape").split("\0")[:-1]

    def read(self, path: str) -> bytes:
        """A file of the commit.

        Raises:
            DataError: there is no such file, or its content was never fetched.
        """
        asked, answered = (
            cast("IO[bytes]", self._files.stdin),
            cast("IO[bytes]", self._files.stdout),
        )
        asked.write(f"{self.commit}:{path}\n".encode("utf-8", "surrogateescape"))
        asked.flush()
        found = _ANSWER.fullmatch(answered.readline())
        if not found:
            raise DataError(f"{self.folder}: has no file {path} in commit {self.commit[:8]}")
        content = answered.read(int(found[1]))
        answered.read(1)
        return content

    def text(self, path: str) -> str:
        """A file of text.

        Raises:
            DataError: it is not there, or not UTF-8.
        """
        try:
            return self.read(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.folder}: {path} is not UTF-8 text") from error

    def _ask(self, *arguments: str) -> bytes | None:
        """What git answers; None where it refuses."""
        done = subprocess.run(  # noqa: S603 - see above
            [*self._git, *arguments], capture_output=True, check=False, env=self._environment
        )
        return done.stdout if done.returncode == 0 else None


# --- text ---

_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼ`´", "'"))  # noqa: RUF001 - all that stand for one
_SEPARATORS = frozenset('.,;:!?"()[]-‐‑‒–—―…“”„«»')  # noqa: RUF001 - what nobody reads out
_SHORT = {"MR": "MISTER", "MRS": "MISSUS", "DR": "DOCTOR", "ETC": "ET CETERA"}
_SHORTENED = re.compile(rf"\b({'|'.join(_SHORT)})\b\.?", re.IGNORECASE)
# Saint or street, general or generation, third or the third: the sentence decides, and we cannot.
_UNCERTAIN = re.compile(
    r"\bSt\b"
    r"|\b(?i:St|Gen|Co|Col|Capt|Lt|Lieut|Maj|Sgt|Prof|Rev|Hon|Gov|Sen|Rep|Jr|Sr|Esq|Mt|Ft|Inc|Ltd"
    r"|Corp|Bros|Dept|Ave|Blvd|Rd|Ph|vs|approx|lbs?|oz|vol|vols|pp"
    r"|Jan|Feb|Aug|Sept?|Oct|Nov|Dec)\."
    r"|[A-Za-z]{2}\.[a-z]"  # an address, whose dot is read out
)
_ELIDED = frozenset(["'EM", "'TIS", "'TWAS", "'TIL", "'CAUSE", "'BOUT", "'ROUND", "'NEATH", "'N"])
_CLIPPED = re.compile(r".*S|.{2,}IN|O|OL|TH|AN")  # boys', goin', o', ol', th', an'


def transcript(text: str) -> str:
    """What is said in a sentence as it is printed, in the way of LibriSpeech.

    >>> transcript("'Mr. O'Brien's café,' he said, 'is in the U.S.'")
    "MISTER O'BRIEN'S CAFE HE SAID IS IN THE U S"

    Args:
        text: any text.

    Returns:
        Words of A to Z and apostrophes, with single spaces between them; at least one.

    Raises:
        LeftOut: what is said cannot be told for certain, or nothing is.
    """
    decomposed = unicodedata.normalize("NFD", text.translate(_APOSTROPHES))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    plain = _SHORTENED.sub(lambda word: _SHORT[word[1].upper()] + " ", plain)
    if _UNCERTAIN.search(plain):
        raise LeftOut("an abbreviation that may be read in several ways")
    letters = "".join(map(_letter, plain)).upper().replace("''", " ")
    if words := " ".join(_without_quotation_marks(letters.split())):
        return words
    raise LeftOut("no words")


def _letter(character: str) -> str:
    """A letter or apostrophe as it is, a space for what is not read out."""
    if character == "'" or (character.isascii() and character.isalpha()):
        return character
    if character in _SEPARATORS or character.isspace():
        return " "
    if character.isnumeric():
        raise LeftOut("a digit in the text")
    raise LeftOut("a letter outside A to Z" if character.isalpha() else "a sign in the text")


def _without_quotation_marks(words: Iterable[str]) -> Iterator[str]:
    """Words with only those apostrophes that belong to them.

    One before a word opens a quotation, unless the word is known to have lost its beginning. One
    behind a word closes the open quotation; if none is open, it stays where a word may end in it.
    """
    quoted = False
    for word in words:
        core = word.strip("'")
        if not core:
            continue
        begins, ends = word.startswith("'"), word.endswith("'")
        elided = begins and f"'{core}" in _ELIDED
        quoted = quoted or (begins and not elided)
        kept = ends and not quoted and _CLIPPED.fullmatch(core) is not None
        quoted = quoted and not ends
        yield "'" * elided + core + "'" * kept


def sequences(text: str) -> set[tuple[str, ...]]:
    """All runs of `LENGTH` words in a transcript."""
    words = text.split()
    return {tuple(words[i : i + LENGTH]) for i in range(len(words) - LENGTH + 1)}


# --- sound ---


def speech(encoded: bytes) -> NDArray[np.float32]:
    """Decode a recording: samples in [-1, 1], shape (n,), mono, 16 kHz.

    Args:
        encoded: a file that libsndfile knows (wav, flac, mp3, …), any rate and channels.

    Raises:
        LeftOut: it is none, or it is the pointer of Git LFS to one.
    """
    if encoded.startswith(POINTER):
        raise LeftOut("a pointer of Git LFS, no audio")
    try:
        samples, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise LeftOut("audio that cannot be decoded") from error
    # The filter may swing beyond full scale at a step, which 16 bits would turn around.
    mono = soxr.resample(samples.mean(1), rate, SAMPLE_RATE, "HQ")
    return np.asarray(np.clip(mono, -1, 1), np.float32)


def check(samples: NDArray[np.float32], text: str | None) -> None:
    """Look whether a recording can be what its transcript says, or speech at all.

    Raises:
        LeftOut: it is too long, too short, too fast, too slow or silent.
    """
    seconds = len(samples) / SAMPLE_RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise LeftOut(f"shorter than {SHORTEST:g} s or longer than {LONGEST:g} s")
    if np.abs(samples).max() <= QUIETEST:
        raise LeftOut(f"no peak above {QUIETEST:g} of full scale")
    if text is not None and not SLOWEST <= len(text) / seconds <= FASTEST:
        raise LeftOut(f"fewer than {SLOWEST:g} or more than {FASTEST:g} characters a second")


# --- sources ---


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording as its repository lists it; nothing has been decoded.

    Attributes:
        id: unique among all sources; Common Voice's ends in `en_NUMBER` where a clip has a number.
        path: its file in the repository.
        text: as it is printed; None where nobody wrote it down.
        speaker: empty where nobody knows.
        votes: for and against it, of those who compared speech and text; None: nobody was asked.
        barred: why the source's own rules leave it out, or empty.
    """

    id: str
    path: str
    text: str | None
    speaker: str = ""
    votes: tuple[int, int] | None = None
    barred: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a manifest comes from, or a list of recordings that nobody transcribed.

    Attributes:
        name: of the manifest or list.
        title: what the speech is.
        licence: of the speech.
        commits: repositories OWNER/NAME, and the commit that is taken of each.
        clips: lists the clips of one repository.
        transcribed: whether its clips have texts.
    """

    name: str
    title: str
    licence: str
    commits: dict[str, str]
    clips: Callable[[Repository], Iterable[Clip]]
    transcribed: bool = True


def common_voice_1(repository: Repository) -> Iterator[Clip]:
    """The `cv-valid-dev` part of Common Voice 1: a table with votes, but no speakers."""
    table = repository.text("cv-valid-dev/cv-valid-dev.csv")
    for row in csv.DictReader(io.StringIO(table)):
        name = Path(row["filename"]).stem.removeprefix("sample-")
        votes = int(row["up_votes"]), int(row["down_votes"])
        yield Clip(f"cv-valid-dev-{name}", row["filename"], row["text"], votes=votes)


def common_voice_delta(repository: Repository) -> Iterator[Clip]:
    """The clips of `validated.tsv` that lie beside it."""
    paths = {Path(path).name: path for path in repository.paths()}
    table = io.StringIO(repository.text(paths["validated.tsv"]))
    for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
        number = Path(row["path"]).stem.removeprefix("common_voice_")
        yield Clip(
            f"cv-{number}",
            paths.get(row["path"], row["path"]),
            row["sentence"],
            f"cv-{row['client_id'][:12]}",
            (int(row["up_votes"]), int(row["down_votes"])),
            "" if row["path"] in paths else "a clip that the repository has not",
        )


def common_voice_unread(repository: Repository) -> Iterator[Clip]:
    """The clips that none of the tables which are there knows: nobody has compared them yet."""
    paths = [path for path in repository.paths() if path.endswith(".mp3")]
    judged = {
        row["path"]
        for table in ("dataset/validated.tsv", "dataset/invalidated.tsv")
        for row in csv.DictReader(
            io.StringIO(repository.text(table)), delimiter="\t", quoting=csv.QUOTE_NONE
        )
    }
    for path in paths:
        number = Path(path).stem.removeprefix("common_voice_")
        barred = "a clip with a transcript" if Path(path).name in judged else ""
        yield Clip(f"cv-{number}", path, None, barred=barred)


def speechocean(repository: Repository) -> Iterator[Clip]:
    """The training part, with the folders' files of Kaldi; its children are barred."""
    texts, speakers, paths = (
        _kaldi_table(repository, f"train/{name}") for name in ("text", "utt2spk", "wav.scp")
    )
    ages = _kaldi_table(repository, "train/spk2age")
    for name, text in texts.items():
        speaker = speakers[name]
        barred = "" if int(ages[speaker]) >= ADULT else f"a speaker younger than {ADULT}"
        yield Clip(f"so762-{name}", paths[name], text, f"so762-{speaker}", barred=barred)


def _kaldi_table(repository: Repository, path: str) -> dict[str, str]:
    """Lines of a key and a value."""
    lines = repository.text(path).splitlines()
    return dict(cast("tuple[str, str]", tuple(line.split(maxsplit=1))) for line in lines)


def cathy(repository: Repository) -> Iterator[Clip]:
    """One woman; beside each take lies a file with its prompt."""
    for path in repository.paths():
        if path.endswith(".wav"):
            text = repository.text(path.removesuffix(".wav") + ".txt")
            yield Clip(f"cathy-{Path(path).stem}", path, text, "cathy")


def philipp(repository: Repository) -> Iterator[Clip]:
    """One man; the prompts are LJ Speech's table: name, sentence, sentence without figures."""
    table = repository.text("LJSpeech-1.1/transcript.csv").splitlines()
    texts = {row[0]: row[-1] for row in (line.split("|") for line in table)}
    for path in repository.paths():
        if path.endswith(".wav"):
            name = Path(path).stem
            yield Clip(f"philipp-{name}", path, texts.get(name, ""), "philipp")


SOURCES = {
    source.name: source
    for source in (
        Source(
            "cv-valid-dev",
            "Mozilla Common Voice 1, cv-valid-dev",
            "CC0 1.0",
            {"GreenTea749/ASR-AI-microservice-Elastic-search-AI-application": "f025de80"},
            common_voice_1,
        ),
        Source(
            "speechocean",
            "speechocean762 (OpenSLR 101), train",
            "free for commercial and other use",
            {"jimbozhang/speechocean762": "613968e3"},
            speechocean,
        ),
        Source(
            "cathy",
            "rhasspy/dataset-voice-cathy",
            "CC0 1.0",
            {"rhasspy/dataset-voice-cathy": "c51cb971"},
            cathy,
        ),
        Source(
            "cv-delta",
            "Mozilla Common Voice 18.0-, 19.0- and 20.0-delta",
            "CC0 1.0",
            {
                "shubhra-cv/18": "4ca775ac",
                "shubhra-cv/19": "497ac20e",
                "shubhra-cv/17": "c6eb4f89",
            },
            common_voice_delta,
        ),
        Source(
            "philipp",
            "PhilippMatthes/dc_tts",
            "Apache 2.0",
            {"PhilippMatthes/dc_tts": "5f20e75b"},
            philipp,
        ),
        Source(
            "cv13-unread",
            "Mozilla Common Voice 13.0-delta, without transcripts",
            "CC0 1.0",
            {"korliu/whisper": "d03c1456"},
            common_voice_unread,
            transcribed=False,
        ),
    )
}


# --- manifests ---

_NUMBER = re.compile(r"\ben_(\d+)$")  # of a clip of Common Voice: the same in all its versions


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a clip must not repeat.

    Attributes:
        sentences: runs of words of the transcripts that are kept for validation.
        numbers: clips of Common Voice that other manifests have.
        speakers: speakers of speechocean762 that other manifests have, as they are named there.
    """

    sentences: frozenset[tuple[str, ...]] = frozenset()
    numbers: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()

    @classmethod
    def read(cls, validation: Path, others: Iterable[Path]) -> Elsewhere:
        """Take in the validation set's manifest, and others.

        Raises:
            DataError: one of them is not there, or no manifest.
        """
        tested = read_manifest(validation)
        rows = [*tested, *(row for path in others for row in read_manifest(path))]
        return cls(
            frozenset().union(*(sequences(row.text) for row in tested)),
            frozenset(number for row in rows if (number := _number(row.id))),
            frozenset(row.speaker for row in rows if row.speaker.startswith("so762-")),
        )

    def refuse(self, clip: Clip, text: str | None) -> None:
        """Look whether a clip is new.

        Raises:
            LeftOut: it is not.
        """
        if clip.speaker in self.speakers:
            raise LeftOut("a speaker that another manifest has")
        if _number(clip.id) in self.numbers:
            raise LeftOut("a clip that another manifest has")
        if text is not None and not self.sentences.isdisjoint(sequences(text)):
            raise LeftOut(f"{LENGTH} words in a row of the validation set")


def _number(name: str) -> str | None:
    found = _NUMBER.search(name)
    return found[1] if found else None


@dataclass(slots=True)
class Made:
    """A manifest that was made.

    Attributes:
        rows: of the manifest.
        left_out: number of clips by rule.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self, name: str) -> list[str]:
        """What there is, and what was left out, for people."""
        hours = sum(row["samples"] for row in self.rows) / SAMPLE_RATE / 3600
        speakers = len({row["speaker"] for row in self.rows} - {""}) or "unknown"
        return [
            f"{name}: {len(self.rows)} clips, {hours:.2f} h, speakers: {speakers}",
            *(f"  left out: {number} × {rule}" for rule, number in self.left_out.most_common()),
        ]


def make(source: Source, repositories: Path, out: Path, elsewhere: Elsewhere) -> Made:
    """Write the recordings of a source to `out/NAME/`, then its manifest, `out/NAME.jsonl`.

    Of recordings without transcripts a list is written instead, `out/NAME.txt`, a path a line.

    Args:
        source: which.
        repositories: holds clones or mirrors, `OWNER+NAME` or `OWNER+NAME/repo`.
        out: is made if need be. What is there of the same names is replaced.
        elsewhere: what must not be repeated.

    Raises:
        DataError: a repository is not as it was when this was written, or nothing is left of it.
        OSError: `out` cannot be written.
    """
    made = Made()
    (out / source.name).mkdir(parents=True, exist_ok=True)
    for name, commit in source.commits.items():
        with Repository(_folder(repositories, name), commit) as repository:
            for clip in source.clips(repository):
                try:
                    made.rows.append(_store(clip, source, repository, out, elsewhere))
                except LeftOut as rule:
                    made.left_out[str(rule)] += 1
    if not made.rows:
        raise DataError(f"{source.name}: no clip is left: {'; '.join(made.lines(source.name)[1:])}")
    if source.transcribed:
        write_manifest(out / f"{source.name}.jsonl", made.rows)
    else:
        recordings = "".join(f"{Path(row['audio']).resolve()}\n" for row in made.rows)
        (out / f"{source.name}.txt").write_text(recordings, "utf-8")
    return made


def _folder(repositories: Path, name: str) -> Path:
    folder = repositories / name.replace("/", "+")
    return folder / "repo" if (folder / "repo").is_dir() else folder


def _store(
    clip: Clip, source: Source, repository: Repository, out: Path, elsewhere: Elsewhere
) -> dict[str, Any]:
    """A clip's row, once its recording is written."""
    if clip.barred:
        raise LeftOut(clip.barred)
    if clip.votes and clip.votes[1] >= clip.votes[0]:
        raise LeftOut("as many votes against it as for it")
    text = None if clip.text is None else transcript(clip.text)
    elsewhere.refuse(clip, text)
    samples = speech(repository.read(clip.path))
    check(samples, text)
    audio = out / source.name / f"{clip.id}.flac"
    soundfile.write(audio, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    row = {
        "id": clip.id,
        "audio": str(audio),
        "samples": len(samples),
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        "text": text or "",
        "speaker": clip.speaker,
        "source": source.title,
        "licence": source.licence,
    }
    return row | ({"checked": sum(clip.votes) >= 2} if clip.votes else {})


def main(arguments: Sequence[str]) -> int:
    """Make manifests of found speech: `python -m training.found_speech REPOSITORIES OUT`."""
    parser = argparse.ArgumentParser("python -m training.found_speech", description=main.__doc__)
    parser.add_argument("repositories", type=Path, help="folder of clones named OWNER+NAME")
    parser.add_argument("out", type=Path, help="folder for the manifests and their recordings")
    parser.add_argument(
        "--only",
        choices=SOURCES,
        action="append",
        metavar="NAME",
        help=f"make this one (may be repeated): {', '.join(SOURCES)}",
    )
    parser.add_argument(
        "--validation",
        type=Path,
        default=VALIDATION,
        help="manifest whose sentences must not be among them (default: %(default)s)",
    )
    parser.add_argument(
        "--known",
        type=Path,
        nargs="*",
        default=[KNOWN],
        help=f"manifests whose clips and speakers must not be repeated (default: {KNOWN}); "
        "those in OUT are looked at, too",
    )
    args = parser.parse_args(arguments)
    try:
        for name in args.only or SOURCES:
            beside = [path for path in sorted(args.out.glob("*.jsonl")) if path.stem != name]
            elsewhere = Elsewhere.read(args.validation, [*args.known, *beside])
            made = make(SOURCES[name], args.repositories, args.out, elsewhere)
            print("\n".join(made.lines(name)), flush=True)  # noqa: T201 - what it is for
    except (Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - one line instead of a trace
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
