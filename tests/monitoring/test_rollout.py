from typing import Any

import pytest

from monitoring.rollout import Limits, compared
from monitoring.rows import Row

LIMITS = Limits(fewest=10)


def answers(model: str, count: int, seconds: float = 1.0, percentile: float = 50.0, **body: Any) -> list[Row]:
    told = {"scorecard": {"percentile": percentile}, **body}
    return [
        Row("answer", "compose", "r", model, seconds=seconds, body=told, id=f"{model}-{n}")
        for n in range(count)
    ]


def said(model: str, event: str, count: int) -> list[Row]:
    return [
        Row("feedback", "feedback", "f", "m", body={"event": event, "item": f"{model}-{n}"})
        for n in range(count)
    ]


def problem(*rows: list[Row]) -> str:
    together = [row for part in rows for row in part]
    return compared(together, "old", "new", "").problem(LIMITS)


def test_a_challenger_as_good_as_the_champion_stays() -> None:
    assert problem(answers("old", 30), answers("new", 30)) == ""


def test_nothing_is_said_of_a_few_answers() -> None:
    assert problem(answers("old", 30), answers("new", 9, seconds=60, percentile=100)) == ""


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (answers("new", 9) + answers("new", 2, fault=True, error="x"), "2 of 11 requests failed"),
        (answers("new", 20, seconds=2.5), "take 2.50 s"),
        (answers("new", 20, percentile=70), "70th percentile"),
        (answers("new", 20) + said("new", "dislike", 20), "liked 0 of 20"),
    ],
)
def test_a_worse_one_goes_and_is_told_why(rows: list[Row], why: str) -> None:
    champion = answers("old", 30) + said("old", "like", 20)
    assert why in problem(champion, rows)


def test_what_a_client_asked_wrongly_is_nobodys_fault_and_what_was_before_does_not_count() -> None:
    refused = answers("new", 20, error="no such style")
    assert problem(answers("old", 30), answers("new", 20), refused) == ""
    rows = answers("old", 30) + answers("new", 30, percentile=99)
    assert compared(rows, "old", "new", "9999").problem(LIMITS) == ""


def test_a_champion_that_fails_as_often_is_no_reason() -> None:
    failing = answers("old", 20, fault=True, error="x") + answers("old", 20)
    assert problem(failing, answers("new", 20, fault=True, error="x"), answers("new", 20)) == ""
