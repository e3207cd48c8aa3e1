"""What each listener said, kept up with the log."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.find.interactions import EVENTS, Interaction


class Log(Protocol):
    """What is read of the log (monitoring/log.py): one answer, and rows that are new since the last look."""

    def answer(self, answer_id: str) -> Any: ...

    def news(self, places: dict[str, tuple[int, int]], replaced: Callable[[], None]) -> Iterable[Any]: ...


@dataclass
class Listener:
    """What the log tells of one user."""

    events: list[Interaction] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


class Listeners:
    """Feedback of the log by user, read on as the log grows, so that every worker and replica on one volume
    knows the same."""

    def __init__(self, log: Log) -> None:
        self._log, self._of, self._place, self._lock = (
            log,
            dict[str, Listener](),
            dict[str, tuple[int, int]](),
            threading.Lock(),
        )

    def _catch_up(self) -> None:
        for row in self._log.news(self._place, self._of.clear):
            if row.kind != "feedback":
                continue
            body = row.body
            mine = self._of.setdefault(str(body.get("user", "")), Listener())
            key = str(body.get("key", ""))
            if key and key in mine.keys:
                continue
            mine.keys.add(key)
            if body.get("event") in EVENTS:  # others compare two answers
                mine.events.append(
                    Interaction(
                        str(body.get("user", "")),
                        str(body.get("item", "")),
                        str(body["event"]),
                        float(body.get("value") or 0.0),
                        row.time,
                    )
                )

    def of(self, user: str) -> Listener | None:
        with self._lock:
            self._catch_up()
            return self._of.get(user)
