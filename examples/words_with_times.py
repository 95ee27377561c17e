"""Write down a recording, one word a line, with its times in seconds.

python examples/words_with_times.py [FILE [MODEL]]
"""

import sys

import asr
from asr.demo import RECORDING

file = sys.argv[1] if len(sys.argv) > 1 else RECORDING
model = sys.argv[2] if len(sys.argv) > 2 else None
try:
    transcript = asr.load(model).transcribe(file)
except asr.Error as error:
    sys.exit(str(error))
for word in transcript.words:
    start, end = word.start / transcript.sample_rate, word.end / transcript.sample_rate
    print(f"{start:8.2f} {end:8.2f}  {word.text}  ({word.confidence:.0%} sure)")
