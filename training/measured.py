"""What a trained network is worth: errors, size, time, and what its exported form does."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asr
from asr.decoding.settings import BeamSettings
from asr.errors import ConfigError
from asr.evaluate import evaluate
from asr.manifest import Utterance, read_manifest
from asr.measure import Settings
from training.checkpoint import read_checkpoint
from training.decoding import LanguageSource
from training.export import Names, export_bundle
from training.parameters import cell_parameters
from training.validation import head_results

if TYPE_CHECKING:
    from training.checkpoint import Checkpoint
    from training.recipe import Recipe
    from training.run import Run

PRIOR_WEIGHT = 0.4  # of the units' log priors in the search, where a head knows CTC only


def measure(run: Run, bundle: Path, lm: Path | None) -> dict[str, Any]:
    """Measure a run that is over: its averaged weights at the end of the budget.

    Args:
        run: trained.
        bundle: folder for the exported model, which is kept.
        lm: folder with `lm.ngram` and `lm.words.txt` to recognise with; None: spell.

    Returns:
        JSON values. `error` is what the comparison is decided by: the unit errors of the first
        head. `wer`, `emission_ms` are None where no word can be recognised.

    Raises:
        ConfigError: a language model is given, and no exported head writes phones.
    """
    checkpoint = read_checkpoint(run.files.checkpoint)
    results = head_results(checkpoint.build(), run.trainer.make.log_mel, run.material.validation)
    first = next(iter(run.recipe.heads))
    return {
        "cell": run.recipe.network.cell,
        "network": asdict(run.recipe.network),
        "optimiser": asdict(run.recipe.optimiser),
        "data": [source.manifest or source.split for source in run.recipe.data],
        "seed": run.recipe.seed,
        **_size(checkpoint),
        **_effort(run, checkpoint),
        "training_loss": _last_loss(run.files.metrics),
        "loss": {name: result.loss for name, result in results.items()},
        "errors": {name: result.errors for name, result in results.items()},
        "error": results[first].errors,
        "error_of": first,
        **_recognise(run, checkpoint, bundle, lm),
    }


def _size(checkpoint: Checkpoint) -> dict[str, Any]:
    chosen = checkpoint.network
    recurrent = chosen.depth * cell_parameters(chosen.cell, chosen.width, chosen.width)
    total = sum(value.numel() for value in checkpoint.weights.values())
    return {"parameters": total, "recurrent_parameters": recurrent}


def _effort(run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    progress = checkpoint.progress
    hours, there = progress["hours"], sum(store.hours for store in run.material.stores)
    return {
        "steps": progress["step"],
        "skipped": progress["skipped"],
        "hours": hours,
        "hours_of_data": there,
        "passes": hours / there,
        "minutes": progress["minutes"],
        "processor_minutes": progress["processor_minutes"],
        "wall_seconds_per_hour": 60 * progress["minutes"] / hours,
        "processor_seconds_per_hour": 60 * progress["processor_minutes"] / hours,
    }


def _last_loss(metrics: Path) -> float:
    """Mean loss of the last steps that a line of `metrics.jsonl` stands for."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return float([row["training"]["loss"] for row in rows if "training" in row][-1])


def _recognise(run: Run, checkpoint: Checkpoint, bundle: Path, lm: Path | None) -> dict[str, Any]:
    """What the exported int8 model does as a live stream in chunks of 80 ms."""
    language = _language(run.recipe, lm) if lm else None
    names = Names("comparison", run.recipe.language)
    export_bundle(checkpoint, bundle, names, language=language)
    load = functools.partial(asr.load, str(bundle))
    found = evaluate(load, spoken(run), Settings(80)).summary()
    heads = run.recipe.heads
    exported = next(iter(checkpoint.network.exported_heads()))
    writes = language is not None or heads[exported].kind != "phones"
    return {
        "decoder": "beam" if language else "greedy",
        "recordings": found["utterances"],
        "failed": found["failed"],
        "audio_seconds": found["audio_seconds"],
        "wer": found["wer"] if writes else None,
        "wer_interval": found["wer_interval"] if writes else None,
        "emission_ms": found["emission_ms"] if writes else None,
        "rtf": found["rtf"],
        "rtf_processor": found["rtf_cpu"],
    }


def searched_head(recipe: Recipe) -> str:
    """The head that words are searched with: the first of phones on the last layer.

    Raises:
        ConfigError: there is none.
    """
    for name, head in recipe.heads.items():
        if head.kind == "phones" and head.layer in {None, recipe.network.depth}:
            return name
    raise ConfigError("--lm: a head of phones on the last layer is needed to search words with")


def _language(recipe: Recipe, lm: Path) -> LanguageSource:
    name = searched_head(recipe)
    head = recipe.heads[name]
    priors = next((Path(source.manifest) for source in recipe.data if source.manifest), None)
    weight = 0.0 if head.crf or priors is None else PRIOR_WEIGHT
    settings = BeamSettings(head=name, prior_weight=weight)
    return LanguageSource(lm, tuple(map(Path, head.lexicon)), settings, priors)


def spoken(run: Run) -> list[Utterance]:
    """The validation recordings of a run, with speakers and word times where they are known."""
    manifest = run.recipe.validation.manifest
    known = {row.path: row for row in read_manifest(Path(manifest))} if manifest else {}
    return [
        known.get(own.path) or Utterance(own.name, own.path, own.text)
        for own in run.material.validation
    ]
