"""Transcripts as text, JSON, subtitles (SRT, WebVTT), tables (TSV) and CTM.

Every writer takes a `Transcript` and the name of its recording, and returns what belongs in a file.
Times are counted in integer samples until they are written; then they are rounded to the nearest
millisecond, halves up, so that the end of one thing and the start of the next stay equal.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asr.transcript import Final, Transcript, Word

LINE_CHARACTERS = 42  # of a subtitle, as broadcasters have it
CUE_LINES = 2
CUE_SECONDS = 7

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # tabs and all ends of lines among them
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair


def text(transcript: Transcript, name: str = "") -> str:  # noqa: ARG001 - all writers look the same
    """One line a segment; nothing where nothing was said."""
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def values(transcript: Transcript, name: str) -> dict[str, Any]:
    """What `json` writes, as plain values.

    `start` and `end` are integer samples of the recording at `sample_rate`, counted from its
    beginning: exact, whatever the rate. `start_s` and `end_s` are the same in seconds, rounded to
    the millisecond. Segments have `alternatives` where there are any: `text`, and `score` in nats
    against the segment's own.
    """
    rate = transcript.sample_rate

    def times(start: int, end: int) -> dict[str, Any]:
        seconds = _milliseconds(start, rate) / 1000, _milliseconds(end, rate) / 1000
        return {"start": start, "end": end, "start_s": seconds[0], "end_s": seconds[1]}

    def word(w: Word) -> dict[str, Any]:
        return {"text": w.text, **times(w.start, w.end), "confidence": round(w.confidence, 4)}

    def others(segment: Final) -> dict[str, Any]:
        found = [{"text": a.text, "score": round(a.score, 3)} for a in segment.alternatives]
        return {"alternatives": found} if found else {}

    segments = [
        {"text": s.text, **times(s.start, s.end), "words": [word(w) for w in s.words], **others(s)}
        for s in transcript.segments
    ]
    return {
        "file": name,
        "text": transcript.text,
        "duration_s": _milliseconds(transcript.duration, rate) / 1000,
        "duration": transcript.duration,
        "sample_rate": rate,
        "segments": segments,
    }


def json_line(transcript: Transcript, name: str) -> str:
    """One JSON object on one line, as `values` describes it; not ASCII only."""
    return to_json(values(transcript, name)) + "\n"


def to_json(value: object) -> str:
    """JSON on one line, not ASCII only, that can always be written as UTF-8.

    A file's name may hold bytes that are no UTF-8; Python keeps each as half a surrogate pair,
    which becomes an escape here, so that whoever reads the JSON gets the same name.
    """
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(value, ensure_ascii=False))


def plain_name(name: str) -> str:
    """A name for a line or a table: control characters, such as tab and newline, become spaces."""
    return _CONTROL.sub(" ", name)


def srt(transcript: Transcript, name: str = "") -> str:  # noqa: ARG001 - all writers look the same
    """SubRip subtitles: cues of at most two lines of 42 characters and seven seconds."""
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_lines(words)}\n\n"
        for number, (start, end, words) in enumerate(_cues(transcript), 1)
    )


def vtt(transcript: Transcript, name: str = "") -> str:  # noqa: ARG001 - all writers look the same
    """WebVTT subtitles (W3C, "WebVTT: The Web Video Text Tracks Format"), cut like SRT."""
    cues = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escaped(_lines(words))}\n\n"
        for start, end, words in _cues(transcript)
    )
    return "WEBVTT\n\n" + "".join(cues)


def tsv(transcript: Transcript, name: str) -> str:
    """A table of words, tabs between columns: file, start_s, end_s, confidence, word.

    The recording's name is told as by `plain_name`.
    """
    rate = transcript.sample_rate
    rows = (
        f"{plain_name(name)}\t{_seconds(w.start, rate)}\t{_seconds(w.end, rate)}"
        f"\t{w.confidence:.4f}\t{w.text}\n"
        for w in transcript.words
    )
    return "file\tstart_s\tend_s\tconfidence\tword\n" + "".join(rows)


def ctm(transcript: Transcript, name: str) -> str:
    """NIST's time-marked conversation: recording, channel, start, duration, word, confidence.

    Spaces separate its fields, so those in the recording's name become underscores.
    """
    rate = transcript.sample_rate
    lines = []
    for w in transcript.words:
        start, end = _milliseconds(w.start, rate), _milliseconds(w.end, rate)
        times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
        lines.append(f"{'_'.join(name.split())} 1 {times} {w.text} {w.confidence:.4f}\n")
    return "".join(lines)


FORMATS: dict[str, Callable[[Transcript, str], str]] = {
    "text": text,
    "json": json_line,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "ctm": ctm,
}

EXTENSIONS = {name: "txt" if name == "text" else name for name in FORMATS}


def _milliseconds(samples: int, rate: int) -> int:
    return (2000 * samples + rate) // (2 * rate)


def _seconds(samples: int, rate: int) -> str:
    return f"{_milliseconds(samples, rate) / 1000:.3f}"


def _clock(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"


def _cues(transcript: Transcript) -> Iterator[tuple[int, int, list[str]]]:
    """Start and end in milliseconds, and the words, of each subtitle; segments are not joined."""
    rate = transcript.sample_rate
    for segment in transcript.segments:
        cue: list[Word] = []
        for word in segment.words:
            if cue and not _fits([*cue, word], rate):
                yield _cue(cue, rate)
                cue = []
            cue.append(word)
        yield _cue(cue, rate)


def _fits(words: list[Word], rate: int) -> bool:
    lines = _lines([word.text for word in words]).count("\n") + 1
    return lines <= CUE_LINES and words[-1].end - words[0].start <= CUE_SECONDS * rate


def _cue(words: list[Word], rate: int) -> tuple[int, int, list[str]]:
    start, end = _milliseconds(words[0].start, rate), _milliseconds(words[-1].end, rate)
    return start, max(end, start + 1), [word.text for word in words]  # players drop empty cues


def _lines(words: list[str]) -> str:
    """Words in lines of at most 42 characters; a longer word has a line of its own."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= LINE_CHARACTERS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _escaped(content: str) -> str:
    return content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
