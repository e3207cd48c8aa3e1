"""Which model people prefer: comparisons in the log, model against model, with an interval."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from monitoring.log import Row

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
        n, p = self.won + self.lost + self.tied, self.rate
        middle, half = p + Z95**2 / (2 * n), Z95 * sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        return (middle - half) / (1 + Z95**2 / n), (middle + half) / (1 + Z95**2 / n)


def duels(rows: Iterable[Row]) -> list[Duel]:
    """Every two models that were compared, the newest first; comparisons of two takes of one model are left
    out."""
    writer: dict[str, str] = {}
    order: dict[str, int] = {}
    said: dict[tuple[str, str], Counter[str]] = {}
    of_user: Counter[str] = Counter()
    for row in rows:
        if row.kind == "answer":
            writer[row.id] = row.model
            order.setdefault(row.model, len(order))  # by first answer
        elif row.kind == "feedback" and row.body.get("event") in COMPARED:
            mine, other = (
                writer.get(str(row.body.get("item", "")), ""),
                writer.get(str(row.body.get("over", "")), ""),
            )
            user = str(row.body.get("user", ""))
            if mine and other and mine != other and of_user[user] < MOST_OF_ONE:
                of_user[user] += 1
                newer, older = sorted((mine, other), key=lambda model: -order[model])
                outcome = "tied" if row.body["event"] == "tie" else "won" if mine == newer else "lost"
                said.setdefault((newer, older), Counter())[outcome] += 1
    return [
        Duel(newer, older, c["won"], c["lost"], c["tied"])
        for (newer, older), c in sorted(said.items(), key=lambda item: -order[item[0][0]])
    ]
