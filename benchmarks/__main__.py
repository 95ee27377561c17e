"""All figures, one after the other: `python -m benchmarks [--record] [DATA]`.

DATA is the set that WER, company and streaming against offline are measured on; without it the demo
recording serves. Setting up takes minutes and a network, so it is measured only with `--setup`;
emission latency and the aligner need speech whose times are known, `--aligned` and `--synthetic`;
robustness needs noises and rooms, `--noise`; resuming needs a `redis-server`. The server
under load, for half an hour and on a hostile day takes an hour and a half in all: `--server`.
"""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from benchmarks import program

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run them; 1 if any target was missed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("data", nargs="?", metavar="DATA", help="manifest or folder")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    parser.add_argument("--setup", action="store_true", help="measure setting up, too")
    parser.add_argument("--server", action="store_true", help="measure the server, too")
    parser.add_argument("--aligned", metavar="FILE", help="manifest that asr align wrote")
    parser.add_argument("--synthetic", metavar="FILE", help="manifest with a synthesiser's times")
    parser.add_argument("--noise", metavar="FILE", help="manifest of noises and rooms")
    parser.add_argument("--lexicon", metavar="FILE", action="append", default=[], help="for it")
    args = parser.parse_args(arguments)

    from benchmarks import (  # some need PyTorch, help does not
        alignment,
        company,
        emission_latency,
        examples,
        hostile,
        memory_and_start,
        realtime_factor,
        resume,
        robustness,
        server_load,
        setup,
        soak,
        streaming_equals_offline,
        wer,
    )

    server = (server_load.main, soak.main, hostile.main)
    lexicon = [part for file in args.lexicon for part in ("--lexicon", file)]
    record = ["--record"] if args.record else []
    data = [args.data] if args.data else []
    codes = [
        memory_and_start.main(record),
        realtime_factor.main([*record, *data]),
        company.main([*record, *data]),
        streaming_equals_offline.main([*record, *data]),
        wer.main([*record, *data]),
        examples.main([*record, *data]),
        resume.main([*record, *data]) if shutil.which("redis-server") else 0,
        robustness.main([*record, *data, "--noise", args.noise]) if args.noise else 0,
        emission_latency.main([*record, args.aligned]) if args.aligned else 0,
        alignment.main([*record, args.synthetic, *lexicon]) if args.synthetic else 0,
        setup.main(record) if args.setup else 0,
        *(measure([*record, *data]) for measure in server if args.server),
        server_load.main([*record, *data, "--decoder", "greedy"]) if args.server else 0,
    ]
    return max(codes)


if __name__ == "__main__":
    program.run(main)
