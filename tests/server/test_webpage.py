"""The page over HTTP: what a browser gets, how it is fenced in, and that nothing else changed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from server import keys, webpage
from server.admission import Access
from server.app import Server
from server.limits import Limits
from tests.server.sockets import http_get, in_a_loop, serving
from tests.server.test_server import UPGRADE

if TYPE_CHECKING:
    from pathlib import Path

KEY = keys.make_key()
ONE_KEY = Access(keys=keys.parse(keys.line_of("shop", KEY), "a file"))


@in_a_loop
async def test_a_browser_that_asks_for_nothing_else_gets_the_page() -> None:
    """Who types host and port into a browser can speak."""
    async with serving() as service:
        status, headers, body = await http_get(service.port, "/")
        queried = await http_get(service.port, "/?from=a-friend")
    assert status == queried[0] == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert int(headers["content-length"]) == len(body.encode())
    assert '<script type="module" src="page/app.js">' in body


@pytest.mark.parametrize("path", webpage.FILES)
@in_a_loop
async def test_every_file_comes_as_what_it_is(path: str) -> None:
    """Modules of another type are not run; and no browser is to guess."""
    types = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg"}
    async with serving() as service:
        status, headers, body = await http_get(service.port, path)
    file = webpage.FOLDER / webpage.FILES[path]
    assert (status, body) == (200, file.read_text("utf-8"))
    assert headers["content-type"].startswith(types[file.suffix[1:]])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache"


def test_every_file_of_the_page_is_served() -> None:
    """One that is forgotten breaks the page, and one that is gone the server."""
    assert {path.name for path in files()} == set(webpage.FILES.values())
    assert len(set(webpage.FILES.values())) == len(webpage.FILES)


def files() -> list[Path]:
    """What lies in the folder."""
    return [path for path in webpage.FOLDER.iterdir() if path.is_file()]


def test_every_module_that_is_named_is_there() -> None:
    """Names in the files, relative as they must be for a server behind a prefix."""
    served = set(webpage.FILES)
    for path in files():
        text = path.read_text("utf-8")
        named = re.findall(r"""(?:from |new URL\()"(?:\./)?([\w.]+)",?""", text)
        named += re.findall(r'(?:src|href)="page/([\w.]+)"', text)
        assert {f"/page/{name}" for name in named if "." in name} <= served, path.name


@in_a_loop
async def test_the_page_may_load_and_call_this_host_alone() -> None:
    """Were something foreign ever to get into the page, the browser would not run it."""
    async with serving() as service:
        _, headers, body = await http_get(service.port, "/", host="asr.example:8765")
    rules = dict(
        rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";")
    )
    assert rules.pop("default-src") == rules.pop("frame-ancestors") == "'none'"
    assert rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules.pop("connect-src") == "'self' ws://asr.example:8765 wss://asr.example:8765"
    assert set(rules) == {"script-src", "style-src", "img-src"}
    assert set(rules.values()) == {"'self'"}
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|//", body)


@pytest.mark.parametrize("host", ["evil.example; script-src *", "a b", "[::1]:8765", "*", "'none'"])
def test_no_host_can_widen_the_policy(host: str) -> None:
    """It is the client's word, and stands in a header of ours."""
    assert webpage.policy([host]) == webpage.policy([])


@in_a_loop
async def test_head_is_the_same_without_the_body() -> None:
    """As HTTP wants it."""
    async with serving() as service:
        _, whole, _ = await http_get(service.port, "/page/app.js")
        status, headers, body = await http_get(service.port, "/page/app.js", method="HEAD")
    assert (status, body) == (200, "")
    assert headers | {"date": ""} == whole | {"date": ""}


@in_a_loop
async def test_what_a_browser_has_is_not_sent_again() -> None:
    """And what has changed since, is: there is no page of yesterday."""
    async with serving() as service:
        _, headers, _ = await http_get(service.port, "/")
        tag = headers["etag"]
        status, again, body = await http_get(service.port, "/", f"If-None-Match: {tag}")
        assert (status, body, again["etag"]) == (304, "", tag)
        assert (await http_get(service.port, "/", 'If-None-Match: "other"'))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@in_a_loop
async def test_the_page_can_only_be_read(method: str) -> None:
    """405, with what is allowed."""
    async with serving() as service:
        status, headers, _ = await http_get(service.port, "/", method=method)
    assert (status, headers["allow"]) == (405, "get, head")


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/index.html",
        "/page/index.html",
        "/page/nothing.js",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/app.js/",
        "//page/app.js",
        "/PAGE/app.js",
    ],
)
@in_a_loop
async def test_nothing_but_these_files_is_served(path: str) -> None:
    """What a request names is never the name of a file."""
    async with serving() as service:
        assert (await http_get(service.port, path))[0] == 404


@in_a_loop
async def test_the_root_still_speaks_to_websockets() -> None:
    """The page took nothing from vosk's clients, and a plain GET elsewhere wants the upgrade."""
    async with serving() as service:
        async with connect(f"ws://127.0.0.1:{service.port}/", compression=None) as vosk:
            await vosk.send('{"eof" : 1}')
            assert json.loads(await vosk.recv()) == {"text": ""}
        for path in ("/v1/stream", "/vosk", "/sherpa"):
            assert (await http_get(service.port, path))[0] == 426


@in_a_loop
async def test_the_page_is_there_when_no_session_is_to_be_had() -> None:
    """Without a key, while the model loads, and when all places are taken: it explains why."""
    async with serving(limits=Limits(sessions=1), access=ONE_KEY) as service:
        async with service.connect(additional_headers={"X-API-Key": KEY}):
            assert (await http_get(service.port, "/"))[0] == 200
            assert (await http_get(service.port, "/v1/stream", f"X-API-Key: {KEY}"))[0] == 503
        assert (await http_get(service.port, "/v1/stream"))[0] == 401
    loading = Server()
    _, port = await loading.start("127.0.0.1", 0)
    try:
        assert (await http_get(port, "/page/app.js"))[0] == 200
        status, headers, body = await http_get(port, "/v1/stream")
        assert (status, headers["retry-after"]) == (503, "5")
        assert body == "the model is being loaded; try again in 5 s\n"  # as the page shows it
    finally:
        await loading.stop()


@pytest.mark.parametrize(
    ("origin", "key", "status"),
    [
        ("https://asr.example", KEY, 101),
        ("http://asr.example", KEY, 101),
        ("https://asr.example", keys.make_key(), 401),
        ("https://evil.example", KEY, 403),
        ("https://asr.example:444", KEY, 403),
    ],
)
@in_a_loop
async def test_the_page_is_let_in_under_whatever_name_it_came(
    origin: str, key: str, status: int
) -> None:
    """On a public address, too: it calls the host that it is from, with the key as subprotocol."""
    brings = f"Origin: {origin}", f"Sec-WebSocket-Protocol: token, {key}"
    async with serving(access=ONE_KEY) as service:
        got = await http_get(service.port, "/v1/stream", *brings, *UPGRADE, host="asr.example")
    assert got[0] == status
