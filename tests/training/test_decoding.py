"""Export puts a language into a bundle, with priors measured on speech."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import asr
from asr.commands import export as command
from asr.decoding.beam import BeamDecoder
from asr.decoding.settings import BeamSettings
from asr.errors import BundleError, ConfigError, DataError, UsageError
from tests.asr.small_language import SPECIAL, ngram_bytes
from tests.tiny import sound
from tests.training.test_export import NAMES, parsed, small_checkpoint
from training.checkpoint import write_checkpoint
from training.decoding import LanguageSource, log_priors
from training.export import export_bundle

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [*SPECIAL, "a", "be", "cat"]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with a language model, a lexicon and some speech."""
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "lm.words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    model = ngram_bytes(np.random.default_rng(0), len(WORDS))
    (tmp_path / "lm" / "lm.ngram").write_bytes(model)
    lines = "A\tphones1\nA\tphones2\nBE\tphones3 phones4\nCAT\tphones5\nDOG\tphones1\n"
    (tmp_path / "lexicon.txt").write_text(lines)
    rows = []
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", sound(1.0, n), 16000)
        rows.append(json.dumps({"id": str(n), "audio": f"{n}.wav", "text": "A", "speaker": "s"}))
    (tmp_path / "speech.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return tmp_path


def test_an_exported_language_is_searched(parts: Path) -> None:
    """From a checkpoint, a language model and a lexicon to words."""
    settings = BeamSettings(beam=30, prior_weight=0.5)
    source = LanguageSource(
        parts / "lm", (parts / "lexicon.txt",), settings, parts / "speech.jsonl"
    )
    export_bundle(small_checkpoint(), parts / "model", NAMES, language=source)
    made = asr.load(parts / "model")
    assert isinstance(made.decoder, BeamDecoder)
    found = made.decoder.settings
    assert (found.head, found.beam, found.prior_weight) == ("phones", 30, 0.5)
    assert sum(np.exp(found.priors)) == pytest.approx(1, abs=0.01)
    said = {word.text for word in made.transcribe(sound(8.0, 1)).words}
    assert said <= {"a", "be", "cat"}


def test_an_exported_language_spells(parts: Path) -> None:
    """What spells other words is learned from a lexicon, and travels in the bundle."""
    write_checkpoint(parts / "best.pt", small_checkpoint())
    arguments = ["--lm", parts / "lm", "--lexicon", parts / "lexicon.txt"]
    arguments += ["--spelling", parts / "lexicon.txt", "--decoding", "spelling=1.5"]
    assert command.run(parsed(parts / "best.pt", parts / "model", *arguments)) == 0
    made = asr.load(parts / "model")
    assert isinstance(made.decoder, BeamDecoder)
    assert made.decoder.settings.spelling == 1.5
    assert (parts / "model" / "spelling.ngram").stat().st_size < 1_000_000
    made.transcribe(sound(4.0, 1))


def test_priors_are_mean_probabilities() -> None:
    """Dividing by anything else would not make likelihoods of posteriors."""
    rows = np.log(np.array([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]], np.float32) + 1e-40)
    assert log_priors(rows) == pytest.approx(np.log([0.7, 0.175, 0.125]), abs=6e-4)
    assert log_priors(np.array([[0.0, -90.0]], np.float32)) == (0.0, -64.0)


def test_the_command_takes_a_language(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command from training to what ships."""
    write_checkpoint(parts / "best.pt", small_checkpoint())
    arguments = ["--lm", parts / "lm", "--lexicon", parts / "lexicon.txt", "--decoding", "beam=7"]
    arguments += ["--decoding", "lm_weight=0.75", "--decoding", "word_bonus=-1"]
    assert command.run(parsed(parts / "best.pt", parts / "model", *arguments)) == 0
    decoder = asr.load(parts / "model").decoder
    assert isinstance(decoder, BeamDecoder)
    assert decoder.settings == BeamSettings(beam=7, lm_weight=0.75, word_bonus=-1)
    assert "lexicon.tree" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--lexicon", "x"], UsageError, "go with --lm"),
        (["--lm", "lm"], UsageError, "needs a lexicon: .* add --lexicon FILE"),
        (["--spelling", "x"], UsageError, "go with --lm"),
        (
            ["--lm", "lm", "--lexicon", "x", "--decoding", "spelling=1"],
            ConfigError,
            "lexicon to learn spelling from",
        ),
        (["--lm", "lm", "--decoding", "beams=3"], ConfigError, "none of beam, blank_bonus"),
        (["--lm", "lm", "--decoding", "beam=0.5"], ConfigError, "beam is not a whole number"),
        (
            ["--lm", "lm", "--lexicon", "x", "--decoding", "prior_weight=1"],
            ConfigError,
            "needs speech",
        ),
        (["--lm", "nowhere", "--lexicon", "lexicon.txt"], BundleError, "cannot be read"),
        (["--lm", "lm", "--lexicon", "nowhere"], DataError, "cannot be read"),
    ],
)
def test_half_a_language_is_refused(
    parts: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[Exception],
    message: str,
) -> None:
    """In one line, and before anything is written."""
    monkeypatch.chdir(parts)
    write_checkpoint(parts / "best.pt", small_checkpoint())
    with pytest.raises(error, match=message):
        command.run(parsed("best.pt", "model", *arguments))
    assert not (parts / "model").exists()


@pytest.mark.parametrize("text", ["beam", "beam=", "beam=many"])
def test_a_setting_is_a_key_and_a_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip is told by the command's own usage."""
    with pytest.raises(SystemExit):
        parsed("a", "b", "--decoding", text)
    assert "is not KEY=NUMBER" in capsys.readouterr().err


def test_a_head_without_a_lexicon_is_named(parts: Path) -> None:
    """A network of pieces alone cannot be searched through phones."""
    settings = BeamSettings(head="sounds")
    source = LanguageSource(parts / "lm", (parts / "lexicon.txt",), settings)
    with pytest.raises(BundleError, match="'sounds'; the network has pieces, phones"):
        export_bundle(small_checkpoint(), parts / "model", NAMES, language=source)
