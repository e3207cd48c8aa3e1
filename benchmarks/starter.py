"""The budgets of the starter profile, measured in a fresh clone with a new virtual environment: install,
repro, no-op, tests, serving.

`python -m benchmarks.starter` takes about half an hour and writes reports/benchmarks/starter.json.
`--without-tests` leaves out `make test`.
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
            top / "constraints.txt",
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


def serving_again(top: Path) -> None:
    """Measure the serving rows anew and keep the rest of the last result."""
    past = json.loads((report.FOLDER / "starter.json").read_text())
    with served(top):  # builds the bento if the code has changed; a start is timed with the bento built
        pass
    with served(top) as server:
        rows, targets = serving_rows(server.seconds_to_ready, compose_seconds(server, bars=8))
    new = {
        row["what"]: {**row, "measured": f"{row['measured']} (`--serving-of`, later than the rest)"}
        for row in rows
    }
    report.write(
        "starter", [new.get(row["what"], row) for row in past["rows"]], {**past["targets"], **targets}
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-tests", action="store_true")
    parser.add_argument(
        "--keep", type=Path, help="an empty folder for the clone, kept afterwards; default: a temporary one"
    )
    parser.add_argument(
        "--serving-of",
        type=Path,
        help="measure only the serving rows, in a checkout where `make repro` has run, and keep the others",
    )
    options = parser.parse_args()
    if options.serving_of:
        return serving_again(options.serving_of)
    with tempfile.TemporaryDirectory() as folder:
        scratch = options.keep or Path(folder)
        top, log = scratch / "ostinato", scratch / "log"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(top)], check=True)
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
        tests = None if options.without_tests else timed(["make", "test"], top, log)
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
        {"what": "make test", "measured": "not measured" if tests is None else f"{tests / 60:.1f} min"},
        {
            "what": "nats per note, test split",
            "measured": (
                f"{metrics['nats_per_note']:.3f}; n-gram of order {metrics['ngram_order']}: "
                f"{metrics['ngram_nats_per_note']:.3f} ({metrics['below_ngram']:.1%} below)"
            ),
        },
        {"what": "valid samples", "measured": f"{metrics['validity']:.1%} of {metrics['samples']}"},
        {
            "what": "descriptor overlap with the test set",
            "measured": (
                f"model {metrics['overlap']['model']['mean']['oa']:.3f}, n-gram "
                f"{metrics['overlap']['ngram']['mean']['oa']:.3f}, train set "
                f"{metrics['overlap']['train']['mean']['oa']:.3f}"
            ),
        },
        {
            "what": "infilling 4 bars, nats per note",
            "measured": "model {model:.3f}, not shown what lies ahead {model_blind:.3f}, "
            "n-gram {ngram:.3f}".format(**metrics["fill"]["infill 4 bars"]),
        },
        {
            "what": "in the key asked",
            "measured": "{obeyed:.1%}; dealt at random {chance:.1%}, real pieces {human:.1%}".format(
                **metrics["obedience"]["key"]
            ),
        },
        {
            "what": "in the density asked (8 classes)",
            "measured": "{obeyed:.1%}; dealt at random {chance:.1%}".format(
                **metrics["obedience"]["density"]
            ),
        },
        {
            "what": "reward of takes for held-out prompts (0 to 1)",
            "measured": "{after:.3f}; before align {before:.3f}, real pieces {real:.3f}".format(
                **metrics["alignment"]["reward"]
            ),
        },
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
    if tests is not None:
        targets["test_minutes"] = report.target(tests / 60, "<=", 12)
    report.write("starter", [*rows, *served_rows], targets)


if __name__ == "__main__":
    main()
