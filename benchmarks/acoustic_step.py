"""CPU time of one step of the acoustic network, its error in int8, and the size of its files.

    python -m benchmarks.acoustic_step                       # random weights: 4 x 512 LSTM
    python -m benchmarks.acoustic_step --cell gru --width 640
    python -m benchmarks.acoustic_step --checkpoint BEST.pt --audio asr/demo/recording.flac

A step is a block of 80 ms for each of N streams, on one thread. Times are CPU time of the process.
The forms take turns in bursts of ten steps, so that other work on the machine slows all alike;
still the ratios are surer than the times. The first step of a burst finds the caches full of the
other form's weights: that is "cold", as in a live stream beside other work; the others are "warm".

Errors are those of log-probabilities against PyTorch in float32 with the weights as they ship, over
the recordings if there are any, else over random features.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from asr import audio, resampling
from asr.acoustic import BLOCK_FRAMES, BLOCK_OUTPUTS
from asr.features import BANDS, Normalisation, log_mel
from asr.onnx_backend import OnnxModel
from benchmarks import inputs, program
from benchmarks.figure import Figure, report
from training.agreement import compare, random_features
from training.checkpoint import Checkpoint, read_checkpoint
from training.export import rounded
from training.graph import PRECISIONS, write_graph
from training.model import CELLS, AcousticNetwork, HeadConfig, NetworkConfig
from training.torch_backend import TorchModel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from asr.acoustic import AcousticModel, Array
    from training.agreement import Agreement

BATCHES = (1, 8, 32, 64)
BLOCK_MS = 80
BURST = 10  # steps
SPREAD = (10, 50, 90)  # percentiles
Times = dict[tuple[str, int], "NDArray[np.float64]"]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, record; the figure comes last."""
    args = parsed(arguments)
    torch.set_num_threads(1)
    checkpoint = read_checkpoint(args.checkpoint) if args.checkpoint else random_checkpoint(args)
    network = rounded(checkpoint.build())
    heads, look_ahead = network.config.exported_heads(), network.config.look_ahead
    models: dict[str, AcousticModel] = {}
    megabytes: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.onnx"
            write_graph(network, path, precision)
            megabytes[precision] = path.stat().st_size / 1e6
            models[precision] = OnnxModel(path, heads, look_ahead)
    times = measure(models, args.runs)
    features = features_of(args.audio, checkpoint) if args.audio else random_features()
    truth = TorchModel(network)
    errors = {name: compare(model, truth, features) for name, model in models.items()}
    print_times(times)
    for name, found in errors.items():
        print(
            f"{name}: {megabytes[name]:.2f} MB, largest error {found.largest:.1e}, "
            f"rms {found.rms:.1e}, another best unit in {found.choices:.2%} of "
            f"{features.shape[0] * features.shape[1] * BLOCK_OUTPUTS} frames"
        )
    figure = figure_of(times, network.config, errors, megabytes)
    return report("acoustic_step", [figure], arguments, args.results if args.record else None)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = inputs.parser("acoustic_step", str(__doc__), data=False)
    parser.add_argument("--checkpoint", type=Path, help="instead of random weights")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--audio", type=Path, nargs="+", default=[], help="with --checkpoint")
    parser.add_argument("--runs", type=int, default=1000, help="steps of each form")
    args = parser.parse_args(arguments)
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


def figure_of(
    times: Times,
    config: NetworkConfig,
    errors: dict[str, Agreement],
    megabytes: dict[str, float],
) -> Figure:
    """The int8 step of one stream; everything else as details."""
    low, median, high = (float(value) for value in np.percentile(times["int8", 1][:, 1:], SPREAD))
    medians = {
        f"{name}_{streams}_ms": round(float(np.median(values[:, 1:])), 3)
        for (name, streams), values in times.items()
    }
    return Figure(
        "acoustic_step",
        f"CPU time of an int8 step of 80 ms, {config.cell} {config.depth} x {config.width}, alone",
        median,
        "ms",
        times["int8", 1][:, 1:].size,
        (low, high),
        details={
            "spread": "10th to 90th percentile",
            **medians,
            **{f"{name}_megabytes": round(size, 2) for name, size in megabytes.items()},
            **{f"{name}_rms_error": float(f"{e.rms:.2g}") for name, e in errors.items()},
        },
    )


if __name__ == "__main__":
    program.run(main)
