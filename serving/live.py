"""The model that answers, and the change to another while requests are at work.

Promotion and rollback write which bundle is to answer into a file. A service that follows it loads that
bundle beside the one it has, warms it up, and gives it the next request; the old one goes when its last
request has ended. A bundle that cannot be loaded changes nothing: the old one goes on, and a gauge tells.
"""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from monitoring import metrics
from monitoring.rollout import outcome_file
from serving.desk import Desk
from serving.in_flight import current
from serving.rollout import Rollout, Trial, end_rollout

logger = logging.getLogger("ostinato")

LOOK_S = 1.0


@dataclass(frozen=True)
class Wanted:
    """The bundle that is to answer: its tag, number in the registry, and folder."""

    tag: str
    version: str
    folder: Path


_ANSWERING = [""]  # tag of the model that answers in this process: for the middleware, which is made before


def answering() -> str:
    """Tag of the model that answers."""
    return _ANSWERING[0]


class Live:
    """The desk that answers, and that of a challenger that is tried. opened: makes the desk of a bundle;
    closed: takes leave of one; outcomes: folder for the ends of rollouts."""

    def __init__(
        self,
        desk: Desk,
        opened: Callable[[Wanted], Desk],
        closed: Callable[[Desk], None],
        outcomes: Path = Path("rollouts"),
    ) -> None:
        self._desk, self._opened, self._closed, self._outcomes = desk, opened, closed, outcomes
        self._trial: Trial | None = None
        self._lock = threading.Lock()
        self._at_work = Counter[int]()  # requests by desk
        self._failed: tuple[str, int] | None = None  # what could not be loaded, and when its file was written
        _ANSWERING[0] = desk.model

    @property
    def desk(self) -> Desk:
        return self._desk

    @property
    def desks(self) -> list[Desk]:
        """All that are open for new requests."""
        trial = self._trial
        return [self._desk, *([trial.desk] if trial else [])]

    @contextmanager
    def serving(self, tried: bool = False) -> Iterator[Desk]:
        """The desk for one request: it stays open until the request has ended. tried: the challenger may
        answer it, if the user is one of its share."""
        flight = current()
        with self._lock:
            trial, desk = self._trial, self._desk
            if tried and trial and trial.rollout.mode == "canary" and trial.rollout.takes(flight.who):
                desk = trial.desk
            self._at_work[id(desk)] += 1
        flight.model = desk.model
        try:
            yield desk
        finally:
            with self._lock:
                self._at_work[id(desk)] -= 1
                over = self._is_over(desk)
            if over:
                self._closed(desk)

    def shadow(self, answer: Callable[[Desk, Any], BaseModel], request: Any) -> None:
        """Have a challenger in the shadow answer a request that was answered."""
        trial = self._trial
        if trial is not None:
            trial.shadows(answer, request)

    def _is_over(self, desk: Desk) -> bool:
        return all(desk is not other for other in self.desks) and not self._at_work[id(desk)]

    def follow(self, file: Path, stop: threading.Event) -> None:
        """Look at the file on a thread of its own until `stop`."""
        threading.Thread(target=self._follow, args=(file, stop), daemon=True).start()

    def _follow(self, file: Path, stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            try:
                self.look(file)
            except Exception:
                logger.exception("what is to answer cannot be read from %s", file)

    def look(self, file: Path) -> None:
        """Load what the file wants, where that is not what answers or is tried."""
        try:
            written = file.stat().st_mtime_ns
            told = json.loads(file.read_text())
        except FileNotFoundError:  # nothing was promoted since
            return
        wanted = Wanted(told["tag"], str(told["version"]), Path(told["folder"]))
        if wanted.tag == self._desk.model:
            self._failed = None
        elif self._failed != (wanted.tag, written):
            try:
                self._change(self._opened(wanted))
                self._failed = None
            except Exception:
                logger.exception("bundle %s cannot be loaded: %s goes on", wanted.tag, self._desk.model)
                self._failed = wanted.tag, written
        metrics.SERVES_PROMOTED.set(self._failed is None)
        self._try(Rollout.of(told["challenger"]) if told.get("challenger") else None)

    def _try(self, rollout: Rollout | None) -> None:
        """Begin, watch or end a rollout."""
        trial = self._trial
        if trial is not None and trial.rollout == rollout:
            trial.look()
        if trial is not None and (trial.rollout != rollout or trial.over):
            self._end_trial(trial)
        if rollout is None or self._trial is not None or outcome_file(self._outcomes, rollout.began).exists():
            return None
        try:
            desk = self._opened(Wanted(rollout.tag, rollout.version, rollout.folder))
        except Exception as error:
            logger.exception("challenger %s cannot be loaded", rollout.tag)
            return end_rollout(self._outcomes, rollout, f"it cannot be loaded: {error}")
        self._trial = Trial(rollout, self._desk.model, desk, self._outcomes)
        metrics.ROLLOUT.labels(rollout.mode, rollout.tag).set(rollout.share)
        logger.info("%s of bundle %s begins, for %.0f %%", rollout.mode, rollout.tag, 100 * rollout.share)

    def _end_trial(self, trial: Trial) -> None:
        with self._lock:
            self._trial = None
            over = self._is_over(trial.desk)
        metrics.ROLLOUT.labels(trial.rollout.mode, trial.rollout.tag).set(0)
        logger.info("the %s of bundle %s has ended", trial.rollout.mode, trial.rollout.tag)
        if over:
            self._closed(trial.desk)

    def _change(self, new: Desk) -> None:
        with self._lock:
            old, self._desk = self._desk, new
            over = self._is_over(old)
        _ANSWERING[0] = new.model
        logger.info("bundle %s answers instead of %s", new.model, old.model)
        if over:
            self._closed(old)
