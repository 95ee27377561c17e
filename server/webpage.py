"""The page for browsers: `GET /` shows live captions, spoken into the browser's microphone.

The page is plain files in `server/page/`, and a client of the native protocol like others: it has
no right that they have not. It takes nothing from elsewhere, and a browser is told so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from websockets.datastructures import Headers
from websockets.http11 import Response

if TYPE_CHECKING:
    from websockets.http11 import Request

FOLDER: Final = Path(__file__).parent / "page"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# All there is. What a request names is looked up here, and never becomes the name of a file.
FILES: Final = {
    "/": "index.html",
    **{
        f"/page/{name}": name
        for name in (
            "app.js",
            "captions.js",
            "conversation.js",
            "failure.js",
            "file.js",
            "icon.svg",
            "keys.js",
            "microphone.js",
            "page.css",
            "recording.js",
            "session.js",
            "transcript.js",
            "worklet.js",
        )
    },
}
# A name with a port, as it may stand in a policy; brackets of IPv6 may not.
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,255}(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page.

    Attributes:
        content_type: as HTTP has it.
        body: its bytes.
        etag: changes when they do.
    """

    content_type: str
    body: bytes
    etag: str


@cache
def file_of(name: str) -> File:
    """A file of the page, read once; `name` is one of the values of `FILES`."""
    path = FOLDER / name
    body = path.read_bytes()
    return File(_TYPES[path.suffix], body, f'"{sha256(body).hexdigest()[:32]}"')


def answer(path: str, request: Request) -> Response | None:
    """What a browser gets to see.

    Args:
        path: of the request, without its query.
        request: with its method and its headers.

    Returns:
        The answer; None where the path is no part of the page, or a websocket is asked for at `/`.
    """
    if path not in FILES or _wants_websocket(request):
        return None
    method = getattr(request, "method", "GET")  # older websockets take no other
    if method not in {"GET", "HEAD"}:
        response = _response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n")
        response.headers["Content-Type"] = "text/plain; charset=utf-8"
        response.headers["Allow"] = "GET, HEAD"
        return response
    file = file_of(FILES[path])
    known = file.etag in ",".join(request.headers.get_all("If-None-Match"))
    response = _response(*((HTTPStatus.NOT_MODIFIED, b"") if known else (HTTPStatus.OK, file.body)))
    if known:
        del response.headers["Content-Length"]
    else:
        response.headers["Content-Type"] = file.content_type
    if method == "HEAD":
        response.body = b""
    response.headers.update(
        {
            "ETag": file.etag,
            "Cache-Control": "no-cache",  # asked for each time, and sent only if it has changed
            "Content-Security-Policy": policy(request.headers.get_all("Host")),
            "Permissions-Policy": "microphone=(self), screen-wake-lock=(self)",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
    )
    return response


def policy(hosts: list[str]) -> str:
    """What the page may do: load from this host, and speak to it; nothing else.

    Args:
        hosts: the values of the request's `Host`. Browsers before 2022 do not count websockets to
            the page's own host as `'self'`, so they are named.
    """
    own = [host for host in hosts if _HOST.fullmatch(host)]
    sockets = "".join(f" ws://{host} wss://{host}" for host in own[:1])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _wants_websocket(request: Request) -> bool:
    offered = ",".join(request.headers.get_all("Upgrade")).lower()
    return "websocket" in offered


def _response(status: HTTPStatus, body: bytes) -> Response:
    """An answer after which the connection ends, as all of ours do."""
    headers = Headers(
        [
            ("Date", formatdate(usegmt=True)),
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
        ]
    )
    return Response(status.value, status.phrase, headers, body)
