"""LibriSpeech through torchaudio's data set, decoded by soundfile.

torchaudio 2.11 asks torchcodec for the decoding, which needs libraries of CUDA. Here soundfile does
it; paths, order and tuples stay those of `torchaudio.datasets.LIBRISPEECH`.

A tree looks like this (Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain
audio books"):

    ROOT/LibriSpeech/SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac
    ROOT/LibriSpeech/SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt

with lines "SPEAKER-CHAPTER-NNNN WORDS …" in the transcripts.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import torch

from asr.errors import ConfigError, DataError
from training.torchaudio_cpu import torchaudio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SPLITS = (
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording as the tree lists it; nothing has been decoded or checked.

    Attributes:
        id: such as `1272-128104-0003`.
        path: its flac file. It may be absent: an unfinished archive has transcripts without audio.
        text: the transcript as it stands (upper case); empty when the tree has audio without a
            transcript.
        speaker: the reader's number.
        chapter: the chapter's number.
    """

    id: str
    path: Path
    text: str
    speaker: int
    chapter: int


class LibriSpeech(torchaudio.datasets.LIBRISPEECH):  # type: ignore[misc,name-defined]
    """`torchaudio.datasets.LIBRISPEECH` (which is not typed) with soundfile as its decoder."""

    def __init__(
        self, root: str | Path, url: str = "train-clean-100", *, download: bool = False
    ) -> None:
        """Open one split.

        Args:
            root: the folder that holds (or shall hold) `LibriSpeech/`.
            url: the split, one of `SPLITS`.
            download: fetch and unpack the split (0.3-30 GB, www.openslr.org/12) when it is not
                there.

        Raises:
            ConfigError: there is no such split.
            DataError: the split is not there and may not, or could not, be downloaded.
        """
        if url not in SPLITS:
            raise ConfigError(f"{url!r} is no split of LibriSpeech; there are {', '.join(SPLITS)}")
        folder = Path(root) / "LibriSpeech" / url
        if not folder.is_dir() and not download:
            raise DataError(
                f"{folder}: no such folder; give the folder that holds LibriSpeech/, or --download"
            )
        if download:
            Path(root).mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(root, url=url, download=download)
        except (OSError, RuntimeError) as error:  # no network; the archive's checksum is wrong
            raise DataError(f"{url}: cannot download it to {root}: {error}") from error
        self.folder = folder

    def __getitem__(self, n: int) -> tuple[torch.Tensor, int, str, int, int, int]:
        """Decode utterance n.

        Returns:
            Samples float32 [1, n], rate (16,000), transcript, speaker, chapter, number of the
            utterance.

        Raises:
            DataError: the file cannot be decoded, or is not 16 kHz; or it has no transcript.
        """
        try:
            path, rate, *facts = self.get_metadata(n)
        except FileNotFoundError as error:
            raise DataError(f"{self.folder}: {error}; the archive seems unfinished") from error
        file = self.folder.parent / path
        try:
            samples, found = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise DataError(f"{file}: cannot be decoded: {error}") from error
        if found != rate:
            raise DataError(f"{file}: {found} Hz where LibriSpeech has {rate} Hz")
        return torch.from_numpy(samples.T.copy()), rate, *facts

    def utterances(self) -> Iterator[Utterance]:
        """All utterances in the order of their ids, without decoding any.

        Both what has audio and what has a transcript is listed, so that the caller can count and
        name what lacks the other. Each chapter's transcript is read once.

        Raises:
            DataError: a folder that is not named by a number, or a transcript that is not UTF-8.
        """
        for chapter in sorted(path for path in self.folder.glob("*/*") if path.is_dir()):
            texts = self._transcripts(chapter)
            for name in sorted(texts.keys() | {file.stem for file in chapter.glob("*.flac")}):
                try:
                    speaker, number = int(chapter.parent.name), int(chapter.name)
                except ValueError as error:
                    raise DataError(
                        f"{chapter}: not a folder SPEAKER/CHAPTER of LibriSpeech"
                    ) from error
                yield Utterance(
                    name, chapter / f"{name}.flac", texts.get(name, ""), speaker, number
                )

    @staticmethod
    def _transcripts(chapter: Path) -> dict[str, str]:
        """Texts of one chapter by utterance id; empty when the file is missing."""
        file = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
        try:
            lines = file.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text") from error
        parts = (line.strip().partition(" ") for line in lines if line.strip())
        return {name: text.strip() for name, _, text in parts}


def main(arguments: Sequence[str]) -> int:
    """Fetch parts that are not there: `python -m training.librispeech ROOT SPLIT…`."""
    parser = argparse.ArgumentParser("python -m training.librispeech", description=main.__doc__)
    parser.add_argument("root", type=Path, help="folder that holds (or shall hold) LibriSpeech/")
    parser.add_argument("splits", nargs="+", choices=SPLITS, metavar="SPLIT")
    args = parser.parse_args(arguments)
    for split in args.splits:
        LibriSpeech(args.root, split, download=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
