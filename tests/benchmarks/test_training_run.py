"""A training run leaves a row, whether it paid or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import training_run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_is_recorded_with_its_hypothesis_and_what_its_files_say(tmp_path: Path) -> None:
    """The figures come from the run's own log; only the judgement is typed."""
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    recipe = {
        "name": "tiny",
        "network": {"cell": "gru"},
        "heads": {},
        "data": [{"manifest": "a.jsonl"}, {"split": "dev-clean"}],
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    rows = [
        {"step": 5, "hours": 0.5, "minutes": 1.0, "validation": {"wer": 0.6}},
        {"step": 9, "hours": 0.9, "minutes": 2.04, "validation": {"wer": 0.7}},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judgement = ["--hypothesis", "more is better", "--outcome", "it was not"]
    options = ["--record", "--results", str(tmp_path)]
    assert training_run.main([str(run), *judgement, *options]) == 0
    row = json.loads((tmp_path / "training.jsonl").read_text())
    assert (row["steps"], row["minutes"], row["best_wer"]) == (9, 2.0, 0.6)
    assert row["data"] == ["a.jsonl", "dev-clean"]
    assert row["last"] == {"hours": 0.9, "validation": {"wer": 0.7}}
    assert (row["hypothesis"], row["outcome"]) == ("more is better", "it was not")
