"""A comparison is recorded as it was found, and the document shows what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import comparison

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
TRIAL: dict[str, Any] = {
    "trial": "lstm", "cell": "lstm", "best": True, "parameters": 1_000_000,
    "recurrent_parameters": 500_000, "hours": 1.0, "steps": 10, "training_loss": 1.0,
    "loss": {"phones": 2.0}, "errors": {"phones": 0.5}, "wer": None, "wer_interval": None,
    "rtf_processor": 0.01, "processor_seconds_per_hour": 9.0, "emission_ms": None,
}  # fmt: skip
LAG = {"cell": "lstm", "rate": 0.004, "lag": 20, "mean": 0.5, "lowest": 0.25, "highest": 0.75}
DOCUMENT = "before\n<!-- comparison: begin (made) -->\nold\n<!-- comparison: end -->\nafter\n"


def made(folder: Path, hours: float = 1.0) -> Path:
    """A comparison's folder with one trial and one lag."""
    out = folder / "cells"
    out.mkdir(exist_ok=True)
    (out / "table.jsonl").write_text(json.dumps(TRIAL | {"hours": hours}) + "\n")
    (out / "lags.jsonl").write_text(json.dumps(LAG) + "\n")
    return out


def test_what_is_recorded_is_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row with its origin, and not one that the table of figures would take for its own."""
    options = ["--command", "asr compare x", "--record", "--results", str(tmp_path)]
    assert comparison.main([str(made(tmp_path)), *options]) == 0
    rows = [json.loads(line) for line in (tmp_path / "comparison.jsonl").open(encoding="utf-8")]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [row["kind"] for row in rows] == ["trial", "lag"]
    assert rows[0].items() >= (TRIAL | {"command": "asr compare x", "comparison": "cells"}).items()
    assert rows[1].items() >= LAG.items()
    assert all("figure" not in row and row["commit"] and row["machine"] for row in rows)


def test_a_document_shows_the_last_comparison(tmp_path: Path) -> None:
    """And keeps what stands around the block."""
    document = tmp_path / "cells.md"
    document.write_text(DOCUMENT)
    for hours, name in ((1.0, "asr compare first"), (2.0, "asr compare second")):
        options = ["--command", name, "--record", "--results", str(tmp_path)]
        assert comparison.main([str(made(tmp_path, hours)), *options]) == 0
    options = ["--document", str(document), "--results", str(tmp_path)]
    assert comparison.main(options) == 0
    text = document.read_text()
    assert text.startswith("before\n<!-- comparison: begin (made) -->\n")
    assert text.endswith("<!-- comparison: end -->\nafter\n")
    assert "| 2.00, 10 |" in text
    assert "| 1.00, 10 |" not in text
    assert "| lstm, rate 0.004 | 50% (25% … 75%) |" in text
    assert "`asr compare second`" in text
    assert "first" not in text


def test_the_document_of_the_cells_is_fresh() -> None:
    """docs/cells.md shows the rows of results/comparison.jsonl, as they are."""
    document = (ROOT / "docs" / "cells.md").read_text("utf-8")
    assert comparison.BLOCK.search(document)
    assert comparison.filled(document, comparison.recorded(ROOT / "results")) == document
