"""Listen to the microphone for some seconds, then print subtitles of what was said.

python examples/microphone_to_subtitles.py [SECONDS [MODEL]]
"""

import sys
from collections.abc import Iterator

import asr
from asr import writers
from asr.audio import Samples
from asr.live import transcribe
from asr.microphone import Microphone

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
model = sys.argv[2] if len(sys.argv) > 2 else None
recogniser = asr.load(model)


def some_seconds(microphone: Microphone, limit: float) -> Iterator[Samples]:
    """What is heard in that time."""
    for samples in microphone.blocks():
        yield samples
        if microphone.received >= limit * microphone.sample_rate:
            microphone.stop()


try:
    with Microphone() as microphone:
        print("listening", file=sys.stderr, flush=True)
        heard = some_seconds(microphone, seconds)
        transcript, _ = transcribe(recogniser, heard, microphone.sample_rate)
except asr.Error as error:
    sys.exit(str(error))
print(writers.srt(transcript), end="")
