"""LibriSpeech trees, whole and damaged, and torchaudio on machines without CUDA."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from asr.errors import ConfigError, DataError
from training.librispeech import SPLITS, LibriSpeech
from training.torchaudio_cpu import absent_extension, import_torchaudio, torchaudio

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {
    "19-198-0000": "THE FIRST LINE",
    "19-198-0001": "IT'S THE SECOND",
    "26-495-0000": "ANOTHER READER",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A split of three utterances by two readers, 0.1, 0.2 and 0.3 s long."""
    for number, (name, text) in enumerate(TEXTS.items(), 1):
        speaker, chapter, _ = name.split("-")
        folder = tmp_path / "LibriSpeech" / "dev-clean" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} {text}\n")
        samples = np.full(1600 * number, number / 8, np.float32)
        soundfile.write(folder / f"{name}.flac", samples, 16000)
    return tmp_path


def test_utterances_are_listed_in_order_with_text_reader_and_chapter(root: Path) -> None:
    """Training plans batches from this list: it must not depend on the file system's order."""
    found = list(LibriSpeech(root, "dev-clean").utterances())
    assert {u.id: u.text for u in found} == TEXTS
    assert [u.id for u in found] == sorted(TEXTS)
    assert [(u.speaker, u.chapter) for u in found] == [(19, 198), (19, 198), (26, 495)]
    assert all(u.path.is_file() for u in found)


def test_listing_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a thousand hours must cost seconds."""
    monkeypatch.setattr(soundfile, "read", None)
    assert len(list(LibriSpeech(root, "dev-clean").utterances())) == len(TEXTS)


def test_items_are_the_tuples_of_torchaudio(root: Path) -> None:
    """Code written for torchaudio's class takes this one."""
    samples, *facts = LibriSpeech(root, "dev-clean")[1]
    assert samples.shape == (1, 3200)
    assert samples.numpy() == pytest.approx(2 / 8)
    assert facts == [16000, "IT'S THE SECOND", 19, 198, 1]
    assert isinstance(LibriSpeech(root, "dev-clean"), torchaudio.datasets.LIBRISPEECH)


def test_a_recording_without_transcript_is_listed_with_empty_text(root: Path) -> None:
    """It is counted and named as bad data; it must not vanish or take another's words."""
    (root / "LibriSpeech/dev-clean/26/495/26-495.trans.txt").unlink()
    *_, last = LibriSpeech(root, "dev-clean").utterances()
    assert (last.id, last.text) == ("26-495-0000", "")
    with pytest.raises(DataError, match=r"26-495.*unfinished"):
        LibriSpeech(root, "dev-clean")[2]


def test_a_transcript_without_recording_is_listed(root: Path) -> None:
    """A half-copied tree is noticed rather than trained on in part."""
    (root / "LibriSpeech/dev-clean/19/198/19-198-0001.flac").unlink()
    found = list(LibriSpeech(root, "dev-clean").utterances())
    assert [u.path.is_file() for u in found] == [True, False, True]


def test_another_sample_rate_is_refused_by_name(root: Path) -> None:
    """Speech at half its speed trains nothing; it must be named instead."""
    file = root / "LibriSpeech/dev-clean/19/198/19-198-0000.flac"
    soundfile.write(file, np.zeros(800, np.float32), 8000)
    with pytest.raises(DataError, match=r"19-198-0000\.flac: 8000 Hz"):
        LibriSpeech(root, "dev-clean")[0]


def test_a_damaged_recording_is_refused_by_name(root: Path) -> None:
    """One bad file in a hundred thousand must be found from the message alone."""
    (root / "LibriSpeech/dev-clean/19/198/19-198-0000.flac").write_bytes(b"not flac")
    with pytest.raises(DataError, match=r"19-198-0000\.flac: cannot be decoded"):
        LibriSpeech(root, "dev-clean")[0]


def test_a_transcript_that_is_no_text_is_refused_by_name(root: Path) -> None:
    """A damaged transcript stops with its name, not with a trace of the decoder."""
    (root / "LibriSpeech/dev-clean/19/198/19-198.trans.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"19-198\.trans\.txt: not UTF-8"):
        list(LibriSpeech(root, "dev-clean").utterances())


def test_a_folder_that_is_not_of_librispeech_is_refused_by_name(root: Path) -> None:
    """A foreign folder inside the split is a mistake to name, not speech to train on."""
    folder = root / "LibriSpeech/dev-clean/notes/today"
    folder.mkdir(parents=True)
    (folder / "a.flac").touch()
    with pytest.raises(DataError, match="notes/today"):
        list(LibriSpeech(root, "dev-clean").utterances())


def test_a_missing_split_is_named_with_its_cure(tmp_path: Path) -> None:
    """The first error of every new user."""
    with pytest.raises(DataError, match=r"test-other: no such folder; .*--download"):
        LibriSpeech(tmp_path, "test-other")


def test_an_unknown_split_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """A typing error must not start a download."""
    with pytest.raises(ConfigError, match=r"'dev'.*dev-clean"):
        LibriSpeech(tmp_path, "dev", download=True)


def test_a_failed_download_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network the reason is told in one line."""

    def no_network(*_args: object, **_settings: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("torchaudio.datasets.librispeech.download_url_to_file", no_network)
    with pytest.raises(DataError, match=r"dev-clean: cannot download it .*unreachable"):
        LibriSpeech(tmp_path / "new", "dev-clean", download=True)


def test_our_splits_are_those_of_torchaudio() -> None:
    """A split that torchaudio adds or renames is noticed here."""
    published = vars(sys.modules["torchaudio.datasets.librispeech"])["_DATA_SUBSETS"]
    assert list(SPLITS) == published


def test_torchaudio_is_one_module_however_often_it_is_imported() -> None:
    """Two copies would make isinstance checks fail."""
    assert import_torchaudio() is torchaudio is sys.modules["torchaudio"]


def test_transforms_work_without_the_compiled_part() -> None:
    """The features' reference and the augmentation come from here, also on a CPU build of torch."""
    code = (
        "import importlib, sys\n"
        "real = importlib.import_module\n"
        "def broken(name, *rest):\n"
        "    if name == 'torchaudio' and 'torchaudio._extension' not in sys.modules:\n"
        "        raise OSError('libc10_cuda.so: cannot open shared object file')\n"
        "    return real(name, *rest)\n"
        "importlib.import_module = broken\n"
        "from training.torchaudio_cpu import torchaudio\n"
        "import torch\n"
        "mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80)\n"
        "print(mel(torch.zeros(1, 1600)).shape, torchaudio._extension._IS_ALIGN_AVAILABLE)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([1, 80, 11]) False\n", done.stderr


def test_functions_that_need_the_compiled_part_say_so() -> None:
    """A caller is told what is missing instead of an attribute error deep inside."""

    def forced_align() -> None:
        """Stands for the compiled function."""

    refuse = absent_extension().fail_if_no_align(forced_align)
    with pytest.raises(RuntimeError, match="forced_align needs the compiled part of torchaudio"):
        refuse(1, option=2)
