"""Wins: who beat whom, from the log alone."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from monitoring.log import EventLog
from monitoring.rows import Row
from monitoring.wins import MOST_OF_ONE, Duel, WinsOfLog, duels


def compared(number: int, user: str, winner: str, event: str = "prefer") -> list[Row]:
    """Takes of models old and new, and what a user said of them."""
    answers = [
        Row("answer", "pair", f"r{number}", model, body={"midi": ""}, id=f"r{number}-{model}")
        for model in ("old", "new")
    ]
    other = "old" if winner == "new" else "new"
    return [
        *answers,
        Row(
            "feedback",
            "feedback",
            "f",
            "m",
            body={"user": user, "event": event, "item": f"r{number}-{winner}", "over": f"r{number}-{other}"},
        ),
    ]


def test_wins_losses_and_ties_are_counted_for_the_newer_model() -> None:
    rows = [
        *compared(0, "a", "new"),
        *compared(1, "b", "new"),
        *compared(2, "c", "old"),
        *compared(3, "d", "old", "tie"),
    ]
    assert duels(rows) == [Duel("new", "old", 2, 1, 1)]
    assert duels(rows)[0].rate == 0.625


def test_two_models_are_one_duel_whatever_the_order_of_their_takes() -> None:
    rows = [row for n in range(6) for row in compared(n, "u", "new")]
    turned = [rows[3 * n + k] for n in range(6) for k in ((0, 1, 2), (1, 0, 2))[n % 2]]
    assert [(d.won, d.lost) for d in duels(turned)] == [(6, 0)]


def test_two_takes_of_one_model_and_unknown_answers_are_no_duel() -> None:
    same = [Row("answer", "pair", "r", "new", id=name) for name in ("a", "b")]
    said = [
        Row(
            "feedback",
            "feedback",
            "f",
            "m",
            body={"user": "u", "event": "prefer", "item": item, "over": over},
        )
        for item, over in (("a", "b"), ("a", "gone"))
    ]
    assert duels([*same, *said]) == []


def test_one_user_is_heard_so_often_and_no_more() -> None:
    rows = [row for n in range(MOST_OF_ONE + 30) for row in compared(n, "loud", "new")]
    assert duels(rows)[0].won == MOST_OF_ONE


@given(won=st.integers(0, 500), lost=st.integers(0, 500), tied=st.integers(0, 50))
def test_the_interval_holds_the_rate_and_narrows(won: int, lost: int, tied: int) -> None:
    if won + lost + tied:
        duel, more = Duel("a", "b", won, lost, tied), Duel("a", "b", 4 * won, 4 * lost, 4 * tied)
        low, high = duel.interval
        assert -1e-9 <= low <= duel.rate + 1e-9 and duel.rate <= high + 1e-9 <= 1 + 2e-9
        assert more.interval[1] - more.interval[0] < high - low


def test_each_look_at_a_log_reads_what_is_new_and_forgets_what_is_forgotten(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    wins = WinsOfLog(log)
    assert wins.duels() == []
    log.append(*compared(0, "a", "new"))
    assert wins.duels() == [Duel("new", "old", 1, 0, 0)]
    log.append(*compared(1, "b", "old"))
    assert wins.duels() == [Duel("new", "old", 1, 1, 0)] == duels(log.rows())
    log.forget("a")
    assert wins.duels() == [Duel("new", "old", 0, 1, 0)]
