"""Snapshots, imports and forgetting: deterministic, each event once, faults told, nothing of a forgotten user
left."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitoring.log import EventLog
from monitoring.rows import Row
from pipelines.commands.app import app
from pipelines.running.feedback import SNAPSHOT, read_interactions


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTINATO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def told(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def event(user: str, item: str, kind: str = "like", **more: object) -> Row:
    return Row("feedback", "feedback", "r", "m", body={"user": user, "item": item, "event": kind, **more})


def test_a_snapshot_is_the_same_each_time_and_says_what_it_left_out(place: Path) -> None:
    log = EventLog(place / "home/log")
    log.append(
        event("ann", "a"),
        event("ann", "b", key="k"),
        event("ann", "b", key="k"),
        event("bob", "a", "hates"),
        event("bob", "c", "rating", value=9),
    )
    path = next((place / "home/log").iterdir())
    path.write_bytes(path.read_bytes() + b"{broken\n")
    said = told("snapshot")
    assert "2 events of 1 users" in said and "2 rows left out, 1 broken lines" in said
    first = SNAPSHOT.read_bytes()
    told("snapshot")
    assert SNAPSHOT.read_bytes() == first


def test_interactions_of_ones_own_are_read_from_csv_and_faults_are_named(place: Path) -> None:
    with Path("mine.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["user", "item", "event", "time", "value"])
        rows.writerows(
            [
                ["u1", "a", "like", "2026-01-01T00:00:00", ""],
                ["u1", "b", "rating", "1767225600", "4"],
                ["", "b", "like", "", ""],
                ["u2", "c", "love", "", ""],
            ]
        )
    said = told("interactions", "mine.csv")
    assert "2 events of 1 users on 2 items" in said
    assert "no user or no item" in said and "unknown event 'love'" in said
    assert [e.item for e in read_interactions()] == ["a", "b"]
    Path("wrong.csv").write_text("who,what\n1,2\n")
    done = CliRunner().invoke(app, ["interactions", "wrong.csv"])
    assert done.exit_code == 1 and "no column user, item, event" in done.output


def test_a_forgotten_user_is_in_no_file_and_in_no_later_snapshot(place: Path) -> None:
    log = EventLog(place / "home/log")
    log.append(event("ann", "a"), event("bob", "a"))
    told("snapshot")
    Path("mine.csv").write_text("user,item,event\nann,z,like\nbob,z,like\n")
    told("interactions", "mine.csv")
    assert "1 rows of the log, 2 events" in told("forget", "ann")
    assert {e.user for e in read_interactions()} == {"bob"}
    told("interactions", "mine.csv")
    log.append(event("ann", "b"))
    told("snapshot")
    assert {e.user for e in read_interactions()} == {"bob"}
