"""Days of the log that are over, as Parquet in its folder `archive`: smaller, for what learns from the log
and for tools of tables. The service reads the days that are lines alone.

pyarrow is no package of the service: only commands come here.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.log import PREFIX, EventLog, locked
from monitoring.rows import Row
from monitoring.whole_file import write_whole

FOLDER = "archive"
NESTED = ("descriptors", "body")  # JSON in a column
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("time", "kind", "endpoint", "request_id", "id", "model", "owner")),
        ("seed", pa.int64()),
        ("side", pa.string()),
        ("seconds", pa.float64()),
        ("nats_per_note", pa.float64()),
        *((name, pa.string()) for name in NESTED),
        ("version", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Rotated:
    """What a rotation did: days turned to Parquet, days left as they are and why, days removed."""

    turned: list[str]
    left: dict[str, str]
    removed: list[str]


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Rows as a Parquet file, whole or not at all; how many."""
    told = [{**asdict(row), **{name: json.dumps(getattr(row, name)) for name in NESTED}} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(told, SCHEMA), table, compression="zstd")
    write_whole(path, table.getvalue(), 0o666)
    return len(told)


def read_rows(path: Path) -> Iterator[Row]:
    for told in pq.read_table(path).to_pylist():
        yield Row(**{**told, **{name: json.loads(told[name]) for name in NESTED}})


def archived(log: EventLog) -> list[Path]:
    """The days that are Parquet, the oldest first."""
    return sorted((log.folder / FOLDER).glob(f"{PREFIX}*.parquet"))


def every_row(log: EventLog, since: str = "") -> Iterator[Row]:
    """Rows of all days in order, from the ISO time `since` on. A day that a rotation was killed over is both:
    its lines count."""
    lines = {path.stem for path in log.segments()}
    for path in archived(log):
        if path.stem not in lines and path.stem.removeprefix(PREFIX) >= since[:10]:
            yield from (row for row in read_rows(path) if row.time >= since)
    yield from log.rows(since)


def rotate(log: EventLog, today: date, live_days: int, keep_days: int) -> Rotated:
    """Turn days older than `live_days` to Parquet, and remove those older than `keep_days` (0: never). A day
    goes only when its Parquet was read back and holds every row; one with lines that cannot be read stays."""
    done = Rotated([], {}, [])
    for path in log.segments():
        day = path.stem.removeprefix(PREFIX)
        if date.fromisoformat(day) >= today - timedelta(days=live_days):
            continue
        descriptor = locked(path)
        try:
            rows = [row for file, _, row in log.lines(day) if file == path]
            if None in rows:
                done.left[day] = f"{rows.count(None)} lines cannot be read: `ostinato log verify` names them"
                continue
            kept = [row for row in rows if row is not None]
            target = log.folder / FOLDER / f"{path.stem}.parquet"
            write_rows(target, kept)
            if list(read_rows(target)) != kept:
                done.left[day] = "its Parquet does not read as what was written"
                target.unlink()
                continue
            path.unlink()
            done.turned.append(day)
        finally:
            os.close(descriptor)
    for path in archived(log):
        day = path.stem.removeprefix(PREFIX)
        if keep_days and date.fromisoformat(day) < today - timedelta(days=keep_days):
            path.unlink()
            done.removed.append(day)
    return done


def forget(log: EventLog, user: str) -> int:
    """Remove every row whose body names `user`, of lines and of Parquet; how many. Raises OSError with each
    file as it was or as it shall be."""
    gone = log.forget(user)
    for path in archived(log):
        rows = list(read_rows(path))
        kept = [row for row in rows if row.body.get("user") != user]
        if len(kept) < len(rows):
            gone += len(rows) - len(kept)
            write_rows(path, kept)
    return gone
