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

from monitoring import metrics
from serving.desk import Desk

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
    """One desk that answers. opened: makes the desk of a bundle; closed: takes leave of one."""

    def __init__(self, desk: Desk, opened: Callable[[Wanted], Desk], closed: Callable[[Desk], None]) -> None:
        self._desk, self._opened, self._closed = desk, opened, closed
        self._lock = threading.Lock()
        self._at_work = Counter[int]()  # requests by desk
        self._failed: tuple[str, int] | None = None  # what could not be loaded, and when its file was written
        _ANSWERING[0] = desk.model

    @property
    def desk(self) -> Desk:
        return self._desk

    @contextmanager
    def serving(self) -> Iterator[Desk]:
        """The desk for one request: it stays open until the request has ended."""
        with self._lock:
            desk = self._desk
            self._at_work[id(desk)] += 1
        try:
            yield desk
        finally:
            with self._lock:
                self._at_work[id(desk)] -= 1
                over = desk is not self._desk and not self._at_work[id(desk)]
            if over:
                self._closed(desk)

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
        """Load what the file wants, if it is another bundle than the one that answers."""
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

    def _change(self, new: Desk) -> None:
        with self._lock:
            old, self._desk = self._desk, new
            over = not self._at_work[id(old)]
        _ANSWERING[0] = new.model
        logger.info("bundle %s answers instead of %s", new.model, old.model)
        if over:
            self._closed(old)
