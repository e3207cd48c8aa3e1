"""Faults of a running service, each with what docs/operations.md promises of it."""

import json
import os
import resource
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from monitoring.log import EventLog
from tests.server import Server, served, wait

pytestmark = pytest.mark.e2e
CONNECTIONS = 10_000


@pytest.fixture
def files_enough() -> Iterator[None]:
    """As many open files as there are connections, for us and what we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def worker_of(server: Server) -> psutil.Process:
    return max(
        psutil.Process(server.process.pid).children(recursive=True), key=lambda each: each.memory_info().rss
    )


def well(server: Server) -> bool:
    try:
        return server.ask("/v1/compose", {"bars": 1, "seed": 1})[0] == 200
    except (OSError, ValueError):
        return False


def test_ten_thousand_connections_hold_no_place(tiny_line: Path, files_enough: None) -> None:
    with served(tiny_line) as server:
        crowd = []
        try:
            for n in range(CONNECTIONS):
                each = socket.create_connection(("127.0.0.1", server.port), timeout=20)
                if n % 2:
                    each.send(b"POST /v1/compose HTTP/1.1\r\nhost: localhost\r\n")
                crowd.append(each)
            begin = time.monotonic()
            assert server.ask("/v1/compose", {"bars": 2, "seed": 1})[0] == 200
            assert time.monotonic() - begin < 10
        finally:
            for each in crowd:
                each.close()
        worker = worker_of(server)
        wait(lambda: worker.num_fds() < 500, 60, "connections are kept open")
        assert well(server)


def test_a_stream_of_a_killed_worker_breaks_off_and_the_next_is_served(tiny_line: Path) -> None:
    with served(tiny_line) as server:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/v1/compose",
            json.dumps({"bars": 256, "seed": 1}).encode(),
            {"content-type": "application/json", "accept": "text/event-stream"},
        )
        seen = []
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                for line in answer:
                    seen.append(line)
                    if len(seen) == 12:
                        worker_of(server).kill()
        except OSError:
            pass
        assert len(seen) >= 12
        assert not any(line.startswith((b"event: done", b"event: error")) for line in seen)
        wait(lambda: well(server), 60, "no worker took its place")


def test_a_full_disk_is_a_503_and_heals(tiny_line: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with served(tiny_line, OSTINATO_LOG=str(log)) as server:
        assert well(server)
        (segment,) = EventLog(log).segments()
        worker, size = worker_of(server), segment.stat().st_size
        worker.rlimit(psutil.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))  # no file may grow past it
        status, told = server.ask("/v1/compose", {"bars": 1, "seed": 2})
        assert status == 503
        assert "log" in told["error"]["message"]
        assert segment.stat().st_size == size
        worker.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert well(server)
        assert EventLog(log).broken() == 0


def test_answers_that_are_being_written_are_given_before_it_ends(tiny_line: Path) -> None:
    with served(tiny_line) as server:
        assert well(server)
        found: list[tuple[int, Any]] = []
        asking = threading.Thread(
            target=lambda: found.append(server.ask("/v1/compose", {"bars": 64, "n": 2, "seed": 3}))
        )
        asking.start()
        time.sleep(0.5)
        begin = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        asking.join(60)
        assert [status for status, _ in found] == [200]
        assert server.process.wait(60) is not None
        assert time.monotonic() - begin < 45
        with pytest.raises(OSError, match="refused|reset"):
            server.ask("/readyz")


def test_all_killed_and_started_again_lose_nothing_that_was_said(tiny_line: Path, tmp_path: Path) -> None:
    told = {"OSTINATO_LOG": str(tmp_path / "log")}
    said = []
    with served(tiny_line, workers=2, **told) as server:
        take = server.ask("/v1/compose", {"bars": 1, "seed": 1})[1]["takes"][0]["id"]
        parent = psutil.Process(server.process.pid)

        def like() -> None:
            for n in range(10_000):
                body = {"user": "u", "item": take, "event": "like", "key": f"k{n}"}
                try:
                    if server.ask("/v1/feedback", body)[0] == 200:
                        said.append(f"k{n}")
                except OSError:
                    return

        liking = threading.Thread(target=like)
        liking.start()
        wait(lambda: len(said) > 20, 30, "no feedback is taken")
        for each in [*parent.children(recursive=True), parent]:
            each.kill()
        liking.join(30)
    with served(tiny_line, **told) as server:
        assert well(server)
        log = EventLog(tmp_path / "log")
        kept = {row.body["key"] for row in log.rows() if row.kind == "feedback"}
        assert set(said) <= kept
        assert log.broken() <= 1
        assert server.ask("/v1/similar", {"id": take})[0] in (200, 422)  # found, or too short to compare
