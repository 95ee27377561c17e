"""A manifest comes back with times, every row in its place, and what has none is named."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from asr.errors import BundleError, ConfigError, DataError
from asr.features import Normalisation, output_frames
from asr.manifest import write_manifest
from tests import tiny
from tests.training.small_networks import small_network
from training.aligner import (
    UNREADABLE,
    UNWRITABLE,
    Aligner,
    align_rows,
    load_aligner,
)
from training.checkpoint import Checkpoint, write_checkpoint
from training.export import Names, export_bundle
from training.units import Phones, Pieces

if TYPE_CHECKING:
    from pathlib import Path

    from asr.acoustic import AcousticState, Array

LEXICON = {"see": ["S", "IY"], "a": ["AH"], "sea": ["S", "IY"], "tea": ["T", "IY"]}
UNITS = ["<blank>", "AH", "IY", "S"]


class Rising:
    """A network that hears unit after unit, whatever it is given."""

    look_ahead = 1
    heads = {"phones": len(UNITS)}  # noqa: RUF012  # as the protocol has it

    def initial(self) -> AcousticState:
        """How many blocks there were."""
        return (np.zeros(1, np.float32),)

    def step(
        self, features: Array, states: list[AcousticState]
    ) -> tuple[dict[str, Array], list[AcousticState]]:
        """Frame t is unit t / 4."""
        rows = np.full((len(features), 2, len(UNITS)), -9.0, np.float32)
        for row, (blocks,) in zip(rows, states, strict=True):
            row[:, int(blocks[0] // 2) % len(UNITS)] = -0.1
        return {"phones": rows}, [(blocks + 1,) for (blocks,) in states]


def aligner() -> Aligner:
    """For words of three phones."""
    whole = Normalisation(np.zeros(80, np.float32), np.ones(80, np.float32))
    return Aligner(Rising(), whole, "phones", Phones(UNITS, LEXICON))


def rows_in(folder: Path, *texts: str) -> list[dict[str, Any]]:
    """A second of sound for each text."""
    rows = []
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", tiny.sound(1, number), 16000)
        row = {"id": f"u{number}", "audio": folder / f"{number}.wav", "text": text, "more": number}
        rows.append(row)
    return rows


def test_every_row_stays_and_gets_its_times(tmp_path: Path) -> None:
    """In order, with all that it had; words as they are written there, phones of the lexicon."""
    rows = rows_in(tmp_path, "SEE a", "a", "")
    found = align_rows(aligner, rows)
    assert [row["more"] for row in found.rows] == [0, 1, 2]
    assert found.aligned == 3
    first = found.rows[0]
    assert [word for word, _, _ in first["words"]] == ["SEE", "a"]
    assert [phone for phone, _, _ in first["phone_times"]] == ["S", "IY", "AH"]
    assert first["phone_times"][0][1:] <= first["words"][0][1:]
    assert first["phone_times"][-1][2] == first["words"][-1][2] <= 16000
    assert found.rows[2]["words"] == found.rows[2]["phone_times"] == []
    write_manifest(tmp_path / "m", found.rows)
    assert [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()] == [
        row | {"audio": f"{n}.wav"} for n, row in enumerate(found.rows)
    ]


def test_rows_without_times_are_kept_counted_and_named(tmp_path: Path) -> None:
    """A word that nobody can pronounce costs its row the times, not the row; old times go."""
    rows = rows_in(tmp_path, "see", "see xyzzy tea", "a", "a " * 40, "see")
    rows[1] |= {"words": [["old", 0, 1]], "phone_times": [["S", 0, 1]]}
    (tmp_path / "2.wav").write_text("no sound")
    soundfile.write(tmp_path / "4.wav", np.zeros(0), 16000)
    rows.append({"audio": tmp_path / "0.wav", "id": "u5"})
    found = align_rows(aligner, rows)
    assert ["words" in row for row in found.rows] == [True, False, False, False, False, False]
    assert "phone_times" not in found.rows[1]
    assert found.aligned == 1
    assert found.missing == {"xyzzy": 1, "tea": 1}  # T is no unit
    assert found.faults.counts == {
        UNWRITABLE: 1,
        UNREADABLE: 1,
        "a text that does not fit the recording": 2,
        "no text": 1,
    }
    assert any("u1: xyzzy, tea" in line for line in found.faults.lines())


def test_nothing_aligned_is_an_error(tmp_path: Path) -> None:
    """A manifest without one time is not what was asked for."""
    with pytest.raises(DataError, match=r"none of 1 rows could be aligned: .*tea"):
        align_rows(aligner, rows_in(tmp_path, "tea"))
    with pytest.raises(DataError, match="none of 0 rows"):
        align_rows(aligner, [])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of pieces."""
    return tiny.write_bundle(tmp_path_factory.mktemp("tiny"), "gru").path


def test_any_number_of_jobs_gives_the_same_times(bundle: Path, tmp_path: Path) -> None:
    """More cores give them sooner, not others."""
    rows = rows_in(tmp_path, "an eye", "cats", "")
    load = functools.partial(load_aligner, str(bundle), "int8", None, ())
    done: list[int] = []
    one = align_rows(load, rows, progress=done.append)
    two = align_rows(load, rows, jobs=2)
    assert done == [1, 2, 3]
    assert (one.rows, one.aligned) == (two.rows, 3)
    assert all("words" in row and "phone_times" not in row for row in one.rows)
    assert isinstance(load().units, Pieces)


def test_a_checkpoint_aligns_as_its_bundle_does(tmp_path: Path) -> None:
    """Before any export; the head of phones is known by its units, not by its name."""
    network = small_network()
    units = {
        name: ["<blank>", *(f"{mark}{n}" for n in range(1, head.units))]
        for (name, head), mark in zip(network.config.heads.items(), "▁QR", strict=True)
    }
    mean, deviation = [0.0] * 80, [1.0] * 80
    checkpoint = Checkpoint(network.config, network.state_dict(), units, mean, deviation)
    write_checkpoint(tmp_path / "best.pt", checkpoint)
    export_bundle(checkpoint, tmp_path / "bundle", Names("small", "en", "CC0-1.0"))
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("BE\tQ1 Q2\n")
    times = []
    for model in ("best.pt", "bundle"):
        made = load_aligner(str(tmp_path / model), "float32", None, [str(lexicon)])
        assert made.head == "phones"
        times.append(made.times(tiny.sound(1, 0), "Be be"))
        with pytest.raises(ConfigError, match="name the lexicon"):
            load_aligner(str(tmp_path / model), "float32", "phones", [])
    assert [phone for phone, _, _ in times[0]["phone_times"]] == ["Q1", "Q2", "Q1", "Q2"]
    assert times[0] == times[1]


def test_head_and_lexicon_must_go_together(bundle: Path, tmp_path: Path) -> None:
    """Never guess what a head writes."""
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("SEE\tS IY\n")
    with pytest.raises(ConfigError, match="no head 'phones'; it has pieces"):
        load_aligner(str(bundle), "int8", "phones", [])
    with pytest.raises(ConfigError, match="no head of phones for the lexicon"):
        load_aligner(str(bundle), "int8", None, [str(lexicon)])
    with pytest.raises(ConfigError, match="leave the lexicon out"):
        load_aligner(str(bundle), "int8", "pieces", [str(lexicon)])
    with pytest.raises(BundleError):
        load_aligner(str(tmp_path), "int8", None, [])


def test_times_lie_within_the_recording(bundle: Path) -> None:
    """The last frame may reach beyond the last sample; a time may not."""
    made = load_aligner(str(bundle), "int8", None, [])
    samples = tiny.sound(1, 3)[:9001]
    times = made.times(samples, "cats an eye")["words"]
    assert output_frames(9001) * 640 > 9001
    assert all(0 <= start < end <= 9001 for _, start, end in times)
