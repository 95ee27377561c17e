"""Encryption: the certificate of the server, which may be replaced while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a field of a dataclass

from asr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, in two PEM files.

    Attributes:
        chain: the server's certificate and those that lead from it to the root.
        key: its private key, not encrypted.
        context: what a listening socket needs. Connections made after `load` get the new files.
    """

    chain: Path
    key: Path
    context: ssl.SSLContext = field(
        default_factory=lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    )

    def load(self) -> None:
        """Read the files, for the first time or again.

        Raises:
            ConfigError: one of them cannot be used. What was read before stays in use.
        """
        for path in (self.chain, self.key):
            try:
                path.read_bytes()
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        trial = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        for context in (trial, self.context):
            try:
                # The password keeps OpenSSL from asking for one at the terminal.
                context.load_cert_chain(self.chain, self.key, password="")
            except (ssl.SSLError, ValueError) as error:
                reason = getattr(error, "reason", None) or error
                raise ConfigError(
                    f"{self.chain} and {self.key} are no certificate in PEM and its unencrypted "
                    f"key ({reason})"
                ) from error
