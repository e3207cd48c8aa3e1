"""From the log to comparisons, and `ostinato improve` with too little that is new."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.align.preferences import Preference
from monitoring.log import EventLog
from monitoring.rows import Row
from pipelines.commands.app import app
from pipelines.commands.comparisons import preferences_of
from pipelines.running.preferences import read_preferences
from tests.conftest import ROOT
from tests.models.align.test_preferences import MIDI


def answered(request_id: str, takes: int, **asked: object) -> list[Row]:
    """A compose request and its takes."""
    body = {
        "style": "irish",
        "bars": 8,
        "seed": 3,
        "n": takes,
        "tempo": None,
        "controls": {"density": 2.0, "range": None},
        "temperature": 1.0,
        **asked,
    }
    return [
        Row("request", "compose", request_id, "m", body=body),
        *(
            Row(
                "answer",
                "compose",
                request_id,
                "m",
                id=f"{request_id}-{k}",
                body={"midi": MIDI[k], "shown": ("first", "second")[k % 2]},
            )
            for k in range(takes)
        ),
    ]


def said(user: str, item: str, event: str, **more: object) -> Row:
    return Row("feedback", "feedback", "f", "m", body={"user": user, "item": item, "event": event, **more})


def read(rows: list[Row], gone: set[str] = frozenset()) -> list[Preference]:  # type: ignore[assignment]
    return preferences_of(rows, [row for row in rows if row.kind == "feedback"], gone)


def test_a_pair_keeps_its_prompt_and_the_side_it_was_shown_on() -> None:
    (found,) = read([*answered("r", 2), said("ann", "r-1", "prefer", over="r-0")])
    assert (found.chosen_id, found.rejected_id, found.side, found.by) == ("r-1", "r-0", "second", "pair")
    assert json.loads(found.asked) == {
        "style": "irish",
        "bars": 8,
        "controls": {"density": 2.0},
        "temperature": 1.0,
    }


def test_likes_are_set_against_dislikes_of_the_same_user_and_the_last_word_counts() -> None:
    rows = [
        *answered("r", 2),
        *answered("s", 2, style="scottish"),
        said("ann", "r-0", "dislike"),
        said("ann", "r-0", "like"),
        said("ann", "s-1", "dislike"),
        said("bob", "r-1", "dislike"),
    ]
    (found,) = read(rows)
    assert (found.user, found.chosen_id, found.rejected_id, found.asked, found.by) == (
        "ann",
        "r-0",
        "s-1",
        "",
        "likes",
    )


def test_edits_kept_and_undone_are_compared() -> None:
    rows = [Row("answer", "edit", "e", "m", id=f"e-{k}", body={"midi": MIDI[k]}) for k in range(2)]
    (found,) = read([*rows, said("ann", "e-0", "accepted"), said("ann", "e-1", "undone")])
    assert (found.chosen_id, found.by) == ("e-0", "edits")


def test_forgotten_users_and_vanished_answers_are_left_out() -> None:
    rows = [
        *answered("r", 2),
        said("ann", "r-1", "prefer", over="r-0"),
        said("bob", "r-1", "prefer", over="gone"),
        said("cid", "gone", "like"),
    ]
    assert read(rows, {"ann"}) == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTINATO_HOME", str(tmp_path / "home"))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def test_improve_without_enough_that_is_new_changes_nothing(place: Path) -> None:
    EventLog(place / "home/log").append(*answered("r", 2), said("ann", "r-1", "prefer", over="r-0"))
    done = CliRunner().invoke(app, ["improve"])
    assert done.exit_code == 0, done.output
    assert "nothing to do: 1 new" in done.output
    assert "Nothing was changed" in (place / "reports/improve.md").read_text()
    assert not (place / "data").exists()


def test_improve_without_a_log_says_so(place: Path) -> None:
    done = CliRunner().invoke(app, ["improve"])
    assert done.exit_code == 1 and "no log in" in done.output


def test_a_snapshot_holds_comparisons_and_forgetting_removes_them(place: Path) -> None:
    EventLog(place / "home/log").append(
        *answered("r", 2), said("ann", "r-1", "prefer", over="r-0"), said("bob", "r-0", "prefer", over="r-1")
    )
    assert "2 comparisons" in CliRunner().invoke(app, ["snapshot"]).output
    assert [p.user for p in read_preferences()] == ["ann", "bob"]
    CliRunner().invoke(app, ["forget", "ann"])
    assert [p.user for p in read_preferences()] == ["bob"]
