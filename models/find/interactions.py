"""What listeners did: events, their weights, and one taste made of many events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EVENTS = ("like", "dislike", "rating", "play", "skip", "accepted", "undone")
JUDGED = (
    "like",
    "dislike",
    "rating",
    "accepted",
    "undone",
)  # what says better or worse; a play or a skip does not
EXPLICIT = ("like", "dislike", "rating")  # the last of these on an item overrules all others on it
WEIGHTS = {"like": 1.0, "dislike": -1.0, "play": 0.3, "skip": -0.3, "accepted": 0.6, "undone": -0.6}
MOST = 1.0  # weight of many plays of one item
RATINGS = (1.0, 5.0)  # the middle is indifference


@dataclass(frozen=True)
class Interaction:
    """One event. value: of a rating, 1-5. time: ISO 8601, sorts as text."""

    user: str
    item: str
    event: str
    value: float = 0.0
    time: str = ""


@dataclass(frozen=True)
class Taste:
    """Weights by item, -1 to 1, in the order in which items were last heard; `contradicted`: items with both
    a liking and a disliking."""

    weights: dict[str, float]
    contradicted: tuple[str, ...] = ()

    @property
    def liked(self) -> list[str]:
        return [item for item, weight in self.weights.items() if weight > 0]

    @property
    def disliked(self) -> list[str]:
        return [item for item, weight in self.weights.items() if weight < 0]


def weight_of(event: str, value: float = 0.0) -> float:
    """-1 to 1."""
    return (
        (value - sum(RATINGS) / 2) / ((RATINGS[1] - RATINGS[0]) / 2) if event == "rating" else WEIGHTS[event]
    )


def taste_of(events: Iterable[Interaction]) -> Taste:
    """The taste of one user. The last like, dislike or rating of an item decides; without one, its other
    events add up, to at most MOST either way."""
    explicit: dict[str, list[float]] = {}
    implicit: dict[str, float] = {}
    order: dict[str, None] = {}
    for event in sorted(events, key=lambda event: event.time):
        order.pop(event.item, None)
        order[event.item] = None
        if event.event in EXPLICIT:
            explicit.setdefault(event.item, []).append(weight_of(event.event, event.value))
        else:
            implicit[event.item] = implicit.get(event.item, 0.0) + weight_of(event.event)
    weights = {
        item: explicit[item][-1] if item in explicit else max(-MOST, min(MOST, implicit[item]))
        for item in order
    }
    both = tuple(item for item, given in explicit.items() if min(given) < 0 < max(given))
    return Taste(weights, both)


def by_user(events: Sequence[Interaction]) -> dict[str, list[Interaction]]:
    """Events of each user, in order of time."""
    found: dict[str, list[Interaction]] = {}
    for event in sorted(events, key=lambda event: event.time):
        found.setdefault(event.user, []).append(event)
    return found
