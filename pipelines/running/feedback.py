"""What people did, in data/feedback: interactions as Parquet, which `recommend` reads; who is forgotten."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.find.interactions import EVENTS, RATINGS, Interaction
from pipelines.running.files import write_parquet
from pipelines.running.tracking import home

FEEDBACK = Path("data/feedback/kept")  # under DVC as one folder: pipelines/running/tracked.py
SNAPSHOT, IMPORTS, FORGOTTEN = FEEDBACK / "log.parquet", FEEDBACK / "imports", "forgotten.txt"
PREFERENCES = FEEDBACK / "preferences.parquet"  # comparisons: pipelines/running/preferences.py
SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.string()),
        ("event", pa.string()),
        ("value", pa.float64()),
        ("time", pa.string()),
    ]
)
SHOWN = 5  # rows of each kind of fault that a report shows


@dataclass(frozen=True)
class Faults:
    """Rows that were left out, by why, with the first few of each."""

    counts: dict[str, int]
    shown: dict[str, list[str]]

    def add(self, why: str, row: object) -> None:
        self.counts[why] = self.counts.get(why, 0) + 1
        if self.counts[why] <= SHOWN:
            self.shown.setdefault(why, []).append(str(row)[:200])


def checked(row: Mapping[str, Any]) -> Interaction:
    """A row as an interaction. Raises ValueError saying what is wrong with it."""
    user, item, event = (str(row.get(name) or "").strip() for name in ("user", "item", "event"))
    if not user or not item:
        raise ValueError("no user or no item")
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}; known are {', '.join(EVENTS)}")
    value = float(row.get("value") or 0.0)
    if event == "rating" and not RATINGS[0] <= value <= RATINGS[1]:
        raise ValueError(f"a rating is from {RATINGS[0]:g} to {RATINGS[1]:g}")
    time = row.get("time")
    if isinstance(time, datetime):
        time = (
            (time if time.tzinfo else time.replace(tzinfo=timezone.utc))
            .astimezone(timezone.utc)
            .isoformat(timespec="milliseconds")
        )
    elif isinstance(time, (int, float)) or (isinstance(time, str) and time.strip().isdecimal()):
        time = datetime.fromtimestamp(float(time), timezone.utc).isoformat(timespec="milliseconds")
    return Interaction(user, item, event, value, str(time or ""))


def interactions_of(rows: Iterable[Mapping[str, Any]], gone: set[str], faults: Faults) -> list[Interaction]:
    """Rows that can be used, sorted and each once; those of forgotten users are dropped without a trace."""
    found = set()
    for row in rows:
        try:
            each = checked(row)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            faults.add(str(error), dict(row))
            continue
        if each.user not in gone:
            found.add(each)
    return sorted(found, key=lambda each: (each.time, each.user, each.item, each.event, each.value))


def write_interactions(path: Path, events: list[Interaction]) -> None:
    write_parquet(path, [asdict(event) for event in events], SCHEMA)


def read_interactions(folder: Path = FEEDBACK) -> list[Interaction]:
    """Everything in data/feedback: the snapshot of the log and what was imported, each event once."""
    found = {Interaction(**row) for path in tables(folder) for row in pq.read_table(path).to_pylist()}
    return sorted(found, key=lambda each: (each.time, each.user, each.item, each.event, each.value))


def tables(folder: Path = FEEDBACK) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.parquet")) if path != PREFERENCES]


def forgotten() -> set[str]:
    path = home() / FORGOTTEN
    return set(path.read_text().split()) if path.exists() else set()
