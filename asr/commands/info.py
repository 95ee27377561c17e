"""`asr info`: what a model is, and what it runs on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from asr.bundle import Bundle

SUMMARY = "tell what a model is: units, cell, size, latency, training, licence; and versions"
PACKAGES = ("numpy", "onnxruntime", "soundfile", "sounddevice", "websockets", "jiwer", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a shipped model's name or a bundle's folder (default: the one that ships)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print it.

    Returns:
        0.

    Raises:
        BundleError: there is no such model, or it is damaged.
    """
    from asr import bundle

    told = describe(bundle.read(bundle.find(args.model)))
    if args.json:
        import json

        print(json.dumps(told, ensure_ascii=False))
    else:
        for title, values in told.items():
            print(title)
            for line in _lines(values) or ["nothing told"]:
                print(f"  {line}")
    return 0


def describe(found: Bundle) -> dict[str, dict[str, Any]]:
    """Everything worth telling about a bundle and about what runs it, as plain values.

    `latency.algorithmic_ms` is how long after a sample comes the first frame that hears it is
    computed at the latest: a block (80 ms) and the network's look-ahead.
    """
    about = found.description
    acoustic = about.acoustic
    return {
        "model": {
            "name": about.name,
            "language": about.language,
            "licence": about.licence,
            "path": str(found.path),
            "id": found.id,
            "files_bytes": {
                path.name: path.stat().st_size
                for path in sorted(found.path.iterdir())
                if path.is_file()
            },
        },
        "acoustic": {
            "cell": acoustic.cell,
            "width": acoustic.width,
            "depth": acoustic.depth,
            "units": dict(acoustic.heads),
        },
        "latency": {
            "block_ms": _milliseconds("BLOCK_SAMPLES"),
            "look_ahead_ms": acoustic.look_ahead * _milliseconds("FRAME_SAMPLES"),
            "algorithmic_ms": acoustic.look_ahead * _milliseconds("FRAME_SAMPLES")
            + _milliseconds("BLOCK_SAMPLES"),
        },
        "training": dict(about.training),
        "program": _program(),
    }


def _milliseconds(constant: str) -> int:
    """One of the lengths in `asr.features`, in milliseconds."""
    from asr import features

    return int(getattr(features, constant)) * 1000 // features.SAMPLE_RATE


def _program() -> dict[str, Any]:
    """Versions; a package that is not installed is None."""
    import platform
    from importlib import metadata
    from pathlib import Path

    import asr
    from asr.commands import version

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "asr": version(),
        "path": str(Path(asr.__file__).parent),
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **versions,
    }


def _lines(values: dict[str, Any], path: str = "") -> list[str]:
    """One line a value, tables flattened to dotted names."""
    lines = []
    for key, value in values.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            lines += _lines(value, name)
        else:
            shown = "not installed" if value is None else value
            lines.append(f"{name:<34} {shown}")
    return lines
