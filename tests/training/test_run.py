"""Whole runs in miniature: stopped and resumed, alone and together, with good data and bad."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.commands import main
from asr.errors import BundleError, ConfigError, DataError
from asr.evaluate import validate
from tests.training.miniature import (
    ROOT,
    TEXTS,
    TINY,
    recipe,
    settings,
    tones,
)
from training import run as run_module
from training.assembly import make_trainer
from training.batching import Batch, BatchStream
from training.checkpoint import read_checkpoint, write_checkpoint
from training.examples import ExampleMaker, Examples
from training.export import Names, export_bundle
from training.loop import Progress, Report
from training.preparation import prepare
from training.processes import Processes
from training.run import Run
from training.start import Start, read_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

SIX = "budget.steps=6"
PLAIN = (
    "network.dropout=0",
    "augmentation.speed=[1, 1]",
    "augmentation.gain_db=[0, 0]",
    "augmentation.silence_probability=0",
    "augmentation.frequency_masks=0",
    "augmentation.time_masks=0",
)
LIVELY = ("network.dropout=0.3", "augmentation.silence_probability=0.5", "network.cell=lstm")


@pytest.fixture(autouse=True)
def _no_recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most runs here are not about the word-error rate, which takes most of their time."""
    monkeypatch.setattr(run_module, "word_error_rate", lambda _checkpoint, _utterances: 0.5)


def watch(job: Run, after: Callable[[int], None]) -> list[Report]:
    """Reports of the steps that a run will make; `after` is called with each step's number."""
    reports: list[Report] = []
    step = job.trainer.step

    def watched() -> Report:
        reports.append(step())
        after(job.trainer.progress.step)
        return reports[-1]

    job.trainer.step = watched  # type: ignore[method-assign]
    return reports


def stopped_at(job: Run, number: int) -> list[Report]:
    """Train until step `number`, as Ctrl-C there would."""
    reports = watch(job, lambda step: job.request_stop() if step == number else None)
    assert job.train() is False
    return reports


def whole(job: Run) -> list[Report]:
    """Train to the end."""
    reports = watch(job, lambda _step: None)
    assert job.train() is True
    return reports


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    """What a run wrote down."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("extra", [PLAIN, LIVELY], ids=["plain", "augmented"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, extra: tuple[str, ...]) -> None:
    """Loss for loss and weight for weight, to the bit: an interruption leaves no trace."""
    chosen = recipe(tmp_path, SIX, *extra)
    straight = whole(Run(chosen, tmp_path / "straight"))
    first = stopped_at(Run(chosen, tmp_path / "cut"), 3)
    second = whole(Run(chosen, tmp_path / "cut", resume=True))
    assert [report.loss for report in first + second] == [report.loss for report in straight]
    one = read_checkpoint(tmp_path / "straight" / "checkpoint.pt")
    other = read_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert same(one.live, other.live)
    assert same(one.weights, other.weights)
    for number, state in one.optimiser["state"].items():
        assert same(state, other.optimiser["state"][number])
    assert (one.progress["step"], one.progress["hours"]) == (
        other.progress["step"],
        other.progress["hours"],
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    """The same steps to the bit, stopped and resumed on the way; and nobody is left behind."""
    few = (*LIVELY, SIX, f"cache={tmp_path / 'cache'}")
    alone = whole(Run(recipe(tmp_path, *few), tmp_path / "alone"))
    chosen = recipe(tmp_path, *few, f"batches.workers={workers}")
    before = set(multiprocessing.active_children())
    first = stopped_at(Run(chosen, tmp_path / "run"), 2)
    job = Run(chosen, tmp_path / "run", resume=True)
    reports = [*first, *whole(job)]
    assert [r.losses for r in reports] == [r.losses for r in alone]
    kept = [read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("alone", "run")]
    assert same(kept[0].live, kept[1].live)
    assert set(multiprocessing.active_children()) == before


def test_what_workers_leave_out_is_counted_once(tmp_path: Path) -> None:
    """By the process that trains, however often the turn of such a recording comes."""
    chosen = recipe(tmp_path, SIX, "batches.workers=2", "batches.bad_share=0.5")
    job = Run(chosen, tmp_path / "run")
    damage(tmp_path, "truncated")
    whole(job)
    assert sum(job.trainer.make.faults.counts.values()) == 1
    assert job.trainer.make.bad_share() == 1 / 8


def test_a_run_fills_its_folder(tmp_path: Path) -> None:
    """The files that docs/training.md names, and no others."""
    folder = tmp_path / "run"
    whole(Run(recipe(tmp_path, SIX, "validation.every_steps=3"), folder))
    assert {path.name for path in folder.iterdir()} == {
        "recipe.json",
        "checkpoint.pt",
        "best.pt",
        "metrics.jsonl",
        "curves.png",
        "tensorboard",
    }
    kinds = ["validation" if "validation" in line else "training" for line in lines(folder)]
    assert kinds == ["training", "validation", "training", "validation"]
    assert json.loads((folder / "recipe.json").read_text())["budget"]["steps"] == 6


def test_what_is_learnt_is_what_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few recordings can be learnt; the best checkpoint's WER is that of its bundle."""
    monkeypatch.undo()  # the real recogniser
    chosen = recipe(tmp_path, *PLAIN, "budget.steps=30", "batches.seconds=20")
    job = Run(chosen, tmp_path / "run")
    reports = whole(job)
    assert reports[-1].loss < 0.7 * reports[0].loss
    best = read_checkpoint(tmp_path / "run" / "best.pt")
    export_bundle(best, tmp_path / "model", Names("tiny"))
    counts = validate(asr.load(tmp_path / "model"), job.material.validation)
    assert lines(tmp_path / "run")[-1]["validation"]["wer"] == counts.wer
    assert best.progress["best_error"] == counts.wer


def test_a_head_of_phones_is_judged_by_its_phones(tmp_path: Path) -> None:
    """What spells no words has no word-error rate, and none may be made up for it."""
    lexicon = tmp_path / "lexicon.txt"
    words = sorted({word for text in TEXTS for word in text.split()})
    lexicon.write_text("".join(f"{word}\t{' '.join(word)}\n" for word in words))
    first = [f"heads.sounds.lexicon=['{lexicon}']", "heads.sounds.kind=phones"]
    plain = recipe(tmp_path, *first, "validation.every_steps=3", SIX)
    chosen = replace(plain, heads={"sounds": plain.heads["sounds"]})
    whole(Run(chosen, tmp_path / "run"))
    judged = [line["validation"] for line in lines(tmp_path / "run") if "validation" in line]
    assert [sorted(figures) for figures in judged] == [["sounds.errors", "sounds.loss"]] * 2
    best = read_checkpoint(tmp_path / "run" / "best.pt")
    assert best.progress["best_error"] == min(figures["sounds.errors"] for figures in judged)


def test_patience_ends_a_run_that_gets_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two validations without a lower rate; the best weights are those of the lowest one."""
    rates = iter([0.9, 0.4, 0.5, 0.4, 0.1])
    monkeypatch.setattr(run_module, "word_error_rate", lambda *_: next(rates))
    chosen = recipe(tmp_path, "validation.every_steps=2", "validation.patience=2")
    job = Run(chosen, tmp_path / "run")
    assert len(whole(job)) == 8
    best = read_checkpoint(tmp_path / "run" / "best.pt")
    assert (best.progress["step"], best.progress["best_error"]) == (4, 0.4)
    again = Run(chosen, tmp_path / "run", resume=True)
    assert whole(again) == []


def test_a_finished_run_that_is_resumed_does_nothing(tmp_path: Path) -> None:
    """And a larger budget lets it go on."""
    whole(Run(recipe(tmp_path, SIX), tmp_path / "run"))
    before = lines(tmp_path / "run")
    assert whole(Run(recipe(tmp_path, SIX), tmp_path / "run", resume=True)) == []
    assert lines(tmp_path / "run") == before
    assert len(whole(Run(recipe(tmp_path, "budget.steps=8"), tmp_path / "run", resume=True))) == 2


def test_a_resumed_run_says_what_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forgotten `--set` is seen at once; a changed decay of weights takes effect."""
    stopped_at(Run(recipe(tmp_path, SIX), tmp_path / "run"), 2)
    job = Run(recipe(tmp_path, SIX, "optimiser.weight_decay=0.5"), tmp_path / "run", resume=True)
    assert "changed since the run began: optimiser.weight_decay" in capsys.readouterr().err
    assert job.trainer.optimiser.param_groups[0]["weight_decay"] == 0.5
    with pytest.raises(ConfigError, match="--resume: the recipe's network or heads are not those"):
        Run(recipe(tmp_path, SIX, "network.width=8"), tmp_path / "run", resume=True)


def test_a_crash_costs_the_steps_since_the_checkpoint_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made again, and stand once in the metrics."""
    monkeypatch.setattr("training.journal.LOG_EVERY", 1)
    chosen = recipe(tmp_path, SIX)
    stopped_at(Run(chosen, tmp_path / "run"), 2)
    job = Run(chosen, tmp_path / "run", resume=True)
    monkeypatch.setattr(job, "_save", lambda: None)  # a power failure
    stopped_at(job, 5)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5]
    whole(Run(chosen, tmp_path / "run", resume=True))
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5, 6, 6]


def test_a_budget_of_minutes_counts_training_alone_and_over_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the time between two parts nor that of validations."""
    now = [0.0]
    monkeypatch.setattr("training.loop.time.monotonic", lambda: now[0])

    def slow_validation(*_: object) -> float:
        now[0] += 3600
        return 0.5

    called = ExampleMaker.__call__

    def slowly(make: ExampleMaker, batch: Batch) -> Examples | None:
        now[0] += 30
        return called(make, batch)

    monkeypatch.setattr(ExampleMaker, "__call__", slowly)
    monkeypatch.setattr(run_module, "word_error_rate", slow_validation)
    chosen = recipe(tmp_path, "budget.steps=0", "budget.minutes=2.5", "validation.every_minutes=1")

    def run(*, resume: bool, stop_at: int) -> Run:
        job = Run(chosen, tmp_path / "run", resume=resume)
        now[0] += 1000  # until it begins

        def after(step: int) -> None:
            if step == stop_at:
                job.request_stop()

        watch(job, after)
        job.train()
        return job

    assert run(resume=False, stop_at=3).trainer.progress.minutes == pytest.approx(1.5)
    job = run(resume=True, stop_at=99)
    assert job.trainer.progress.step == 5
    assert job.trainer.progress.minutes == pytest.approx(2.5)


# Bad data and bad folders.


def damage(folder: Path, kind: str) -> None:
    """Spoil one of eight recordings so that it shows only when it is read."""
    path, samples = folder / "train" / "0.wav", tones(TEXTS[0])
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:50])
    elif kind == "NaN":
        soundfile.write(path, np.full(len(samples), np.nan), 16000, subtype="FLOAT")
    elif kind == "rate":
        soundfile.write(path, samples, 8000)
    elif kind == "length":
        soundfile.write(path, samples[:-100], 16000)


@pytest.mark.parametrize("kind", ["truncated", "NaN", "rate", "length"])
def test_a_recording_that_turns_out_bad_is_left_out(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on without it, its weights stay numbers, and the file is named."""
    chosen = recipe(tmp_path, "budget.steps=12", "batches.bad_share=0.2")
    damage(tmp_path, kind)
    job = Run(chosen, tmp_path / "run")
    reports = whole(job)
    assert all(np.isfinite(report.loss) for report in reports)
    assert all(bool(value.isfinite().all()) for value in job.trainer.average.values())
    assert re.search(
        r"left out while training: 1 × unreadable audio \(such as train-0: ",
        capsys.readouterr().err,
    )


def test_too_many_of_them_stop_the_run_and_keep_its_checkpoint(tmp_path: Path) -> None:
    """One of eight is more than 5 %; what was learnt until then is not lost."""
    chosen = recipe(tmp_path)
    damage(tmp_path, "truncated")
    with pytest.raises(DataError, match=r"12\.5 % of a source cannot be used: 1 × unreadable"):
        Run(chosen, tmp_path / "run").train()
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt").progress["step"] > 0


def test_validation_files_are_read_before_the_run(tmp_path: Path) -> None:
    """A night must not end at its first validation."""
    chosen = recipe(tmp_path)
    (tmp_path / "validation" / "1.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 3 utterances cannot be read: 1 × unreadable"):
        Run(chosen, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    """A slip in `--run` must not begin another run."""
    with pytest.raises(BundleError, match=r"checkpoint\.pt: nothing to resume"):
        Run(recipe(tmp_path), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt", "metrics.jsonl"])
def test_a_run_never_overwrites_another(tmp_path: Path, name: str) -> None:
    """Whatever there is of it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("")
    with pytest.raises(ConfigError, match="run: a run is here already; go on with it"):
        Run(recipe(tmp_path), tmp_path / "run")


def test_a_checkpoint_for_recognition_cannot_be_resumed(tmp_path: Path) -> None:
    """It lacks the optimiser's state: going on would be something else than resuming."""
    whole(Run(recipe(tmp_path, SIX), tmp_path / "run"))
    (tmp_path / "run" / "best.pt").replace(tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(BundleError, match="no run to go on with; use --init"):
        Run(recipe(tmp_path, SIX), tmp_path / "run", resume=True)


def test_old_checkpoints_count_their_batches_by_their_steps(tmp_path: Path) -> None:
    """Runs that began before batches were counted go on where they were."""
    chosen = recipe(tmp_path, SIX)
    stopped_at(Run(chosen, tmp_path / "run"), 3)
    path = tmp_path / "run" / "checkpoint.pt"
    old = read_checkpoint(path)
    del old.progress["batches"]
    write_checkpoint(path, old)
    job = Run(chosen, tmp_path / "run", resume=True)
    assert job.trainer.batches.drawn == job.trainer.progress.batches == 3


def test_init_takes_weights_units_and_statistics(tmp_path: Path) -> None:
    """Transfer begins where the other run ended, with a fresh optimiser and budget."""
    whole(Run(recipe(tmp_path, SIX), tmp_path / "first"))
    start = read_start(tmp_path / "first" / "best.pt")
    job = Run(recipe(tmp_path, SIX), tmp_path / "second", start)
    assert same(job.trainer.average, start.weights)
    assert job.trainer.make.log_mel.mean.tolist() == start.mean
    assert job.trainer.progress == Progress()
    strange = Start({"x": torch.zeros(1)}, {}, start.mean, start.deviation)
    with pytest.raises(BundleError, match="none of the weights to start from fits"):
        Run(recipe(tmp_path, SIX), tmp_path / "third", strange)


def test_sources_are_mixed_by_weight_librispeech_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both forms in one recipe; the batches come three to one."""
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "19" / "198"
    chapter.mkdir(parents=True)
    texts = []
    for number, text in enumerate(TEXTS):
        soundfile.write(chapter / f"19-198-{number:04}.flac", tones(text), 16000)
        texts.append(f"19-198-{number:04} {text.upper()}\n")
    (chapter / "19-198.trans.txt").write_text("".join(texts))
    chosen = recipe(
        tmp_path,
        "budget.steps=40",
        "batches.seconds=2",
        "data.0.weight=3",
        f"data.1.librispeech={tmp_path}",
        "data.1.split=dev-clean",
    )
    job = Run(chosen, tmp_path / "run")
    assert [len(store.utterances) for store in job.material.stores] == [8, 8]
    stream = BatchStream(
        [[u.samples for u in store.utterances] for store in job.material.stores],
        [3, 1],
        32_000,
        chosen.seed,
        short_first=True,
    )
    expected = [next(stream) for _ in range(40)]
    seen: list[Batch] = []
    called = ExampleMaker.__call__

    def seeing(make: ExampleMaker, batch: Batch) -> Examples | None:
        seen.append(batch)
        return called(make, batch)

    monkeypatch.setattr(ExampleMaker, "__call__", seeing)
    whole(job)
    assert seen == expected
    assert 4 <= sum(batch.source for batch in seen) <= 16


# The command, and other processes.


def command(folder: Path, *arguments: object) -> list[str]:
    """`asr train` over the miniature recordings of a folder."""
    sets = [part for setting in settings(folder) for part in ("--set", setting)]
    return ["train", str(TINY), *sets, "--run", str(folder / "run"), *map(str, arguments)]


def test_check_reads_everything_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad recordings are named before a night is spent; too many are a failure."""
    settings(tmp_path)
    damage(tmp_path, "NaN")
    assert main(command(tmp_path, "--check", "--set", "batches.bad_share=0.2")) == 0
    told = capsys.readouterr().err
    assert "train.jsonl: 8 utterances" in told
    assert "train.jsonl: 1 × unreadable audio (such as train-0: " in told
    assert main(command(tmp_path, "--check")) == 1
    assert "1 of 8 utterances cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "optimiser.rat=1"], 2, "optimiser: unknown key 'rat'"),
        (["--set", "data.0.manifest=gone.jsonl"], 1, "gone.jsonl: cannot be read as a manifest"),
        (["--init", "gone.pt"], 1, "gone.pt: this checkpoint cannot be read: No such file"),
        (["--init", "x.pt", "--resume"], 2, "give only one"),
        (["--resume"], 1, "nothing to resume"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sentence, no trace; exit code 2 where the command itself makes no sense."""
    assert main(command(tmp_path, *arguments)) == code
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_stopped_command_ends_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `asr train … && asr export …` exports no half-trained model."""
    monkeypatch.setattr(Run, "_asked_to_stop", lambda _self: True)
    assert main(command(tmp_path)) == 130
    monkeypatch.undo()
    monkeypatch.setattr(run_module, "word_error_rate", lambda *_: 0.5)
    assert main(command(tmp_path, "--resume", "--set", "budget.steps=3")) == 0


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def test_ctrl_c_saves_and_stops_and_the_run_goes_on(tmp_path: Path) -> None:
    """The real process, the real signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", *command(tmp_path, "--set", "budget.steps=100000")],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "million parameters" in line:  # training begins
            break
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert process.wait(60) == 130, told
    assert "the checkpoint is being kept" in told
    assert "Traceback" not in told
    stopped = read_checkpoint(tmp_path / "run" / "checkpoint.pt").progress["step"]
    again = main(command(tmp_path, "--resume", "--set", f"budget.steps={stopped + 2}"))
    assert again == 0
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt").progress["step"] == stopped + 2


WORKER = """
import sys
from pathlib import Path
import torch
from tests.training.miniature import recipe
from training import run as module
module.word_error_rate = lambda *_: 0.5
folder, stop, overrides = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
job = module.Run(recipe(folder, *overrides), folder / "run", resume=not stop)
step, rank = job.trainer.step, job.processes.rank
def stopping():
    report = step()
    if job.trainer.progress.step == stop and rank == 1:
        job.request_stop()
    return report
job.trainer.step = stopping
assert job.train() is not bool(stop)
torch.save(job.trainer.network.state_dict(), folder / f"rank{rank}.pt")
"""


def together(folder: Path, stop: int, *overrides: str) -> None:
    """Train with two processes; the second asks to stop after step `stop`, or 0: both resume."""
    (folder / "worker.py").write_text(WORKER)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-addr", "127.0.0.1", "--master-port", str(port)),
            *(str(folder / "worker.py"), str(folder), str(stop), *overrides),
        ],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


class Both(Processes):
    """Two processes in one: each step's gradients are those of two batches, averaged."""

    def __init__(self) -> None:
        """Pretend that there is another one, which does nothing."""
        super().__init__()
        self.size = 2

    def average_gradients(self, parameters: Any, *, counts: bool) -> int:
        """What torch.distributed would do with the gradients of both."""
        del counts
        for parameter in parameters:
            parameter.grad /= 2
        return 2

    def _reduce(self, values: tuple[float, ...], how: Any) -> list[float]:
        del how
        return list(values)


def one_process(folder: Path, steps: int, *overrides: str) -> Iterator[dict[str, Tensor]]:
    """The weights after each step of a single process over the same global batches."""
    chosen = recipe(folder, *overrides)
    monkeyed = Both.__new__(Both)
    monkeyed.size, monkeyed.rank, monkeyed.device = 2, 0, torch.device("cpu")
    trainer = make_trainer(chosen, prepare(chosen, {}), monkeyed, None, print)
    backward = trainer._backward  # noqa: SLF001 - the other process's batch is added here
    other = BatchStream(
        trainer.batches.sources,
        [1.0],
        trainer.batches.bound,
        chosen.seed,
        short_first=True,
    )

    def of_both(examples: Any) -> dict[str, float]:
        losses = backward(examples)
        other.skip(1)
        second = trainer.make(next(other))
        assert second is not None
        backward(second)
        return losses

    trainer._backward = of_both  # type: ignore[method-assign]  # noqa: SLF001
    for _ in range(steps):
        trainer.step()
        yield {name: value.clone() for name, value in trainer.network.state_dict().items()}


def test_two_processes_learn_what_one_would(tmp_path: Path) -> None:
    """Equal weights in both, and those of a single process over the same batches.

    The run is also stopped by one process and resumed by both on the way.
    """
    overrides = (*PLAIN, "budget.steps=5", "batches.seconds=3", f"cache={tmp_path / 'cache'}")
    settings(tmp_path)
    together(tmp_path, 2, *overrides)
    together(tmp_path, 0, *overrides)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert same(first, second)
    *_, expected = one_process(tmp_path, 5, *overrides)
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, atol=1e-4, rtol=1e-3)
    kept = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert kept.progress["batches"] == 10
    assert same(kept.live, first)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2  # one for each part


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [((2.0, 1), (4.0, 1), 3.0), ((0.0, 0), (4.0, 1), 4.0), ((0.0, 0), (0.0, 0), 0.0)],
)
def test_a_process_without_examples_does_not_dilute_the_gradient(
    monkeypatch: pytest.MonkeyPatch,
    own: tuple[float, int],
    other: tuple[float, int],
    expected: float,
) -> None:
    """The mean is over those that had something to learn from; if none had, the step is skipped."""

    def all_reduce(flat: Tensor) -> None:
        flat += torch.tensor([other[0], other[0], float(other[1])])

    monkeypatch.setattr("training.processes.distributed.all_reduce", all_reduce)
    processes = Processes.__new__(Processes)
    processes.size, processes.rank, processes.device = 2, 0, torch.device("cpu")
    weights = torch.nn.Parameter(torch.zeros(2))
    if own[1]:
        weights.grad = torch.full((2,), own[0])
    contributors = processes.average_gradients([weights], counts=bool(own[1]))
    assert contributors == own[1] + other[1]
    assert weights.grad is not None
    assert weights.grad.tolist() == [expected] * 2


def test_a_step_whose_gradient_is_not_finite_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights and their average keep their bits."""
    trainer = Run(recipe(tmp_path, SIX), tmp_path / "run").trainer
    trainer.step()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    average = {name: value.clone() for name, value in trainer.average.items()}
    monkeypatch.setattr(trainer, "_clip", lambda: float("nan"))
    trainer.step()
    assert (trainer.progress.step, trainer.progress.skipped) == (2, 1)
    assert same(trainer.network.state_dict(), before)
    assert same(trainer.average, average)
