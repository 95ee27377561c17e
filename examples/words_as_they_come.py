"""Show what a recogniser knows after every half second: what is certain, and [what may change].

python examples/words_as_they_come.py [FILE [MODEL]]
"""

import sys

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

stream = recogniser.stream()
events: list[asr.Event] = []
for begin in range(0, len(samples), 8000):
    events += stream.feed(samples[begin : begin + 8000])
    newest = events[-1] if events else None
    if isinstance(newest, asr.Partial):
        print(f"{begin / 16000 + 0.5:6.1f} s  {newest.stable} [{newest.tentative}]")
events += stream.finish()
for event in events:
    if isinstance(event, asr.Final):
        print(f"final {event.segment}: {event.text}")
