"""Speech in miniature: a second or two of tones with transcripts, and tiny recipes over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from training.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "tiny.toml"
TEXTS = ("a cat", "be a bee", "see", "a bad deed", "dad", "ace", "fade a", "cab")


def tones(text: str, seed: int = 0) -> NDArray[np.float32]:
    """A tone of 0.12 s for each character, with a little noise."""
    random = np.random.default_rng(seed)
    n = np.arange(1920)
    parts = [
        np.zeros(1920) if letter == " " else np.sin(0.02 * (ord(letter) - 90) * n)
        for letter in text
    ]
    samples = 0.3 * np.concatenate([*parts, np.zeros(4000)])
    return (samples + 0.003 * random.standard_normal(len(samples))).astype(np.float32)


def write_manifest(folder: Path, name: str, texts: tuple[str, ...] = TEXTS, **more: Any) -> Path:
    """A manifest of recordings of these texts, which are made too; returns its path."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(texts):
        samples = tones(text, number)
        audio = f"{name}/{number}.wav"
        soundfile.write(folder / audio, samples, 16000)
        row = {"id": f"{name}-{number}", "audio": audio, "text": text, "samples": len(samples)}
        lines.append(json.dumps(row | more) + "\n")
    path = folder / f"{name}.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def settings(folder: Path, *more: str) -> list[str]:
    """What makes configs/tiny.toml train on the recordings of a folder; makes them if need be."""
    for name in ("train", "validation"):
        if not (folder / f"{name}.jsonl").exists():
            write_manifest(folder, name, TEXTS if name == "train" else TEXTS[:3])
    return [
        f"data.0.manifest={folder / 'train.jsonl'}",
        f"validation.manifest={folder / 'validation.jsonl'}",
        *more,
    ]


def recipe(folder: Path, *more: str) -> Recipe:
    """configs/tiny.toml over the recordings of a folder, with more settings."""
    return read_recipe(TINY, settings(folder, *more))
