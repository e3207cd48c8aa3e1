"""Plain ASGI middleware: known hosts, keys and paths only, bounded JSON bodies checked against the schemas,
each request under an id; an answer goes out at once, bar by bar, or as a job.

It stands before BentoML, so nothing a client sends can make a 5xx or a new metric label there.
"""

import asyncio
import json
import math
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from monitoring.keys import ANYBODY, Key, KeyFile, KeysError
from serving.asgi import App, Headers, Message, Receive, Scope, Send, answer, refuse
from serving.endings import Endings
from serving.front_page import front_page
from serving.in_flight import InFlight, begin, end
from serving.jobs import EndAnswer, Job, JobAnswer, Jobs, TooManyJobs
from serving.limits import Limits
from serving.openapi import document
from serving.routes import PAGES, ROUTES, WATCHED, Route, route_of
from serving.schemas import Costly
from serving.streaming import MEDIA, EventStream

MAX_BODY = 3_000_000
MOST_KEYS = 4_096  # keys of all objects of a body; the largest request that is allowed has about 2,000
BODY_S, ANSWER_S = 15.0, 60.0  # to send a whole body, to answer it
AT_ONCE = 64  # requests at work in a worker; the next are told to come again
HEALTH = ("/livez", "/readyz", "/healthz")  # asked without a key


class _Refusal(Exception):
    """A request that goes no further."""

    def __init__(
        self, status: int, message: str, field: str = "", allow: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.allow = status, message, field, allow
        self.retry_after = math.ceil(retry_after)


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
    """Refuse unknown hosts, keys, paths and methods, bodies too slow, too large, not JSON, or not of the
    schema, and more requests than can be at work, before BentoML sees them. model: says which answers. hosts:
    that may be asked for; () any. keys: None where everybody may ask everything. folder: that all workers
    share, for jobs and for requests that are to end."""

    def __init__(
        self,
        app: App,
        model: Callable[[], str] = str,
        hosts: Collection[str] = (),
        keys: KeyFile | None = None,
        folder: Path | None = None,
        body_s: float = BODY_S,
        answer_s: float = ANSWER_S,
        at_once: int = AT_ONCE,
    ) -> None:
        folder = folder or Path(".ostinato/log")
        self.app, self._model, self._hosts, self._keys = app, model, hosts, keys
        self._body_s, self._answer_s, self._at_once, self._at_work = body_s, answer_s, at_once, 0
        self._limits, self._jobs, self._endings = Limits(), Jobs(folder / "jobs"), Endings(folder / "ending")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        try:
            route, name, key = self._allowed(scope)
            if route is None:
                return await self._page_of(scope, receive, send)
            if route.ours:
                return await self._about(route, name, key, send)
            if route.body is None:  # BentoML serves every api by POST; reading is a GET
                self._take(key, 0)
                return await self.app(*_posted(scope, b"{}", receive), send)
            body, asked = await self._body(scope, receive, route.body)
            if self._at_work >= self._at_once:
                told = f"{self._at_work} requests are at work already: try again in a second"
                raise _Refusal(429, told, retry_after=1)
            self._take(key, asked.cells() if isinstance(asked, Costly) else 0)
            if _wants(scope, b"prefer", "respond-async"):
                return await self._later(route, key, body, send)
        except _Refusal as refusal:
            r = refusal
            return await refuse(send, r.status, r.message, r.field, r.allow, r.retry_after)
        self._at_work += 1
        self._limits.begin(key)
        try:
            await self._serve(route, key, scope, body, receive, send)
        finally:
            self._at_work -= 1
            self._limits.end(key)

    def _allowed(self, scope: Scope) -> tuple[Route | None, str, Key]:
        """The route that is asked for, None for a page; the id in its path; and the key. Raises _Refusal."""
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
            raise _Refusal(403, f"this service answers to {', '.join(self._hosts)} alone (OSTINATO_HOSTS)")
        route, name = route_of(path)
        page = path in PAGES or path in WATCHED
        key = ANYBODY if path in HEALTH else self._key(headers)
        if route is None and not page:
            raise _Refusal(404, f"no such path; there are {', '.join(ROUTES)}")
        needed = route.scope if route else "admin" if path == "/metrics" else "read"
        if needed not in key.scopes:
            raise _Refusal(403, f"this key may {', '.join(key.scopes)}; {path} needs one that may {needed}")
        wanted = route.method if route else "GET"
        if method != wanted and not (wanted == "GET" and method == "HEAD"):
            raise _Refusal(405, f"use {wanted} {path}", allow=wanted)
        return route, name, key

    def _key(self, headers: dict[bytes, bytes]) -> Key:
        if self._keys is None:
            return ANYBODY
        kind, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            key = self._keys.of(text.strip()) if kind.lower() == "bearer" else None
        except KeysError as error:
            raise _Refusal(503, str(error), retry_after=10) from error
        if key is None:
            raise _Refusal(401, "send a key that is valid: `Authorization: Bearer ost_...`")
        return key

    def _take(self, key: Key, cells: int) -> None:
        why, wait = self._limits.refused(key, cells)
        if why:
            raise _Refusal(429, f"{why}: try again in {math.ceil(wait)} s", retry_after=wait)

    async def _page_of(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            return await answer(send, 200, front_page(self._model()), content_type="text/html; charset=utf-8")
        if scope["path"] == "/docs.json":
            return await answer(send, 200, json.dumps(document(self._model())).encode())
        await self.app(scope, receive, send)

    async def _about(self, route: Route, name: str, key: Key, send: Send) -> None:
        """Requests and jobs, by id."""
        if route.method == "DELETE":
            if not self._jobs.end(name, key.id) and not await self._endings.end(name, key.id):
                raise _Refusal(404, "no such request is at work: it was answered, or never there")
            done = EndAnswer(request_id=name, ended=True)
            return await answer(send, 200, done.model_dump_json().encode())
        job = self._jobs.of(name, key.id)
        if job is None:
            raise _Refusal(404, "no such job: it was never there, or was answered more than a day ago")
        told = JobAnswer.model_validate(job, from_attributes=True)
        await answer(send, 200, told.model_dump_json().encode())

    async def _body(self, scope: Scope, receive: Receive, schema: type[BaseModel]) -> tuple[bytes, BaseModel]:
        """What is sent, whole, and as the schema has it. Raises _Refusal."""
        media = dict(scope["headers"]).get(b"content-type", b"").split(b";")[0].strip().lower()
        if media != b"application/json":
            raise _Refusal(415, "send the request as JSON with content-type: application/json")
        try:
            async with asyncio.timeout(self._body_s):
                body = await _read(receive)
        except TimeoutError:
            raise _Refusal(408, f"the body did not arrive within {self._body_s:g} s") from None
        if body is None:
            raise _Refusal(413, f"the body is larger than {MAX_BODY} bytes; a score may have 2 MB")
        try:
            value = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_Counted())
            return body, schema.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise _Refusal(422, _explain(problem, schema), field) from error
        except (ValueError, RecursionError) as error:
            raise _Refusal(400, "the body is not JSON: " + str(error)[:200]) from error

    async def _later(self, route: Route, key: Key, body: bytes, send: Send) -> None:
        """Keep a request as a job."""
        if not route.writes:
            raise _Refusal(422, f"{route.path} answers at once: leave `Prefer: respond-async` out")
        job = Job(uuid.uuid4().hex, key.id, route.path, json.loads(body), keeps=key.keeps_music)
        try:
            self._jobs.add(job)
        except TooManyJobs as error:
            raise _Refusal(429, str(error), retry_after=60) from error
        except OSError as error:
            raise _Refusal(503, "the job cannot be kept (is the disk full?)", retry_after=60) from error
        where: Headers = [(b"location", f"/v1/jobs/{job.id}".encode())]
        where += [(b"preference-applied", b"respond-async"), (b"retry-after", b"1")]
        told = JobAnswer.model_validate(job, from_attributes=True)
        await answer(send, 202, told.model_dump_json().encode(), where)

    async def _serve(
        self, route: Route, key: Key, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Answer a request under an id, at once or as it is written, and end its work if the client goes
        away."""
        request_id, gone = uuid.uuid4().hex, asyncio.Event()
        stream = EventStream(send, scope) if route.writes and _wants(scope, b"accept", MEDIA) else None
        user = dict(scope["headers"]).get(b"ostinato-user", b"").decode("latin-1")[:64]
        flight = begin(
            InFlight(request_id, key.id, stream.tell if stream else None, user=user, keeps=key.keeps_music)
        )
        scope["ostinato_flight"] = flight  # for who counts: it knows which model answered

        async def heard() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            flight.cancel()
            gone.set()

        watcher = asyncio.create_task(watch())
        try:
            if stream:
                scope = {**scope, "headers": [h for h in scope["headers"] if h[0] != b"accept"]}
                work = self._in_time(flight, scope, body, heard, stream)
                await stream.run(work, {"request_id": request_id})
            else:
                await self._in_time(flight, scope, body, heard, _under(request_id, send))
        finally:
            watcher.cancel()
            end(flight)

    async def _in_time(
        self, flight: InFlight, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Have BentoML answer, or say that it took too long."""
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._answer_s):
                await self.app(scope, _once(body, receive), note)
        except TimeoutError:
            flight.cancel()
            if not started:
                told = f"not answered within {self._answer_s:g} s: ask for less, or for a job (docs/api.md)"
                await refuse(send, 504, told, retry_after=5)


def _wants(scope: Scope, header: bytes, value: str) -> bool:
    """Whether a header lists a value."""
    listed = [v.decode("latin-1") for k, v in scope["headers"] if k == header]
    return any(part.split(";")[0].strip().lower() == value for v in listed for part in v.split(","))


def _posted(scope: Scope, body: bytes, receive: Receive) -> tuple[Scope, Receive]:
    """The same request as a POST of JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {**scope, "method": "POST", "headers": headers}, _once(body, receive)


def _under(request_id: str, send: Send) -> Send:
    """The answer tells under which id it was served."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = (b"x-request-id", request_id.encode())
            message = {**message, "headers": [*message.get("headers", []), told]}
        await send(message)

    return named


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
