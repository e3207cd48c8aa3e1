"""How much each key may ask: token buckets of requests and of cells, and requests at once. In memory of one
worker; a worker that starts begins with full buckets."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from monitoring.keys import Key


@dataclass
class _Bucket:
    """Fills evenly to `size` within a minute."""

    level: float
    at: float

    def filled(self, size: int, now: float) -> float:
        self.level, self.at = min(self.level + (now - self.at) * size / 60, size), now
        return self.level


class Limits:
    """What every key has left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._at_work: dict[str, int] = {}

    def refused(self, key: Key, cells: int) -> tuple[str, float]:
        """Take one request of so many cells from what a key has left: ("", 0), or what is used up and the
        seconds until there is enough. A request larger than the bucket goes when the bucket is full."""
        now = self._clock()
        if key.at_once and self._at_work.get(key.id, 0) >= key.at_once:
            return f"{key.at_once} requests of this key are at work already", 1.0
        wanted = []
        for name, size, amount in (
            ("requests", key.requests_a_minute, 1),
            ("cells (bars times tracks)", key.cells_a_minute, cells),
        ):
            if not size or not amount:
                continue
            bucket = self._buckets.setdefault((key.id, name), _Bucket(size, now))
            need = min(amount, size)
            short = need - bucket.filled(size, now)
            if short > 1e-9:
                return f"this key has its {size} {name} of this minute", short * 60 / size
            wanted.append((bucket, need))
        for bucket, need in wanted:
            bucket.level -= need
        return "", 0.0

    def begin(self, key: Key) -> None:
        self._at_work[key.id] = self._at_work.get(key.id, 0) + 1

    def end(self, key: Key) -> None:
        self._at_work[key.id] -= 1
        if not self._at_work[key.id]:
            del self._at_work[key.id]
