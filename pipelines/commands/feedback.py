"""Feedback out of the log: `ostinato snapshot`, `interactions`, `forget`. What the stages read is
data/feedback."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import typer

from models.align.preferences import Preference, guarded
from models.find.interactions import Interaction
from monitoring import archive
from monitoring.log import EventLog, feedback_once
from monitoring.wins import COMPARED
from pipelines.commands.comparisons import preferences_of
from pipelines.running.feedback import (
    FEEDBACK,
    FORGOTTEN,
    IMPORTS,
    SNAPSHOT,
    Faults,
    forgotten,
    interactions_of,
    tables,
    write_interactions,
)
from pipelines.running.files import StageError, plain_errors, whole_file, write_json
from pipelines.running.preferences import PREFERENCES, read_preferences, write_preferences
from pipelines.running.tracked import track
from pipelines.running.tracking import home


def log_folder(given: Path | None = None) -> Path:
    """Folder of the log: the one given, OSTINATO_LOG, or <home>/log."""
    return given or Path(os.environ.get("OSTINATO_LOG", home() / "log"))


def opened(given: Path | None, first: str = "serve") -> EventLog:
    """The log of a folder (`log_folder`). Raises StageError where there is none; first: what makes one."""
    folder = log_folder(given)
    if not folder.is_dir():
        raise StageError(f"no log in {folder}: {first} first, or name the folder with --log")
    return EventLog(folder)


@dataclass(frozen=True)
class Gathered:
    """The feedback of a log."""

    interactions: list[Interaction]
    preferences: list[Preference]
    faults: Faults
    broken: int
    quarantined: dict[str, int]  # comparisons that are not learned from, by why

    def write(self) -> None:
        """Into data/feedback, under DVC, with a report; the same log gives the same files."""
        write_interactions(SNAPSHOT, self.interactions)
        write_preferences(self.preferences)
        events = self.interactions
        write_json(
            Path("reports/feedback_report.json"),
            {
                "events": len(events),
                "users": len({e.user for e in events}),
                "items": len({e.item for e in events}),
                "comparisons": len(self.preferences),
                "left_out": self.faults.counts,
                "examples": self.faults.shown,
                "broken_lines": self.broken,
                "quarantined": self.quarantined,
            },
        )
        track(FEEDBACK)

    def __str__(self) -> str:
        events, kept_out = self.interactions, sum(self.quarantined.values())
        return (
            f"{len(events)} events of {len({e.user for e in events})} users on "
            f"{len({e.item for e in events})} items; {len(self.preferences)} comparisons, of "
            f"which {kept_out} in quarantine{f' ({self._why()})' if kept_out else ''}; "
            f"{sum(self.faults.counts.values())} rows left out, {self.broken} broken lines"
        )

    def _why(self) -> str:
        return ", ".join(f"{count} {why}" for why, count in self.quarantined.items())


def gather(log: Path | None) -> Gathered:
    """Read a log. Raises StageError where there is none."""
    events, faults = opened(log, "serve and send feedback"), Faults({}, {})
    told, gone = list(feedback_once(archive.every_row(events))), forgotten()
    found = interactions_of(
        ({**row.body, "time": row.time} for row in told if row.body.get("event") not in COMPARED),
        gone,
        faults,
    )
    compared = preferences_of(archive.every_row(events), told, gone)
    quarantined = {why: len(rows) for why, rows in guarded(compared)[1].items() if rows}
    return Gathered(found, compared, faults, events.broken(), quarantined)


def snapshot(
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
) -> None:
    """Write the feedback of the log to data/feedback, which the stages `align` and `recommend` read."""
    with plain_errors():
        found = gather(log)
        found.write()
        typer.echo(f"{found}\nwritten: {SNAPSHOT}, {PREFERENCES}, reports/feedback_report.json")


def import_interactions(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or Parquet with the columns user, item, event, time, and value for ratings"),
    ],
) -> None:
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
        track(FEEDBACK)
        typer.echo(
            f"{target}: {len(found)} events of {len({e.user for e in found})} users on "
            f"{len({e.item for e in found})} items"
        )


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
        raise StageError(
            f"{file} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}. "
            f"Name them user, item, event, time"
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def forget(
    user: str,
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
) -> None:
    """Remove every row of a user from the log and from data/feedback, and leave them out of every later
    snapshot."""
    with plain_errors():
        if not user.strip() or user.split() != [user]:
            raise StageError("name one user id, without spaces")
        names = forgotten() | {user}
        with whole_file(home() / FORGOTTEN) as temporary:
            temporary.write_text("\n".join(sorted(names)) + "\n")
        folder = log_folder(log)
        rows = archive.forget(EventLog(folder), user) if folder.is_dir() else 0
        events = 0
        for path in tables():
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
        if FEEDBACK.exists():
            track(FEEDBACK)
        typer.echo(
            f"forgot {user}: {rows} rows of the log, {events} events of data/feedback. Run "
            f"`ostinato repro` so that "
            "no model remembers; older snapshots stay in DVC's cache and remotes until no "
            "commit names them and `ostinato gc --cache --do` and `dvc gc --cloud` have run"
        )
