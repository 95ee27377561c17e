"""`asr transcribe`: the recogniser's words, in every format, from files and from pipes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import asr
from asr import audio, client, commands, writers
from asr.commands import recognition
from asr.transcript import Final, Partial, Transcript, Word
from server.app import Server
from tests.tiny import sound

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class Stdin:
    """Standard input that holds these bytes."""

    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self._terminal = terminal

    def isatty(self) -> bool:
        """Whether it pretends to be a terminal."""
        return self._terminal


@pytest.fixture(scope="session")
def expected(model: str, speech: Path) -> Transcript:
    """What the library says."""
    transcript = asr.load(model).transcribe(speech)
    assert len(transcript.words) > 10
    return transcript


def test_a_decoder_is_chosen_or_refused(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model without a language spells; asking it to search is a mistake that is told."""
    assert commands.main(["transcribe", str(speech), "--model", model]) == 0
    spelled = capsys.readouterr().out
    assert commands.main(["transcribe", str(speech), "--model", model, "--decoder", "greedy"]) == 0
    assert capsys.readouterr().out == spelled
    assert commands.main(["transcribe", str(speech), "--model", model, "--decoder", "beam"]) == 1
    assert "no language to search" in capsys.readouterr().err
    for name in ("a.pt", "b.pt"):
        with pytest.raises(asr.ConfigError, match="checkpoint has no language"):
            recognition.load(name, "int8", "beam")


@pytest.mark.parametrize("name", writers.FORMATS)
def test_it_writes_what_the_library_says(name, model, speech, expected, capsys):
    """Same words, same times, in every format; nothing on standard error."""
    assert commands.main(["transcribe", str(speech), "--format", name, "--model", model]) == 0
    out, err = capsys.readouterr()
    assert out == writers.FORMATS[name](expected, str(speech))
    assert err == ""


def test_times_in_json_count_the_file_s_own_samples(model, speech, expected, capsys):
    """48 kHz in, 48 kHz told, none beyond the end."""
    commands.main(["transcribe", str(speech), "--format", "json", "--model", model])
    told = json.loads(capsys.readouterr().out)
    assert (told["sample_rate"], told["duration"], told["duration_s"]) == (48000, 576000, 12.0)
    assert max(word.end for word in expected.words) > 16000 * 12  # not samples at 16 kHz
    assert told["segments"][-1]["end"] <= told["duration"]


def test_a_bad_file_is_told_and_the_others_go_on(model, speech, expected, capsys, tmp_path):
    """Exit code 1 at the end, one line for each."""
    text = tmp_path / "letter.wav"
    text.write_text("dear reader, " * 50)
    files = [str(tmp_path / "missing.wav"), str(text), str(speech)]
    assert commands.main(["transcribe", *files, "--model", model]) == 1
    out, err = capsys.readouterr()
    lines = writers.text(expected).splitlines()
    assert out.splitlines() == [f"{speech}: {line}" for line in lines]
    assert [line.split(": ")[1] for line in err.splitlines()] == files[:2]


def test_a_file_that_breaks_off_gives_its_words_until_then(model, speech, capsys, tmp_path):
    """Damage that only decoding reveals: what was said before it, then the line."""
    data = bytearray(speech.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(data)
    assert commands.main(["transcribe", str(damaged), "--model", model]) == 1
    out, err = capsys.readouterr()
    assert out.strip()
    assert err.count("\n") == 1
    assert "damaged.flac: cut off or damaged" in err


@pytest.mark.parametrize("name", ["text", "json", "srt"])
def test_a_folder_gets_a_file_for_each_input(name, model, speech, expected, capsys, tmp_path):
    """Named after the input; standard output stays empty."""
    folder = tmp_path / "new" / "folder"
    arguments = [str(speech), "--output", str(folder), "--format", name, "--model", model]
    assert commands.main(["transcribe", *arguments]) == 0
    written = folder / f"long talk.{writers.EXTENSIONS[name]}"
    assert written.read_text("utf-8") == writers.FORMATS[name](expected, str(speech))
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_one_line(model, speech, capsys, tmp_path):
    """The place is a file."""
    (tmp_path / "file").touch()
    arguments = [str(speech), "--output", str(tmp_path / "file"), "--model", model]
    assert commands.main(["transcribe", *arguments]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.wav", "b.wav", "--format", "srt"],
        ["x/a.wav", "y/a.wav", "--output", "somewhere"],
        ["-", "-"],
        ["a.wav", "--output", ""],
        ["a.wav", "--url", "ws://localhost:1", "--model", "english"],
        ["a.wav", "--url", "ws://localhost:1", "--decoder", "greedy"],
    ],
)
def test_arguments_that_contradict_each_other_are_usage(arguments, capsys):
    """Told before anything is loaded or overwritten."""
    assert commands.main(["transcribe", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("rate", ["3999", "0", "fast"])
def test_a_rate_that_makes_no_sense_is_usage(rate, capsys):
    """Raw audio has no header that could contradict it."""
    with pytest.raises(SystemExit) as left:
        commands.main(["transcribe", "--raw", rate, "-"])
    assert left.value.code == 2
    assert f"{rate} is no sample rate of 4000 to 192000 Hz" in capsys.readouterr().err


def test_a_file_of_an_impossible_rate_is_named(model, capsys, tmp_path):
    """Among many files, the line says which."""
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(1000), 1000)
    assert commands.main(["transcribe", str(path), "--model", model]) == 1
    assert capsys.readouterr().err.startswith(f"asr: {path}: sample rate 1000: must be")


def test_a_terminal_as_standard_input_is_usage(model, monkeypatch, capsys):
    """Nobody types audio."""
    monkeypatch.setattr(sys, "stdin", Stdin(b"", terminal=True))
    assert commands.main(["transcribe", "-", "--model", model]) == 2
    assert "asr mic" in capsys.readouterr().err


def test_a_file_on_standard_input_is_recognised(model, speech, expected, monkeypatch, capsys):
    """`cat talk.flac | asr transcribe -`."""
    monkeypatch.setattr(sys, "stdin", Stdin(speech.read_bytes()))
    assert commands.main(["transcribe", "-", "--model", model]) == 0
    assert capsys.readouterr().out == writers.text(expected)


def test_raw_audio_is_recognised_like_a_file(
    model, speech, expected, monkeypatch, capsys, tmp_path
):
    """The same samples, the same words, from a file and from standard input."""
    raw = audio.to_s16le(audio.read(speech).samples)
    (tmp_path / "talk.raw").write_bytes(raw)
    monkeypatch.setattr(sys, "stdin", Stdin(raw))
    for file in ("-", str(tmp_path / "talk.raw")):
        assert commands.main(["transcribe", "--raw", "48000", file, "--model", model]) == 0
        assert capsys.readouterr().out == writers.text(expected)


def test_raw_audio_of_an_odd_length_is_told_after_its_words(model, speech, monkeypatch, capsys):
    """Half a sample means another format; what was understood is not lost."""
    raw = audio.to_s16le(audio.read(speech).samples)
    monkeypatch.setattr(sys, "stdin", Stdin(raw + b"x"))
    assert commands.main(["transcribe", "--raw", "48000", "-", "--model", model]) == 1
    out, err = capsys.readouterr()
    assert out.strip()
    assert "odd number of bytes" in err


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "aiff"])
def test_a_file_is_not_heard_as_raw_audio(kind, model, monkeypatch, capsys, tmp_path):
    """Its bytes taken for samples would be noise, and words that nobody said."""
    path = tmp_path / f"talk.{kind}"
    soundfile.write(path, sound(2.0, 1), 16000)
    monkeypatch.setattr(sys, "stdin", Stdin(path.read_bytes()))
    for file, name in ((str(path), str(path)), ("-", "standard input")):
        assert commands.main(["transcribe", "--raw", "16000", file, "--model", model]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"asr: {name}: begins with the header of an audio file")
        assert err.endswith("drop --raw\n")


def test_an_mp3_without_tags_is_known_by_its_name(model, capsys, tmp_path):
    """It begins as raw audio may, so a file that is called otherwise is heard as such."""
    for file, code in (("talk.MP3", 1), ("talk.raw", 0)):
        (tmp_path / file).write_bytes(b"\xff\xfb" + audio.to_s16le(sound(2.0, 1)))
        arguments = ["transcribe", "--raw", "16000", str(tmp_path / file), "--model", model]
        assert commands.main(arguments) == code
        assert ("begins with the header of an audio file" in capsys.readouterr().err) == bool(code)


def test_words_come_while_the_pipe_is_still_open(model, speech):
    """Live: the first word is out before the end of the audio is in."""
    raw = audio.to_s16le(audio.read(speech).samples)
    arguments = ["transcribe", "--raw", "48000", "-", "--model", model]
    with subprocess.Popen(
        [sys.executable, "-m", "asr", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(raw)
        process.stdin.flush()
        timer = threading.Timer(60, process.kill)
        timer.start()
        assert process.stdout.read(3)  # blocks until words come; the pipe is still open
        timer.cancel()
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


def test_an_empty_recording_has_an_empty_transcript(model, capsys, tmp_path):
    """Nobody spoke: no word, no error."""
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(0), 16000)
    assert commands.main(["transcribe", str(silence), "--model", model]) == 0
    assert capsys.readouterr() == ("", "")


def test_samples_that_are_not_finite_are_counted_aloud(model, capsys, tmp_path):
    """The words around them come; the user learns that the recorder is broken."""
    broken = np.full(16000, np.nan, np.float32)
    path = tmp_path / "broken.wav"
    soundfile.write(path, broken, 16000, subtype="FLOAT")
    assert commands.main(["transcribe", str(path), "--model", model]) == 0
    assert "16000 samples were not finite" in capsys.readouterr().err


def test_partials_are_lines_on_standard_error(model, speech, expected, capsys):
    """Standard output holds the same as without them."""
    assert commands.main(["transcribe", str(speech), "--partials", "--model", model]) == 0
    out, err = capsys.readouterr()
    assert out == writers.text(expected)
    assert len(err.splitlines()) > 10


def test_a_model_that_is_not_there_is_one_line(speech, capsys):
    """Before any file is read."""
    assert commands.main(["transcribe", str(speech), "--model", "klingon"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_recognises_when_asked(speech, monkeypatch, capsys):
    """It is sent 16 kHz; its times come back in the file's own samples, its warnings are told."""
    words = Word("good", 0, 480, 1.0), Word("day", 480, 960, 1.0)
    final = Final(0, words, "finish", 960)

    def transcribe(url, chunks, sample_rate, options, on_event, notice):
        assert (url, sample_rate, options) == ("ws://somewhere:1", 16000, asr.Options())
        assert notice is recognition.tell
        assert sum(map(len, chunks)) == 192000
        on_event(Partial(0, "good", "da", 600))
        on_event(final)
        return Transcript((final,), sample_rate, 192000), 2

    monkeypatch.setattr(client, "transcribe", transcribe)
    arguments = [str(speech), "--format", "json", "--url", "ws://somewhere:1"]
    assert commands.main(["transcribe", *arguments]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["text"], told["sample_rate"], told["duration"]) == ("good day", 48000, 576000)
    assert [(w["start"], w["end"]) for w in told["segments"][0]["words"]] == [
        (0, 1440),
        (1440, 2880),
    ]
    assert "2 samples were not finite" in err


@pytest.mark.parametrize("into_a_folder", [False, True])
def test_a_server_that_is_not_there_ends_the_job(model, speech, capsys, tmp_path, into_a_folder):
    """At once and in one line, not recording by recording; what is wrong with one ends nothing."""
    files = [str(tmp_path / "missing.wav"), str(speech), str(tmp_path / "second.wav")]
    soundfile.write(files[2], sound(1.0, 2), 16000)
    output = ["--output", str(tmp_path / "out")] if into_a_folder else []
    with serving_in_a_thread(model) as url:
        arguments = ["transcribe", *output, "--url", url]
        assert commands.main([*arguments, *files[:2]]) == 1
        assert "missing.wav: no such file" in capsys.readouterr().err
    soundfile.write(files[0], sound(1.0, 1), 16000)
    assert commands.main([*arguments, *files]) == 1
    assert capsys.readouterr() == (
        "",
        f"asr: {url}: cannot connect (connection refused); does the server run?\n",
    )
    if into_a_folder:
        assert [path.name for path in (tmp_path / "out").glob("*.txt")] == ["long talk.txt"]
        assert commands.main([*arguments[:-1], f"{url}?key=SECRET", files[1]]) == 0  # the same job


@pytest.mark.parametrize("rate", [4000, 44099, 96000])
def test_a_server_takes_every_rate_as_a_model_here_does(rate, model, capsys, tmp_path):
    """Also those that the protocol refuses: the same words, times and warnings, to the letter."""
    path = tmp_path / "odd.wav"
    samples = sound(rate * 6 / 16000, 3)
    samples[100] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")
    arguments = ["transcribe", "--format", "json", str(path)]
    assert commands.main([*arguments, "--model", model]) == 0
    here = capsys.readouterr()
    with serving_in_a_thread(model) as url:
        assert commands.main([*arguments, "--url", url]) == 0
    assert capsys.readouterr() == here
    assert json.loads(here.out)["text"]


def test_a_server_is_told_of_every_wish(capsys, tmp_path):
    """Phrases, readings and pauses: with a server or a model here, the same to the letter."""
    path = tmp_path / "talk.flac"
    samples, rate = soundfile.read(ROOT / "asr/demo/recording.flac", stop=16000 * 8)
    soundfile.write(path, samples, rate)
    arguments = ["transcribe", "--format", "json", "--endpoint-ms", "480", str(path)]
    wished = [
        *arguments,
        "--phrase",
        "Old man and  his DOG",
        "--phrase",
        "evening lite",
        "--n-best",
        "3",
    ]
    outputs = []
    for some in (arguments, wished):
        assert commands.main(some) == 0
        outputs.append(capsys.readouterr().out)
    assert "alternatives" not in outputs[0]
    assert 1 <= len(json.loads(outputs[1])["segments"][0]["alternatives"]) <= 2
    assert commands.main([*arguments, "--phrase", "xylo"]) == 1
    assert "'xylo'" in capsys.readouterr().err
    with serving_in_a_thread(None) as url:
        assert commands.main([*wished, "--url", url]) == 0
        assert capsys.readouterr().out == outputs[1]
        assert commands.main([*arguments, "--phrase", "xylo", "--url", url]) == 1
    assert "all words of 'xylo'" in capsys.readouterr().err


@pytest.mark.parametrize("wish", [["--phrase", " "], ["--endpoint-ms", "479"], ["--n-best", "11"]])
def test_a_wish_that_makes_no_sense_is_usage(wish, capsys):
    """Before any model is loaded."""
    with contextlib.suppress(SystemExit):
        assert commands.main(["transcribe", "a.wav", *wish]) == 2
    assert wish[0] in capsys.readouterr().err


@contextlib.contextmanager
def serving_in_a_thread(model: str | None) -> Iterator[str]:
    """The address of a server with this model, on a thread of its own."""
    listening: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]
    listening = queue.SimpleQueue()

    async def serve() -> None:
        server, over = Server(asr.load(model)), asyncio.Event()
        _, port = await server.start("127.0.0.1", 0)
        listening.put((asyncio.get_running_loop(), over, port))
        await over.wait()
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, over, port = listening.get(timeout=20)
    try:
        yield f"ws://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_a_checkpoint_runs_through_pytorch(model, speech, expected, monkeypatch, capsys):
    """`--model best.pt` goes to the one function that knows checkpoints."""
    from training import torch_backend

    recognizer = asr.load(model)
    monkeypatch.setattr(torch_backend, "load_checkpoint_recognizer", lambda _: recognizer)
    assert commands.main(["transcribe", str(speech), "--model", "runs/best.pt"]) == 0
    assert capsys.readouterr().out == writers.text(expected)


def test_a_checkpoint_without_pytorch_names_the_cure(speech, monkeypatch, capsys):
    """The base installation recognises bundles only."""
    monkeypatch.delitem(sys.modules, "training.torch_backend", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert commands.main(["transcribe", str(speech), "--model", "runs/best.pt"]) == 1
    assert "pip install '.[train]'" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_stays_below_200_megabytes(model, speech):
    """All in: Python, NumPy, ONNX Runtime and the tiny model; the rest is the model's."""
    code = (
        "import re, sys\n"
        "from asr.commands import main\n"
        f"main(['transcribe', {str(speech)!r}, '--model', {model!r}])\n"
        "status = open('/proc/self/status').read()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1], file=sys.stderr)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert int(done.stderr) < 150_000  # kB; the shipped model takes up to 50 MB more
