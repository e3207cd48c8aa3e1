"""The champion's service under damaged files: `python -m benchmarks.fuzz`, on loopback.

Takes of the service in MIDI, MusicXML and ABC, and files of a folder if one is named, are damaged (bytes
flipped, cut, doubled, put elsewhere; numbers made huge) and sent to score, similar and edits by rule. Every
answer is to be a result or one sentence: no 5xx, nothing that takes 10 s, no new metric series, no memory
that stays.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.load import ask, memory, service

FILES, SEED, AT_ONCE = 20_000, 1, 8
SLOWEST_S = 10.0
HUGE = (b"0", b"-1", b"65536", b"2147483648", b"99999999999999999999", b"1e308", b"NaN")
RULES = ("retrograde", "transpose", "quantise", "invert", "split", "tempo")


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The file with one to five wounds."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        if not out:
            break
        at, length = chance.randrange(len(out)), chance.randint(1, 40)
        kind = chance.randrange(6)
        if kind == 0:
            out[at] = chance.randrange(256)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[at : at + length] * chance.choice((1, 2, 50))
        elif kind == 3:
            out[at : at + length] = out[:length]
        elif kind == 4:
            del out[at:]
        elif numbers := list(re.finditer(rb"\d+", bytes(out))):
            number = chance.choice(numbers)
            out[number.start() : number.end()] = chance.choice(HUGE)
    return bytes(out)


async def originals(port: int) -> list[bytes]:
    """Takes of the service in every format that it writes."""
    found = []
    for seed in range(6):
        for wanted in ("midi", "musicxml", "abc"):
            body = {"bars": 8, "seed": seed, "format": wanted}
            body |= {"style": "chorale"} if seed % 2 else {"rhythm": "jig", "metre": "6/8"}
            _, answer = await ask(port, "/v1/compose", {**body, "revise": False})
            take = json.loads(answer)["takes"][0]
            found.append(take["score"]["data"].encode() if take["score"] else base64.b64decode(take["midi"]))
    return found


def request_of(data: bytes, chance: random.Random) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"score": {"data": base64.b64encode(data).decode() or "AA=="}}
    path = chance.choice(("/v1/score", "/v1/similar", "/v1/edit"))
    if path == "/v1/edit":
        body |= {"operation": chance.choice(RULES), "format": chance.choice(("midi", "musicxml", "abc"))}
        body |= {"semitones": 2} if body["operation"] == "transpose" else {}
        body |= {"qpm": 93} if body["operation"] == "tempo" else {}
    return path, body


async def attack(
    port: int, files: list[bytes], count: int, seed: int, keep: Path | None
) -> tuple[Counter[int], list[tuple[float, str]]]:
    """Statuses, and the seconds and paths of the slowest."""
    chance = random.Random(seed)
    statuses, slow, left = Counter[int](), list[tuple[float, str]](), iter(range(count))

    async def client() -> None:
        for n in left:
            path, body = request_of(damaged(chance.choice(files), chance), chance)
            begin = time.perf_counter()
            status, answer = await ask(port, path, body)
            statuses[status] += 1
            if status >= 500 or time.perf_counter() - begin > SLOWEST_S:
                print(status, path, {**body, "score": "..."}, answer[:300], flush=True)
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{n}.json").write_text(json.dumps({"path": path, "body": body}))
            slow.append((time.perf_counter() - begin, path))
            slow.sort(reverse=True)
            del slow[20:]
            if n % 1000 == 999:
                print(f"{n + 1} files, {dict(statuses)}, slowest {slow[0][0]:.1f} s", flush=True)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return statuses, slow


def series(port: int) -> set[str]:
    """Names and labels of all metrics."""
    _, text = asyncio.run(ask(port, "/metrics", None))
    return {
        line.rpartition(b" ")[0].decode() for line in text.splitlines() if line and not line.startswith(b"#")
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--folder", type=Path, help="of files to damage too")
    parser.add_argument("--keep", type=Path, help="folder for requests that were answered with 5xx, or late")
    options = parser.parse_args()
    # drift is looked at before the series are counted for the first time
    os.environ |= {"OSTINATO_DRIFT_EVERY_S": "2", "OSTINATO_DRIFT_MIN_ROWS": "5"}
    with tempfile.TemporaryDirectory() as log, service(log) as (port, process, _):
        files = asyncio.run(originals(port))
        if options.folder:
            paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
            files += [path.read_bytes() for path in paths[:200] if path.stat().st_size < 100_000]
        third = options.files // 3  # after which every series should be there
        first, slow_first = asyncio.run(attack(port, files, third, SEED, options.keep))
        series_before, (before, _) = series(port), memory(process)
        rest, slow_rest = asyncio.run(attack(port, files, options.files - third, SEED + 1, options.keep))
        statuses, slow = first + rest, sorted(slow_first + slow_rest, reverse=True)
        series_after, (after, _) = series(port), memory(process)
    print("\n".join(sorted(series_after - series_before)))
    rows = [
        {
            "files": sum(statuses.values()),
            "results (200)": statuses[200],
            "a sentence (4xx)": sum(n for status, n in statuses.items() if 400 <= status < 500),
            "5xx": sum(n for status, n in statuses.items() if status >= 500),
            "slowest s": round(slow[0][0], 2),
            "new metric series": len(series_after - series_before),
            "worker MiB before": round(before),
            "after": round(after),
        }
    ]
    report.write(
        "fuzz",
        rows,
        {
            "answers_5xx": report.target(rows[0]["5xx"], "<=", 0),
            "slowest_s": report.target(slow[0][0], "<=", SLOWEST_S),
            "new_series": report.target(len(series_after - series_before), "<=", 0),
        },
    )


if __name__ == "__main__":
    main()
