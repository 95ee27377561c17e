"""The writers: nothing said is lost, times are right, and each format is well formed."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import writers
from asr.transcript import Final, Transcript, Word

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=50)
CLOCK = r"(\d\d+):(\d\d):(\d\d)[,.](\d\d\d)"


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Any transcript: words in order, none outside the recording."""
    rate = draw(st.sampled_from([8000, 16000, 44100, 48000]))
    position, segments = 0, []
    for number in range(draw(st.integers(0, 4))):
        words = []
        for text in draw(st.lists(WORDS, min_size=1, max_size=12)):
            start = position + draw(st.integers(0, 5 * rate))
            position = start + draw(st.integers(1, rate))
            words.append(Word(text, start, position, draw(st.floats(0, 1))))
        segments.append(Final(number, tuple(words), "endpoint", position))
    return Transcript(tuple(segments), rate, position + draw(st.integers(0, rate)))


def example() -> Transcript:
    """Two segments at 44.1 kHz."""
    first = Word("good", 4410, 22050, 0.9), Word("day", 22050, 44100, 0.5)
    second = (Word("a<b", 88200, 97020, 1.0),)
    segments = Final(0, first, "endpoint", 80000), Final(1, second, "finish", 100000)
    return Transcript(segments, 44100, 100000)


def cues(subtitles: str) -> list[tuple[int, int, list[str]]]:
    """Start, end (milliseconds) and lines of each subtitle."""
    pattern = rf"{CLOCK} --> {CLOCK}\n((?:.+\n)+)\n"
    found = []
    for match in re.finditer(pattern, subtitles):
        *clock, content = match.groups()
        h1, m1, s1, f1, h2, m2, s2, f2 = map(int, clock)
        start = ((h1 * 60 + m1) * 60 + s1) * 1000 + f1
        end = ((h2 * 60 + m2) * 60 + s2) * 1000 + f2
        found.append((start, end, content.splitlines()))
    return found


@given(transcripts())
def test_json_gives_the_transcript_back(transcript):
    """Exact samples, whatever the rate; one line an object."""
    line = writers.json_line(transcript, "a b.wav")
    assert line.count("\n") == 1
    told = json.loads(line)
    again = [
        [(w["text"], w["start"], w["end"]) for w in segment["words"]]
        for segment in told["segments"]
    ]
    assert again == [[(w.text, w.start, w.end) for w in s.words] for s in transcript.segments]
    assert (told["file"], told["text"]) == ("a b.wav", transcript.text)
    assert (told["sample_rate"], told["duration"]) == (transcript.sample_rate, transcript.duration)


@given(transcripts())
def test_text_is_a_line_a_segment(transcript):
    """What `grep` and `diff` want."""
    lines = writers.text(transcript).splitlines()
    assert [line.split(" ") for line in lines] == [
        [w.text for w in segment.words] for segment in transcript.segments
    ]


@given(transcripts())
def test_tables_hold_every_word_with_its_times(transcript):
    """TSV and CTM agree with the words to half a millisecond."""
    _, *rows = writers.tsv(transcript, "x").splitlines()
    fields = [row.split("\t") for row in rows]
    lines = [line.split(" ") for line in writers.ctm(transcript, "x y").splitlines()]
    for word, row, line in zip(transcript.words, fields, lines, strict=True):
        start, end = word.start / transcript.sample_rate, word.end / transcript.sample_rate
        assert (row[0], row[4], line[0], line[4]) == ("x", word.text, "x_y", word.text)
        assert float(row[1]) == pytest.approx(start, abs=0.00051)
        assert float(row[2]) == pytest.approx(end, abs=0.00051)
        assert float(line[2]) == pytest.approx(start, abs=0.00051)
        assert float(line[2]) + float(line[3]) == pytest.approx(end, abs=0.00051)
        assert float(row[3]) == pytest.approx(word.confidence, abs=0.00006)


@pytest.mark.parametrize("end", ["\t", "\n", "\r", "\x85", "\u2028", "\x1b"])
def test_no_name_breaks_a_table(end):
    """A file's name may hold anything but `/`; a row stays a row, with five columns."""
    table = writers.tsv(example(), f"a{end}b.wav")
    assert [row.split("\t")[0] for row in table.splitlines()] == ["file", *["a b.wav"] * 3]
    assert all(row.count("\t") == 4 for row in table.splitlines())


@given(transcripts())
def test_subtitles_hold_every_word_in_readable_pieces(transcript):
    """Two lines of 42 characters and seven seconds at most, in order, none empty."""
    shown = cues(writers.srt(transcript))
    assert [word for *_, lines in shown for line in lines for word in line.split(" ")] == [
        word.text for word in transcript.words
    ]
    before = 0
    for start, end, lines in shown:
        assert before <= start + 1
        assert start < end
        assert len(lines) <= 2
        assert all(len(line) <= 42 or " " not in line for line in lines)
        assert end - start <= 7001
        before = end


@given(transcripts())
def test_webvtt_shows_what_srt_shows(transcript):
    """The same cues, with the three marks of its syntax escaped."""
    vtt = writers.vtt(transcript)
    assert vtt.startswith("WEBVTT\n\n")
    marks = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
    shown = [
        (start, end, [re.sub("&lt;|&gt;|&amp;", lambda m: marks[m[0]], line) for line in lines])
        for start, end, lines in cues(vtt)
    ]
    assert shown == cues(writers.srt(transcript))
    assert "-->" not in "".join(line for *_, lines in cues(vtt) for line in lines)


def test_the_formats_look_as_their_readers_expect():
    """Byte for byte, once."""
    assert writers.text(example()) == "good day\na<b\n"
    assert writers.srt(example()) == (
        "1\n00:00:00,100 --> 00:00:01,000\ngood day\n\n2\n00:00:02,000 --> 00:00:02,200\na<b\n\n"
    )
    assert writers.vtt(example()) == (
        "WEBVTT\n\n00:00:00.100 --> 00:00:01.000\ngood day\n\n"
        "00:00:02.000 --> 00:00:02.200\na&lt;b\n\n"
    )
    assert writers.ctm(example(), "x").splitlines()[0] == "x 1 0.100 0.400 good 0.9000"
    assert writers.tsv(example(), "x").splitlines()[1] == "x\t0.100\t0.500\t0.9000\tgood"
    segment = json.loads(writers.json_line(example(), "x"))["segments"][0]
    assert segment["words"][0] == {
        "text": "good",
        "start": 4410,
        "end": 22050,
        "start_s": 0.1,
        "end_s": 0.5,
        "confidence": 0.9,
    }


@pytest.mark.parametrize("name", writers.FORMATS)
def test_a_silent_recording_is_written_in_every_format(name):
    """Nothing was said: a valid file that says so."""
    written = writers.FORMATS[name](Transcript((), 16000, 0), "silence.wav")
    assert written.splitlines()[:1] in (
        [],
        ["WEBVTT"],
        ["file\tstart_s\tend_s\tconfidence\tword"],
        [writers.json_line(Transcript((), 16000, 0), "silence.wav").strip()],
    )


def test_a_name_that_is_no_utf8_can_be_written_and_read_back():
    """Old archives hold such names; Python reads the byte 0xff as half a surrogate pair."""
    name = os.fsdecode(b"caf\xe9\xff.wav")
    line = writers.json_line(example(), name)
    assert json.loads(line.encode("utf-8"))["file"] == name
    for form in writers.FORMATS:
        writers.FORMATS[form](example(), name).encode("utf-8", "surrogateescape")
