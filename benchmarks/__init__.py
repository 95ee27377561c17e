"""One program per figure: `python -m benchmarks.NAME --help`; all: `python -m benchmarks`."""

import os

# Read when NumPy is loaded: every figure is that of one thread a process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
