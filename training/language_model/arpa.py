"""Models as ARPA text: `log10 probability<TAB>words<TAB>log10 back-off weight`, plain or .gz."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

from asr.errors import DataError
from training.language_model.model import LOG_ZERO, MAX_ORDER, Level, Model, Packing
from training.language_model.text import create_text, line_blocks
from training.language_model.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Say = Callable[[str], None]

LN10 = math.log(10)
LINES = 1 << 18  # n-grams written at a time


def write_arpa(model: Model, path: Path, say: Say | None = None) -> None:
    """Write a model as text, with seven significant digits.

    Args:
        model: of any order.
        path: ending in .arpa or .arpa.gz.
        say: told what goes on.
    """
    words = model.vocabulary.words
    bits = model.packing.bits
    with create_text(path) as file:
        sizes = "".join(f"ngram {n}={size}\n" for n, size in enumerate(model.sizes(), 1))
        file.write(f"\\data\\\n{sizes}\n\\1-grams:\n")
        highest = model.order == 1
        for word, prob, weight in zip(
            words, _log10(model.log_probs), _log10(model.back_offs), strict=True
        ):
            file.write(
                f"{prob:.7g}\t{word}\n" if highest else f"{prob:.7g}\t{word}\t{weight:.7g}\n"
            )
        for order, level in enumerate(model.levels, 2):
            file.write(f"\n\\{order}-grams:\n")
            for start in range(0, len(level), LINES):
                file.write("".join(_lines(level, order, slice(start, start + LINES), words, bits)))
                if say:
                    say(f"{path.name}: {start:,} of {len(level):,} n-grams of order {order}")
        file.write("\n\\end\\\n")


def _log10(values: NDArray[np.float32]) -> list[float]:
    return cast("list[float]", (values.astype(np.float64) / LN10).tolist())


def _lines(
    level: Level, order: int, part: slice, words: tuple[str, ...], bits: int
) -> Iterator[str]:
    """Lines of some n-grams; weights of 1 are left out."""
    keys = level.keys[part]
    mask = np.uint64((1 << bits) - 1)
    columns = [
        ((keys >> np.uint64(bits * place)) & mask).tolist() for place in reversed(range(order))
    ]
    probs, weights = _log10(level.log_probs[part]), _log10(level.back_offs[part])
    for prob, ids, weight in zip(probs, zip(*columns, strict=True), weights, strict=True):
        text = " ".join([words[i] for i in ids])
        yield f"{prob:.7g}\t{text}\t{weight:.7g}\n" if weight else f"{prob:.7g}\t{text}\n"


def read_arpa(path: Path, say: Say | None = None) -> Model:
    """Read a model of order 1 to 3.

    Words get their ids in the order of the file, behind the special ones; a file without `<unk>`
    gives it no probability.

    Args:
        path: plain or .gz.
        say: told what goes on.

    Raises:
        DataError: the file is no ARPA model, or has an n-gram of a word that is no unigram.
    """
    sections = _read_sections(path, say)
    if 1 not in sections or set(sections) != set(range(1, len(sections) + 1)):
        raise DataError(
            f"{path}: the sections of an ARPA model are \\1-grams:, \\2-grams: and so on"
        )
    if len(sections) > MAX_ORDER:
        raise DataError(f"{path}: a model of order {len(sections)}; up to {MAX_ORDER} can be read")
    texts, probs, weights = sections[1]
    places = {word: i for i, word in enumerate(texts)}
    vocabulary = Vocabulary((*SPECIAL, *(word for word in texts if word not in SPECIAL)))
    order = np.array([places.get(word, -1) for word in vocabulary.words])
    log_probs = np.where(order < 0, LOG_ZERO, np.array(probs)[order] * LN10).astype(np.float32)
    back_offs = np.where(order < 0, 0.0, np.array(weights)[order] * LN10).astype(np.float32)
    packing = Packing.of(len(vocabulary))
    ids = {word: i for i, word in enumerate(vocabulary.words)}
    levels = []
    for n in range(2, len(sections) + 1):
        texts, probs, weights = sections[n]
        try:
            flat = [ids[word] for text in texts for word in text.split(" ")]
        except KeyError as error:
            raise DataError(f"{path}: {error} stands in a {n}-gram and is no unigram") from error
        if len(flat) != n * len(texts):
            raise DataError(f"{path}: an n-gram under \\{n}-grams: has not {n} words")
        columns = np.array(flat, np.uint32).reshape(len(texts), n).T
        keys = packing.pack(*columns)
        by_key = np.argsort(keys)
        if np.any(keys[by_key][1:] == keys[by_key][:-1]):
            raise DataError(f"{path}: an n-gram under \\{n}-grams: is there twice")
        levels.append(
            Level(
                keys[by_key],
                (np.array(probs)[by_key] * LN10).astype(np.float32),
                (np.array(weights)[by_key] * LN10).astype(np.float32),
            )
        )
    return Model(vocabulary, log_probs, back_offs, tuple(levels))


def _read_sections(
    path: Path, say: Say | None
) -> dict[int, tuple[list[str], list[float], list[float]]]:
    """The n-grams by order as the file has them: words, log10 probabilities and weights."""
    sections: dict[int, tuple[list[str], list[float], list[float]]] = {}
    order, ended, number = 0, False, 0
    for lines in line_blocks(path):
        for line in lines:
            number += 1
            if line.startswith("\\"):
                ended = line.strip() == "\\end\\"
                order = _order_of(line)
                if order:
                    sections[order] = ([], [], [])
            elif order and line.strip():
                fields = line.split("\t")
                try:
                    probability, text = float(fields[0]), fields[1].strip()
                    weight = float(fields[2]) if len(fields) > 2 else 0.0
                except (IndexError, ValueError) as error:
                    raise DataError(
                        f"{path}:{number}: an n-gram is a number, a tab and its words"
                    ) from error
                section = sections[order]
                section[0].append(text)
                section[1].append(probability)
                section[2].append(weight)
        if say:
            say(f"{path.name}: {number:,} lines")
    if not ended:
        raise DataError(
            f"{path}: no \\end\\ closes the model; the file is cut off or no ARPA model"
        )
    return sections


def _order_of(line: str) -> int:
    r"""The order that a line such as `\\2-grams:` announces, 0 for another."""
    name, _, rest = line[1:].partition("-")
    return int(name) if name.isdigit() and rest.strip() == "grams:" else 0
