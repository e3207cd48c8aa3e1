"""Plain ASGI middleware: known paths only, bounded JSON bodies checked against the schemas, one shape of
error, request counts.

It stands before BentoML, so nothing a client sends can make a 5xx or a new metric label there.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ValidationError

from monitoring import metrics
from serving.cancelling import AT_WORK
from serving.errors import CODES, error_body, reshape
from serving.front_page import front_page
from serving.routes import PAGES, ROUTES, WATCHED

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 3_000_000
REQUEST_ID = (
    b"ostinato-request-id"  # set here for the service; what a client sends under this name is dropped
)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    extra: list[tuple[bytes, bytes]] | None = None,
    content_type: str = "application/json",
) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *(extra or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, message: str, field: str = "", allow: str = "") -> None:
    extra = [(b"allow", allow.encode())] if allow else []
    await _answer(send, status, json.dumps(error_body(CODES[status], message, field)).encode(), extra)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class CheckRequests:
    """Refuse unknown paths, wrong methods, bodies too large, not JSON, or not of the schema, before BentoML
    sees them."""

    def __init__(self, app: App, model: str = "") -> None:
        self.app, self._page = app, front_page(model)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        path, method = scope["path"], scope["method"]
        route = ROUTES.get(path)
        if route is None and path not in PAGES and path not in WATCHED:
            return await _refuse(send, 404, f"no such path; there are {', '.join(ROUTES)}")
        wanted = route.method if route else "GET"
        if method != wanted and not (wanted == "GET" and method == "HEAD"):
            return await _refuse(send, 405, f"use {wanted} {path}", allow=wanted)
        if path == "/":
            return await _answer(send, 200, self._page, content_type="text/html; charset=utf-8")
        if route is None:
            return await self.app(scope, receive, send)
        if route.body is None:  # BentoML serves every api by POST; reading is a GET
            empty = [(b"content-type", b"application/json"), (b"content-length", b"2")]
            return await self.app({**scope, "method": "POST", "headers": empty}, _once(b"{}", receive), send)
        schema = route.body
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            return await _refuse(send, 415, "send the request as JSON with content-type: application/json")
        body = await _read(receive)
        if body is None:
            return await _refuse(
                send, 413, f"the body is larger than {MAX_BODY} bytes; a score may have 2 MB"
            )
        try:
            value = json.loads(body, parse_constant=_no_constant)
            schema.model_validate(value)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ValidationError):
                problem = error.errors()[0]
                field = ".".join(str(part) for part in problem["loc"])
                return await _refuse(send, 422, _explain(problem, schema), field)
            return await _refuse(send, 400, "the body is not JSON: " + str(error)[:200])
        await self._watched(scope, body, receive, send)

    async def _watched(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Serve a request under an id, and end its work if the client goes away."""
        request_id = uuid.uuid4().hex
        scope = {
            **scope,
            "headers": [
                *((k, v) for k, v in scope["headers"] if k != REQUEST_ID),
                (REQUEST_ID, request_id.encode()),
            ],
        }
        gone = asyncio.Event()

        async def heard() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            AT_WORK.cancel(request_id)
            gone.set()

        watcher = asyncio.create_task(watch())
        try:
            await self.app(scope, _once(body, heard), send)
        finally:
            watcher.cancel()


def _once(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a body already read, then whatever the client sends (its disconnect)."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _explain(problem: Any, schema: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown field {problem['loc'][-1]!r}; known are {', '.join(schema.model_fields)}"
    return str(problem["msg"]).removeprefix("Value error, ")


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None where it is larger than MAX_BODY."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


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
        await _answer(send, 200, generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


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
                        if k.lower() in (b"allow", b"retry-after", b"x-request-id")
                    ]
                    await _answer(send, status, reshape(status, body), kept)

        await self.app(scope, receive, shape)


class CountRequests:
    """Requests, seconds and requests in progress, by endpoint, status class and model."""

    def __init__(self, app: App, model: str) -> None:
        self.app, self.model = app, model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path in WATCHED:
            return await self.app(scope, receive, send)
        endpoint = ROUTES[path].name if path in ROUTES else "other"
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
            metrics.REQUESTS.labels(endpoint, f"{status // 100}xx", self.model).inc()
            metrics.SECONDS.labels(endpoint, self.model).observe(time.perf_counter() - begin)
