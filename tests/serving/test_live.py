import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.bundle import BundleError
from monitoring import metrics
from serving.live import Live, Wanted, answering


def desk(tag: str) -> Any:
    return SimpleNamespace(model=tag)


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
