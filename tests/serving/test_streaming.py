import asyncio
import json
from typing import Any

import pytest

from serving.in_flight import current
from serving.middleware import CheckRequests
from serving.outermost import CountRequests, OneErrorShape


def streamed(app: Any, gone_after: float | None = None) -> tuple[list[Any], list[tuple[str, Any]]]:
    """What is sent for a compose request that listens to events, and the events."""
    sent: list[Any] = []
    given = False

    async def receive() -> Any:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await asyncio.sleep(60 if gone_after is None else gone_after)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
    scope = {"type": "http", "method": "POST", "path": "/v1/compose", "headers": headers}
    served = OneErrorShape(CountRequests(CheckRequests(app, answer_s=0.5), lambda: "m"))
    asyncio.run(served(scope, receive, send))
    text = b"".join(m.get("body", b"") for m in sent[1:]).decode()
    events = []
    for block in text.strip().split("\n\n"):
        kind, _, data = block.partition("\n")
        events.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return sent, events


def answering(status: int, body: bytes, bars: int = 0) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert all(name != b"accept" for name, _ in scope["headers"])  # the service is asked for JSON
        for bar in range(bars):
            tell = current().tell
            assert tell is not None
            await asyncio.to_thread(tell, "bar", {"bar": bar + 1})
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def test_bars_come_as_they_are_written_and_the_answer_last() -> None:
    sent, events = streamed(answering(200, b'{"takes": []}', bars=3))
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-type"] == b"text/event-stream"
    assert [kind for kind, _ in events] == ["begin", "bar", "bar", "bar", "done"]
    assert len(events[0][1]["request_id"]) == 32
    assert [data["bar"] for kind, data in events if kind == "bar"] == [1, 2, 3]
    assert events[-1][1] == {"takes": []}
    assert sent[-1]["more_body"] is False


@pytest.mark.parametrize(("status", "code"), [(422, "invalid"), (500, "internal")])
def test_what_goes_wrong_is_the_last_event(status: int, code: str) -> None:
    _, events = streamed(answering(status, json.dumps({"error": "Traceback"}).encode(), bars=1))
    assert [kind for kind, _ in events] == ["begin", "bar", "error"]
    assert events[-1][1]["status"] == status
    assert events[-1][1]["error"]["code"] == code


async def _endless(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(60)


async def _silent(scope: Any, receive: Any, send: Any) -> None:
    await receive()


def test_what_takes_too_long_or_ends_without_a_word_is_an_error_event() -> None:
    assert streamed(_endless)[1][-1][1]["status"] == 504
    assert streamed(_silent)[1][-1][1]["status"] == 408


def test_who_hangs_up_ends_the_work() -> None:
    ended = []

    class Ticket:
        def cancel(self) -> None:
            ended.append(True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        current().add(Ticket())  # type: ignore[arg-type]
        await receive()
        await receive()  # the client has gone

    streamed(app, gone_after=0.05)
    assert ended == [True]
