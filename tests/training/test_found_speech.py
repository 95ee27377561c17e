"""Found speech: what a transcript is, which clips are left out, and git as the place of files."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.manifest import read_manifest
from training import found_speech
from training.data import SAMPLE_RATE
from training.found_speech import (
    LONGEST,
    POINTER,
    QUIETEST,
    SHORTEST,
    SOURCES,
    Clip,
    Elsewhere,
    LeftOut,
    Repository,
    Source,
    check,
    main,
    make,
    sequences,
    speech,
    transcript,
)

if TYPE_CHECKING:
    from collections.abc import Callable

AUTHOR = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
GIT = ("git", *AUTHOR, "-c", "commit.gpgsign=false")  # whatever the machine's own settings are
ROOT = Path(__file__).parents[2]
NINE = "one two three four five six seven eight nine"
WORD = st.from_regex(r"[A-Z]{1,8}('[A-Z]{1,3})?", fullmatch=True)


def tone(seconds: float, *, level: float = 0.25, rate: int = SAMPLE_RATE) -> np.ndarray:
    """A tone of 200 Hz."""
    return level * np.sin(400 * np.pi * np.arange(round(seconds * rate)) / rate)


def packed(samples: np.ndarray, rate: int = SAMPLE_RATE, kind: str = "WAV") -> bytes:
    """A sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def mirror(folder: Path, name: str, files: dict[str, bytes | str]) -> str:
    """A mirror `folder/OWNER+NAME/repo` without work tree, and the digits of its one commit."""
    work = folder / "work" / name.replace("/", "+")
    for path, content in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    bare = folder / name.replace("/", "+") / "repo"
    for command in (
        ("init", "-q"),
        ("add", "-A", "--force"),
        ("commit", "-q", "-m", "Speech"),
        ("clone", "-q", "--bare", str(work), str(bare)),
    ):
        subprocess.run([*GIT, *command], cwd=work, check=True, capture_output=True)
    head = ["git", "rev-parse", "HEAD"]
    return subprocess.run(head, cwd=bare, check=True, capture_output=True, text=True).stdout.strip()


def common_voice(rows: list[tuple[str, int, int, bytes]]) -> dict[str, bytes | str]:
    """A repository like that of `cv-valid-dev`: sentence, votes for and against, recording."""
    table = ["filename,text,up_votes,down_votes,age,gender,accent,duration"]
    files: dict[str, bytes | str] = {}
    for number, (text, up, down, recording) in enumerate(rows):
        path = f"cv-valid-dev/sample-{number:06d}.mp3"
        table.append(f"{path},{text},{up},{down},,,,")
        files[path] = recording
    return files | {"cv-valid-dev/cv-valid-dev.csv": "\n".join(table) + "\n"}


def at(name: str, folder: Path, *contents: dict[str, bytes | str]) -> Source:
    """One of the sources, with small mirrors in the places of its own."""
    source = SOURCES[name]
    pairs = zip(source.commits, contents, strict=True)
    return dataclasses.replace(source, commits={n: mirror(folder, n, c) for n, c in pairs})


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """A validation set of one sentence."""
    path = tmp_path / "validation.jsonl"
    path.write_text(json.dumps({"id": "v", "audio": "v.flac", "text": NINE.upper()}) + "\n")
    return path


# --- text ---


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("be careful", "BE CAREFUL"),
        ("Well-known, isn't it?", "WELL KNOWN ISN'T IT"),
        ("Mr. and Mrs Nate met dr. Who", "MISTER AND MISSUS NATE MET DOCTOR WHO"),
        ("The U.S. army, at 'nine p.m.'", "THE U S ARMY AT NINE P M"),
        ("Café, naïve, Ångström", "CAFE NAIVE ANGSTROM"),
        ("The Patients\u2019 Welfare", "THE PATIENTS' WELFARE"),
        ("my rockin' playlist", "MY ROCKIN' PLAYLIST"),
        ("He said 'this sucks' anymore", "HE SAID THIS SUCKS ANYMORE"),
        ("referred to as 'Wells'.", "REFERRED TO AS WELLS"),
        ("God bless 'em!", "GOD BLESS 'EM"),
        ("''Tis so'", "TIS SO"),
        ("'everyone loved them", "EVERYONE LOVED THEM"),
        ("Some: “rock (at its best)” … yes", "SOME ROCK AT ITS BEST YES"),
        ("Philip Steels, etc.", "PHILIP STEELS ET CETERA"),
    ],
)
def test_a_printed_sentence_becomes_what_is_said(printed: str, said: str) -> None:
    """Transcripts look alike whichever corpus they come from: LibriSpeech's way."""
    assert transcript(printed) == said


@pytest.mark.parametrize(
    ("printed", "rule"),
    [
        ("In 1984", "digit"),
        ("Half is ½", "digit"),
        ("Rock & roll", "sign"),
        ("100 %", "digit"),
        ("five %", "sign"),
        ("and/or", "sign"),
        ("smørrebrød", "letter outside"),
        ("слово", "letter outside"),
        ("St. Louis", "abbreviation"),
        ("St Louis", "abbreviation"),
        ("the Hon. H. G. Bennet", "abbreviation"),
        ("Smith & Co.", "abbreviation"),
        ("see example.com", "abbreviation"),
        ("", "no words"),
        ("' -- '", "no words"),
    ],
)
def test_what_cannot_be_told_for_certain_is_left_out(printed: str, rule: str) -> None:
    """A wrong transcript teaches worse than none."""
    with pytest.raises(LeftOut, match=rule):
        transcript(printed)


PRINTED = st.lists(
    st.one_of(
        st.text(), st.sampled_from(["Mr", "Mŕ", "St", "etc.", "'", "\u2019", "''", "tis", "boys"])
    ),
    max_size=8,
).map("".join)


@given(text=st.one_of(PRINTED, st.text("aStr.\u2019'\u0301 -")))
def test_a_transcript_is_words_or_nothing(text: str) -> None:
    """No head of a network has more characters; and to write a transcript again changes nothing."""
    try:
        said = transcript(text)
    except LeftOut:
        return
    assert re.fullmatch(r"[A-Z']*[A-Z][A-Z']*( [A-Z']*[A-Z][A-Z']*)*", said)
    assert transcript(said) == said


@given(words=st.lists(WORD.filter(lambda w: not {"MR", "MRS", "DR", "ETC"} & set(w.split("'")))))
def test_a_transcript_of_librispeech_stays_as_it_is(words: list[str]) -> None:
    """Sources that are written in our way already lose nothing."""
    if words:
        assert transcript(" ".join(words)) == " ".join(words)


@given(text=st.lists(WORD, min_size=8, max_size=20).map(" ".join), cut=st.integers(0, 12))
def test_any_eight_words_in_a_row_are_found_again(text: str, cut: int) -> None:
    """Wherever in a clip the validation sentence stands."""
    part = text.split()[cut : cut + 8]
    assert (tuple(part) in sequences(text)) == (len(part) == 8)


# --- sound ---


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_any_kind_rate_and_number_of_channels_becomes_16_khz_mono(kind: str) -> None:
    """What the network hears does not depend on how a volunteer recorded."""
    left = tone(1, rate=48000)
    samples = speech(packed(np.stack([left, np.zeros_like(left)], 1), 48000, kind))
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(SAMPLE_RATE, rel=0.1)  # MP3 pads its frames
    assert np.abs(samples[4000:12000]).max() == pytest.approx(0.125, rel=0.05)


def test_a_step_at_full_scale_stays_within_full_scale() -> None:
    """Resampling swings beyond it; a sample that turned around would be a click."""
    step = np.repeat([1.0, -1.0, 1.0], 4800)
    assert np.abs(speech(packed(step, 48000))).max() <= 1


@pytest.mark.parametrize(
    ("content", "rule"), [(POINTER + b"/spec/v1\n", "Git LFS"), (b"no sound", "decoded")]
)
def test_what_is_no_audio_is_left_out(content: bytes, rule: str) -> None:
    """Pointers of Git LFS look like files, and are the commonest disappointment."""
    with pytest.raises(LeftOut, match=rule):
        speech(content)


@pytest.mark.parametrize(
    ("seconds", "letters", "level", "rule"),
    [
        (SHORTEST, 2, 0.25, ""),
        (SHORTEST - 0.01, 5, 0.25, "shorter"),
        (LONGEST, 100, 0.25, ""),
        (LONGEST + 0.01, 100, 0.25, "longer"),
        (2, 6, 0.25, ""),
        (2, 5, 0.25, "characters"),
        (2, 50, 0.25, ""),
        (2, 51, 0.25, "characters"),
        (2, 20, QUIETEST * 0.99, "peak"),
        (2, 20, QUIETEST * 1.01, ""),
    ],
)
def test_a_clip_has_its_length_rate_and_level(
    seconds: float, letters: int, level: float, rule: str
) -> None:
    """A recording that was cut off, or is of something else, shows in these three."""
    samples = tone(seconds, level=level).astype(np.float32)
    if not rule:
        check(samples, "A" * letters)
        return
    with pytest.raises(LeftOut, match=rule):
        check(samples, "A" * letters)


# --- git ---


def test_files_come_out_of_a_mirror_without_work_tree(tmp_path: Path) -> None:
    """Byte for byte, empty ones and those with line ends too, in any order."""
    files: dict[str, bytes | str] = {
        "a b/ü.txt": "äöü\n",
        "empty": b"",
        "noise": bytes(range(256)) * 500,
    }
    commit = mirror(tmp_path, "who/speech", files)
    with Repository(tmp_path / "who+speech/repo", commit[:8]) as repository:
        assert repository.commit == commit
        assert sorted(repository.paths()) == sorted(files)
        for path in ("noise", "empty", "a b/ü.txt", "noise"):
            content = files[path]
            wanted = content if isinstance(content, bytes) else content.encode()
            assert repository.read(path) == wanted
        assert repository.text("a b/ü.txt") == "äöü\n"


def test_a_clone_with_work_tree_serves_as_well_and_its_edits_do_not(tmp_path: Path) -> None:
    """What is taken is the commit, whatever somebody did to the files since."""
    commit = mirror(tmp_path, "who/speech", {"text": "as it was"})
    clone = tmp_path / "work/who+speech"
    (clone / "text").write_text("as it is")
    with Repository(clone, commit) as repository:
        assert repository.text("text") == "as it was"


def test_a_missing_file_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    """The answer to one question must not be taken for that to the next."""
    commit = mirror(tmp_path, "who/speech", {"there": "yes", "bytes": b"\xff"})
    with Repository(tmp_path / "who+speech/repo", commit) as repository:
        with pytest.raises(DataError, match="no file not there in commit"):
            repository.read("not there")
        assert repository.text("there") == "yes"
        with pytest.raises(DataError, match="bytes is not UTF-8"):
            repository.text("bytes")


def test_another_state_of_a_repository_is_refused(tmp_path: Path) -> None:
    """A manifest that says f025de80 holds what f025de80 held."""
    mirror(tmp_path, "who/speech", {"a": "b"})
    for folder in (tmp_path / "who+speech/repo", tmp_path / "nobody+nothing"):
        with pytest.raises(DataError, match="no git repository with the commit 0123abcd"):
            Repository(folder, "0123abcd")


# --- sources ---


def clips_of(name: str, folder: Path, *contents: dict[str, bytes | str]) -> list[Clip]:
    """What a source lists of small mirrors."""
    source = at(name, folder, *contents)
    found = []
    for repository, commit in source.commits.items():
        with Repository(folder / repository.replace("/", "+") / "repo", commit) as opened:
            found += list(source.clips(opened))
    return found


def test_common_voice_1_has_votes_and_no_speakers(tmp_path: Path) -> None:
    """Its table says nothing of who spoke."""
    (clip,) = clips_of("cv-valid-dev", tmp_path, common_voice([("be careful", 2, 1, b"")]))
    path = "cv-valid-dev/sample-000000.mp3"
    assert clip == Clip("cv-valid-dev-000000", path, "be careful", votes=(2, 1))


def test_a_delta_of_common_voice_gives_what_its_table_has_and_lies_there(tmp_path: Path) -> None:
    """A quotation mark in a sentence is no quoting, and most clips of the table are elsewhere."""
    head = "client_id\tpath\tsentence\tup_votes\tdown_votes\n"
    row = 'abcdef0123456789\tcommon_voice_en_{n}.mp3\t"So, he said.\t2\t0\n'
    audio: dict[str, bytes | str] = {"d/en/validated_clips/common_voice_en_11.mp3": b"1"}
    table: dict[str, bytes | str] = {
        "d/en/validated.tsv": head + row.format(n=11) + row.format(n=12)
    }
    empty: dict[str, bytes | str] = {"validated.tsv": head}
    first, second = clips_of("cv-delta", tmp_path, audio | table, empty, empty)
    assert (first.id, first.path) == ("cv-en_11", "d/en/validated_clips/common_voice_en_11.mp3")
    assert (first.text, first.speaker) == ('"So, he said.', "cv-abcdef012345")
    assert (first.votes, first.barred) == ((2, 0), "")
    assert "has not" in second.barred


def test_unread_clips_are_those_that_no_table_knows(tmp_path: Path) -> None:
    """They have no words, and whatever was judged, well or badly, is not among them."""
    head = "client_id\tpath\tsentence\n"
    files: dict[str, bytes | str] = {
        "dataset/validated.tsv": head + "a\tcommon_voice_en_1.mp3\tIt is.\n",
        "dataset/invalidated.tsv": head + 'a\tcommon_voice_en_2.mp3\t"It is.\n',
        **{f"dataset/clips/common_voice_en_{n}.mp3": b"" for n in (1, 2, 3)},
    }
    clips = clips_of("cv13-unread", tmp_path, files)
    assert [clip.id for clip in clips if not clip.barred] == ["cv-en_3"]
    assert {clip.text for clip in clips} == {None}
    assert len(clips) == 3


def test_children_and_the_test_part_of_speechocean_are_not_taken(tmp_path: Path) -> None:
    """The test part stays a test, and the recogniser is made for adults."""
    files: dict[str, bytes | str] = {
        "train/text": "01\tMARK IS\n02\tHE IS\n",
        "train/utt2spk": "01 0001\n02 0002\n",
        "train/wav.scp": "01\tWAVE/a.WAV\n02\tWAVE/b.WAV\n",
        "train/spk2age": "0001 18\n0002 17\n",
        "test/text": "03\tNEVER\n",
    }
    adult, child = clips_of("speechocean", tmp_path, files)
    assert adult == Clip("so762-01", "WAVE/a.WAV", "MARK IS", "so762-0001")
    assert "younger than 18" in child.barred


def test_every_take_of_cathy_has_the_prompt_beside_it(tmp_path: Path) -> None:
    """Takes of one prompt are different recordings."""
    files: dict[str, bytes | str] = {"README.md": "no clip"}
    for take in ("a0001_1", "a0001_2"):
        files |= {f"data/{take}.wav": b"", f"data/{take}.txt": f"Take {take[-1]}"}
    first, second = clips_of("cathy", tmp_path, files)
    assert first == Clip("cathy-a0001_1", "data/a0001_1.wav", "Take 1", "cathy")
    assert second.text == "Take 2"


def test_philipp_reads_the_sentences_without_figures(tmp_path: Path) -> None:
    """The last column of LJ Speech's table says how its figures are read."""
    files: dict[str, bytes | str] = {
        "LJSpeech-1.1/transcript.csv": "LJ1|in 1812.|in eighteen twelve.\nLJ2|So.|So.\n",
        "LJSpeech-1.1/wavs/LJ1.wav": b"",
    }
    (clip,) = clips_of("philipp", tmp_path, files)
    assert (clip.id, clip.text) == ("philipp-LJ1", "in eighteen twelve.")


def test_every_source_is_in_the_document_with_its_commit() -> None:
    """docs/data.md says what was taken; the program takes that."""
    document = (ROOT / "docs/data.md").read_text("utf-8")
    for source in SOURCES.values():
        (row,) = re.findall(rf"^\| `{source.name}` \|.*$", document, re.MULTILINE)
        for name, commit in source.commits.items():
            assert name in row
            assert f"`{commit}`" in row


# --- manifests ---


@pytest.mark.parametrize(
    ("clip", "text", "rule"),
    [
        (Clip("cv-en_7", "", "", "cv-a"), "A B", "clip that another"),
        (Clip("cv-en_77", "", "", "cv-a"), "A B", ""),
        (Clip("so762-1", "", "", "so762-0024"), "A B", "speaker that another"),
        (Clip("cv-valid-dev-7", "", ""), f"AND {NINE.upper()}", "8 words"),
        (Clip("cv-valid-dev-7", "", ""), " ".join(NINE.upper().split()[:7]), ""),
    ],
)
def test_what_is_elsewhere_is_not_taken_again(
    tmp_path: Path, validation: Path, clip: Clip, text: str, rule: str
) -> None:
    """No sentence of the validation set is trained on, and no clip counts twice."""
    other = tmp_path / "other.jsonl"
    row = {"id": "cv-en_7", "audio": "7.opus", "text": "X", "speaker": "so762-0024"}
    other.write_text(json.dumps(row) + "\n")
    elsewhere = Elsewhere.read(validation, [other])
    if not rule:
        elsewhere.refuse(clip, text)
        return
    with pytest.raises(LeftOut, match=rule):
        elsewhere.refuse(clip, text)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source of two good clips and several bad ones, in the place of all sources."""
    second = packed(tone(1, rate=22050), 22050)
    rows = [
        ("be careful", 2, 0, second),
        ("don't", 1, 0, second),
        ("nobody likes it", 1, 1, second),
        ("in 1984", 2, 0, second),
        (NINE, 2, 0, packed(tone(3))),
        ("much too many words for a single second", 2, 0, second),
        ("silence", 2, 0, packed(tone(1, level=0))),
        ("a pointer", 2, 0, POINTER),
    ]
    source = at("cv-valid-dev", tmp_path, common_voice(rows))
    monkeypatch.setattr(found_speech, "SOURCES", {source.name: source})
    return source


def run(tmp_path: Path, *options: str) -> int:
    """The command, on mirrors and a validation set in a folder."""
    wanted = ["--validation", str(tmp_path / "validation.jsonl"), "--known"]
    return main([str(tmp_path), str(tmp_path / "found"), *options, *wanted])


@pytest.mark.usefixtures("small", "validation")
def test_a_repository_becomes_a_manifest_that_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: files in git, rows and recordings, and the reasons for what is missing."""
    assert run(tmp_path) == 0
    manifest = tmp_path / "found/cv-valid-dev.jsonl"
    first, second = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert first == {
        "id": "cv-valid-dev-000000",
        "audio": "cv-valid-dev/cv-valid-dev-000000.flac",
        "samples": SAMPLE_RATE,
        "duration": 1.0,
        "text": "BE CAREFUL",
        "speaker": "",
        "source": "Mozilla Common Voice 1, cv-valid-dev",
        "licence": "CC0 1.0",
        "checked": True,
    }
    assert (second["text"], second["checked"]) == ("DON'T", False)
    told = capsys.readouterr().out
    assert told.startswith("cv-valid-dev: 2 clips, 0.00 h, speakers: unknown\n")
    assert told.count("left out: 1 ×") == 6
    for utterance in read_manifest(manifest):
        info = soundfile.info(utterance.path)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", SAMPLE_RATE)
        assert (info.channels, info.frames) == (1, SAMPLE_RATE)
    assert sorted(path.name for path in manifest.parent.iterdir()) == [manifest.stem, manifest.name]


@pytest.mark.usefixtures("validation")
def test_recordings_without_transcripts_become_a_list(tmp_path: Path, small: Source) -> None:
    """No manifest, which would tell training that nothing is said; what rules can judge is kept."""
    clip = Clip("cv-en_7", "cv-valid-dev/sample-000000.mp3", None)
    barred = dataclasses.replace(clip, id="cv-en_8", barred="judged")
    source = dataclasses.replace(small, transcribed=False, clips=lambda _: [clip, barred])
    out = tmp_path / "found"
    made = make(source, tmp_path, out, Elsewhere())
    listed = (out / f"{small.name}.txt").read_text().splitlines()
    assert listed == [str((out / small.name / "cv-en_7.flac").resolve())]
    assert soundfile.info(listed[0]).samplerate == SAMPLE_RATE
    assert made.left_out == {"judged": 1}
    assert not (out / f"{small.name}.jsonl").exists()
    known = Elsewhere(numbers=frozenset({"7"}))
    with pytest.raises(DataError, match="a clip that another manifest has"):
        make(source, tmp_path, out, known)


@pytest.mark.usefixtures("small", "validation")
def test_making_a_manifest_again_gives_the_same(tmp_path: Path) -> None:
    """Nothing is left to chance, and its own clips do not count as those of another."""
    manifest = tmp_path / "found/cv-valid-dev.jsonl"
    run(tmp_path)
    before = manifest.read_bytes()
    assert run(tmp_path, "--only", "cv-valid-dev") == 0
    assert manifest.read_bytes() == before


def test_a_manifest_that_fails_leaves_the_old_one(tmp_path: Path, small: Source) -> None:
    """A training run may be reading it."""
    manifest = tmp_path / "found/cv-valid-dev.jsonl"
    manifest.parent.mkdir()
    manifest.write_text("old")
    broken: Callable[[Repository], list[Clip]] = lambda _: [Clip("a", "gone.mp3", "a word")]  # noqa: E731
    with pytest.raises(DataError, match=r"no file gone\.mp3"):
        make(dataclasses.replace(small, clips=broken), tmp_path, manifest.parent, Elsewhere())
    with pytest.raises(DataError, match="no clip is left"):
        make(dataclasses.replace(small, clips=lambda _: []), tmp_path, manifest.parent, Elsewhere())
    assert manifest.read_text() == "old"


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the validation set nothing can be kept apart from it: nothing is made."""
    assert run(tmp_path) == 1
    assert re.fullmatch(r"error: .*validation\.jsonl.*\n", capsys.readouterr().err)
    assert not (tmp_path / "found").exists()
