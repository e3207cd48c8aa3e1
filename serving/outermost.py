"""Plain ASGI middleware around everything else: counts, metrics, the one shape of errors."""

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring import metrics
from serving.asgi import App, Message, Receive, Scope, Send, answer
from serving.errors import reshape
from serving.routes import WATCHED, route_of


class ServeMetrics:
    """GET /metrics over all workers. BentoML's own metrics are off: they make a new series of every unknown
    URL."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/metrics" or scope["method"] != "GET":
            return await self.app(scope, receive, send)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # reads PROMETHEUS_MULTIPROC_DIR, which `bentoml serve` sets
        await answer(send, 200, generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class OneErrorShape:
    """Every answer of status 400 and above leaves in the shape of serving/errors.py."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, body = 0, b""
        start: Message = {}

        async def shape(message: Message) -> None:
            nonlocal status, body, start
            if message["type"] == "http.response.start":
                status, start = message["status"], message
                if status < 400:
                    await send(message)
            elif status < 400:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    kept = [
                        (k, v)
                        for k, v in start.get("headers", [])
                        if k.lower() in (b"allow", b"retry-after", b"www-authenticate", b"x-request-id")
                    ]
                    await answer(send, status, reshape(status, body), kept)

        await self.app(scope, receive, shape)


class CountRequests:
    """Requests, seconds and requests in progress, by endpoint, status class and model (the one that answered
    when a request was done)."""

    def __init__(self, app: App, model: Callable[[], str]) -> None:
        self.app, self.model = app, model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path in WATCHED:
            return await self.app(scope, receive, send)
        route, _ = route_of(path)
        endpoint = route.name if route else "other"
        begin, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics.IN_PROGRESS.labels(endpoint).inc()
        try:
            await self.app(scope, receive, note)
        finally:
            metrics.IN_PROGRESS.labels(endpoint).dec()
            status = scope.get("ostinato_status", status)  # of a stream that ended in an error
            flight = scope.get("ostinato_flight")
            model = (flight and flight.model) or self.model()
            metrics.REQUESTS.labels(endpoint, f"{status // 100}xx", model).inc()
            metrics.SECONDS.labels(endpoint, model).observe(time.perf_counter() - begin)
