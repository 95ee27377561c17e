"""Who may come in: keys, origins, and how many, how often, from where. Without I/O.

The server asks `Admission.refusal` about every request for a websocket, before the upgrade, and
`unavailable` is also what `/readyz` says: a load balancer and a client hear the same reason.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asr.errors import ConfigError
from server.keys import offered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from websockets.http11 import Request

    from server.keys import Keys
    from server.limits import Limits

MAX_ADDRESSES: Final = 10_000  # whose rate is remembered; beyond it the longest unseen is forgotten

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
REASONS: Final = (
    "loading",
    "draining",
    "full",
    "overloaded",
    "key",
    "origin",
    "address",
    "rate",
    "handshake",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect.

    Attributes:
        keys: one of them must be brought; None lets everybody in.
        origins: web pages that may connect, as in `https://example.org`, beside those that come
            from the very host they connect to. Programs send no origin and are let in.
        proxies: networks of load balancers, whose `X-Forwarded-For` is believed.
    """

    keys: Keys | None = None
    origins: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served.

    Attributes:
        reason: one of `REASONS`, for metrics.
        status: of HTTP.
        message: one line for people.
        retry_seconds: when to come back, or None if that would not help.
    """

    reason: str
    status: HTTPStatus
    message: str
    retry_seconds: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        headers = {}
        if self.retry_seconds is not None:
            headers["Retry-After"] = str(self.retry_seconds)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="asr"'
        return headers


@dataclass(slots=True)
class Admission:
    """Decides about every request, and counts those who are in.

    Attributes:
        limits: how many and how often.
        access: who; may be replaced at any time.
        queue_delay: tells how long audio waits for recognition at present, in seconds.
        loading: the model is not there yet.
        draining: the server stops.
        inside: sessions of each address.
    """

    limits: Limits
    access: Access
    queue_delay: Callable[[], float] = lambda: 0.0
    loading: bool = True
    draining: bool = False
    inside: dict[str, int] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)  # of an address: see `_too_often`
    sessions: int = 0

    def unavailable(self) -> Refusal | None:
        """Why nobody can be let in at present, if it is so."""
        limits = self.limits
        if self.loading:
            return self._later("loading", "the model is being loaded")
        if self.draining:
            return self._later("draining", "the server stops")
        if self.sessions >= limits.sessions:
            return self._later("full", f"all {limits.sessions} sessions are taken")
        delay = self.queue_delay()
        if delay > limits.overload_seconds:
            return self._later("overloaded", f"audio waits {delay:.1f} s for recognition")
        return None

    def refusal(self, request: Request, address: str, now: float) -> Refusal | None:
        """Why a request for a websocket is refused, or None.

        Args:
            request: its path and headers.
            address: of the client, as `client_address` gives it.
            now: monotonic seconds.
        """
        if self._too_often(address, now):
            return self._rate(address)
        if not self._welcome(request):
            return Refusal(
                "origin",
                HTTPStatus.FORBIDDEN,
                "pages of this origin may not connect; allow it with --allow-origin",
            )
        if self.access.keys is not None and self.holder(request) is None:
            return no_key()
        return self._crowded(address)

    def stranger(self, address: str, now: float) -> Refusal | None:
        """Why a connection is refused that brings no request, so no key and no origin, or None."""
        return self._rate(address) if self._too_often(address, now) else self._crowded(address)

    def _rate(self, address: str) -> Refusal:
        return Refusal(
            "rate",
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{address} connects more than {self.limits.connects_per_second:g} times a second",
            1,
        )

    def _crowded(self, address: str) -> Refusal | None:
        """Why there is no place, for anybody or for this address.

        In this order: where all places are taken, another server may have one, and load balancers
        ask it after a 503 only. By default one address may have them all.
        """
        if (refusal := self.unavailable()) is not None:
            return refusal
        if self.inside.get(address, 0) >= self.limits.address_sessions:
            return Refusal(
                "address",
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{address} has {self.limits.address_sessions} sessions, as many as it may",
                self.limits.retry_seconds,
            )
        return None

    def holder(self, request: Request) -> str | None:
        """The name of the key that a request brings, None without a key that is known."""
        keys = self.access.keys
        if keys is None:
            return None
        names = [keys.holder(key) for key in offered(request.path, request.headers)]
        return next((name for name in names if name is not None), None)

    def enter(self, address: str) -> None:
        """Count a session of this address in."""
        self.sessions += 1
        self.inside[address] = self.inside.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """Count it out again."""
        self.sessions -= 1
        self.inside[address] -= 1
        if not self.inside[address]:
            del self.inside[address]

    def _later(self, reason: str, why: str) -> Refusal:
        seconds = self.limits.retry_seconds
        message = f"{why}; try again in {seconds} s"
        return Refusal(reason, HTTPStatus.SERVICE_UNAVAILABLE, message, seconds)

    def _too_often(self, address: str, now: float) -> bool:
        """Whether an address connects too often; otherwise this connection is counted.

        The generic cell rate algorithm (ITU-T I.371): one number an address says when it would have
        used up what it did so far at the permitted rate. It may be up to `connects_burst` ahead.
        """
        limits = self.limits
        step = 1 / limits.connects_per_second
        due = max(self._next.pop(address, now), now)
        refused = due - now > (limits.connects_burst - 0.5) * step  # half a step for rounding
        self._next[address] = due if refused else due + step
        if len(self._next) > MAX_ADDRESSES:
            del self._next[next(iter(self._next))]
        return refused

    def _welcome(self, request: Request) -> bool:
        """Whether a browser's page, if it is one, may connect (against cross-site hijacking)."""
        allowed = {origin.lower().rstrip("/") for origin in self.access.origins}
        origins = [origin.lower() for origin in request.headers.get_all("Origin")]
        hosts = {host.lower() for host in request.headers.get_all("Host")} - {""}
        return all(o in allowed or _host(o) in hosts for o in origins)


def no_key() -> Refusal:
    """The refusal of a request without a key that is known."""
    return Refusal(
        "key",
        HTTPStatus.UNAUTHORIZED,
        "no valid API key; send one as Authorization: Bearer KEY",
    )


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as people write them, `10.0.0.0/8` or a single address.

    Raises:
        ConfigError: one is none.
    """
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"{error}; write a network as 10.0.0.0/8, or one address") from error


def client_address(peer: str, forwarded: Iterable[str], proxies: tuple[Network, ...]) -> str:
    """Who a request is from, for counting.

    Args:
        peer: the address at the other end of the connection.
        forwarded: the values of `X-Forwarded-For`, each a list with commas, nearest last.
        proxies: whose word is believed: the answer is the nearest address that is none of them.

    Returns:
        An IPv4 address, or the /64 network of an IPv6 one: a single customer has all of those.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    believed = _parse(peer)
    while hops and believed is not None and any(believed in network for network in proxies):
        before = _parse(hops.pop())
        if before is None:
            break  # nonsense: count it at the proxy that passed it on
        believed = before
    if believed is None:
        return peer
    if believed.version == 4:
        return str(believed)
    return str(ipaddress.ip_network((int(believed) >> 64 << 64, 64)))


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    address = _parse(host)
    return host == "localhost" if address is None else address.is_loopback
