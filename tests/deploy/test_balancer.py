"""The load balancer of the documents, for real: nginx before two servers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.admission import Access, networks
from server.limits import Limits
from server.listener import listen
from tests.server.certificates import make_certificate
from tests.server.sockets import (
    Peer,
    Service,
    fields_heard,
    fields_of,
    http_get,
    in_a_loop,
    serving,
)
from tests.server.tones import alone, sing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from server.tls import Certificate

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx.conf"
SONG = "ab c"
pytestmark = pytest.mark.skipif(
    not shutil.which("nginx", path="/usr/sbin:/usr/bin"),
    reason="nginx is not installed (Debian: apt install nginx-light)",
)


def adapted(services: list[Service], port: int, certificate: Certificate) -> str:
    """Our example with the addresses of this test; everything else is as it stands there."""
    text = CONFIG.read_text("utf-8")
    for service, example in zip(services, ("10.0.0.11:8765", "10.0.0.12:8765"), strict=True):
        assert example in text
        text = text.replace(example, f"127.0.0.1:{service.port}")
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    text = re.sub(r"(ssl_certificate )\s*\S+;", rf"\1{certificate.chain};", text)
    return re.sub(r"(ssl_certificate_key )\S+;", rf"\1{certificate.key};", text)


@contextlib.asynccontextmanager
async def balanced(
    folder: Path, limits: Limits
) -> AsyncIterator[tuple[list[Service], Callable[..., connect]]]:
    """Two servers behind nginx, and what opens a session through it."""
    access = Access(proxies=networks(["127.0.0.1"]))
    certificate = make_certificate(folder)
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    async with (
        serving(limits=limits, access=access) as one,
        serving(limits=limits, access=access) as two,
    ):
        services = [one, two]
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {temporary}\n{adapted(services, port, certificate)} }}\n"
        )
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            ["/usr/sbin/nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            await open_port(port, process)
            yield services, partial(through, port, certificate)
        finally:
            process.terminate()
            process.communicate()


async def open_port(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until nginx listens."""
    while True:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return


def through(
    port: int, certificate: Certificate, path: str = "/v1/stream", **options: Any
) -> connect:
    """A connection by way of nginx, for `async with`."""
    context = ssl.create_default_context(cafile=str(certificate.chain))
    return connect(f"wss://127.0.0.1:{port}{path}", ssl=context, compression=None, **options)


@in_a_loop
async def test_sessions_are_spread_and_hear_what_they_would_alone(tmp_path: Path) -> None:
    """Encrypted, by way of nginx, two at a time: one on each server, every word right."""
    async with (
        balanced(tmp_path, Limits()) as (services, connection),
        connection() as first,
        connection() as second,
    ):
        assert [len(service.server.reception.places) for service in services] == [1, 1]
        for peer in (Peer(first), Peer(second)):
            await peer.start()
            await peer.sing(SONG)
            await peer.tell("finish")
            assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))
            assert peer.close_code == 1000


@in_a_loop
async def test_who_is_refused_by_one_is_taken_to_the_other(tmp_path: Path) -> None:
    """503 of a full or draining server never reaches the client while another has room."""
    async with balanced(tmp_path, Limits(sessions=1)) as (services, connection):
        services[0].server.admission.draining = True
        async with connection() as taken:
            await Peer(taken).start()
            assert [len(service.server.reception.places) for service in services] == [0, 1]
            with pytest.raises(InvalidStatus) as caught:
                async with connection():
                    pass
            assert caught.value.response.status_code == 503
            assert caught.value.response.headers["Retry-After"] == "5"
            figures = (await http_get(services[0].port, "/metrics"))[2]
            assert 'asr_rejected_total{reason="draining"} 0' not in figures  # it was asked


@in_a_loop
async def test_clients_count_by_their_own_address(tmp_path: Path) -> None:
    """That of the connection to nginx, and not what a client writes into the header."""
    async with (
        balanced(tmp_path, Limits()) as (services, connection),
        connection(
            local_addr=("127.0.0.2", 0), additional_headers={"X-Forwarded-For": "192.0.2.9"}
        ) as client,
    ):
        await Peer(client).start()
        inside = [address for s in services for address in s.server.admission.inside]
        assert inside == ["127.0.0.2"]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@in_a_loop
async def test_what_is_for_operators_stays_inside(path: str, tmp_path: Path) -> None:
    """The world sees neither figures nor health."""
    async with balanced(tmp_path, Limits()) as (_, connection):
        with pytest.raises(InvalidStatus) as caught:
            async with connection(path):
                pass
    assert caught.value.response.status_code == 404
