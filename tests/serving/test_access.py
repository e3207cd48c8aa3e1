import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from monitoring.keys import Key, KeyFile, KeysError, made
from serving.in_flight import current
from serving.limits import Limits
from serving.middleware import CheckRequests
from serving.outermost import CountRequests, OneErrorShape


async def _owner(scope: Any, receive: Any, send: Any) -> None:
    """Stands where BentoML stands: says whose request it is."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": current().owner.encode()})


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def ask(
    app: Any, key: str = "", path: str = "/v1/compose", method: str = "POST", body: bytes = b"{}"
) -> tuple[int, bytes, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    headers += [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(OneErrorShape(CountRequests(app, lambda: "m"))(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), dict(sent[0]["headers"])


def given(file: KeyFile, *scopes: str, **limits: int) -> tuple[Key, str]:
    key, text = made("a", scopes, **limits)
    file.add(key)
    return key, text


def test_a_key_is_asked_for_and_says_whose_a_request_is(file: KeyFile) -> None:
    key, text = given(file, "compose")
    app = CheckRequests(_owner, keys=file)
    status, body, headers = ask(app)
    assert (status, json.loads(body)["error"]["code"]) == (401, "unauthorized")
    assert headers[b"www-authenticate"] == b"Bearer"
    assert ask(app, text)[:2] == (200, key.id.encode())
    assert text not in file.path.read_text()  # a hash alone is kept
    assert file.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "x", lambda t: t.replace("ost_", "os_")])
def test_a_key_that_is_nearly_right_is_wrong(file: KeyFile, change: Any) -> None:
    _, text = given(file, "compose")
    assert ask(CheckRequests(_owner, keys=file), change(text))[0] == 401


def test_a_key_may_what_its_scopes_say(file: KeyFile) -> None:
    _, text = given(file, "feedback")
    app = CheckRequests(_owner, keys=file)
    status, body, _ = ask(app, text)
    assert status == 403
    assert "feedback" in json.loads(body)["error"]["message"]
    assert ask(app, text, "/metrics", "GET")[0] == 403
    assert ask(app, "", "/livez", "GET")[0] == 200  # health is open


def test_a_key_that_is_revoked_is_refused_at_once(file: KeyFile) -> None:
    _, text = given(file, "compose")
    app = CheckRequests(_owner, keys=file)
    assert ask(app, text)[0] == 200
    KeyFile(file.path).revoke("a")
    assert ask(app, text)[0] == 401


def test_a_file_that_is_no_file_of_keys_lets_nobody_in_and_says_so(file: KeyFile) -> None:
    file.path.write_text('{"half')
    status, body, headers = ask(CheckRequests(_owner, keys=file), "ost_1_2")
    assert (status, headers[b"retry-after"]) == (503, b"10")
    assert "put back a copy" in json.loads(body)["error"]["message"]


def test_keys_of_unknown_scopes_and_doubtful_names_are_refused(file: KeyFile) -> None:
    with pytest.raises(KeysError, match="there are read, compose, feedback, admin"):
        made("a", ["write"])
    given(file, "read"), given(file, "read")
    with pytest.raises(KeysError, match="2 keys are called 'a'"):
        file.revoke("a")


def test_requests_past_the_limit_are_told_when_to_come_again(file: KeyFile) -> None:
    _, text = given(file, "compose", requests_a_minute=2)
    app = CheckRequests(_owner, keys=file)
    assert [ask(app, text)[0] for _ in range(3)] == [200, 200, 429]
    assert 28 <= int(ask(app, text)[2][b"retry-after"]) <= 30


def test_cells_are_counted_and_come_back_with_time() -> None:
    now = [0.0]
    limits, key = Limits(lambda: now[0]), Key("k", "a", "", ("compose",), cells_a_minute=60)
    assert limits.refused(key, 60) == ("", 0.0)
    why, wait = limits.refused(key, 30)
    assert "60 cells" in why
    assert wait == pytest.approx(30)
    now[0] += 30
    assert limits.refused(key, 30) == ("", 0.0)
    now[0] += 60
    assert limits.refused(key, 1000) == ("", 0.0)  # larger than the bucket: goes when it is full
    assert limits.refused(key, 1)[1] > 0


def test_requests_at_once_are_limited_by_key() -> None:
    limits, key = Limits(), Key("k", "a", "", ("compose",), at_once=1)
    limits.begin(key)
    assert "at work already" in limits.refused(key, 0)[0]
    limits.end(key)
    assert limits.refused(key, 0) == ("", 0.0)


def test_cells_of_a_request_are_taken_from_its_key(file: KeyFile) -> None:
    _, text = given(file, "compose", cells_a_minute=20)
    app = CheckRequests(_owner, keys=file)
    assert ask(app, text, body=b'{"bars": 16}')[0] == 200
    assert ask(app, text, body=b'{"bars": 16}')[0] == 429
