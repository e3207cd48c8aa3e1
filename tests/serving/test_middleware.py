import asyncio
import json
import re
import time
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.compose import ComposeRequest
from serving.errors import reshape
from serving.in_flight import current
from serving.middleware import MAX_BODY, CheckRequests
from serving.outermost import CountRequests, OneErrorShape
from serving.routes import PAGES, ROUTES, WATCHED
from tests.conftest import ROOT


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    """Stands where BentoML stands: reads the body and says 200."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message.get("body", b"")})


async def _explode(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b"Traceback: secret path"})


def ask(
    app: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    sent: list[Any] = []
    pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]

    async def receive() -> Any:
        return (
            {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            if pieces
            else {"type": "http.disconnect"}
        )

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    asyncio.run(OneErrorShape(CountRequests(CheckRequests(app), lambda: "m"))(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


JSON = {"content-type": "application/json"}


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from([*ComposeRequest.model_fields, "x"]), x, max_size=4)
        ),
    ).map(lambda v: json.dumps(v).encode())
)
def test_no_body_makes_a_5xx_and_every_refusal_has_the_one_shape(body: bytes) -> None:
    status, answer = ask(_inner, "POST", "/v1/compose", body, JSON)
    assert status in (200, 400, 422)
    if status != 200:
        error = json.loads(answer)["error"]
        assert set(error) <= {"code", "message", "field"}
        assert error["message"]
    else:
        assert answer == body
        ComposeRequest.model_validate_json(body)


@given(
    st.text(alphabet=st.characters(codec="ascii"), max_size=30),
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
)
def test_unknown_paths_never_reach_the_service(path: str, method: str) -> None:
    status, _ = ask(_inner, method, "/" + path)
    assert status in (404, 405, 415, 422, 400) or "/" + path in ROUTES | PAGES | WATCHED


def test_a_body_past_the_limit_is_refused_while_it_is_read() -> None:
    assert ask(_inner, "POST", "/v1/score", b"x" * (MAX_BODY + 1), JSON)[0] == 413
    assert ask(_inner, "POST", "/v1/score", json.dumps({"midi": "A" * 1000}).encode(), JSON)[0] == 200


def test_deep_json_and_nan_are_refused() -> None:
    assert ask(_inner, "POST", "/v1/compose", b"[" * 100_000, JSON)[0] == 400
    assert ask(_inner, "POST", "/v1/compose", b'{"temperature": NaN}', JSON)[0] == 400
    assert ask(_inner, "POST", "/v1/compose", b'{"temperature": 1e999}', JSON)[0] == 422


def test_wrong_media_type_and_method_say_what_to_use() -> None:
    status, answer = ask(_inner, "POST", "/v1/compose", b"{}", {"content-type": "multipart/form-data"})
    assert status == 415
    assert "application/json" in json.loads(answer)["error"]["message"]
    status, answer = ask(_inner, "GET", "/v1/compose")
    assert (status, json.loads(answer)["error"]["message"]) == (405, "use POST /v1/compose")


def test_what_breaks_inside_is_told_without_its_inside() -> None:
    status, answer = ask(_explode, "POST", "/v1/compose", b"{}", JSON)
    assert status == 500
    assert json.loads(answer)["error"]["code"] == "internal"
    assert b"secret" not in answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "plain"}', "plain"),
        (b"text", "text"),
        (json.dumps([{"error": json.dumps({"error": {"code": "invalid", "message": "m"}})}]).encode(), "m"),
        (b'{"error": {"code": "invalid", "message": "m", "field": "f"}}', "m"),
        (b"", HTTPStatus.UNPROCESSABLE_ENTITY.phrase),  # "Content" from Python 3.13 on
    ],
)
def test_every_shape_of_error_becomes_ours(body: bytes, message: str) -> None:
    assert json.loads(reshape(422, body))["error"]["message"] == message


def test_the_front_page_is_ours_and_names_every_route() -> None:
    status, page = ask(_inner, "GET", "/")
    assert status == 200
    text = page.decode()
    assert all(f"{route.method} {route.path}" in text for route in ROUTES.values())
    assert "http://" not in text and "https://" not in text and "<script" not in text


def test_the_service_and_the_documentation_have_every_route_and_no_other() -> None:
    service = (ROOT / "serving/service.py").read_text()
    assert set(re.findall(r'@bentoml.api\(route="([^"]+)"', service)) == {
        path for path, route in ROUTES.items() if not route.ours
    }
    headings = [line for line in (ROOT / "docs/api.md").read_text().splitlines() if line.startswith("## ")]
    told = {path for line in headings for path in re.findall(r"/v1/[\w/{}]+", line)}
    assert told == set(ROUTES)


def served_by(app: Any, receive: Any, host: str = "localhost:3000", **limits: Any) -> list[Any]:
    """What is sent for a compose request whose body `receive` gives, and its status as metrics see it."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", host.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/compose", "headers": headers}
    asyncio.run(OneErrorShape(CountRequests(CheckRequests(app, **limits), lambda: "m"))(scope, receive, send))
    return sent


def whole() -> Any:
    """Gives a body, and then nothing: the client waits."""
    given = False

    async def receive() -> Any:
        nonlocal given
        if given:
            await asyncio.sleep(60)
        given = True
        return {"type": "http.request", "body": b"{}", "more_body": False}

    return receive


async def _half() -> Any:
    await asyncio.sleep(0.01)
    return {"type": "http.request", "body": b"{", "more_body": True}


async def _endless(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(60)


def test_a_body_that_does_not_come_is_not_waited_for_and_holds_no_place() -> None:
    sent = served_by(_inner, _half, body_s=0.1, at_once=0)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "too_slow"


def test_an_answer_that_does_not_come_is_a_504_in_our_shape_and_its_work_is_cancelled() -> None:
    ended = []

    class Ticket:
        def cancel(self) -> None:
            ended.append(True)

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(current().add, Ticket())  # as BentoML does, work is on a thread
        await asyncio.sleep(60)

    sent = served_by(endless, whole(), answer_s=0.1)
    assert sent[0]["status"] == 504
    assert (b"retry-after", b"5") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "timeout"
    assert ended == [True]


def test_too_many_at_once_are_told_when_to_come_again() -> None:
    sent = served_by(_endless, whole(), at_once=0)
    assert sent[0]["status"] == 429
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "busy"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:3000", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
def test_other_names_are_not_answered_to(host: str, status: int) -> None:
    assert served_by(_inner, whole(), host, hosts=("localhost", "[::1]"))[0]["status"] == status


def test_a_body_of_many_unknown_keys_is_refused_at_once() -> None:
    body = json.dumps({f"k{n}": n for n in range(150_000)}).encode()
    begin = time.perf_counter()
    assert ask(_inner, "POST", "/v1/compose", body, JSON)[0] == 400
    assert time.perf_counter() - begin < 0.5  # 2 s where every key is looked at
