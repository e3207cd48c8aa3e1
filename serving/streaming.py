"""Answers as server-sent events (`Accept: text/event-stream`): `begin`, a `bar` for each bar as it is
written, then `done` with the answer or `error` with what went wrong; always one of the two, and nothing
after it. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

from serving.asgi import Message, Scope, Send
from serving.errors import CODES, error_body, reshape

MEDIA = "text/event-stream"
SILENCE_S = 10.0  # after which a comment is sent, so that proxies keep the connection


class EventStream:
    """Takes the place of `send` for the service: what it sends becomes the last event. `tell` may be called
    from any thread."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send, self._scope, self._loop = send, scope, asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._status, self._body, self._over = 0, b"", False

    def tell(self, event: str, data: dict[str, Any]) -> None:
        text = json.dumps(data)
        self._loop.call_soon_threadsafe(self._events.put_nowait, (event, text))

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            self._finish()

    def _finish(self) -> None:
        if self._status < 400:
            return self._last("done", self._body.decode())
        self.fail(self._status, json.loads(reshape(self._status, self._body)))

    def fail(self, status: int, error: dict[str, Any]) -> None:
        """End with an error, unless there is an end already; it counts as an answer of that status."""
        if not self._over:
            self._scope["ostinato_status"] = status
            self._last("error", json.dumps({"status": status, **error}))

    def _last(self, event: str, data: str) -> None:
        if not self._over:
            self._over = True
            self._loop.call_soon_threadsafe(self._events.put_nowait, (event, data))

    async def run(self, work: Awaitable[None], begin: dict[str, Any]) -> None:
        """Send events while the work goes on, to the last."""
        headers = [(b"content-type", MEDIA.encode()), (b"cache-control", b"no-store")]
        headers += [(b"x-accel-buffering", b"no")]  # nginx: pass on at once
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.tell("begin", begin)
        working = asyncio.ensure_future(self._done(work))
        try:
            while True:
                try:
                    event, data = await asyncio.wait_for(self._events.get(), SILENCE_S)
                except TimeoutError:
                    await self._chunk(": still writing\n\n", True)
                    continue
                lines = "".join(f"data: {line}\n" for line in data.splitlines())
                over = event in ("done", "error")
                await self._chunk(f"event: {event}\n{lines}\n", not over)
                if over:
                    return
        finally:
            await working

    async def _done(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            self.fail(500, error_body("internal", "something went wrong on our side; it is logged"))
            raise
        finally:  # work that ended without an answer: the client has gone, or was cancelled
            self.fail(408, error_body(CODES[408], "the request was ended before it was answered"))

    async def _chunk(self, text: str, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": more})
