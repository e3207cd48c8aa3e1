"""Feedback in and out of the log: `ostinato snapshot`, `ostinato interactions`, `ostinato forget`. What the `recommend` stage reads is data/feedback."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import typer

from models.interactions import EVENTS, RATINGS, Interaction
from models.preferences import Preference
from monitoring.log import EventLog, feedback_once
from monitoring.wins import COMPARED
from pipelines.files import StageError, plain_errors, whole_file, write_json, write_parquet
from pipelines.preferences import PREFERENCES, preferences_of, read_preferences, write_preferences
from pipelines.tracking import home

FEEDBACK = Path("data/feedback")
SNAPSHOT, IMPORTS, FORGOTTEN = FEEDBACK / "log.parquet", FEEDBACK / "imports", "forgotten.txt"
SCHEMA = pa.schema([("user", pa.string()), ("item", pa.string()), ("event", pa.string()), ("value", pa.float64()), ("time", pa.string())])
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


def log_folder(given: Path | None = None) -> Path:
    """Folder of the log: the one given, OSTINATO_LOG, or <home>/log."""
    return given or Path(os.environ.get("OSTINATO_LOG", home() / "log"))


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
        time = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc).isoformat(timespec="milliseconds")
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
    found = {Interaction(**row) for path in _tables(folder) for row in pq.read_table(path).to_pylist()}
    return sorted(found, key=lambda each: (each.time, each.user, each.item, each.event, each.value))


def _tables(folder: Path = FEEDBACK) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.parquet")) if path != PREFERENCES]


def forgotten() -> set[str]:
    path = home() / FORGOTTEN
    return set(path.read_text().split()) if path.exists() else set()


@dataclass(frozen=True)
class Gathered:
    """The feedback of a log."""

    interactions: list[Interaction]
    preferences: list[Preference]
    faults: Faults
    broken: int

    def write(self) -> None:
        """Into data/feedback, with a report; the same log gives the same files."""
        write_interactions(SNAPSHOT, self.interactions)
        write_preferences(self.preferences)
        events = self.interactions
        write_json(Path("reports/feedback_report.json"), {"events": len(events), "users": len({e.user for e in events}), "items": len({e.item for e in events}), "comparisons": len(self.preferences), "left_out": self.faults.counts, "examples": self.faults.shown, "broken_lines": self.broken})

    def __str__(self) -> str:
        events = self.interactions
        return f"{SNAPSHOT}: {len(events)} events of {len({e.user for e in events})} users on {len({e.item for e in events})} items; {PREFERENCES}: {len(self.preferences)} comparisons; {sum(self.faults.counts.values())} left out, {self.broken} broken lines (reports/feedback_report.json)"


def gather(log: Path | None) -> Gathered:
    """Read a log. Raises StageError where there is none."""
    folder = log_folder(log)
    if not folder.is_dir():
        raise StageError(f"no log in {folder}: serve and send feedback first, or name the folder with --log")
    events, faults = EventLog(folder), Faults({}, {})
    told, gone = list(feedback_once(events.rows())), forgotten()
    found = interactions_of(({**row.body, "time": row.time} for row in told if row.body.get("event") not in COMPARED), gone, faults)
    return Gathered(found, preferences_of(events.rows(), told, gone), faults, events.broken())


def snapshot(log: Annotated[Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")] = None) -> None:
    """Write the feedback of the log to data/feedback, which the stages `align` and `recommend` read."""
    with plain_errors():
        found = gather(log)
        found.write()
        typer.echo(str(found))


def import_interactions(file: Annotated[Path, typer.Argument(help="CSV or Parquet with the columns user, item, event, time, and value for ratings")]) -> None:
    """Bring interactions of your own; `dvc repro recommend` then learns from them."""
    import hashlib

    with plain_errors():
        faults = Faults({}, {})
        found = interactions_of(_read_table(file), forgotten(), faults)
        for why, count in faults.counts.items():
            typer.echo(f"left out, {count} rows: {why}; e.g. {faults.shown[why][0]}")
        if not found:
            raise StageError(f"{file}: no row can be used")
        target = IMPORTS / f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.parquet"
        write_interactions(target, found)
        typer.echo(f"{target}: {len(found)} events of {len({e.user for e in found})} users on {len({e.item for e in found})} items")


def _read_table(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix.lower() == ".parquet":
            table = pq.read_table(file)
        else:
            strings = {name: pa.string() for name in ("user", "item", "event", "time")}
            table = pacsv.read_csv(file, convert_options=pacsv.ConvertOptions(column_types=strings))
    except (OSError, pa.ArrowInvalid) as error:
        raise StageError(f"{file}: {error}") from error
    missing = [name for name in ("user", "item", "event") if name not in table.column_names]
    if missing:
        raise StageError(f"{file} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}. Name them user, item, event, time")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def forget(user: str, log: Annotated[Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")] = None) -> None:
    """Remove every row of a user from the log and from data/feedback, and leave them out of every later snapshot."""
    with plain_errors():
        if not user.strip() or user.split() != [user]:
            raise StageError("name one user id, without spaces")
        names = forgotten() | {user}
        with whole_file(home() / FORGOTTEN) as temporary:
            temporary.write_text("\n".join(sorted(names)) + "\n")
        folder = log_folder(log)
        rows = EventLog(folder).forget(user) if folder.is_dir() else 0
        events = 0
        for path in _tables():
            all_of = [Interaction(**row) for row in pq.read_table(path).to_pylist()]
            kept = [event for event in all_of if event.user != user]
            if len(kept) < len(all_of):
                events += len(all_of) - len(kept)
                write_interactions(path, kept)
        compared = read_preferences()
        others = [each for each in compared if each.user != user]
        if len(others) < len(compared):
            events += len(compared) - len(others)
            write_preferences(others)
        typer.echo(f"forgot {user}: {rows} rows of the log, {events} events of data/feedback. Run `ostinato repro` so that no model remembers; `dvc gc --workspace` drops older data from the cache")
