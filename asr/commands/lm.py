"""`asr lm`: language models of words, from book text to the file that the decoder reads."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.arguments import amount, check_apart, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.language_model.model import Model

SUMMARY = "make and measure language models of words"
JOBS = {
    "prepare": "turn books into normalised sentences, one a line",
    "build": "count sentences and make a model: modified Kneser-Ney, pruned by entropy",
    "perplexity": "measure a model on a text",
    "convert": "turn ARPA into the compact form, or back",
    "check": "say what a text shares with reference transcripts, and take it out",
}
SHOWN_EVERY = 0.5  # seconds between two lines of progress on a terminal
LOGGED_EVERY = 30.0  # and in a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of all jobs."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    jobs = parser.add_subparsers(title="jobs", dest="job", required=True, metavar="JOB")
    helps = []
    for name, summary in JOBS.items():
        job = jobs.add_parser(
            name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}."
        )
        _ARGUMENTS[name](job)
        helps.append(job.format_help())
    parser.epilog = "\n".join(helps)  # all there is on one page


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, nargs="+", help="books (.txt, .md), or folders of them")
    parser.add_argument("out", type=Path, help="the text to make (.txt, .gz, .xz)")
    parser.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="REFERENCES",
        help="transcripts, .txt or .jsonl, whose books are left out; may be given again",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        action="append",
        default=[],
        metavar="TSV",
        help="authors and titles to leave out, a title of * meaning all; may be given again",
    )
    parser.add_argument("--jobs", type=count, default=1, help="processes (default: 1)")


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", type=Path, nargs="+", help="sentences, one a line (.txt, .gz, .xz)")
    parser.add_argument(
        "--out", type=Path, required=True, help="the model: .arpa, .arpa.gz or .ngram (compact)"
    )
    parser.add_argument("--order", type=int, default=3, help="words of an n-gram (default: 3)")
    parser.add_argument(
        "--vocab", type=count, default=200_000, metavar="N", help="words at most (default: 200000)"
    )
    parser.add_argument(
        "--lexicon",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="only words that stand first in a line of it; may be given again",
    )
    parser.add_argument(
        "--min-count", type=count, default=1, metavar="N", help="only words seen so often"
    )
    parser.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help="the words of an earlier model (lm.words.txt) instead of a choice of the text's",
    )
    parser.add_argument(
        "--prune",
        default="0",
        metavar="THETA",
        help="drop n-grams that change the perplexity by a smaller part than this, such as 1e-8; "
        "one number, or one for bigrams and one for trigrams with a comma (default: 0, none)",
    )
    parser.add_argument(
        "--memory", type=amount, default=2.0, metavar="GB", help="working memory (default: 2)"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where files lie meanwhile (default: beside --out)"
    )
    parser.add_argument(
        "--evaluate", type=Path, metavar="TEXT", help="tell the perplexity on this text, too"
    )


def _perplexity_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model: .arpa, .arpa.gz or .ngram")
    parser.add_argument("text", type=Path, nargs="+", help="sentences, one a line")


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model: .arpa, .arpa.gz or .ngram")
    parser.add_argument("out", type=Path, help="the same in the form that this name says")


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", type=Path, nargs="+", help="sentences, one a line")
    parser.add_argument(
        "--against",
        type=Path,
        action="append",
        required=True,
        metavar="REFERENCES",
        help="reference transcripts, .txt or .jsonl; may be given again",
    )
    parser.add_argument(
        "--drop",
        type=Path,
        metavar="OUT",
        help="write the text without books that share more than 3 sequences of 8 words, and "
        "without lines that share one",
    )


_ARGUMENTS = {
    "prepare": _prepare_arguments,
    "build": _build_arguments,
    "perplexity": _perplexity_arguments,
    "convert": _convert_arguments,
    "check": _check_arguments,
}


def run(args: argparse.Namespace) -> int:
    """Do the job; results go to standard output as JSON, progress to standard error."""
    return _JOBS[args.job](args)


class Teller:
    """Progress on standard error: one line that changes on a terminal, some lines in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = -LOGGED_EVERY
        self._shown = False

    def __call__(self, line: str) -> None:
        """Show a line, unless another was just shown."""
        now = time.monotonic() - self._start
        if now - self._last < (SHOWN_EVERY if self._terminal else LOGGED_EVERY):
            return
        self._last = now
        if self._terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            self._shown = True
        else:
            print(f"{now:7.0f} s  {line}", file=sys.stderr, flush=True)

    def keep(self, line: str) -> None:
        """Show a line that stays."""
        self.close()
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the changing line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def _prepare(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from training.language_model.overlap import References, read_transcripts
    from training.language_model.prepare import Preparation, find_books
    from training.language_model.selection import Exclusions

    check_apart(args.out, args.input)
    _check_is_no_book(args.out, args.input)
    tell = Teller()
    references = References.of(line for path in args.against for line in read_transcripts(path))
    preparation = Preparation(args.out, references, tell, args.jobs)
    prepared = preparation.run(find_books(args.input), Exclusions.read(args.exclude))
    tell.keep(f"{args.out}: {prepared.words:,} words; {preparation.parts} may be deleted")
    print(json.dumps({"out": str(args.out), **asdict(prepared)}))
    return 0


def _build(args: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from asr.errors import ConfigError, DataError, UsageError
    from training.language_model.build import Builder, Settings
    from training.language_model.text import sentence_blocks
    from training.language_model.vocabulary import (
        Vocabulary,
        choose,
        count_words,
        lexicon_words,
    )

    _check_form(args.out)
    try:
        settings = Settings(args.order, _thresholds(args.prune), int(args.memory * 1e9))
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if not any(sentence_blocks(args.text)):
        raise DataError(f"{', '.join(map(str, args.text))}: no sentence to count")
    tell = Teller()
    if args.words:
        vocabulary = Vocabulary.load(args.words)
    else:
        allowed = lexicon_words(args.lexicon) if args.lexicon else None
        vocabulary = choose(count_words(args.text, tell), args.vocab, allowed, args.min_count)
    tell.keep(f"{len(vocabulary):,} words, {', '.join(vocabulary.words[:3])} among them")
    work = args.work or args.out.parent
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix="lm-") as folder:
        builder = Builder(vocabulary, settings, Path(folder), tell)
        model = builder.build(vocabulary.encoded(args.text))
        _write(model, args.out, tell)
        told = {"model": str(args.out), "ngrams": model.sizes(), "tokens": builder.tokens}
        if args.evaluate:
            told |= _measured(model, [args.evaluate])
        for line in builder.notes:
            tell.keep(line)
    tell.keep(f"{args.out}: {' + '.join(f'{n:,}' for n in model.sizes())} n-grams")
    print(json.dumps(told))
    return 0


def _perplexity(args: argparse.Namespace) -> int:
    tell = Teller()
    model = _read(args.model, tell)
    tell.close()
    told = {"model": str(args.model), "ngrams": model.sizes(), **_measured(model, args.text)}
    print(json.dumps(told))
    return 0


def _convert(args: argparse.Namespace) -> int:
    _check_form(args.out)
    tell = Teller()
    model = _read(args.model, tell)
    _write(model, args.out, tell)
    tell.keep(f"{args.out}: {' + '.join(f'{n:,}' for n in model.sizes())} n-grams")
    return 0


def _check(args: argparse.Namespace) -> int:
    from training.language_model.overlap import Overlap, References, read_transcripts

    if args.drop:
        check_apart(args.drop, [*args.text, *args.against])
    tell = Teller()
    transcripts = {str(path): read_transcripts(path) for path in args.against}
    references = {
        name: References.of(lines, Overlap.LENGTHS) for name, lines in transcripts.items()
    }
    found = Overlap(references)
    for path in args.text:
        found.add(path, tell)
    if args.drop:
        everything = References.of(line for lines in transcripts.values() for line in lines)
        found.drop(args.text, everything, args.drop, tell)
    tell.close()
    print(json.dumps(found.report()))
    return 0


_JOBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "prepare": _prepare,
    "build": _build,
    "perplexity": _perplexity,
    "convert": _convert,
    "check": _check,
}


def _thresholds(text: str) -> tuple[float, ...]:
    """The numbers that `--prune` was given."""
    from asr.errors import UsageError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--prune {text}: numbers such as 1e-8, with commas between") from error


def _check_form(out: Path) -> None:
    """A name that says no form is refused before hours of counting."""
    from asr.errors import UsageError

    if not out.name.endswith((".arpa", ".arpa.gz", ".ngram")):
        raise UsageError(f"{out}: a model's name ends in .arpa, .arpa.gz or .ngram")


def _check_is_no_book(out: Path, inputs: list[Path]) -> None:
    """Refuse a text that the same command would find among the books when it is called again."""
    from asr.errors import UsageError
    from training.language_model.books import SUFFIXES

    for folder in inputs:
        if out.suffix in SUFFIXES and folder.resolve() in out.resolve().parents:
            raise UsageError(
                f"{out} would lie among the books of {folder}, and be taken for one; name another "
                "folder, or a name that ends in .xz or .gz"
            )


def _words_beside(path: Path) -> Path:
    """Where the words of a compact model are: lm.words.txt beside lm.ngram."""
    return path.with_suffix(".words.txt")


def _write(model: Model, path: Path, tell: Teller) -> None:
    if path.suffix == ".ngram":
        from training.language_model.compact import write_compact

        write_compact(model, path, _words_beside(path))
    else:
        from training.language_model.arpa import write_arpa

        write_arpa(model, path, tell)


def _read(path: Path, tell: Teller) -> Model:
    _check_form(path)
    if path.suffix == ".ngram":
        from training.language_model.compact import read_compact

        return read_compact(path, _words_beside(path))
    from training.language_model.arpa import read_arpa

    return read_arpa(path, tell)


def _measured(model: Model, texts: list[Path]) -> dict[str, float]:
    """The perplexity of a text, rounded to what is meant."""
    from asr.errors import DataError
    from training.language_model.scoring import perplexity

    found = perplexity(model, model.vocabulary.encoded(texts))
    if not found.sentences:
        raise DataError(f"{', '.join(map(str, texts))}: no sentence whose perplexity can be told")
    return {
        "words": found.words,
        "sentences": found.sentences,
        "perplexity": round(found.known, 2),
        "perplexity_with_unknown": round(found.with_unknown, 2),
        "unknown_share": round(found.unknown_share, 6),
        **{f"order_{n}": hits for n, hits in enumerate(found.hits, 1)},
    }
