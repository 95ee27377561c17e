"""Every error that a caller of this project may want to handle.

Each message is one line that names the thing, the place and the cure. `asr.Error` catches all of
them; a mistake of the caller or the peer raises one of these, a bug of ours raises whatever Python
raises.
"""

from __future__ import annotations


class Error(Exception):
    """Something that is not our bug: the base of all errors below."""


class AudioError(Error):
    """Audio that cannot be read, or samples of a shape, type or rate that cannot be used."""


class BundleError(Error):
    """A model bundle or checkpoint that is missing, damaged, partial or of another version."""


class ConfigError(Error):
    """A configuration with an unknown key, or a value that makes no sense."""


class UsageError(ConfigError):
    """Arguments of a command that are wrong, or make no sense together; exit code 2."""


class DataError(Error):
    """Training or evaluation data that cannot be used."""


class DeviceError(Error):
    """A sound device that is absent, refuses to open or disappeared."""


class ProtocolError(Error):
    """A peer that broke the protocol of `docs/protocol.md`.

    Attributes:
        code: the machine-readable name sent to the peer, such as `bad_format`.
        close_code: the websocket close code that goes with it.
    """

    def __init__(self, message: str, code: str = "bad_message", close_code: int = 1008) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class ServerError(Error):
    """A server that cannot be reached, refuses to serve, or goes away.

    Attributes:
        reached: whether it let us in, or may do so soon; where not, whatever is asked of it next
            fails likewise.
    """

    def __init__(self, message: str, *, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


class StateError(Error):
    """Saved state that is damaged, of another version, or belongs to another model."""


def install(extra: str) -> str:
    """The cure for a package that is missing, in words: PyPI's `asr` is another program."""
    return f"pip install '.[{extra}]' in the checkout, or 'asr-….whl[{extra}]' of a wheel"
