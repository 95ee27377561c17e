"""`asr lm`: from books to a model and its figures, as a user types it."""

from __future__ import annotations

import json
import lzma
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asr import commands
from asr.decoding.ngram import NGram

ROOT = Path(__file__).parents[2]
FUNCTION = ("the", "and", "of", "to", "a", "in", "that", "he", "was", "it", "his", "you")
REST = ("dog", "saw", "house", "old", "garden", "went", "road", "Mr. Hyde", "3 men", "talked")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A folder with two books."""
    rng = random.Random(3)  # noqa: S311 - a test's text
    folder = tmp_path / "books"
    folder.mkdir()
    for name in ("One", "Two"):
        sentences = [
            "So " + " ".join(rng.choice(FUNCTION if i % 2 else REST) for i in range(11))
            for _ in range(200)
        ]
        (folder / f"{name}.txt").write_text(".\n\n".join(sentences) + ".\n")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON that a job prints."""
    assert commands.main(["lm", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    return dict(json.loads(out)) if out else {}


def test_books_become_a_model(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prepare, check, build, measure, convert: each takes what the one before has made."""
    text, clean, compact = tmp_path / "text.xz", tmp_path / "clean.txt", tmp_path / "lm.ngram"
    references = tmp_path / "spoken.txt"
    references.write_text("NOTHING OF THIS IS IN ANY BOOK AT ALL\n")
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("".join(f"{w}\tX\n" for w in (*FUNCTION, *REST, "mister", "hyde", "three")))

    prepared = said(capsys, "prepare", books, text, "--against", references)
    assert prepared["books"] == 2
    lines = lzma.decompress(text.read_bytes()).decode().splitlines()
    lines = [line for line in lines if not line.startswith("# ")]
    assert prepared["sentences"] == len(lines) == 400
    assert prepared["words"] == sum(len(line.split()) for line in lines)
    checked = said(capsys, "check", text, "--against", references, "--drop", clean)
    assert checked["lines_kept"] == prepared["sentences"]
    assert checked[f"{references}: shared sequences of 7 words"] == 0
    built = said(
        capsys, "build", clean, "--lexicon", lexicon, "--vocab", 30, "--prune", "0,1e-6",
        "--memory", 0.001, "--out", compact, "--evaluate", clean,
    )  # fmt: skip
    unknown = sum(line.split().count(word) for line in lines for word in ("SO", "MEN"))
    assert built["unknown_share"] == pytest.approx(unknown / prepared["words"], abs=1e-6)
    measured = said(capsys, "perplexity", compact, clean)
    assert measured["perplexity"] == pytest.approx(built["perplexity"], rel=0.02)
    assert measured["ngrams"] == built["ngrams"]
    assert NGram.open(compact).order == 3
    assert {"mister", "hyde", "three"} <= set((tmp_path / "lm.words.txt").read_text().split())

    other = tmp_path / "other.ngram"
    words = tmp_path / "lm.words.txt"
    said(capsys, "build", clean, "--words", words, "--order", 2, "--out", other)
    assert (tmp_path / "other.words.txt").read_bytes() == words.read_bytes()

    said(capsys, "convert", compact, tmp_path / "lm.arpa.gz")
    again = said(capsys, "perplexity", tmp_path / "lm.arpa.gz", clean)
    assert again["perplexity"] == measured["perplexity"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "text", "--out", "lm.bin"], "ends in .arpa, .arpa.gz or .ngram"),
        (["build", "text", "--out", "lm.arpa", "--prune", "much"], "numbers such as 1e-8"),
        (["build", "x", "--out", "lm.arpa", "--order", "9"], "order is 1 to 3"),
        (["build", "x", "--out", "lm.arpa", "--prune", "nan"], "numbers from 0 (keep all) up"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    assert commands.main(["lm", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--vocab", "--min-count", "--memory"])
@pytest.mark.parametrize("value", ["0", "-5", "nan"])
def test_an_amount_that_is_none_is_usage(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A vocabulary of -5 words would be all of them but five."""
    with pytest.raises(SystemExit) as left:
        commands.main(["lm", "build", "text", "--out", "lm.arpa", f"{option}={value}"])
    assert left.value.code == 2
    assert f"{option}: {value} is not a" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["prepare", "{}", "{}"], ["check", "{}", "--drop", "{}"]])
def test_a_text_is_not_written_over_itself(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be emptied before it is read: years of books."""
    text = tmp_path / "text.txt"
    text.write_text("THE DOG SAW THE OLD HOUSE\n")
    given = [part.format(text) for part in arguments]
    assert commands.main(["lm", *given, "--against", str(text)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert text.read_text() == "THE DOG SAW THE OLD HOUSE\n"


def test_a_text_is_no_book(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that made it would find it among the books, and replace what it has read."""
    monkeypatch.chdir(tmp_path)
    assert commands.main(["lm", "prepare", "books", str(books / "text.txt")]) == 2
    assert "would lie among the books of books" in capsys.readouterr().err
    assert not (books / "text.txt.parts").exists()
    for _ in range(2):
        assert said(capsys, "prepare", "books", books / "text.xz")["files"] == 2


def test_a_text_without_a_sentence_has_no_perplexity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perplexity of 1 would be the best there is."""
    (tmp_path / "text.txt").write_text("THE DOG SAW THE OLD HOUSE\n" * 20)
    (tmp_path / "none.txt").touch()
    said(capsys, "build", tmp_path / "text.txt", "--order", 1, "--out", tmp_path / "lm.arpa")
    given = [str(tmp_path / name) for name in ("lm.arpa", "none.txt")]
    assert commands.main(["lm", "perplexity", *given]) == 1
    assert "none.txt: no sentence" in capsys.readouterr().err
    assert commands.main(["lm", "build", given[1], "--out", given[0]]) == 1
    assert "none.txt: no sentence" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "absent", "--out", "lm.arpa"], "absent: the text cannot be read"),
        (["perplexity", "absent.ngram", "text"], "absent.ngram: the language model"),
        (["convert", "absent.arpa", "lm.ngram"], "absent.arpa: the text cannot be read"),
        (["prepare", "absent", "out.txt"], "absent: there is no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1."""
    assert commands.main(["lm", *arguments]) == 1
    assert told in capsys.readouterr().err


def test_progress_in_a_log_is_some_lines(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each block would fill a disk; none would look like a hang."""
    commands.main(["lm", "prepare", str(books), str(tmp_path / "text.txt")])
    lines = capsys.readouterr().err.splitlines()
    assert "surveyed 1 of 2 files" in lines[0]
    assert 2 <= len(lines) <= 3
    assert "may be deleted" in lines[-1]


def test_language_models_need_no_training_packages() -> None:
    """Whoever makes a model of their own words has not to install torch for it."""
    code = (
        "import sys, pkgutil, importlib, training.language_model as package\n"
        "for found in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'training.language_model.{found.name}')\n"
        "print(*{'torch', 'torchaudio', 'tqdm', 'onnxruntime'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""
