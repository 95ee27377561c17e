"""CPU time of one step of the acoustic network, its error in int8, and the size of its files.

    python benchmarks/acoustic_step.py                       # random weights: 4 x 512 LSTM
    python benchmarks/acoustic_step.py --cell gru --width 640
    python benchmarks/acoustic_step.py --checkpoint runs/english/best.pt --audio asr/demo/*.flac

A step is a block of 80 ms for each of N streams, on one thread. Times are CPU time of the process.
The forms take turns in bursts of ten steps, so that other work on the machine slows all alike;
still the ratios are surer than the times. The first step of a burst finds the caches full of the
other form's weights: that is "cold", as in a live stream beside other work; the others are "warm".

Errors are those of log-probabilities against PyTorch in float32 with the weights as they ship, over
the recordings if there are any, else over random features.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from asr import audio, resampling
from asr.acoustic import BLOCK_FRAMES
from asr.features import BANDS, Normalisation, log_mel
from asr.onnx_backend import OnnxModel
from training.agreement import compare, random_features
from training.checkpoint import Checkpoint, read_checkpoint
from training.export import rounded
from training.graph import PRECISIONS, write_graph
from training.model import CELLS, AcousticNetwork, HeadConfig, NetworkConfig
from training.torch_backend import TorchModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asr.acoustic import AcousticModel, Array

BATCHES = (1, 8, 32, 64)
BLOCK_MS = 80
BURST = 10  # steps
Times = dict[tuple[str, int], "NDArray[np.float64]"]


def main() -> None:
    """Measure and print; the figure comes last."""
    args = arguments()
    torch.set_num_threads(1)
    checkpoint = read_checkpoint(args.checkpoint) if args.checkpoint else random_checkpoint(args)
    network = rounded(checkpoint.build())
    heads, look_ahead = network.config.exported_heads(), network.config.look_ahead
    models: dict[str, AcousticModel] = {}
    with TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.onnx"
            write_graph(network, path, precision)
            print(f"{precision}: {path.stat().st_size / 1e6:.2f} MB")
            models[precision] = OnnxModel(path, heads, look_ahead)
    times = measure(models, args.runs)
    print_times(times)
    features = features_of(args.audio, checkpoint) if args.audio else random_features()
    print_errors(models, TorchModel(network), features)
    print_figure(times["int8", 1], network.config)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="instead of random weights")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--audio", type=Path, nargs="+", default=[], help="with --checkpoint")
    parser.add_argument("--runs", type=int, default=1000, help="steps of each form")
    args = parser.parse_args()
    if args.audio and not args.checkpoint:
        parser.error("--audio needs a --checkpoint: random weights know no normalisation")
    return args


def random_checkpoint(args: argparse.Namespace) -> Checkpoint:
    """An untrained network with 257 units."""
    torch.manual_seed(0)
    heads = {"pieces": HeadConfig(257, args.depth)}
    config = NetworkConfig(cell=args.cell, width=args.width, depth=args.depth, heads=heads)
    weights = AcousticNetwork(config).state_dict()
    return Checkpoint(config, weights, {}, [0.0] * BANDS, [1.0] * BANDS)


def features_of(paths: list[Path], checkpoint: Checkpoint) -> Array:
    """The recordings one after the other as one stream: normalised blocks [B, 1, 8, 80]."""
    mean, deviation = (
        np.array(values, np.float32) for values in (checkpoint.mean, checkpoint.deviation)
    )
    normalise = Normalisation(mean, deviation)
    blocks = []
    for path in paths:
        sound = audio.read(path)
        frames = normalise(log_mel(resampling.resample(sound.samples, sound.sample_rate)))
        whole = len(frames) // BLOCK_FRAMES * BLOCK_FRAMES
        blocks.append(frames[:whole].reshape(-1, 1, BLOCK_FRAMES, BANDS))
    return np.concatenate(blocks)


def measure(models: dict[str, AcousticModel], runs: int) -> Times:
    """Bursts [bursts, 10] of milliseconds of CPU time, by precision and number of streams."""
    times: Times = {}
    for streams in BATCHES:
        block = random_features(1, streams)[0]
        bursts: dict[str, list[list[float]]] = {name: [] for name in models}
        for _ in range(max(5, runs // BURST // streams)):
            for name, model in models.items():
                bursts[name].append(burst(model, block))
        times |= {(name, streams): np.array(values) for name, values in bursts.items()}
    return times


def burst(model: AcousticModel, block: Array) -> list[float]:
    """Milliseconds of CPU time of ten steps in a row."""
    states, times = [model.initial()] * len(block), []
    for _ in range(BURST):
        begin = time.process_time()
        _, states = model.step(block, states)
        times.append(1000 * (time.process_time() - begin))
    return times


def print_times(times: Times) -> None:
    """A table: warm and cold steps, real-time factor per stream, ratios of warm steps."""
    print("| form | streams | ms, warm | cold | RTF per stream | float32 / this | alone / this |")
    print("|---|---|---|---|---|---|---|")
    for (name, streams), values in times.items():
        warm, cold = np.median(values[:, 1:]), np.median(values[:, 0])
        to_float = np.median(times["float32", streams][:, 1:]) / warm
        to_alone = streams * np.median(times[name, 1][:, 1:]) / warm
        print(
            f"| {name} | {streams} | {warm:.2f} | {cold:.2f} | {warm / streams / BLOCK_MS:.4f} | "
            f"{to_float:.1f} | {to_alone:.1f} |"
        )


def print_errors(models: dict[str, AcousticModel], truth: AcousticModel, features: Array) -> None:
    """Each form against PyTorch."""
    for name, model in models.items():
        found = compare(model, truth, features)
        print(
            f"{name}: largest error {found.largest:.1e}, rms {found.rms:.1e}, another best unit in "
            f"{found.choices:.2%} of {features.shape[0] * features.shape[1] * 2} frames"
        )


def print_figure(times: NDArray[np.float64], config: NetworkConfig) -> None:
    """The one line for scripts."""
    warm = times[:, 1:]
    low, median, high = np.percentile(warm, [10, 50, 90])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  # git is where PATH says
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(
        f"acoustic step, int8 {config.cell} {config.depth}x{config.width}, one stream: "
        f"{median:.3f} ms CPU per 80 ms block ({warm.size} runs, p10 {low:.3f}, p90 {high:.3f}; "
        f"{platform.processor() or platform.machine()}, commit {commit or 'unknown'})"
    )


if __name__ == "__main__":
    main()
