"""A sound card without hardware: a private PulseAudio whose speaker is its microphone.

Needs PulseAudio and PortAudio's way to it (Debian: libportaudio2 pulseaudio pulseaudio-utils
libasound2-plugins). Works as root, without a desktop and without a session bus, beside any other
sound system. What is played is recorded sample for sample, at 16 kHz.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")
PLUGIN = "libasound_module_pcm_pulse.so"
SETTINGS = """\
.fail
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=speaker rate=16000 channels=1
load-module module-remap-source source_name=microphone master=speaker.monitor channels=1 rate=16000
set-default-sink speaker
set-default-source microphone
"""


def missing() -> str:
    """What of it is not installed, empty if all is."""
    lacking = [
        name for name in ("pulseaudio", "pactl", "paplay", "parec") if not shutil.which(name)
    ]
    if not ctypes.util.find_library("portaudio"):
        lacking.append("PortAudio")
    if not ALSA_CONFIG.exists() or not any(Path("/usr/lib").glob(f"**/alsa-lib/{PLUGIN}")):
        lacking.append("ALSA's PulseAudio plugin")
    return ", ".join(lacking)


class SoundCard:
    """A running daemon.

    Args:
        folder: for its socket and settings; short, since a socket's path has at most 107 bytes.

    Attributes:
        environment: variables for programs that are to use it.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "native"
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None
        self._holder: subprocess.Popen[bytes] | None = None
        self.environment = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": f"{ALSA_CONFIG}:{folder / 'asound.conf'}",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = self._folder / "default.pa"
        settings.write_text(SETTINGS.format(socket=self._socket))
        server = f'type pulse server "unix:{self._socket}"'
        (self._folder / "asound.conf").write_text(
            f"pcm.!default {{ {server} }}\nctl.!default {{ {server} }}\n"
        )
        home = str(self._folder)
        private = {"HOME": home, "XDG_CONFIG_HOME": home, "PULSE_RUNTIME_PATH": home}
        environment = {**os.environ, **private, "PULSE_STATE_PATH": home}
        environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        switches = "--daemonize=no --exit-idle-time=-1 --use-pid-file=no --high-priority=no"
        switches += " --realtime=no --system=no --log-level=error"
        with (self._folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["pulseaudio", "-n", "-F", str(settings), *switches.split()],
                env=environment,
                stdout=log,
                stderr=log,
            )
        answers = until(lambda: self.control("info").returncode == 0)
        assert answers, (self._folder / "log").read_text()

    def hold_open(self) -> None:
        """Keep the source awake: else its first block comes only after a second or two."""
        recorded = self._folder / "held"
        with recorded.open("wb") as out:
            self._holder = subprocess.Popen(
                ["parec", "--latency-msec=10"],
                env={**os.environ, **self.environment},
                stdout=out,
            )
        assert until(lambda: recorded.stat().st_size > 0)

    def control(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """`pactl` with these arguments."""
        return subprocess.run(
            ["pactl", *command],
            env={**os.environ, **self.environment},
            capture_output=True,
            check=False,
        )

    def play(self, samples: bytes) -> subprocess.Popen[bytes]:
        """Begin to play 16-bit samples at 16 kHz; waiting for the process waits for their end."""
        path = self._folder / "played.raw"
        path.write_bytes(samples)
        format_ = "--raw --format=s16le --rate=16000 --channels=1 --latency-msec=50"
        return subprocess.Popen(
            ["paplay", *format_.split(), str(path)], env={**os.environ, **self.environment}
        )

    def kill(self) -> None:
        """Take the device away at once, as if its plug were pulled."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End everything that was started."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        for process in (self._holder, self._daemon):
            if process is not None and process.poll() is None:
                process.send_signal(number)
                process.wait(10)
        self._holder = self._daemon = None


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Look every 20 ms whether it is so; return whether it became so in time."""
    for _ in range(round(seconds / 0.02)):
        if condition():
            return True
        signal.sigtimedwait([], 0.02)
    return False


@contextmanager
def sound_card(folder: Path) -> Iterator[SoundCard]:
    """A sound card that this process' PortAudio sees, too, and nothing else.

    Skips, with what is missing, where it cannot be had; in CI that is a failure.
    """
    if lacking := missing():
        pytest.skip(f"a virtual sound card needs {lacking}")
    card = SoundCard(folder)
    card.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in card.environment.items():
            patch.setenv(name, value)
        look_again()
        try:
            yield card
        finally:
            card.stop()


def look_again() -> None:
    """Let PortAudio forget the devices that it knows."""
    import sounddevice

    sounddevice._terminate()  # noqa: SLF001 - there is no public way
    sounddevice._initialize()  # noqa: SLF001
