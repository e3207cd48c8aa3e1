"""How a challenger does beside the champion on real requests, from the log alone, and when that is bad enough
to stop."""

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from monitoring.rows import Row
from monitoring.wins import wilson

MOST_KEPT = 2_000  # of the newest answers of each model
FEWEST_SECONDS = 0.5  # of the 95th percentile: nobody minds less


@dataclass(frozen=True)
class Limits:
    """When a rollout ends by itself. fewest: answers of each model before they are compared; faults: share of
    requests that may fail by a fault of ours beyond the champion's; slower: times the champion's 95th
    percentile of seconds; percentile: points by which the music may surprise more."""

    fewest: int = 30
    faults: float = 0.02
    slower: float = 2.0
    percentile: float = 15.0


@dataclass
class Figures:
    """What is known of one model."""

    answers: int = 0
    faults: int = 0
    liked: int = 0
    disliked: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    percentiles: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))

    @property
    def p95(self) -> float:
        """Seconds within which 95 % of the newest answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    @property
    def percentile(self) -> float:
        """Mean percentile of what was written: the share of real pieces that surprise less."""
        return sum(self.percentiles) / len(self.percentiles) if self.percentiles else 0.0

    @property
    def fault_share(self) -> float:
        return self.faults / max(self.answers + self.faults, 1)

    def told(self) -> dict[str, float]:
        return {
            "answers": self.answers,
            "faults": self.faults,
            "p95_s": round(self.p95, 3),
            "percentile": round(self.percentile, 1),
            "liked": self.liked,
            "disliked": self.disliked,
        }


class Compared:
    """Figures of two models since a time, row by row."""

    def __init__(self, champion: str, challenger: str, since: str) -> None:
        self.of = {champion: Figures(), challenger: Figures()}
        self._champion, self._challenger, self._since = champion, challenger, since
        self._writer = dict[str, str]()

    def hear(self, row: Row) -> None:
        """Take one row of the log into account."""
        if row.time < self._since:
            return
        figures = self.of.get(row.model)
        if row.kind == "feedback":
            self._judged(row)
        elif row.kind == "answer" and figures is not None and row.endpoint in ("compose", "edit"):
            if row.body.get("fault"):
                figures.faults += 1
            elif "error" not in row.body:
                figures.answers += 1
                self._writer[row.id] = row.model
                if row.seconds is not None:
                    figures.seconds.append(row.seconds)
                card = row.body.get("scorecard")
                if isinstance(card, dict) and "percentile" in card:
                    figures.percentiles.append(float(card["percentile"]))

    def _judged(self, row: Row) -> None:
        figures = self.of.get(self._writer.get(str(row.body.get("item", "")), ""))
        if figures is not None:
            figures.liked += row.body.get("event") in ("like", "accepted")
            figures.disliked += row.body.get("event") in ("dislike", "undone")

    def problem(self, limits: Limits) -> str:
        """Why the challenger should go, "" where nothing says so."""
        old, new = self.of[self._champion], self.of[self._challenger]
        tried = new.answers + new.faults
        if tried >= limits.fewest and new.fault_share > old.fault_share + limits.faults:
            return f"{new.faults} of {tried} requests failed ({old.fault_share:.1%} of the champion's)"
        if min(old.answers, new.answers) < limits.fewest:
            return ""
        if new.p95 > max(limits.slower * old.p95, FEWEST_SECONDS):
            return f"95 % of its answers take {new.p95:.2f} s, the champion's {old.p95:.2f} s"
        if new.percentile > old.percentile + limits.percentile:
            return (
                f"its music surprises at the {new.percentile:.0f}th percentile, the champion's at the "
                f"{old.percentile:.0f}th"
            )
        if _liked(new)[1] < _liked(old)[0]:
            return (
                f"people liked {new.liked} of {new.liked + new.disliked} of its answers, and {old.liked} of "
                f"{old.liked + old.disliked} of the champion's"
            )
        return ""


def _liked(figures: Figures) -> tuple[float, float]:
    """95 % interval of the share that was liked; (0, 1) where nobody said anything."""
    n = figures.liked + figures.disliked
    return wilson(figures.liked / n, n) if n else (0.0, 1.0)


def compared(rows: Iterable[Row], champion: str, challenger: str, since: str) -> Compared:
    """Two models in these rows."""
    found = Compared(champion, challenger, since)
    for row in rows:
        found.hear(row)
    return found


def outcome_file(folder: Path, began: str) -> Path:
    """Where it is written that a rollout ended by itself: there is a file then."""
    return folder / f"{hashlib.sha256(began.encode()).hexdigest()[:16]}.json"
