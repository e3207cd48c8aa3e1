import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.bundle import BundleError
from monitoring import metrics
from monitoring.log import EventLog
from monitoring.rows import Row
from serving.in_flight import InFlight, begin, end
from serving.live import Live, Wanted, answering


def desk(tag: str, log: EventLog | None = None) -> Any:
    return SimpleNamespace(model=tag, log=log, closing=threading.Event())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "live.json"


def want(file: Path, tag: str) -> None:
    file.write_text(json.dumps({"tag": tag, "version": 2, "folder": f"bundles/{tag}"}))


def test_a_service_follows_what_is_promoted(file: Path) -> None:
    asked, closed = list[Wanted](), list[str]()

    def opened(wanted: Wanted) -> Any:
        asked.append(wanted)
        return desk(wanted.tag)

    live = Live(desk("a"), opened, lambda old: closed.append(old.model))
    live.look(file)  # nothing was promoted yet
    assert (live.desk.model, answering()) == ("a", "a")
    want(file, "b")
    live.look(file)
    live.look(file)
    assert asked == [Wanted("b", "2", Path("bundles/b"))]
    assert (live.desk.model, answering(), closed) == ("b", "b", ["a"])


def test_what_is_at_work_ends_with_the_model_it_began_with(file: Path) -> None:
    closed = list[str]()
    live = Live(desk("a"), lambda wanted: desk(wanted.tag), lambda old: closed.append(old.model))
    want(file, "b")
    with live.serving() as first, live.serving() as second:
        live.look(file)
        assert first.model == second.model == "a"
        with live.serving() as third:
            assert third.model == "b"
        assert closed == []
    assert closed == ["a"]


def test_a_bundle_that_cannot_be_loaded_changes_nothing_and_is_told(file: Path) -> None:
    tries = list[str]()

    def opened(wanted: Wanted) -> Any:
        tries.append(wanted.tag)
        if wanted.tag == "broken":
            raise BundleError("a file is missing")
        return desk(wanted.tag)

    live = Live(desk("a"), opened, lambda old: None)
    want(file, "broken")
    live.look(file)
    live.look(file)
    assert (live.desk.model, tries) == ("a", ["broken"])  # not tried again until it is promoted again
    assert metrics.SERVES_PROMOTED._value.get() == 0
    want(file, "b")
    live.look(file)
    assert live.desk.model == "b"
    assert metrics.SERVES_PROMOTED._value.get() == 1


def test_a_file_that_cannot_be_read_is_looked_at_again(file: Path) -> None:
    live = Live(desk("a"), lambda wanted: desk(wanted.tag), lambda old: None)
    file.write_text("{half")
    stop = threading.Event()
    live.follow(file, stop)
    want(file, "b")
    for _ in range(50):
        if live.desk.model == "b":
            break
        stop.wait(0.1)
    stop.set()
    assert live.desk.model == "b"


def try_out(file: Path, mode: str, share: float, began: str = "2026-01-01", tag: str = "b") -> None:
    told = {"tag": tag, "version": 2, "folder": "x", "mode": mode, "share": share, "began": began}
    told["limits"] = {"fewest": 5, "faults": 0.02, "slower": 2.0, "percentile": 15}
    file.write_text(json.dumps({"tag": "a", "version": 1, "folder": "y", "challenger": told}))


def answered_by(live: Live, user: str) -> str:
    flight = begin(InFlight(f"r-{user}", user=user))
    try:
        with live.serving(tried=True) as found:
            assert flight.model == found.model
            return str(found.model)
    finally:
        end(flight)


def test_a_canary_answers_its_share_of_users_and_each_user_always(file: Path, tmp_path: Path) -> None:
    log, closed = EventLog(tmp_path / "log"), list[str]()
    live = Live(
        desk("a", log), lambda w: desk(w.tag, log), lambda old: closed.append(old.model), tmp_path / "out"
    )
    try_out(file, "canary", 0.25)
    live.look(file)
    first = [answered_by(live, f"u{n}") for n in range(400)]
    assert 70 <= first.count("b") <= 130
    assert [answered_by(live, f"u{n}") for n in range(400)] == first
    with live.serving() as found:  # what a challenger is not tried on
        assert found.model == "a"
    want(file, "a")
    live.look(file)
    assert {answered_by(live, f"u{n}") for n in range(40)} == {"a"}
    assert closed == ["b"]


def test_a_canary_that_is_worse_is_turned_away_and_stays_away(file: Path, tmp_path: Path) -> None:
    log, opened = EventLog(tmp_path / "log"), list[str]()

    def opening(wanted: Wanted) -> Any:
        opened.append(wanted.tag)
        return desk(wanted.tag, log)

    live = Live(desk("a", log), opening, lambda old: None, tmp_path / "out")
    try_out(file, "canary", 1.0)
    live.look(file)
    assert answered_by(live, "u") == "b"
    log.append(*(Row("answer", "compose", "r", "b", body={"error": "x", "fault": True}) for _ in range(6)))
    live.look(file)
    live.look(file)
    assert answered_by(live, "u") == "a"
    (outcome,) = (tmp_path / "out").glob("*.json")
    told = json.loads(outcome.read_text())
    assert "6 of 6 requests failed" in told["why"]
    assert told["figures"]["b"]["faults"] == 6
    assert opened == ["b"]
    try_out(file, "canary", 1.0, began="2026-02-02")  # tried again on purpose
    live.look(file)
    assert opened == ["b", "b"]


def test_a_challenger_that_cannot_be_loaded_is_turned_away(file: Path, tmp_path: Path) -> None:
    def opening(wanted: Wanted) -> Any:
        raise BundleError("a file is missing")

    live = Live(desk("a"), opening, lambda old: None, tmp_path / "out")
    try_out(file, "shadow", 1.0)
    live.look(file)
    (outcome,) = (tmp_path / "out").glob("*.json")
    assert "a file is missing" in json.loads(outcome.read_text())["why"]


def test_a_shadow_is_asked_too_and_answers_nobody(file: Path, tmp_path: Path) -> None:
    log, asked, done = EventLog(tmp_path / "log"), list[tuple[str, str]](), threading.Event()
    live = Live(desk("a", log), lambda w: desk(w.tag, log), lambda old: old.closing.set(), tmp_path / "out")
    try_out(file, "shadow", 1.0)
    live.look(file)
    assert answered_by(live, "u") == "a"

    def answer(found: Any, request: str) -> Any:
        asked.append((found.model, request))
        done.set()

    live.shadow(answer, "what was asked")
    assert done.wait(5)
    assert asked == [("b", "what was asked")]
