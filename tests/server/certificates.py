"""Certificates to encrypt with in tests."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from server.tls import Certificate

if TYPE_CHECKING:
    from pathlib import Path


def make_certificate(folder: Path) -> Certificate:
    """A certificate for 127.0.0.1 that signs itself, in place of the one before."""
    certificate = Certificate(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=test"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", certificate.chain, "-keyout", certificate.key),
        ],
        check=True,
        capture_output=True,
    )
    certificate.load()
    return certificate
