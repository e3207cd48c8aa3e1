"""Days of the log that are over: turned to Parquet without loss, kept as long as is said."""

import os
from datetime import date
from pathlib import Path

import pytest

from monitoring import archive
from monitoring.log import EventLog
from monitoring.rows import Row

TODAY = date(2026, 12, 1)


def written(folder: Path, *days: str) -> EventLog:
    log = EventLog(folder)
    for n, day in enumerate(days):
        user = {"user": "ann" if n % 2 else "bob", "item": "é", "event": "like"}
        log.append(
            Row("request", "compose", f"r{n}", "m", seed=n, time=f"{day}T10:00:00.000+00:00"),
            Row("feedback", "feedback", f"f{n}", "m", body=user, time=f"{day}T11:00:00.000+00:00"),
            Row("answer", "compose", f"r{n}", "m", nats_per_note=1.5, descriptors={"range": 7.0},
                seconds=0.25, owner="k", time=f"{day}T12:00:00.000+00:00"),
        )  # fmt: skip
    return log


def test_old_days_become_parquet_and_every_row_is_the_same(tmp_path: Path) -> None:
    log = written(tmp_path, "2026-10-01", "2026-10-02", "2026-11-20", "2026-12-01")
    before = list(log.rows())
    done = archive.rotate(log, TODAY, live_days=30, keep_days=0)
    assert done.turned == ["2026-10-01", "2026-10-02"]
    assert not done.left
    assert [path.name for path in log.segments()] == ["events-2026-11-20.jsonl", "events-2026-12-01.jsonl"]
    assert list(archive.every_row(log)) == before
    since = "2026-10-02T11:00:00.000+00:00"
    assert list(archive.every_row(log, since)) == [row for row in before if row.time >= since]
    again = archive.rotate(log, TODAY, live_days=30, keep_days=0)
    assert again == archive.Rotated([], {}, [])


def test_what_is_older_than_is_kept_is_removed(tmp_path: Path) -> None:
    log = written(tmp_path, "2025-10-01", "2026-10-02", "2026-12-01")
    done = archive.rotate(log, TODAY, live_days=30, keep_days=365)
    assert done.removed == ["2025-10-01"]
    assert {row.time[:10] for row in archive.every_row(log)} == {"2026-10-02", "2026-12-01"}


def test_a_day_with_a_line_that_was_changed_stays_and_is_named(tmp_path: Path) -> None:
    log = written(tmp_path, "2026-10-01", "2026-12-01")
    path = log.segments()[0]
    path.write_text(path.read_text().replace('"seconds": 0.25', '"seconds": 0.26'))
    done = archive.rotate(log, TODAY, live_days=30, keep_days=0)
    assert not done.turned
    assert "verify" in done.left["2026-10-01"]
    assert path.exists()


def test_a_rotation_that_was_killed_counts_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path, "2026-10-01", "2026-12-01")
    before = list(log.rows())

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: missing_ok or killed(path))
    with pytest.raises(KeyboardInterrupt):
        archive.rotate(log, TODAY, live_days=30, keep_days=0)
    monkeypatch.undo()
    assert len(archive.archived(log)) == len(log.segments()) - 1 == 1
    assert list(archive.every_row(log)) == before
    assert archive.rotate(log, TODAY, live_days=30, keep_days=0).turned == ["2026-10-01"]
    assert list(archive.every_row(log)) == before


def test_a_forgotten_user_is_gone_from_parquet_too(tmp_path: Path) -> None:
    log = written(tmp_path, "2026-10-01", "2026-10-02", "2026-10-03", "2026-12-01")
    archive.rotate(log, TODAY, live_days=30, keep_days=0)
    assert archive.forget(log, "ann") == 2
    assert all(row.body.get("user") != "ann" for row in archive.every_row(log))
    assert sum(row.kind == "feedback" for row in archive.every_row(log)) == 2
    leftovers = [name for name in os.listdir(tmp_path / "archive") if not name.startswith("events-")]
    assert not leftovers
