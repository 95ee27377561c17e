"""Stream a WAV file to `asr serve` as if it were live, and print the words as they come.

    python examples/websocket_client.py speech.wav ws://127.0.0.1:8765/v1/stream

Needs the package websockets and nothing of this project: a start for a client in any language. The
file must be 16-bit mono of 8 to 48 kHz. The protocol: docs/protocol.md.
"""

import asyncio
import json
import sys
import wave

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException


async def speak(connection: ClientConnection, recording: wave.Wave_read) -> None:
    """Send the audio in real time, 80 ms a message, then say that it is over."""
    while audio := recording.readframes(recording.getframerate() * 80 // 1000):
        await connection.send(audio)
        await asyncio.sleep(0.08)
    await connection.send(json.dumps({"type": "finish"}))


async def listen(connection: ClientConnection) -> None:
    """Print what the server says until it is done."""
    async for text in connection:
        message = json.loads(text)
        if message["type"] == "partial":
            print(f"  {message['stable']} [{message['tentative']}]")
        elif message["type"] == "final":
            print(message["text"])
        elif message["type"] == "error":
            sys.exit(message["message"])


async def main(path: str, url: str) -> None:
    """One session."""
    with wave.open(path) as recording:
        if (recording.getnchannels(), recording.getsampwidth()) != (1, 2):
            sys.exit(f"{path}: not 16-bit mono; convert it first")
        audio_format = {"encoding": "s16le", "sample_rate": recording.getframerate()}
        async with connect(url, compression=None) as connection:
            start = {"type": "start", "version": 1, "format": audio_format}
            await connection.send(json.dumps(start))
            await asyncio.gather(speak(connection, recording), listen(connection))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (OSError, EOFError, wave.Error, WebSocketException) as error:
        sys.exit(f"{sys.argv[1]} to {sys.argv[2]}: {str(error) or 'no WAV file'}")
