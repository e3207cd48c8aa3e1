"""Two replicas behind nginx (serving/nginx.conf) over one folder: keys, log, jobs, endings and metrics hold,
and one of them may die."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from monitoring.log import EventLog
from tests.conftest import ROOT, run
from tests.e2e.programs import need
from tests.server import Server, free_port, served

pytestmark = pytest.mark.e2e
CONFIG = ROOT / "serving/nginx.conf"


@dataclass
class Cluster:
    front: Server
    replicas: list[Server]
    log: EventLog
    key: str
    admin: str


@pytest.fixture(scope="module")
def cluster(tiny_line: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need("nginx")
    folder = tmp_path_factory.mktemp("replicas")
    shared = {"OSTINATO_KEYS": str(folder / "keys.json"), "OSTINATO_LOG": str(folder / "log")}
    key = run(tiny_line, "keys", "add", "client", **shared).stdout.strip()
    admin = run(tiny_line, "keys", "add", "watcher", "--scopes", "admin", **shared).stdout.strip()
    front = free_port()
    with served(tiny_line, **shared) as first, served(tiny_line, **shared) as second:
        ports = {"3000": first.port, "3001": second.port, "8080": front}
        config = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{ports[m[1]]}", CONFIG.read_text())
        head = f"daemon off; pid {folder}/pid; error_log {folder}/errors;"
        (folder / "nginx.conf").write_text(f"{head}\n{config}")
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
        process = subprocess.Popen(command)
        try:
            server = Server(front, process, 0.0)
            server.wait_until_ready(20, (folder / "errors").read_text)
            yield Cluster(server, [first, second], EventLog(folder / "log"), key, admin)
        finally:
            process.terminate()
            process.wait(10)


def answered(cluster: Cluster, server: Server) -> float:
    """Composes that a replica answered, by its own metrics."""
    text = str(server.ask("/metrics", key=cluster.admin)[1])
    rows = re.findall(r'ostinato_requests_total\{[^}]*endpoint="compose"[^}]*status="2xx"[^}]*\} (\S+)', text)
    assert text.startswith("#")
    return sum(map(float, rows))


def test_both_answer_the_same_and_ask_for_keys(cluster: Cluster) -> None:
    assert cluster.front.ask("/v1/compose", {})[0] == 401
    body = {"bars": 2, "seed": 5}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cluster.front.ask("/v1/compose", body, key=cluster.key), range(16)))
    assert {status for status, _ in found} == {200}
    assert len({answer["takes"][0]["midi"] for _, answer in found}) == 1
    counts = [answered(cluster, replica) for replica in cluster.replicas]
    assert sum(counts) == 16
    assert min(counts) > 0


def test_a_feedback_key_counts_once(cluster: Cluster) -> None:
    take = cluster.front.ask("/v1/compose", {"bars": 2, "seed": 6}, key=cluster.key)[1]["takes"][0]["id"]
    like = {"user": "u", "item": take, "event": "like", "key": "once"}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cluster.front.ask("/v1/feedback", like, key=cluster.key), range(24)))
    assert {status for status, _ in found} == {200}
    assert sum(row.kind == "feedback" and row.body.get("key") == "once" for row in cluster.log.rows()) == 1
    tastes = {r.ask("/v1/recommend", {"user": "u"}, key=cluster.key)[1]["likes"] for r in cluster.replicas}
    assert tastes == {1}


def test_jobs_and_endings_reach_the_other_replica(cluster: Cluster) -> None:
    first, second = cluster.replicas
    job = first.ask("/v1/compose", {"bars": 4, "seed": 7}, key=cluster.key, prefer="respond-async")[1]
    until = time.monotonic() + 60
    while (found := second.ask(f"/v1/jobs/{job['id']}", key=cluster.key)[1])["state"] == "waiting":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert found["state"] == "done"
    large = {"bars": 256, "n": 4, "seed": 8}
    long_one = first.ask("/v1/compose", large, key=cluster.key, prefer="respond-async")[1]
    time.sleep(1.0)
    assert second.ask(f"/v1/requests/{long_one['id']}", method="DELETE", key=cluster.key)[0] == 200
    while (found := second.ask(f"/v1/jobs/{long_one['id']}", key=cluster.key)[1])["state"] == "waiting":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert found["state"] == "ended"


def test_bars_pass_nginx_as_they_are_written(cluster: Cluster) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{cluster.front.port}/v1/compose",
        json.dumps({"bars": 256, "seed": 9}).encode(),
        {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "authorization": f"Bearer {cluster.key}",
        },
    )
    times = []
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"event: "):
                times.append((line[7:].strip().decode(), time.monotonic()))
    assert times[-1][0] == "done"
    bars = [at for name, at in times if name == "bar"]
    assert len(bars) >= 256
    assert times[-1][1] - bars[0] > 0.2  # the first was not kept until the last


def test_one_may_die_and_nothing_that_was_said_is_lost(cluster: Cluster) -> None:
    said = []
    first = psutil.Process(cluster.replicas[0].process.pid)
    for n in range(30):
        if n == 10:
            for each in [*first.children(recursive=True), first]:
                os.kill(each.pid, signal.SIGKILL)
            cluster.replicas[0].process.wait()
        item = cluster.front.ask("/v1/compose", {"bars": 4, "seed": n}, key=cluster.key)
        if item[0] != 200:  # sent on a connection to who died then: said in the one shape, at most twice
            assert n in (10, 11) and item[0] == 503, (n, item)
            assert item[1]["error"]["code"] == "not_ready"
            continue
        like = {"user": "v", "item": item[1]["takes"][0]["id"], "event": "like", "key": f"k{n}"}
        if cluster.front.ask("/v1/feedback", like, key=cluster.key)[0] == 200:
            said.append(f"k{n}")
    kept = {row.body.get("key") for row in cluster.log.rows() if row.kind == "feedback"}
    assert len(said) >= 28
    assert set(said) <= kept
    assert cluster.log.broken() <= 1
