"""Which model people prefer: comparisons in the log, model against model, with an interval."""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from monitoring.log import EventLog, Places
from monitoring.rows import Row

COMPARED = ("prefer", "tie")  # kinds of feedback on two answers
MOST_OF_ONE, Z95 = 50, 1.959964  # comparisons of one user id that count


@dataclass(frozen=True)
class Duel:
    """`model` against `rival`, digests. rate: share won, a tie half; low and high: its 95 % interval (Wilson
    1927)."""

    model: str
    rival: str
    won: int
    lost: int
    tied: int

    @property
    def rate(self) -> float:
        return (self.won + self.tied / 2) / (self.won + self.lost + self.tied)

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.rate, self.won + self.lost + self.tied)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson 1927)."""
    middle, half = share + Z95**2 / (2 * n), Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return (middle - half) / (1 + Z95**2 / n), (middle + half) / (1 + Z95**2 / n)


class Tally:
    """Who won, counted row by row: of every two models that were compared. Comparisons of two takes of one
    model are left out."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._writer = dict[str, str]()  # of each answer
        self._order = dict[str, int]()  # of models, by first answer
        self._said = dict[tuple[str, str], Counter[str]]()
        self._of_user = Counter[str]()

    def hear(self, row: Row) -> None:
        """Count one row of the log."""
        if row.kind == "answer":
            self._writer[row.id] = row.model
            self._order.setdefault(row.model, len(self._order))
        elif row.kind == "feedback" and row.body.get("event") in COMPARED:
            mine, other = (self._writer.get(str(row.body.get(name, "")), "") for name in ("item", "over"))
            user = str(row.body.get("user", ""))
            if mine and other and mine != other and self._of_user[user] < MOST_OF_ONE:
                self._of_user[user] += 1
                newer, older = sorted((mine, other), key=lambda model: -self._order[model])
                outcome = "tied" if row.body["event"] == "tie" else "won" if mine == newer else "lost"
                self._said.setdefault((newer, older), Counter())[outcome] += 1

    def duels(self) -> list[Duel]:
        """Every two models that were compared, the newest first."""
        return [
            Duel(newer, older, c["won"], c["lost"], c["tied"])
            for (newer, older), c in sorted(self._said.items(), key=lambda item: -self._order[item[0][0]])
        ]


class WinsOfLog:
    """The tally of a log: each look reads only what is new."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._tally, self._lock = log, Tally(), threading.Lock()
        self._places: Places = {}

    def duels(self) -> list[Duel]:
        with self._lock:
            for row in self._log.news(self._places, self._tally.clear):
                self._tally.hear(row)
            return self._tally.duels()


def duels(rows: Iterable[Row]) -> list[Duel]:
    """Every two models that were compared in these rows, the newest first."""
    tally = Tally()
    for row in rows:
        tally.hear(row)
    return tally.duels()
