"""The champion's service under load: `python -m benchmarks.load`, on loopback, bounded in count and time.

Starts `ostinato serve`, then lets clients ask one request after another: 4 bars at 1, 4, 16 and 64 clients,
infills and a mix at 16, and small requests alone and beside the largest that is allowed. Clients share the
two cores with the service. Says how fast it was ready, how much memory its worker has, and how much that
grew.
"""

import argparse
import asyncio
import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil

from benchmarks import report

SECONDS, MOST = 15.0, 20_000  # of each row: time, and requests
SMALL = {"bars": 4, "rhythm": "reel"}
LARGEST = {"bars": 256, "n": 4}
Asked = Callable[[int], tuple[str, dict[str, Any]]]


@contextmanager
def service(log: str) -> Iterator[tuple[int, psutil.Process, float]]:
    """A service of its own: port, process, seconds until it was ready (its bento is built before)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    subprocess.run(
        [sys.executable, "-m", "pipelines.commands.app", "package"], check=True, capture_output=True
    )
    begin = time.perf_counter()
    command = [sys.executable, "-m", "pipelines.commands.app", "serve", f"--port={port}"]
    with open(os.path.join(log, "serve.log"), "wb") as out:
        process = subprocess.Popen(command, env={**os.environ, "OSTINATO_LOG": log}, stdout=out, stderr=out)
    try:
        while not ready(port):
            if process.poll() is not None or time.perf_counter() - begin > 120:
                sys.exit("the service did not start: " + os.path.join(log, "serve.log"))
            time.sleep(0.05)
        yield port, psutil.Process(process.pid), time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait(30)


def ready(port: int) -> bool:
    try:
        return asyncio.run(ask(port, "/readyz", None))[0] == 200
    except OSError:
        return False


async def ask(port: int, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    data = json.dumps(body).encode() if body is not None else b""
    lines = [
        f"{'POST' if body is not None else 'GET'} {path} HTTP/1.1",
        "host: localhost",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(data)}",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
    try:
        answer = await asyncio.wait_for(reader.read(-1), 90)
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), rest


def first_bars(port: int, count: int) -> tuple[list[float], Counter[int], float]:
    """Seconds until the first bar of 64 is heard, one request after another, as `drive` tells them."""
    took, statuses, whole = list[float](), Counter[int](), time.perf_counter()
    for n in range(count):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/compose",
            json.dumps({"bars": 64, "seed": n}).encode(),
            {"content-type": "application/json", "accept": "text/event-stream"},
        )
        begin = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"event: bar") and len(took) == n:
                    took.append(time.perf_counter() - begin)
            statuses[answer.status] += 1
    return took, statuses, time.perf_counter() - whole


async def drive(
    port: int, clients: int, asked: Asked, seconds: float = SECONDS
) -> tuple[list[float], Counter[int], float]:
    """Seconds of every request that was answered with 200, statuses, and the time all took together."""
    numbers, took, statuses = itertools.count(), list[float](), Counter[int]()
    until = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until and (n := next(numbers)) < MOST:
            path, body = asked(n)
            begin = time.perf_counter()
            status, _ = await ask(port, path, body)
            statuses[status] += 1
            if status == 200:
                took.append(time.perf_counter() - begin)
            else:
                await asyncio.sleep(0.2)  # told to come again later

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return took, statuses, time.perf_counter() - begin


def row_of(
    name: str, clients: int, took: list[float], statuses: Counter[int], seconds: float
) -> dict[str, Any]:
    p50, p95, p99 = np.percentile(took, [50, 95, 99]) if took else (0.0, 0.0, 0.0)
    others = ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()) if status != 200)
    return {
        "requests": name,
        "clients": clients,
        "answered": len(took),
        "a second": round(len(took) / seconds, 1),
        "p50 ms": round(1000 * p50),
        "p95 ms": round(1000 * p95),
        "p99 ms": round(1000 * p99),
        "not 200": others or "0",
    }


def compose(n: int) -> tuple[str, dict[str, Any]]:
    return "/v1/compose", {**SMALL, "seed": n}


def infill_of(midi: str) -> Asked:
    return lambda n: ("/v1/edit", {"midi": midi, "operation": "infill", "bars": [3, 4], "seed": n})


def mix_of(midi: str) -> Asked:
    kinds: tuple[Asked, ...] = (
        compose,
        infill_of(midi),
        lambda n: ("/v1/edit", {"midi": midi, "operation": "transpose", "semitones": 2}),
        lambda n: ("/v1/score", {"midi": midi}),
        lambda n: ("/v1/similar", {"midi": midi, "k": 5}),
        lambda n: ("/v1/recommend", {"k": 5, "seed": n}),
    )
    return lambda n: kinds[n % len(kinds)](n)


async def beside_the_largest(port: int, seconds: float) -> tuple[list[float], Counter[int], float]:
    """Small requests of one client while another asks for as much as is allowed, again and again."""
    over = asyncio.Event()

    async def large() -> None:
        n = 0
        while not over.is_set():
            await ask(port, "/v1/compose", {**LARGEST, "seed": n})
            n += 1

    busy = asyncio.create_task(large())
    await asyncio.sleep(1.0)
    found = await drive(port, 1, compose, seconds)
    over.set()
    await busy
    return found


def memory(process: psutil.Process) -> tuple[float, float]:
    """MiB of the worker (the largest child) and of all processes of the service."""
    sizes = [child.memory_info().rss / 2**20 for child in process.children(recursive=True)]
    return max(sizes, default=0.0), sum(sizes) + process.memory_info().rss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0, help="of the mix, for how memory grows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as log, service(log) as (port, process, ready_s):
        _, answer = asyncio.run(ask(port, "/v1/compose", {"bars": 8, "rhythm": "reel", "seed": 1}))
        midi = base64.b64encode(base64.b64decode(json.loads(answer)["takes"][0]["midi"])).decode()
        first_mib, _ = memory(process)
        rows, found = [], {}
        for name, clients, asked in (
            ("compose 4 bars", 1, compose),
            ("compose 4 bars", 4, compose),
            ("compose 4 bars", 16, compose),
            ("compose 4 bars", 64, compose),
            ("infill 2 of 8 bars", 16, infill_of(midi)),
            ("mix", 16, mix_of(midi)),
        ):
            rows.append(row_of(name, clients, *asyncio.run(drive(port, clients, asked))))
            found[name, clients] = rows[-1]
            print(rows[-1], flush=True)
        first = row_of("first of 64 bars, as a stream", 1, *first_bars(port, 40))
        rows.append(first)
        driven = asyncio.run(beside_the_largest(port, 60.0))
        beside = row_of("compose 4 bars beside 4 x 256 bars", 1, *driven)
        rows.append(beside)
        warm_mib, _ = memory(process)
        driven = asyncio.run(drive(port, 16, mix_of(midi), 60 * options.minutes))
        rows.append(row_of(f"mix for {options.minutes:g} min", 16, *driven))
        last_mib, all_mib = memory(process)
    alone, sixteen = found["compose 4 bars", 1], found["compose 4 bars", 16]
    odd = sum("of 5" in row["not 200"] for row in rows)
    report.write(
        "load",
        rows,
        {
            "rows_with_5xx": report.target(odd, "<=", 0),
            "throughput_16_to_1": report.target(sixteen["a second"] / max(alone["a second"], 1e-9), ">=", 5),
            "p95_beside_largest_to_alone": report.target(
                beside["p95 ms"] / max(alone["p95 ms"], 1e-9), "<=", 3
            ),
            "first_bar_p95_ms": report.target(first["p95 ms"], "<=", 300),
            "ready_s": report.target(ready_s, "<=", 8),
            "worker_mib_first": report.target(first_mib, "<=", 600),
            "worker_mib_after": report.target(last_mib, "<=", 600),
            "growth_in_the_mix_mib": report.target(last_mib - warm_mib, "<=", 30),
            "all_processes_mib": report.target(all_mib, "<=", 1000),
        },
    )


if __name__ == "__main__":
    main()
