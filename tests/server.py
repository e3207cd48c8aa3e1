"""Starts the real `ostinato serve` of a checkout for tests, and ends it."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(condition: Callable[[], Any], seconds: float, why: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why or f"not so within {seconds} s"
        time.sleep(0.1)


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    seconds_to_ready: float

    def wait_until_ready(self, seconds: float, told: Callable[[], str]) -> None:
        """Until it answers; AssertionError with what is `told` where its process ends or it takes longer."""
        begin = time.monotonic()
        while True:
            try:
                if self.ask("/readyz")[0] == 200:
                    break
            except (urllib.error.URLError, ConnectionError, json.JSONDecodeError):
                pass
            if self.process.poll() is not None or time.monotonic() - begin > seconds:
                raise AssertionError("the service did not start:\n" + told()[-4000:])
            time.sleep(0.2)

    def fetch(self, path: str, body: Any, accept: str) -> tuple[bytes, dict[str, str]]:
        """The file that answers a request which accepts a format of scores alone, and its headers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json", "accept": accept},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read(), {name.lower(): value for name, value in answer.headers.items()}

    def events(self, path: str, body: Any) -> Iterator[tuple[str, Any]]:
        """The events of a request that listens, as they come."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json", "accept": "text/event-stream"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            event = ""
            for line in answer:
                name, _, value = line.decode().rstrip().partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def ask(
        self, path: str, body: Any = None, method: str = "", key: str = "", prefer: str = "", user: str = ""
    ) -> tuple[int, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"content-type": "application/json"}
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        headers |= {"prefer": prefer} if prefer else {}
        headers |= {"ostinato-user": user} if user else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, headers, method=method or ("POST" if data else "GET")
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if text.startswith(("{", "[")) else text
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@contextmanager
def served(top: Path, port: int | None = None, workers: int = 1, **extra: str) -> Iterator[Server]:
    """The champion of a checkout behind its real server."""
    port = port or free_port()
    log = (top / "serve.log").open("wb")
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.commands.app", "serve", f"--port={port}", f"--workers={workers}"],
        cwd=top,
        env={**environment(top), **extra},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    server = Server(port, process, 0.0)
    try:
        server.wait_until_ready(120, (top / "serve.log").read_text)
        server.seconds_to_ready = time.monotonic() - begin
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
