"""What an operator relies on: keys, encryption, bounds and figures, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from asr import client
from asr.errors import ConfigError, ServerError
from server import keys
from server.admission import Access
from server.limits import Limits
from server.tls import Certificate
from tests.server.certificates import make_certificate
from tests.server.command import serve
from tests.server.sockets import (
    Peer,
    Service,
    fields_heard,
    fields_of,
    http_get,
    in_a_loop,
    serving,
    until,
)
from tests.server.tones import alone, sing

if TYPE_CHECKING:
    from pathlib import Path

SONG = "ab c"
KEY = keys.make_key()
ONE_KEY = Access(keys=keys.parse(keys.line_of("shop", KEY), "a file"))


async def refused(service: Service, **options: Any) -> InvalidStatus:
    """How a connection is refused that must not come about."""
    with pytest.raises(InvalidStatus) as caught:
        async with service.connect(**options):
            pass
    return caught.value


# Keys


@in_a_loop
async def test_without_the_key_there_is_no_session_and_no_figure() -> None:
    """401 before the upgrade; probes need no key, they tell nothing."""
    async with serving(access=ONE_KEY) as service:
        for headers in ({}, {"Authorization": f"Bearer {keys.make_key()}"}):
            error = await refused(service, additional_headers=headers)
            assert error.response.status_code == 401
            assert error.response.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await http_get(service.port, "/metrics"))[0] == 401
        assert (await http_get(service.port, "/metrics", f"Authorization: Bearer {KEY}"))[0] == 200
        assert (await http_get(service.port, "/readyz"))[0] == 200
        assert (await http_get(service.port, "/healthz"))[0] == 200


@in_a_loop
async def test_with_the_key_all_is_as_ever() -> None:
    """In a header, and as browsers must do it: the name beside the key is chosen."""
    async with serving(access=ONE_KEY) as service:
        async with service.connect(additional_headers={"Authorization": f"Token {KEY}"}) as plain:
            peer = Peer(plain)
            await peer.start()
            await peer.sing(SONG)
            await peer.tell("finish")
            assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))
        async with service.connect(subprotocols=["token", KEY]) as browser:
            assert browser.subprotocol == "token"
            await Peer(browser).start()


@in_a_loop
async def test_our_own_client_brings_the_key_of_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asr transcribe --url` and `asr mic --url` work with a server that wants a key."""
    async with serving(access=ONE_KEY) as service:
        monkeypatch.delenv(client.KEY_VARIABLE, raising=False)
        chunks = [sing(SONG)]
        with pytest.raises(ServerError, match=r"401: no valid API key; put one into ASR_KEY$"):
            await asyncio.to_thread(client.transcribe, service.url, chunks, 16000)
        monkeypatch.setenv(client.KEY_VARIABLE, KEY)
        heard, _ = await asyncio.to_thread(client.transcribe, service.url, chunks, 16000)
    assert fields_of(heard.segments) == fields_of(alone(sing(SONG)))


def test_keys_and_certificate_are_replaced_while_it_runs(tmp_path: Path) -> None:
    """SIGHUP: a new key and a new certificate, and no session notices. Nothing of it is logged."""
    old, new = keys.make_key(), keys.make_key()
    file = tmp_path / "keys"
    file.write_text(keys.line_of("shop", old))
    first = make_certificate(tmp_path)
    log = ("--keys", str(file), "--log-format", "json")
    pems = ("--tls-cert", str(first.chain), "--tls-key", str(first.key))
    with serve(*log, *pems) as command:

        @in_a_loop
        async def talk() -> None:
            async with open_with(command.url, old, first) as connection:
                peer = Peer(connection)
                await peer.start()
                file.write_text(keys.line_of("shop", new))
                second = make_certificate(tmp_path)
                command.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(command.read_until, "were read again")
                with pytest.raises(InvalidStatus):
                    await open_with(command.url, old, second)
                async with open_with(command.url, new, second):
                    pass
                file.write_text("broken")
                command.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(command.read_until, "stay as they were: .*line 1")
                async with open_with(f"{command.url}?key={new}", "", second):
                    pass
                await peer.sing(SONG)
                await peer.tell("finish")
                assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))

        talk()
        command.process.terminate()
        code, rest = command.end()
    assert code == 0
    said = [json.loads(line) for line in (*command.said, *rest.splitlines())]
    opened = [event for event in said if event["message"] == "session opened"]
    assert [event["key"] for event in opened] == ["shop"] * 3
    assert not [event for event in said if old in str(event) or new in str(event)]


def test_a_key_is_made_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed once; only its hash is kept."""
    from asr import commands

    file = tmp_path / "keys"
    assert commands.main(["serve", "--make-key", "shop", "--keys", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    kept = keys.read(file, {})
    assert kept is not None
    assert kept.holder(key) == "shop"
    assert commands.main(["serve", "--make-key", "two"]) == 0
    told = capsys.readouterr()
    assert keys.parse(told.err.splitlines()[-1], "stderr").holder(told.out.strip()) == "two"
    assert commands.main(["serve", "--make-key", "no name"]) == 1


# Encryption


def open_with(url: str, key: str, trusted: Certificate) -> connect:
    """A connection that believes this certificate alone."""
    context = ssl.create_default_context(cafile=str(trusted.chain))
    headers = {"Authorization": f"Bearer {key}"}
    return connect(url, ssl=context, additional_headers=headers, compression=None)


@in_a_loop
async def test_a_session_may_be_encrypted(tmp_path: Path) -> None:
    """The same words; and who speaks without encryption is not understood."""
    certificate = make_certificate(tmp_path)
    async with serving(tls=certificate.context) as service:
        url = service.url.replace("ws://", "wss://")
        async with open_with(url, "", certificate) as connection:
            peer = Peer(connection)
            await peer.start()
            await peer.sing(SONG)
            await peer.tell("finish")
            assert fields_heard(await peer.hear_all()) == fields_of(alone(sing(SONG)))
            assert peer.close_code == 1000
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.read()).startswith(b"HTTP")
        writer.close()


def test_a_certificate_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    """Absent, no PEM, or with a key of another; what was loaded before stays."""
    good = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"absent\.pem: cannot be read"):
        Certificate(tmp_path / "absent.pem", good.key).load()
    with pytest.raises(ConfigError, match="no certificate in PEM and its unencrypted key"):
        Certificate(good.chain, other.key).load()
    good.chain.write_text("nothing")
    with pytest.raises(ConfigError, match="no certificate in PEM"):
        good.load()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--drain-seconds", "-1"),
        ("--drain-seconds", "inf"),
        ("--max-session-seconds", "nan"),
        ("--max-sessions", "0"),
        ("--allow-origin", "example.org"),
        ("--allow-origin", "https://example.org/page"),
    ],
)
def test_amounts_and_origins_that_make_no_sense_are_wrong_usage(option: str, value: str) -> None:
    """An origin that no browser ever sends would be let in silently, and never come."""
    from asr import commands

    with pytest.raises(SystemExit) as left:
        commands.main(["serve", option, value])
    assert left.value.code == 2


def test_a_certificate_without_its_key_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither is of use alone."""
    from asr import commands

    assert commands.main(["serve", "--tls-cert", "cert.pem"]) == 2
    assert "belong together" in capsys.readouterr().err


# Readiness


@in_a_loop
async def test_a_server_without_its_model_yet_says_so() -> None:
    """It listens from the first moment: healthy, not ready, and clients learn when to come back."""
    from server.app import Server
    from tests.server.tones import recognizer

    server = Server()
    host, port = await server.start("127.0.0.1", 0)
    service = Service(server, f"ws://{host}:{port}/v1/stream", port)
    try:
        assert (await http_get(port, "/healthz"))[::2] == (200, "ok\n")
        status, headers, body = await http_get(port, "/readyz")
        assert (status, headers["retry-after"]) == (503, "5")
        assert "loaded" in body
        assert (await refused(service)).response.status_code == 503
        server.begin(recognizer())
        assert (await http_get(port, "/readyz"))[::2] == (200, "ready\n")
        assert await service.recognise("a")
    finally:
        await server.stop()


@in_a_loop
async def test_a_full_server_is_healthy_and_not_ready() -> None:
    """A load balancer sends the next one elsewhere; nobody restarts anything."""
    async with serving(limits=Limits(sessions=1)) as service:
        async with service.session():
            assert (await http_get(service.port, "/readyz"))[0] == 503
            assert (await http_get(service.port, "/healthz"))[0] == 200
        await until(lambda: not service.server.reception.places)
        assert (await http_get(service.port, "/readyz"))[0] == 200


@in_a_loop
async def test_recognition_that_is_stuck_is_unhealthy() -> None:
    """A process that will never answer again is to be replaced."""
    from tests.server.tones import ToneNetwork, recognizer

    network = ToneNetwork()
    limits = Limits(stuck_seconds=0.01)
    async with serving(recognizer(network), limits) as service, service.session() as peer:
        network.gate.clear()
        await peer.sing("a")
        while (await http_get(service.port, "/healthz"))[0] == 200:
            pass
        network.gate.set()
        while (await http_get(service.port, "/healthz"))[0] == 503:
            pass
        await peer.tell("finish")
        assert (await peer.hear_all())[-1]["type"] == "done"


# Bounds


@in_a_loop
async def test_one_address_cannot_take_all_sessions() -> None:
    """429 with Retry-After; behind a proxy of ours, addresses are those that it tells."""
    from server.admission import networks

    access = Access(proxies=networks(["127.0.0.0/8"]))
    async with (
        serving(limits=Limits(address_sessions=1, retry_seconds=9), access=access) as service,
        service.connect(additional_headers={"X-Forwarded-For": "192.0.2.1"}),
    ):
        error = await refused(service, additional_headers={"X-Forwarded-For": "192.0.2.1"})
        assert (error.response.status_code, error.response.headers["Retry-After"]) == (429, "9")
        async with service.connect(additional_headers={"X-Forwarded-For": "192.0.2.2"}):
            assert service.server.admission.inside == {"192.0.2.1": 1, "192.0.2.2": 1}
    assert service.server.admission.inside == {}


@in_a_loop
async def test_one_address_cannot_connect_without_end() -> None:
    """429; and probes are answered all the same."""
    limits = Limits(connects_per_second=0.001, connects_burst=2)
    async with serving(limits=limits) as service:
        for _ in range(2):
            async with service.connect():
                pass
        error = await refused(service)
        assert (error.response.status_code, error.response.headers["Retry-After"]) == (429, "1")
        assert (await http_get(service.port, "/healthz"))[0] == 200


@in_a_loop
async def test_who_connects_and_asks_nothing_is_cut_off() -> None:
    """After the time for the handshake."""
    async with serving(limits=Limits(handshake_seconds=0.1)) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /v1/stre")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


@in_a_loop
async def test_silent_connections_keep_nobody_out() -> None:
    """Where there are too many, the oldest goes: who means it has asked long before."""
    async with serving(limits=Limits(handshakes=3)) as service:
        silent = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(8)]
        await until(lambda: len(service.server.reception.connections) == 3)
        for reader, _ in silent[:5]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert await service.recognise("a")
        body = (await http_get(service.port, "/metrics"))[2]
        assert (
            'asr_rejected_total{reason="handshake"} 6' in body
        )  # the good one pushed one out, too
        for _, writer in silent:
            writer.close()


@in_a_loop
async def test_a_session_lasts_only_so_long() -> None:
    """Then it gets the finals of all that was accepted, and the reason."""
    limits = Limits(session_seconds=3600, silent_seconds=0.2)  # the latter is how often it looks
    async with serving(limits=limits) as service, service.session() as peer:
        await peer.sing(SONG)
        await peer.tell("ping")
        heard = [await peer.hear()]
        while heard[-1]["type"] != "pong":
            heard.append(await peer.hear())
        (session,) = service.server.sessions
        session.watch.opened -= 3600  # an hour later
        heard += await peer.hear_all()
    assert fields_heard(heard) == fields_of(alone(sing(SONG)))
    assert (heard[-1]["code"], peer.close_code) == ("too_long", 1008)


@in_a_loop
async def test_a_server_that_is_behind_takes_no_more() -> None:
    """Before quality falls for those who are there, others are sent away."""
    async with serving(limits=Limits(overload_seconds=0.5)) as service, service.session() as peer:
        service.server.admission.queue_delay = lambda: 0.6
        assert (await refused(service)).response.status_code == 503
        assert (await http_get(service.port, "/readyz"))[0] == 503
        await peer.sing("a")
        await peer.tell("finish")
        assert fields_heard(await peer.hear_all()) == fields_of(alone(sing("a")))


@pytest.mark.parametrize("name", ["sessions", "handshakes", "finish_seconds"])
def test_a_limit_under_which_nothing_works_is_refused(name: str) -> None:
    """At the start, and not at the first client."""
    with pytest.raises(ConfigError, match=f"limit {name}"):
        Limits(**{name: 0})
