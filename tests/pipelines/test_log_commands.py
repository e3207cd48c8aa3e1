"""`ostinato log` on a log as a service leaves it."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from monitoring.log import EventLog
from monitoring.rows import Row
from pipelines.commands.app import app
from tests.conftest import ROOT


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTINATO_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("OSTINATO_HOME", str(tmp_path / "home"))
    log = EventLog(tmp_path / "log")
    for day in ("2020-01-01", "2026-11-30"):
        log.append(
            Row("request", "compose", "r", "m", time=f"{day}T10:00:00.000+00:00"),
            Row("answer", "compose", "r", "m", time=f"{day}T10:00:01.000+00:00"),
            Row("feedback", "feedback", "f", "m", body={"user": "ann"}, time=f"{day}T10:00:02.000+00:00"),
        )
    return log


def ask(*words: str) -> Result:
    return CliRunner().invoke(app, ["log", *words])


def test_it_counts_verifies_and_exports(log: EventLog, tmp_path: Path) -> None:
    told = ask("stats").output
    assert "in all 6 rows: 2 answer, 2 feedback, 2 request" in told
    assert "2 compose requests; 1 users gave feedback" in told
    assert "6 rows, every one as it was written" in ask("verify").output
    assert ask("export", str(tmp_path / "a.parquet"), "--kind", "answer").exit_code == 0
    assert pq.read_table(tmp_path / "a.parquet").column("kind").to_pylist() == ["answer", "answer"]
    ask("export", str(tmp_path / "a.jsonl"), "--since", "2026-11-30")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 3
    for words in (["a.csv"], ["a.jsonl", "--kind", "song"], ["a.jsonl", "--since", "soon"]):
        refused = ask("export", str(tmp_path / words[0]), *words[1:])
        assert refused.exit_code == 1
        assert "error: " in refused.output
    assert not (tmp_path / "a.csv").exists()


def test_damage_is_named_by_file_and_line(log: EventLog) -> None:
    path = log.segments()[1]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace('"m"', '"n"') + lines[2])
    told = ask("verify")
    assert told.exit_code == 1
    assert "events-2026-11-30.jsonl, line 2: cut or changed" in told.output
    assert "1 broken" in ask("stats").output


def test_rotation_and_forgetting_reach_parquet(log: EventLog, tmp_path: Path) -> None:
    assert "1 days turned to Parquet, 1 removed" in ask("rotate").output  # older than is kept at all
    log.append(Row("feedback", "feedback", "f", "m", body={"user": "ann"}))
    assert "forgot ann: 2 rows of the log" in ask("forget", "ann").output
    assert "0 feedback" not in ask("stats").output
    assert [row.kind for row in log.rows()] == ["request", "answer"]
