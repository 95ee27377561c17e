"""API keys: who may speak to the server. Only hashes of them are kept, on disk and in memory.

A key is 256 random bits, so one round of SHA-256 hides it as well as anything could: there is no
list of likely keys to try. A file of keys (or the variable `ASR_KEYS`) has a line a key,

    NAME sha256:HEX

as `asr serve --make-key NAME` writes it. Names go to the log; keys never do. A name may stand
twice, so that a key can be replaced without an interruption.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from asr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from websockets.datastructures import Headers

ENVIRONMENT: Final = "ASR_KEYS"
PREFIX: Final = "asr_"  # tells a leaked key from other noise, for people and for scanners
MAX_KEY: Final = 512  # characters of an offered key that are looked at

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_SCHEMES: Final = {"bearer", "token"}
# Browsers cannot set headers of a websocket; clients for them carry the key as a subprotocol:
# `token, KEY` (Deepgram's), or `realtime, openai-insecure-api-key.KEY` (OpenAI's).
_OPENAI: Final = "openai-insecure-api-key."
SUBPROTOCOLS: Final = ("token", "bearer", "realtime")


class Keys:
    """The keys that open the server.

    Args:
        digests: name and SHA-256 of each.
    """

    def __init__(self, digests: Sequence[tuple[str, bytes]]) -> None:
        self._digests = tuple(digests)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._digests)

    def holder(self, key: str) -> str | None:
        """The name that belongs to a key, or None. Takes the same time whichever it is."""
        digest = _digest(key[:MAX_KEY])
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def make_key() -> str:
    """A new key, 47 characters of ASCII."""
    return PREFIX + secrets.token_urlsafe(32)


def line_of(name: str, key: str) -> str:
    """The line that admits a key.

    Raises:
        ConfigError: the name is not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"key name {name!r}: take 1 to 64 letters, digits, dots, dashes or underscores"
        )
    return f"{name} sha256:{_digest(key).hex()}"


def parse(text: str, source: str) -> Keys:
    """The keys of a file's text; lines may also be separated by commas, as in a variable.

    Args:
        text: lines as `line_of` makes them; empty ones and those that begin with # are left out.
        source: where it is from, for errors.

    Raises:
        ConfigError: a line is none (it may be a key in the clear, so it is not shown), or there is
            no key at all.
    """
    digests = []
    for number, line in enumerate(re.split(r"[\n,]", text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = line.strip().partition(" ")
        digest = _DIGEST.fullmatch(rest.strip())
        if not _NAME.fullmatch(name) or not digest:
            raise ConfigError(
                f"{source}: line {number} is not NAME sha256:HEX; "
                "asr serve --make-key NAME writes such lines"
            )
        digests.append((name, bytes.fromhex(digest[1])))
    if not digests:
        raise ConfigError(f"{source}: no key in there, so nobody could connect")
    return Keys(digests)


def read(path: Path | None, environment: Mapping[str, str]) -> Keys | None:
    """The keys of a file, or else of the variable `ASR_KEYS`; None when there is neither.

    Raises:
        ConfigError: the file cannot be read, or something in it is no key.
    """
    if path is not None:
        try:
            return parse(path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(f"{path}: the keys cannot be read ({reason})") from error
    if ENVIRONMENT in environment:
        return parse(environment[ENVIRONMENT], f"variable {ENVIRONMENT}")
    return None


def append(path: Path, line: str) -> None:
    """Add a line to a file of keys, which is made for its owner alone if it is not there.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "r+", encoding="utf-8") as stream:
            before = stream.read()
            stream.write(("\n" if before and not before.endswith("\n") else "") + line + "\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{path}: the key cannot be added ({reason})") from error


def offered(path: str, headers: Headers) -> Iterator[str]:
    """The keys that a request brings, wherever the clients that exist put them.

    Args:
        path: of the request, with its query.
        headers: of the request.

    Yields:
        `Authorization: Bearer KEY` or `Token KEY`, `X-API-Key`, the subprotocols of Deepgram's and
        OpenAI's clients for browsers, and `?key=`.
    """
    for value in headers.get_all("Authorization"):
        scheme, _, key = value.strip().partition(" ")
        if scheme.lower() in _SCHEMES:
            yield key.strip()
    yield from headers.get_all("X-API-Key")
    protocols = subprotocols(headers)
    for before, protocol in zip(["", *protocols], protocols, strict=False):
        if before.lower() in _SCHEMES:
            yield protocol
        elif protocol.startswith(_OPENAI):
            yield protocol.removeprefix(_OPENAI)
    with contextlib.suppress(ValueError):  # a query of a thousand fields is no key
        yield from parse_qs(urlsplit(path).query, max_num_fields=100).get("key", [])


def subprotocols(headers: Headers) -> list[str]:
    """The subprotocols that a request offers, in order."""
    joined = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    return [name.strip() for name in joined.split(",") if name.strip()]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
