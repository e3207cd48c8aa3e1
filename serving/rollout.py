"""A challenger on real requests: in the shadow of the champion, or as a canary for a share of users."""

import hashlib
import json
import logging
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from monitoring import metrics
from monitoring.log import Places
from monitoring.rollout import Compared, Limits, outcome_file
from monitoring.whole_file import write_whole
from serving.desk import Desk
from serving.in_flight import InFlight, begin, end

logger = logging.getLogger("ostinato")

SHADOW_OWNER = "shadow"  # of rows that nobody was shown: the id of no key
WAITING = 8  # requests that wait for the shadow; what comes on top is not tried


@dataclass(frozen=True)
class Rollout:
    """What is tried. share: of users (canary) or requests (shadow); began: ISO time, which tells one rollout
    of a model from the next."""

    tag: str
    version: str
    folder: Path
    mode: Literal["shadow", "canary"]
    share: float
    began: str
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Rollout":
        return cls(
            told["tag"],
            str(told["version"]),
            Path(told["folder"]),
            told["mode"],
            float(told["share"]),
            told["began"],
            Limits(**told.get("limits", {})),
        )

    def takes(self, who: str) -> bool:
        """Whether a user is among those who get it: the same answer for as long as it lasts."""
        digest = hashlib.sha256(f"{self.began} {who}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < self.share


class Trial:
    """One rollout at work in this process. outcomes: folder where its end is written, for all workers and
    `ostinato rollout status`."""

    def __init__(self, rollout: Rollout, champion: str, desk: Desk, outcomes: Path) -> None:
        self.rollout, self.desk = rollout, desk
        self._places = Places()
        self._compared = Compared(champion, rollout.tag, rollout.began)
        self._champion, self._outcomes = champion, outcomes
        self._waiting: queue.Queue[tuple[Callable[[Desk, Any], BaseModel], Any]] = queue.Queue(WAITING)
        if rollout.mode == "shadow":
            threading.Thread(target=self._shadow, daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether it was ended, by this worker or another."""
        return outcome_file(self._outcomes, self.rollout.began).exists()

    def shadows(self, answer: Callable[[Desk, Any], BaseModel], request: Any) -> None:
        """Have the challenger answer a request too, when there is time; nobody sees that."""
        if self.rollout.mode == "shadow" and self.rollout.takes(uuid.uuid4().hex):
            try:
                self._waiting.put_nowait((answer, request))
            except queue.Full:
                metrics.SHADOWS.labels("left out", self.rollout.tag).inc()

    def _shadow(self) -> None:
        while not self.desk.closing.is_set():
            try:
                answer, request = self._waiting.get(timeout=1.0)
            except queue.Empty:
                continue
            flight = begin(InFlight(uuid.uuid4().hex, SHADOW_OWNER, keeps=False))
            try:
                answer(self.desk, request)
                metrics.SHADOWS.labels("answered", self.rollout.tag).inc()
            except Exception:  # in the log as a row, with whose fault it was
                metrics.SHADOWS.labels("failed", self.rollout.tag).inc()
            finally:
                end(flight)

    def look(self) -> None:
        """Compare it with the champion, and end it where it is worse than its limits let it be."""
        for row in self.desk.log.news(self._places, self._begin_anew):
            self._compared.hear(row)
        why = self._compared.problem(self.rollout.limits)
        if why and not self.over:
            figures = {tag: each.told() for tag, each in self._compared.of.items()}
            end_rollout(self._outcomes, self.rollout, why, figures)

    def _begin_anew(self) -> None:
        self._compared = Compared(self._champion, self.rollout.tag, self.rollout.began)


def end_rollout(folder: Path, rollout: Rollout, why: str, figures: dict[str, Any] | None = None) -> None:
    """Write that a rollout ended by itself, for all workers and for `ostinato rollout status`."""
    logger.error("the rollout of %s ends by itself: %s", rollout.tag, why)
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    folder.mkdir(parents=True, exist_ok=True)
    told = {"tag": rollout.tag, "why": why, "time": time, "figures": figures or {}}
    write_whole(outcome_file(folder, rollout.began), json.dumps(told))
    metrics.ROLLOUTS_ABORTED.inc()
