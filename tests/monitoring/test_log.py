import errno
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.log import EventLog, Row


def row(n: int = 0) -> Row:
    return Row("answer", "compose", f"r{n}", "m", seed=n, side="output", descriptors={"polyphony": 1.0})


def _append_many(folder: Path, who: int) -> None:
    log = EventLog(folder)
    for i in range(200):
        log.append(Row("answer", "compose", f"{who}-{i}", "m", body={"pad": "x" * 500}))


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    rows = [row(i) for i in range(3)]
    log.append(rows[0])
    log.append(*rows[1:])
    assert list(log.rows()) == rows


def test_processes_that_append_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(tmp_path, who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = list(EventLog(tmp_path).rows())
    assert len({r.request_id for r in found}) == len(found) == 600


def test_a_cut_last_line_is_passed_over_and_the_next_row_is_whole(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(row(1))
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"kind": "answ')
    log.append(row(2))
    assert [r.seed for r in log.rows()] == [1, 2]
    assert log.broken() == 1


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = f"import os, signal; from pathlib import Path; from monitoring.log import EventLog, Row; EventLog(Path({str(tmp_path)!r})).append(Row('answer','score','r','m')); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == -9
    assert [r.request_id for r in EventLog(tmp_path).rows()] == ["r"]


def test_a_full_disk_is_an_error_and_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path)
    log.append(row(1))
    real = os.write

    def short(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space"):
        log.append(row(2))
    monkeypatch.undo()
    assert [r.seed for r in log.rows()] == [1]
    assert log.broken() == 0


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        EventLog(tmp_path).append(Row("answer", "score", "r", "m", nats_per_note=float("nan")))


def test_every_row_is_one_json_line_of_one_schema(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(row(1), Row("request", "compose", "x", "m", body={"style": "irish"}))
    lines = [json.loads(line) for line in next(tmp_path.glob("*.jsonl")).read_text().splitlines()]
    assert lines[0].keys() == lines[1].keys()
