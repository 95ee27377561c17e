"""`asr export`: make a bundle that ships of a training run's checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.decoding import LanguageSource
    from training.export import Exported

SUMMARY = "make a model bundle of a checkpoint (needs the [train] extra)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "checkpoint", type=Path, help="a run's checkpoint, such as runs/english/best.pt"
    )
    parser.add_argument("out", type=Path, help="folder of the bundle; an older bundle is replaced")
    parser.add_argument("--name", help="the model's name (default: the folder's)")
    parser.add_argument(
        "--language", metavar="CODE", help="what it recognises (default: what the recipe says)"
    )
    parser.add_argument(
        "--licence", default="NOASSERTION", metavar="SPDX", help="licence of the weights"
    )
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="model card (default: what the checkpoint knows)"
    )
    parser.add_argument(
        "--lm",
        type=Path,
        metavar="FOLDER",
        help="language model to search with: a folder with lm.ngram and lm.words.txt",
    )
    parser.add_argument(
        "--lexicon",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="how its words sound: lines of WORD<TAB>PH ON ES, plain or .xz; repeatable",
    )
    parser.add_argument(
        "--spelling",
        type=Path,
        metavar="FILE",
        help="lexicon to learn from how other words are written, for --decoding spelling=…",
    )
    parser.add_argument(
        "--decoding",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=NUMBER",
        help="setting of the search, such as lm_weight=0.9 or beam=400; repeatable",
    )
    parser.add_argument(
        "--priors",
        type=Path,
        metavar="MANIFEST",
        help="speech on which the units' priors are measured, for --decoding prior_weight=…",
    )


def run(args: argparse.Namespace) -> int:
    """Write the bundle, and tell its files, sizes and errors on standard error."""
    from asr.errors import ConfigError, install

    try:
        from training.checkpoint import read_checkpoint
        from training.export import UNKNOWN_LANGUAGE, Names, export_bundle
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "onnx"}:
            raise
        raise ConfigError(f"export needs {error.name}: {install('train')}") from error
    card = _read_card(args.card) if args.card else None
    source = _language(args)
    checkpoint = read_checkpoint(args.checkpoint)
    language = args.language or str(checkpoint.recipe.get("language", UNKNOWN_LANGUAGE))
    names = Names(args.name or args.out.resolve().name, language, args.licence)
    exported = export_bundle(checkpoint, args.out, names, card, source)
    for line in report(exported):
        print(line, file=sys.stderr)
    return 0


def report(exported: Exported) -> list[str]:
    """What was written, and how near the graphs come to PyTorch, line by line."""
    folder = exported.bundle.path
    lines = [f"{folder}: model {exported.bundle.description.name}, id {exported.bundle.id[:12]}…"]
    lines += [
        f"  {path.name:<22} {path.stat().st_size:>12,} bytes" for path in sorted(folder.iterdir())
    ]
    for precision, found in exported.agreement.items():
        lines.append(
            f"  {precision} against PyTorch on random blocks: largest error {found.largest:.1e}, "
            f"rms {found.rms:.1e}, another best unit in {found.choices:.2%} of frames"
        )
    return lines


def _setting(text: str) -> tuple[str, float | tuple[float, ...]]:
    key, _, value = text.partition("=")
    try:
        if "," in value:
            return key, tuple(map(float, value.split(",")))
        return key, int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=NUMBER or KEY=A,B,…") from None


def _language(args: argparse.Namespace) -> LanguageSource | None:
    """The language that the arguments ask for.

    Raises:
        UsageError: there is something for a language, but no language model, or no lexicon.
        ConfigError: a setting is unknown or makes no sense.
    """
    from dataclasses import fields

    from asr.decoding.settings import BeamSettings
    from asr.errors import ConfigError, UsageError
    from training.decoding import LanguageSource

    if args.lm is None:
        if args.lexicon or args.decoding or args.priors or args.spelling:
            raise UsageError("--lexicon, --spelling, --decoding and --priors go with --lm")
        return None
    known = {setting.name for setting in fields(BeamSettings)} - {"head", "priors"}
    for key, _ in args.decoding:
        if key not in known:
            raise ConfigError(f"--decoding {key}: none of {', '.join(sorted(known))}")
    settings = BeamSettings(**dict(args.decoding))
    if not args.lexicon:
        raise UsageError(f"--lm {args.lm} needs a lexicon: how its words sound; add --lexicon FILE")
    return LanguageSource(args.lm, tuple(args.lexicon), settings, args.priors, args.spelling)


def _read_card(path: Path) -> str:
    from asr.errors import ConfigError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path}: the model card cannot be read ({reason})") from error
