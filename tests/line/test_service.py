"""The service as a whole: scoring, bad requests, the log, metrics, a kill, the image."""

import base64
import http.client
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from symusic import Score

from models.bundle import open_bundle
from monitoring.log import EventLog
from tests.conftest import run
from tests.server import Server, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


def test_scoring_gives_a_surprise_for_every_bar(server: Server, tiny_line: Path) -> None:
    midi = base64.b64encode(next((tiny_line / "samples").glob("0*.mid")).read_bytes()).decode()
    status, answer = server.ask("/v1/score", {"midi": midi})
    assert status == 200
    assert len(answer["surprise_per_bar"]) == answer["bars"] == 4
    assert sum(answer["surprise_per_bar"]) / answer["notes"] == pytest.approx(
        answer["scorecard"]["nats_per_note"], abs=0.01
    )


def test_the_model_says_what_it_is(server: Server, tiny_line: Path) -> None:
    status, answer = server.ask("/v1/model")
    assert (status, answer["model"], answer["version"]) == (
        200,
        open_bundle(tiny_line / "bundle").digest,
        "1",
    )
    assert "irish" in answer["known"]["styles"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/compose", {"style": "polka"}, 422, "known are"),
        ("/v1/compose", {"bars": 0}, 422, "greater than"),
        ("/v1/compose", {"key": "H"}, 422, "tonics"),
        ("/v1/compose", {"bars": 64, "instruments": ["fiddle"] * 5}, 422, "at most 256"),
        ("/v1/compose", {"instruments": ["kazoo"]}, 422, "unknown instrument"),
        ("/v1/compose", {"bar": 4}, 422, "known are style"),
        ("/v1/score", {"midi": "####"}, 422, "base64"),
        ("/v1/score", {"midi": base64.b64encode(b"MThd junk").decode()}, 422, "damaged"),
        ("/v1/nothing", {}, 404, "/v1/compose"),
    ],
)
def test_bad_requests_are_told_what_to_do(
    server: Server, path: str, body: dict[str, object], status: int, message: str
) -> None:
    found, answer = server.ask(path, body)
    assert found == status
    assert message in answer["error"]["message"]


def test_a_score_of_two_hundred_million_ticks_is_refused_at_once(server: Server) -> None:
    score = Score(480)
    from symusic import Note, Track

    track = Track()
    track.notes.append(Note(200_000_000, 480, 60, 80))
    score.tracks.append(track)
    begin = time.monotonic()
    status, answer = server.ask("/v1/score", {"midi": base64.b64encode(bytes(score.dumps_midi())).decode()})
    assert status == 422
    assert "at most" in answer["error"]["message"]
    assert time.monotonic() - begin < 2


def test_everything_is_logged_and_counted_and_drift_is_watched(server: Server, tiny_line: Path) -> None:
    for seed in range(6):
        assert server.ask("/v1/compose", {"bars": 1, "seed": seed})[0] == 200
    rows = list(EventLog(tiny_line / ".ostinato/log").rows())
    answered = {row.request_id for row in rows if row.kind == "answer"}
    assert answered <= {row.request_id for row in rows if row.kind == "request"}
    assert all(
        row.model and (row.descriptors or "error" in row.body)
        for row in rows
        if row.kind == "answer" and row.endpoint not in ("similar", "recommend")
    )
    time.sleep(2.5)
    text = server.ask("/metrics")[1]
    for name in (
        "ostinato_requests_total",
        "ostinato_request_seconds_bucket",
        "ostinato_tokens_total",
        "ostinato_takes_total",
        "ostinato_nats_per_note_bucket",
        "ostinato_descriptor_sum",
        "ostinato_drift_status",
    ):
        assert re.search(rf"^{name}{{", text, flags=re.MULTILINE), name
    assert 'status="5xx"' not in text
    done = run(tiny_line, "drift")
    assert "outputs of model" in done.stdout


def test_bogus_urls_make_no_new_series(server: Server) -> None:
    def count() -> int:
        return server.ask("/metrics")[1].count("\n")

    server.ask("/v1/x0")
    before = count()
    for i in range(30):
        assert server.ask(f"/v1/x{i}/{i}")[0] == 404
    assert count() <= before + 2


def test_feedback_survives_a_kill_right_after_its_answer(tiny_line: Path, tmp_path: Path) -> None:
    item = open_bundle(tiny_line / "bundle").catalogue.items[0].id
    with served(tiny_line, OSTINATO_LOG=str(tmp_path / "log")) as doomed:
        status, answer = doomed.ask("/v1/feedback", {"user": "ann", "item": item, "event": "like"})
        children = psutil.Process(doomed.process.pid).children(recursive=True)
        for process in [*children, psutil.Process(doomed.process.pid)]:
            process.kill()
        assert status == 200 and answer["stored"]
    rows = [row for row in EventLog(tmp_path / "log").rows() if row.kind == "feedback"]
    assert [(row.request_id, row.body["item"]) for row in rows] == [(answer["request_id"], item)]


def test_two_workers_are_two_and_store_a_key_once(tiny_line: Path, tmp_path: Path) -> None:
    item = open_bundle(tiny_line / "bundle").catalogue.items[0].id
    body = {"user": "ann", "item": item, "event": "like"}
    with served(tiny_line, workers=2, OSTINATO_LOG=str(tmp_path / "log")) as both:
        found = [
            process
            for process in psutil.Process(both.process.pid).children(recursive=True)
            if "worker.service" in " ".join(process.cmdline())
        ]
        assert len(found) == 2
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda n: both.ask("/v1/feedback", {**body, "key": f"k{n % 10}"}), range(60))
            )
    assert {status for status, _ in answers} == {200}
    assert sum(answer["stored"] for _, answer in answers) == 10
    assert sum(row.kind == "feedback" for row in EventLog(tmp_path / "log").rows()) == 10


def test_a_worker_does_not_outlive_its_master(tiny_line: Path, tmp_path: Path) -> None:
    with served(tiny_line, OSTINATO_LOG=str(tmp_path / "log")) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        server.process.kill()
        server.process.wait()
        _, left = psutil.wait_procs(children, timeout=30)
        for child in left:
            child.kill()
        assert not left


def test_half_sent_bodies_hold_nobody_up(server: Server) -> None:
    head = b"POST /v1/compose HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(80)]
    try:
        for each in half:
            each.sendall(head + b"Content-Length: 100\r\n\r\n{")
        begin = time.monotonic()
        assert server.ask("/v1/compose", {"bars": 1, "seed": 1})[0] == 200
        assert time.monotonic() - begin < 10
    finally:
        for each in half:
            each.close()


def test_a_client_that_hangs_up_ends_its_composing(server: Server) -> None:
    def at_work() -> bool:
        found = re.search(
            r'ostinato_requests_in_progress{endpoint="compose"} (\d+)', server.ask("/metrics")[1]
        )
        return found is not None and float(found[1]) > 0

    body = {"bars": 256, "n": 4, "seed": 1, "form": "free"}
    begin = time.monotonic()
    assert server.ask("/v1/compose", body)[0] == 200
    whole = time.monotonic() - begin
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/compose", json.dumps(body), {"content-type": "application/json"})
    while not at_work():
        time.sleep(0.02)
    connection.close()
    gone = time.monotonic()
    while at_work() and time.monotonic() - gone < whole:
        time.sleep(0.02)
    assert time.monotonic() - gone < whole / 2


def test_other_hosts_are_not_answered_to(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/v1/model", headers={"host": "evil.example"})
    answer = connection.getresponse()
    assert answer.status == 403
    assert json.loads(answer.read())["error"]["code"] == "forbidden"


def test_a_port_in_use_is_told(tiny_line: Path, server: Server) -> None:
    done = run(tiny_line, "serve", "--port", str(server.port), check=False)
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr


def test_the_image_is_light_non_root_checked_and_without_secrets(tiny_line: Path) -> None:
    image = tiny_line / ".ostinato/image"
    dockerfile = (image / "env/docker/Dockerfile").read_text()
    assert re.search(r"^USER bentoml$", dockerfile, flags=re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile
    assert not re.search(r"(?i)password|secret_key|token=", dockerfile)
    requirements = (image / "env/python/requirements.txt").read_text().lower()
    assert not re.search(r"mlflow|dvc|lightning|partitura|verovio|torch", requirements)
    assert all("==" in line for line in requirements.split())
    assert not re.search(r"build-essential|gnupg|git\b", dockerfile)
    assert re.search(r"^FROM python:3\.11\.\d+-slim", dockerfile, flags=re.MULTILINE)
    sources = [path.read_text() for path in (image / "src").rglob("*.py")]
    assert len(sources) > 100
    assert not any(re.search(r"^(import|from) torch\b", source, flags=re.MULTILINE) for source in sources)
    assert (image / f"models/ostinato/{open_bundle(tiny_line / 'bundle').tag}/model.safetensors").is_file()
    assert not (image / "src/models/network/training.py").exists()
