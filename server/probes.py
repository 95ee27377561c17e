"""What is answered over HTTP without an upgrade: probes, figures, refusals."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from server.admission import no_key
from server.logs import tell
from server.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from server.admission import Admission, Refusal
    from server.dialogue import ModelInfo
    from server.engine import Engine
    from server.limits import Limits
    from server.metrics import Meter, Metrics

_log = logging.getLogger(__name__)


class Probes:
    """Answers what a load balancer and Prometheus ask.

    Args:
        admission: knows whether sessions are taken, and who may see the figures.
        metrics: the figures.
        meter: knows whether recognition goes on.
        limits: how long it may take.

    Attributes:
        engine: once there is one.
        model: likewise.
    """

    def __init__(
        self, admission: Admission, metrics: Metrics, meter: Meter, limits: Limits
    ) -> None:
        self._admission = admission
        self._metrics = metrics
        self._meter = meter
        self._limits = limits
        self.engine: Engine | None = None
        self.model: ModelInfo | None = None

    def answer(self, path: str, connection: ServerConnection, request: Request) -> Response | None:
        """The answer, or None if the path is not one of ours."""
        return PATHS[path](self, connection, request) if path in PATHS else None

    def refuse(self, connection: ServerConnection, refusal: Refusal) -> Response:
        """Count a request that is not let in, and answer it."""
        self._metrics.rejected(refusal.reason)
        tell(_log, "refused", logging.DEBUG, reason=refusal.reason)
        return _refused(connection, refusal)

    def health(self, connection: ServerConnection, _: Request) -> Response:
        """Whether it is any use to keep this process. Loading and draining are healthy."""
        stuck = self._meter.round_age() > self._limits.stuck_seconds
        if stuck or (self.engine is not None and not self.engine.alive):
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "recognition is stuck\n")
        return connection.respond(HTTPStatus.OK, "ok\n")

    def readiness(self, connection: ServerConnection, _: Request) -> Response:
        """Whether a new session would be let in, whoever wants it."""
        refusal = self._admission.unavailable()
        if refusal is None:
            return connection.respond(HTTPStatus.OK, "ready\n")
        return _refused(connection, refusal)

    def figures(self, connection: ServerConnection, request: Request) -> Response:
        """What Prometheus reads; with a key, if sessions need one."""
        if self._admission.access.keys is not None and self._admission.holder(request) is None:
            return self.refuse(connection, no_key())
        model = self.model
        about = {"name": model.name, "id": model.id} if model else {}
        response = connection.respond(HTTPStatus.OK, self._metrics.text(about))
        return typed(response, CONTENT_TYPE)


PATHS: Final = {
    "/healthz": Probes.health,
    "/readyz": Probes.readiness,
    "/metrics": Probes.figures,
}


def _refused(connection: ServerConnection, refusal: Refusal) -> Response:
    response = connection.respond(refusal.status, f"{refusal.message}\n")
    response.headers.update(refusal.headers)
    return response


def typed(response: Response, content_type: str) -> Response:
    """The answer with another type of content than plain text."""
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = content_type
    return response
