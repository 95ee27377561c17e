"""One look at a file: whose book it is, in which language, and what it shares with others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.language_model.books import read_book
from training.language_model.fingerprints import words_of
from training.language_model.overlap import LENGTH, References

if TYPE_CHECKING:
    from training.language_model.fingerprints import Words

SAMPLE = 256  # one in so many of a book's sequences is compared with other books
# The hundred most frequent words of English prose, near enough; apostrophes do not count.
FUNCTION_WORDS = (
    "the and of to a in that he i was it his you with as for had is her not but at on she be "
    "have him all which by they my this so from me said one or there them were what an if "
    "when no are we would their out up been who will then could into do did some more now "
    "very about any your upon than has like only its other over before these such after where "
    "how down can well our made should those must us might shall may know through went came "
    "never every much being here two man see time little good "
)
_FUNCTION_HASHES = np.unique(words_of(FUNCTION_WORDS).hashes)


@dataclass(frozen=True)
class Survey:
    """What is known of a file before it is normalised.

    Attributes:
        file: its path; with `size`, in bytes, it says whether the survey is still true.
        name: number, author and title.
        key: author's surname and core of the title.
        language: as its header tells, or empty.
        words: their number.
        function_share: the share of function words among them.
        shared: distinct sequences shared with the references.
        sample: hashes of some of its sequences, the same ones in every file.
    """

    file: str
    size: int
    name: str
    key: tuple[str, str]
    language: str
    words: int
    function_share: float
    shared: int
    sample: tuple[int, ...] = field(repr=False)


def survey(file: str, references: References) -> Survey:
    """Read a file and look at its words as they stand there.

    Raises:
        DataError: the file cannot be read.
    """
    path = Path(file)
    book = read_book(path)
    words = words_of(book.text)
    sequences = words.sequences(LENGTH)[0]
    sample = np.unique(sequences[sequences % np.uint64(SAMPLE) == 0])
    return Survey(
        file=file,
        size=path.stat().st_size,
        name=book.name,
        key=book.key,
        language=book.language,
        words=len(words.hashes),
        function_share=float(is_function_word(words).mean()) if len(words.hashes) else 0.0,
        shared=len(np.unique(references.shared(words)[0])),
        sample=tuple(sample.tolist()),
    )


def is_function_word(words: Words) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which words are among the hundred that hold English together."""
    at = np.minimum(np.searchsorted(_FUNCTION_HASHES, words.hashes), len(_FUNCTION_HASHES) - 1)
    return np.asarray(_FUNCTION_HASHES[at] == words.hashes)
