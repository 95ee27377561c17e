"""Stop in the middle of a recording, keep the state in a file, go on as if nothing had happened.

The second half may run in another process, tomorrow, on another machine: the words are the same to
the last bit, because everything that a stream remembers is in the state.

python examples/stop_and_go_on.py [FILE [MODEL]]
"""

import sys
import tempfile
from pathlib import Path

import asr
from asr import audio, resampling
from asr.demo import RECORDING

file = sys.argv[1] if len(sys.argv) > 1 else RECORDING
model = sys.argv[2] if len(sys.argv) > 2 else None
try:
    recording = audio.read(file)
    recogniser = asr.load(model)
except asr.Error as error:
    sys.exit(str(error))
samples = resampling.resample(recording.samples, recording.sample_rate)  # 16 kHz
middle = len(samples) // 2

state, events = recogniser.step(recogniser.start(), samples[:middle])
with tempfile.TemporaryDirectory() as folder:
    saved = Path(folder) / "state"
    saved.write_bytes(state.dump())
    print(
        f"{middle / 16000:.1f} s of audio are behind us; all of it is in {len(state.dump())} bytes"
    )
    state = recogniser.restore(saved.read_bytes())
state, more = recogniser.step(state, samples[middle:])
state, last = recogniser.finish(state)

text = " ".join(e.text for e in [*events, *more, *last] if isinstance(e, asr.Final))
print(text)
print("the same as in one piece:", text == recogniser.transcribe(samples).text)
