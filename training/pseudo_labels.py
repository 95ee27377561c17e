"""A manifest of untranscribed recordings, with the words that a model heard in them.

    asr transcribe --files-from LIST --format json --output HEARD --jobs 2
    python -m training.pseudo_labels HEARD OUT.jsonl --confidence 0.8

A model that is trained on its own words, beside true ones and distorted as those are, learns voices
that nobody transcribed (Xie et al. 2020, "Self-training with Noisy Student"; for speech Park et al.
2020, "Improved Noisy Student Training for Automatic Speech Recognition"). It learns its mistakes,
too: so only recordings are taken whose words have a mean confidence above a bound.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asr.commands.counts import counted
from asr.errors import DataError, Error
from asr.manifest import write_manifest
from training.found_speech import FASTEST, SLOWEST

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST_WORDS: Final = 3  # fewer tell little of a voice, and are wrong as a whole


@dataclass(slots=True)
class Labelled:
    """What a model heard.

    Attributes:
        rows: of a manifest; `audio` is the path that the model was given, `confidence` the mean of
            the words'.
        seconds: of these recordings.
        left_out: number of recordings by reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)


def labelled(heard: Path, confidence: float) -> Labelled:
    """The recordings whose words can be believed, in order of their files' names.

    Args:
        heard: folder that `asr transcribe --format json --output` wrote.
        confidence: least mean confidence of the words of a recording.

    Raises:
        DataError: there is no transcript, or one is none.
    """
    found = Labelled()
    transcripts = sorted(path for path in heard.rglob("*.json") if path.is_file())
    if not transcripts:
        raise DataError(f"{heard}: no transcript (*.json) in it; asr transcribe --format json")
    for path in transcripts:
        try:
            transcript = json.loads(path.read_text("utf-8"))
            words = [word for segment in transcript["segments"] for word in segment["words"]]
            text = " ".join(word["text"] for word in words)
            mean = sum(float(word["confidence"]) for word in words) / max(1, len(words))
            seconds = float(transcript["duration_s"])
            audio = Path(transcript["file"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: no transcript of asr transcribe --format json") from error
        if len(words) < FEWEST_WORDS:
            found.left_out[f"fewer than {FEWEST_WORDS} words"] += 1
        elif not SLOWEST <= len(text) / max(seconds, 1e-3) <= FASTEST:
            rule = f"fewer than {SLOWEST:g} or more than {FASTEST:g} characters a second"
            found.left_out[rule] += 1
        elif mean < confidence:
            found.left_out[f"a mean confidence below {confidence:g}"] += 1
        else:
            row = {
                "id": audio.stem,
                "audio": str(audio),
                "text": text,
                "confidence": round(mean, 4),
            }
            found.rows.append(row)
            found.seconds += seconds
    return found


def main(arguments: Sequence[str]) -> int:
    """Read the transcripts and write the manifest."""
    parser = argparse.ArgumentParser(
        "python -m training.pseudo_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("heard", type=Path, metavar="HEARD", help="folder of transcripts in JSON")
    add("out", type=Path, metavar="OUT.jsonl", help="manifest to write")
    add(
        "--confidence",
        type=float,
        default=0.8,
        metavar="C",
        help="least mean confidence of a recording's words (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    try:
        found = labelled(args.heard, args.confidence)
        if not found.rows:
            raise DataError(f"{args.heard}: no recording is left; lower --confidence")
        write_manifest(args.out, found.rows)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - one line instead of a trace
        return 1
    told = f"{counted(len(found.rows), 'recording')}, {found.seconds / 3600:.2f} h"
    print(f"{args.out}: {told}")  # noqa: T201
    for reason, number in found.left_out.most_common():
        print(f"  left out: {number} × {reason}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
