"""Compares the log with the bundle's reference profile every minute; the gauges hold the last look."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from monitoring import metrics
from monitoring.drift import SIDES, STATUSES, descriptor_columns, find_drift, rows_on
from monitoring.log import EventLog

logger = logging.getLogger("ostinato")


@dataclass(frozen=True)
class DriftWatch:
    """What is watched and how often. window_h: hours of the log that are looked at."""

    log: EventLog
    profile: dict[str, Any]
    model: str
    every_s: float
    window_h: float
    alpha: float
    min_rows: int

    def start(self, stop: threading.Event) -> None:
        """Watch on a thread of its own until `stop` is set."""
        threading.Thread(target=self._watch, args=(stop,), daemon=True).start()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self.every_s):
            try:
                self.look()
            except Exception:
                logger.exception("the drift watch failed; it tries again in %.0f s", self.every_s)

    def look(self) -> None:
        """Set the gauges from the window that ends now."""
        since = datetime.now(timezone.utc) - timedelta(hours=self.window_h)
        columns = descriptor_columns(self.log.rows(since.isoformat(timespec="milliseconds")), self.model)
        for side in SIDES:
            metrics.DRIFT_ROWS.labels(side).set(rows_on(columns, side))
        for drift in find_drift(self.profile, columns, self.alpha, self.min_rows):
            metrics.DRIFT_PSI.labels(drift.descriptor, drift.side).set(drift.psi / drift.threshold)
            metrics.DRIFT_STATUS.labels(drift.descriptor, drift.side).set(STATUSES.index(drift.status))
