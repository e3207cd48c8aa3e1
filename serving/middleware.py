"""Plain ASGI middleware: known paths only, bounded JSON bodies checked against the schemas, one shape of
error, request counts.

It stands before BentoML, so nothing a client sends can make a 5xx or a new metric label there.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ValidationError

from monitoring import metrics
from serving.cancelling import begin
from serving.errors import CODES, error_body, reshape
from serving.front_page import front_page
from serving.openapi import document
from serving.routes import PAGES, ROUTES, WATCHED

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 3_000_000
MOST_KEYS = 4_096  # keys of all objects of a body; the largest request that is allowed has about 2,000
BODY_S, ANSWER_S = 15.0, 60.0  # to send a whole body, to answer it
AT_ONCE = 64  # requests at work in a worker; the next are told to come again
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


async def _refuse(
    send: Send, status: int, message: str, field: str = "", allow: str = "", retry_after: int = 0
) -> None:
    extra = [(b"allow", allow.encode())] if allow else []
    extra += [(b"retry-after", str(retry_after).encode())] if retry_after else []
    await _answer(send, status, json.dumps(error_body(CODES[status], message, field)).encode(), extra)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Counted:
    """Counts the keys of a body while it is parsed, so that millions of them cost nothing."""

    def __init__(self) -> None:
        self._keys = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._keys += len(pairs)
        if self._keys > MOST_KEYS:
            raise ValueError(f"more than {MOST_KEYS} keys")
        return dict(pairs)


class CheckRequests:
    """Refuse unknown hosts, paths and methods, bodies too slow, too large, not JSON, or not of the schema,
    and more requests than can be at work, before BentoML sees them. hosts: that may be asked for; () any."""

    def __init__(
        self,
        app: App,
        model: str = "",
        hosts: Collection[str] = (),
        body_s: float = BODY_S,
        answer_s: float = ANSWER_S,
        at_once: int = AT_ONCE,
    ) -> None:
        self.app, self._page, self._hosts = app, front_page(model), hosts
        self._document = json.dumps(document(model)).encode()
        self._body_s, self._answer_s, self._at_once, self._at_work = body_s, answer_s, at_once, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
            return await _refuse(
                send, 403, f"this service answers to {', '.join(self._hosts)} alone (OSTINATO_HOSTS)"
            )
        route = ROUTES.get(path)
        if route is None and path not in PAGES and path not in WATCHED:
            return await _refuse(send, 404, f"no such path; there are {', '.join(ROUTES)}")
        wanted = route.method if route else "GET"
        if method != wanted and not (wanted == "GET" and method == "HEAD"):
            return await _refuse(send, 405, f"use {wanted} {path}", allow=wanted)
        if path == "/":
            return await _answer(send, 200, self._page, content_type="text/html; charset=utf-8")
        if path == "/docs.json":
            return await _answer(send, 200, self._document)
        if route is None:
            return await self.app(scope, receive, send)
        if route.body is None:  # BentoML serves every api by POST; reading is a GET
            empty = [(b"content-type", b"application/json"), (b"content-length", b"2")]
            return await self.app({**scope, "method": "POST", "headers": empty}, _once(b"{}", receive), send)
        schema = route.body
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            return await _refuse(send, 415, "send the request as JSON with content-type: application/json")
        try:
            async with asyncio.timeout(self._body_s):
                body = await _read(receive)
        except TimeoutError:
            return await _refuse(send, 408, f"the body did not arrive within {self._body_s:g} s")
        if body is None:
            return await _refuse(
                send, 413, f"the body is larger than {MAX_BODY} bytes; a score may have 2 MB"
            )
        try:
            value = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_Counted())
            schema.model_validate(value)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ValidationError):
                problem = error.errors()[0]
                field = ".".join(str(part) for part in problem["loc"])
                return await _refuse(send, 422, _explain(problem, schema), field)
            return await _refuse(send, 400, "the body is not JSON: " + str(error)[:200])
        if self._at_work >= self._at_once:
            told = f"{self._at_work} requests are at work already: try again in a second"
            return await _refuse(send, 429, told, retry_after=1)
        self._at_work += 1
        try:
            await self._watched(scope, body, receive, send)
        finally:
            self._at_work -= 1

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
        gone, cancelling = asyncio.Event(), begin()

        async def heard() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            cancelling.cancel()
            gone.set()

        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        watcher = asyncio.create_task(watch())
        try:
            async with asyncio.timeout(self._answer_s):
                await self.app(scope, _once(body, heard), note)
        except TimeoutError:
            cancelling.cancel()
            if not started:
                told = f"not answered within {self._answer_s:g} s: ask for less"
                await _refuse(send, 504, told, retry_after=5)
        finally:
            watcher.cancel()


def _host(header: bytes) -> str:
    """The name of a Host header, without its port."""
    name = header.decode("latin-1").strip().lower()
    return name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]


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
