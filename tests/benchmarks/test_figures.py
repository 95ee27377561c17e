"""Figures are told alike everywhere, and documents show what was last recorded."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.transcript import Word
from benchmarks import differences, tables
from benchmarks.figure import ROOT, Figure, commit, machine, report, shown

SPEED = Figure("speed", "Speed", 0.013, "", 3, (0.012, 0.014), at_most=0.02)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.31234, "fraction", "31.23 %"),
        (0, "words", "0 words"),
        (3.0, "", "3"),
        (0.01234, "", "0.0123"),
        (1234.5, "MB", "1,234 MB"),
        (1.75, "s", "1.75 s"),
    ],
)
def test_values_are_shown_with_their_unit(value: float, unit: str, text: str) -> None:
    """Three digits are what a benchmark on somebody's machine can claim."""
    assert shown(value, unit) == text


def test_a_target_is_stated_and_compared() -> None:
    """A figure beside its bound needs no memory; the bound itself is good enough."""
    assert SPEED.line() == "Speed: 0.013 (0.012 to 0.014, runs: 3); target ≤ 0.02: met"
    assert Figure("a", "A", 0.02, "", 1, (0, 1), at_most=0.02).met is True
    assert Figure("a", "A", 0.021, "", 1, (0, 1), at_most=0.02).met is False
    assert Figure("a", "A", 1.9, "", 1, (0, 1), at_least=2).line().endswith("≥ 2: missed")
    assert Figure("a", "A", 1, "", 1, (0, 1)).met is None


def test_the_last_line_is_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """Figure, unit, runs, spread, machine, commit on one line, by name."""
    assert report("speed", [SPEED], ["--runs", "3"], None) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["figure"], row["value"], row["unit"], row["runs"]) == ("speed", 0.013, "", 3)
    assert (row["spread"], row["target"], row["met"]) == ([0.012, 0.014], "≤ 0.02", True)
    assert row["command"] == "python -m benchmarks.speed --runs 3"
    assert (row["machine"], row["commit"]) == (machine(), commit())


def test_recording_appends_what_was_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure's history stays."""
    missed = Figure("speed", "Speed", 0.03, "", 1, (0.03, 0.03), at_most=0.02)
    assert report("speed", [SPEED], [], tmp_path / "new") == 0
    assert report("speed", [missed], [], tmp_path / "new") == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert (tmp_path / "new/speed.jsonl").read_text().splitlines() == printed
    assert [json.loads(line)["met"] for line in printed] == [True, False]


def test_a_record_tells_no_names_and_no_paths(tmp_path: Path) -> None:
    """Results are published: whose machine it was and where its files lie is nobody's business."""
    data = tmp_path / "validation.jsonl"
    kept = ["--record", "--results", str(tmp_path), str(data), f"--results={tmp_path}"]
    report("speed", [SPEED], kept, tmp_path)
    line = (tmp_path / "speed.jsonl").read_text()
    assert json.loads(line)["command"] == "python -m benchmarks.speed validation.jsonl"
    assert "/" not in json.loads(line)["command"]
    assert platform.node() not in line
    assert str(Path.home()) not in line
    assert f"/{getpass.getuser()}" not in line


def word(text: str, start: int) -> Word:
    """A word of 100 samples."""
    return Word(text, start, start + 100, 1.0)


def test_differences_are_counted_by_position() -> None:
    """Nothing can cancel out, and a moved word counts even if it reads the same."""
    whole = [word("a", 0), word("b", 100), word("c", 200)]
    moved = [word("a", 0), word("b", 101), word("x", 200), word("d", 300)]
    assert differences.count([(whole, whole)]) == differences.Differences(0, 0, 3)
    assert differences.count([(whole, moved), ([], [])]) == differences.Differences(2, 1, 4)
    assert differences.count([(whole, [])]).words == 3


DOCUMENT = "# T\n<!-- figures: begin (written by x) -->\nold\n<!-- figures: end -->\nrest\n"


def test_tables_show_the_last_row_of_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written once, checked ever after; what stands around the block stays."""
    document = tmp_path / "doc.md"
    document.write_text(DOCUMENT)
    for value in (0.018, 0.013):
        figure = Figure("speed", "Speed", value, "", 1, (value, value), at_most=0.02)
        report("speed", [figure], [], tmp_path)
    (tmp_path / "training.jsonl").write_text('{"run": "english", "wer": 0.4}\n')
    call = ["--results", str(tmp_path), str(document)]
    assert tables.main(["--check", *call]) == 1
    assert document.read_text() == DOCUMENT
    assert tables.main(call) == 0
    assert tables.main(["--check", *call]) == 0
    text = document.read_text()
    assert "| Speed | 0.013 | 0.013 | ≤ 0.02: met |" in text
    assert "0.018" not in text
    assert f"Measured on {machine()}." in text
    assert text.startswith("# T\n<!-- figures: begin (written by x) -->\n|")
    assert text.endswith("<!-- figures: end -->\nrest\n")
    assert "stale" in capsys.readouterr().out


def test_a_block_may_name_its_figures(tmp_path: Path) -> None:
    """In the order of the names; one that nobody recorded is a slip, not an empty table."""
    figures = [Figure(f"wer.{name}", name, 1, "", 1, (1, 1)) for name in ("clean", "noisy")]
    report("wer", [*figures, Figure("other", "Other", 1, "", 1, (1, 1))], [], tmp_path)
    rows = tables.latest(tmp_path)
    text = tables.filled(DOCUMENT.replace("(written by x)", "only: other wer.noisy"), rows)
    assert text.index("| Other |") < text.index("| noisy |")
    assert "clean" not in text
    with pytest.raises(DataError, match=r"named wer\.silent"):
        tables.filled(DOCUMENT.replace("(written by x)", "only: wer.silent"), rows)


def test_a_block_may_name_its_benchmarks(tmp_path: Path) -> None:
    """A page about accuracy need not show start-up times; several machines are told apart."""
    for name in ("speed", "wer"):
        report(name, [Figure(name, name.upper(), 1, "", 1, (1, 1))], [], tmp_path)
    rows = tables.latest(tmp_path)
    rows["wer"] = [row | {"machine": "Another"} for row in rows["wer"]]
    only = DOCUMENT.replace("(written by x)", "only: wer")
    assert "SPEED" not in tables.filled(only, rows)
    assert "| WER | 1 | 1 |" in tables.filled(only, rows)
    both = tables.filled(DOCUMENT, rows)
    assert "| WER | 1 (2) |" in both
    assert "(2) Another." in both


def test_figures_of_former_models_are_marked() -> None:
    """Else a table would compare what never stood side by side."""
    row = {"title": "WER", "value": 1, "unit": "", "spread": [1, 1], "target": None, "met": None}
    row |= {"machine": "m", "commit": "c", "command": "python"}
    own, *_ = tables.shipped()
    ids = [{"model_id": own}, {"model_id": "0" * 12}, {}]
    text = tables.table([row | {"details": details} for details in ids])
    assert [line.count("†") for line in text.splitlines()] == [0, 0, 0, 1, 0, 0, 1]
    assert "†" not in tables.table([row | {"details": {"model_id": own}}])


def test_the_tables_of_the_documents_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure in prose that nobody measured is the complaint we have about others."""
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


def test_the_readme_has_a_table_of_figures() -> None:
    """Else the test above would check nothing."""
    assert tables.BLOCK.search((ROOT / "README.md").read_text("utf-8"))
