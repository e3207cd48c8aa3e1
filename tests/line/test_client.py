"""The client against the real service, and against one that is busy or away."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from serving.client import Client, Heard, ServiceError
from serving.compose import ComposeAnswer
from tests.server import Server, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.port}") as found:
        yield found


def test_it_asks_for_all_that_the_service_does(client: Client) -> None:
    take = client.compose(bars=4, seed=1).takes[0]
    edited = client.edit(parent=take.id, operation="infill", bars=[2, 3], seed=1).alternatives[0]
    assert edited.contract.equal
    assert client.score(midi=edited.midi).notes == edited.notes
    found = client.similar(id=edited.id, k=3).found
    assert len(found) == 3
    assert client.feedback(user="c", item=found[0].item.id, event="like", key="1").stored
    assert not client.feedback(user="c", item=found[0].item.id, event="like", key="1").stored
    assert client.recommend(user="c", k=2).likes == 1
    assert len(client.pair(seed=1, bars=2).takes) == 2
    assert client.wins().model == client.model().model[:16]


def test_bars_are_heard_before_the_answer(client: Client) -> None:
    *heard, answer = client.composing(bars=4, seed=1)
    assert isinstance(answer, ComposeAnswer)
    assert [e.data["bar"] for e in heard if isinstance(e, Heard) and e.event == "bar"] == [1, 2, 3, 4]
    assert answer.takes[0].midi == client.compose(bars=4, seed=1).takes[0].midi


def test_jobs_and_their_end(client: Client) -> None:
    job = client.later("/v1/compose", bars=4, seed=1)
    done = client.job(job.id, wait_s=60)
    assert done.state == "done"
    assert done.answer is not None
    assert ComposeAnswer.model_validate(done.answer).takes[0].bars == 4
    with pytest.raises(ServiceError, match="no such request"):
        client.end(job.id)


def test_what_is_refused_says_why(client: Client) -> None:
    with pytest.raises(ServiceError) as raised:
        client.compose(style="polka")
    assert (raised.value.status, raised.value.code) == (422, "invalid")
    with pytest.raises(ServiceError, match="known are"):
        list(client.composing(style="polka"))


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[int]]]:
    """A service that answers with one status after another, the last for ever; and what it was asked."""
    asked: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = statuses[min(len(asked), len(statuses) - 1)]
            asked.append(status)
            self.send_response(status)
            self.send_header("retry-after", "0")
            body = b'{"request_id": "r", "model": "m", "seed": 0, "stored": true}'
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_busy_service_is_asked_again_and_not_for_ever() -> None:
    like = {"user": "u", "item": "i", "event": "like"}
    with answering(429, 503, 200) as (url, asked), Client(url) as client:
        assert client.feedback(**like).stored
        assert asked == [429, 503, 200]
    with answering(429) as (url, asked), Client(url, tries=2) as client:
        with pytest.raises(ServiceError, match="429"):
            client.feedback(**like)
        assert len(asked) == 2


def test_what_may_have_been_done_is_not_asked_again_without_a_key() -> None:
    like = {"user": "u", "item": "i", "event": "like"}
    with answering(504, 200) as (url, asked), Client(url) as client:
        with pytest.raises(ServiceError, match="504"):
            client.feedback(**like)
        assert client.feedback(**like, key="k").stored
    with answering(504, 200) as (url, asked), Client(url) as client:
        assert client.feedback(**like, key="k").stored
        assert asked == [504, 200]


def test_a_service_that_is_away_is_told_after_some_tries() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", tries=2) as client, pytest.raises(httpx.ConnectError):
        client.model()
