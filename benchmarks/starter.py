"""The budgets of the starter profile, measured in a fresh clone with a new virtual environment: install,
repro, no-op, tests, serving.

`python -m benchmarks.starter` takes about an hour and writes reports/benchmarks/starter.json and
starter_short.json, the table of the README: what a first clone measures, then a second clone (the same
digest? a clean checkout?), then the parts of `.ci/run`. Each part is written as it ends; `--part` runs one,
and the second wants the dvc.lock of the first to be committed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import report
from tests.server import served

ROOT = Path(__file__).parent.parent
Rows = list[dict[str, Any]]
Targets = dict[str, dict[str, Any]]
SHORT = {  # of the README
    "make repro, fresh clone",
    "nats per note, test split",
    "valid samples",
    "infilling 4 bars, nats per note",
    "in the key asked",
    "compose 8 bars, p50 / p95",
    "a second fresh clone",
    "git status after make repro",
}


def clean_environment(top: Path) -> dict[str, str]:
    """Our environment without what would make the clone use this checkout, and with the clone's own .venv
    active."""
    dropped = {
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "OSTINATO_HOME",
        "MLFLOW_TRACKING_URI",
        "BENTOML_HOME",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
    }
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(str(ROOT))
    )
    path = f"{top / '.venv/bin'}{os.pathsep}{path}"
    return {**{k: v for k, v in os.environ.items() if k not in dropped}, "PATH": path}


class PeakMemory(threading.Thread):
    """Largest resident memory of all processes below this one, sampled twice a second, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0, threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.5):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> float:
        """End and give the peak in GB."""
        self._done.set()
        self.join()
        return self.peak / 1e9


def timed(command: list[str], top: Path, log: Path) -> float:
    """Seconds of a command; its output goes to `log`."""
    begin = time.perf_counter()
    with log.open("ab") as handle:
        done = subprocess.run(
            ["/usr/bin/env", *command],
            cwd=top,
            env=clean_environment(top),
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
    seconds = time.perf_counter() - begin
    print(f"{' '.join(command)}: {seconds:.1f} s", flush=True)
    if done.returncode:
        sys.exit(
            f"{' '.join(command)} failed; the end of its log:\n{log.read_text(errors='replace')[-4000:]}"
        )
    return seconds


def bare_parse_seconds(top: Path) -> float:
    """symusic alone, parsing the MIDI of every ingested piece."""
    import pyarrow.parquet as pq
    from symusic import Score

    midi = [
        data.as_py()
        for path in sorted((top / "data/ingest").glob("*.parquet"))
        for data in pq.read_table(path, columns=["midi"])["midi"]
    ]
    begin = time.perf_counter()
    for data in midi:
        Score.from_midi(data)
    return time.perf_counter() - begin


def serving_megabytes(top: Path, scratch: Path) -> float:
    """Site-packages of the image's requirements without torch (whose size is its build's: CPU or CUDA),
    MB."""
    target = scratch / "image-site-packages"
    listed = [
        line
        for line in (top / "serving/requirements.txt").read_text().split()
        if not line.startswith("torch")
    ]
    subprocess.run(
        [
            top / ".venv/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            target,
            "--constraint",
            top / f"constraints-3.{sys.version_info.minor}.txt",
            *listed,
        ],
        check=True,
        env=clean_environment(top),
        stdout=subprocess.DEVNULL,
    )
    assert not (target / "torch").exists()
    return (
        sum(
            path.stat().st_size
            for path in target.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        / 1e6
    )


def compose_seconds(server: Any, bars: int, times: int = 30) -> list[float]:
    """Seconds of each of `times` requests for one tune of `bars` bars, one after another."""
    seconds = []
    for seed in range(times):
        begin = time.perf_counter()
        status, answer = server.ask(
            "/v1/compose",
            {"style": "irish", "rhythm": "jig", "metre": "6/8", "key": "D major", "bars": bars, "seed": seed},
        )
        seconds.append(time.perf_counter() - begin)
        assert status == 200, answer
    return seconds


def serving_rows(ready: float, seconds: list[float]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and targets of the served bento."""
    rows = [
        {"what": "ready after start", "measured": f"{ready:.1f} s"},
        {
            "what": "compose 8 bars, p50 / p95",
            "measured": (
                f"{statistics.median(seconds):.2f} / {sorted(seconds)[int(0.95 * len(seconds))]:.2f} s"
            ),
        },
    ]
    return rows, {
        "ready_seconds": report.target(ready, "<=", 15),
        "compose8_p50_s": report.target(statistics.median(seconds), "<=", 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="default: all, in this order")
    parser.add_argument(
        "--keep", type=Path, help="folder for the clones, kept afterwards; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.part or PARTS:
            write(*PARTS[name](options.keep or Path(folder)))


def write(rows: Rows, targets: Targets) -> None:
    """Put the rows of a part into the whole table, and into the short one of the README."""
    path = report.FOLDER / "starter.json"
    past = json.loads(path.read_text()) if path.exists() else {"rows": [], "targets": {}}
    old = {row["what"]: row for row in past["rows"]}
    merged = list((old | {row["what"]: row for row in rows}).values())
    report.write("starter", merged, past["targets"] | targets)
    report.write("starter_short", [row for row in merged if row["what"] in SHORT], {}, by="starter")


def clone(scratch: Path, name: str) -> Path:
    top = scratch / name / "ostinato"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(top)], check=True)
    return top


def state_of(top: Path) -> tuple[str, str]:
    """Digest of the bundle, and what git says has changed."""
    digest = json.loads((top / "bundle/bundle.json").read_text())["digest"]
    command = ["git", "status", "--porcelain"]
    return digest, subprocess.run(command, cwd=top, check=True, capture_output=True, text=True).stdout.strip()


def first_clone(scratch: Path) -> tuple[Rows, Targets]:
    """`make repro` in parts, and the service after it."""
    top, log = clone(scratch, "first"), scratch / "log"
    memory = PeakMemory()
    memory.start()
    install = timed(["make", "install"], top, log)
    data = timed(["dvc", "repro", "tokenise"], top, log)
    rest = timed(["make", "repro"], top, log)
    peak = memory.stop()
    noop = timed(["dvc", "repro"], top, log)
    bare = bare_parse_seconds(top)
    metrics = json.loads((top / "reports/metrics.json").read_text())
    with served(top) as server:
        ready = server.seconds_to_ready
        seconds = compose_seconds(server, bars=8)
    megabytes = serving_megabytes(top, scratch)
    repro = (install + data + rest) / 60
    rows = [
        {
            "what": "make repro, fresh clone",
            "measured": (
                f"{repro:.1f} min (install {install / 60:.1f}, data {data / 60:.1f}, rest {rest / 60:.1f}), "
                f"peak {peak:.1f} GB"
            ),
        },
        {
            "what": "ingest + prepare + tokenise",
            "measured": f"{data:.0f} s; symusic alone parses the same pieces as MIDI in {bare:.2f} s",
        },
        {"what": "dvc repro, nothing to do", "measured": f"{noop:.1f} s"},
        *music_rows(metrics),
        {"what": "image's site-packages without torch", "measured": f"{megabytes:.0f} MB"},
    ]
    served_rows, served_targets = serving_rows(ready, seconds)
    targets = {
        "repro_minutes": report.target(repro, "<=", 25),
        "install_minutes": report.target(install / 60, "<=", 6),
        "peak_gb": report.target(peak, "<=", 6),
        "noop_seconds": report.target(noop, "<=", 10),
        "prepare_minutes": report.target(data / 60, "<=", 3),
        "below_ngram": report.target(metrics["below_ngram"], ">=", 0.15),
        "validity": report.target(metrics["validity"], ">=", 1.0),
        "overlap_gain": report.target(metrics["overlap_gain"], ">=", 0.0),
        "serving_mb": report.target(megabytes, "<=", 400),
        **served_targets,
    }
    return [*rows, *served_rows], targets


def music_rows(metrics: dict[str, Any]) -> Rows:
    """What the champion writes, beside baselines."""
    oa = {who: metrics["overlap"][who]["mean"]["oa"] for who in ("model", "ngram", "train")}
    fill, key = metrics["fill"]["infill 4 bars"], metrics["obedience"]["key"]
    density, reward = metrics["obedience"]["density"], metrics["alignment"]["reward"]
    measured = {
        "nats per note, test split": (
            f"{metrics['nats_per_note']:.3f}; n-gram of order {metrics['ngram_order']}: "
            f"{metrics['ngram_nats_per_note']:.3f} ({metrics['below_ngram']:.1%} below)"
        ),
        "valid samples": f"{metrics['validity']:.1%} of {metrics['samples']}",
        "descriptor overlap with the test set": (
            f"model {oa['model']:.3f}, n-gram {oa['ngram']:.3f}, train set {oa['train']:.3f}"
        ),
        "infilling 4 bars, nats per note": (
            f"model {fill['model']:.3f}, not shown what lies ahead {fill['model_blind']:.3f}, "
            f"n-gram {fill['ngram']:.3f}"
        ),
        "in the key asked": (
            f"{key['obeyed']:.1%}; dealt at random {key['chance']:.1%}, real pieces {key['human']:.1%}"
        ),
        "in the density asked (8 classes)": (
            f"{density['obeyed']:.1%}; dealt at random {density['chance']:.1%}"
        ),
        "reward of takes for held-out prompts (0 to 1)": (
            f"{reward['after']:.3f}; before align {reward['before']:.3f}, real pieces {reward['real']:.3f}"
        ),
    }
    return [{"what": what, "measured": text} for what, text in measured.items()]


def second_clone(scratch: Path) -> tuple[Rows, Targets]:
    """The same line in another folder and environment, against the committed dvc.lock."""
    top = clone(scratch, "second")
    minutes = timed(["make", "repro"], top, scratch / "log") / 60
    (one, _), (two, changed) = state_of(scratch / "first/ostinato"), state_of(top)
    same, clean = one == two, not changed
    told = f"bundle {one[:16]} and {two[:16]}"
    rows = [
        {"what": "a second fresh clone", "measured": f"{minutes:.1f} min; {told}"},
        {"what": "git status after make repro", "measured": changed or "clean"},
    ]
    return rows, {
        "same_digest_twice": report.target(float(same), ">=", 1),
        "clean_after_repro": report.target(float(clean), ">=", 1),
    }


def tests(scratch: Path) -> tuple[Rows, Targets]:
    """`make lint` and `make test` in the first clone."""
    top, log = scratch / "first/ostinato", scratch / "log"
    lint, test = (timed(["make", name], top, log) / 60 for name in ("lint", "test"))
    rows = [{"what": "make lint, with the tools' install", "measured": f"{lint:.1f} min"}]
    rows.append({"what": "make test", "measured": f"{test:.1f} min"})
    return rows, {"lint_minutes": report.target(lint, "<=", 5), "test_minutes": report.target(test, "<=", 12)}


def others(scratch: Path) -> tuple[Rows, Targets]:
    """The rest of `.ci/run`, and the test of two processes alone."""
    top, log = scratch / "first/ostinato", scratch / "log"
    e2e, pythons = (timed(["make", name], top, log) / 60 for name in ("e2e", "test-pythons"))
    ddp = ["pytest", "-q", "tests/line/test_same_twice.py::test_two_processes_train_as_one_does"]
    timed(ddp, top, log)  # ends the benchmark where it fails
    past = json.loads((report.FOLDER / "starter.json").read_text())["targets"]
    lint, test = past["lint_minutes"]["value"], past["test_minutes"]["value"]
    ci = lint + test + e2e + pythons
    told = f"lint {lint:.1f}, test {test:.1f}, e2e {e2e:.1f}, other Pythons {pythons:.1f}"
    return [{"what": ".ci/run", "measured": f"{ci:.1f} min ({told})"}], {
        "ci_minutes": report.target(ci, "<=", 25),
        "ddp_same_loss": report.target(1.0, ">=", 1),
    }


PARTS = {"first": first_clone, "second": second_clone, "tests": tests, "others": others}

if __name__ == "__main__":
    main()
