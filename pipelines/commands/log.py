"""`ostinato log`: what is in the log, whether it is whole, tables of it, and what is kept how long."""

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.feedback import forget, opened
from pipelines.running.files import StageError, plain_errors, whole_file
from pipelines.running.params import load_params

log = typer.Typer(no_args_is_help=True, help=__doc__)
log.command()(forget)
Folder = Annotated[
    Path | None, typer.Option("--log", help="folder of the log; default: OSTINATO_LOG or <home>/log")
]
MOST_SHOWN = 20


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


@log.command()
def stats(folder: Folder = None) -> None:
    """Rows by day and kind, requests by endpoint, and how large it is."""
    from monitoring.archive import archived, read_rows

    with plain_errors():
        events = opened(folder)
        kinds, endpoints, users = Counter[str](), Counter[str](), set[str]()
        days = {path: Counter[str](row.kind for row in read_rows(path)) for path in archived(events)}
        days |= {path: Counter[str]() for path in events.segments()}
        for path, _, row in events.lines():
            days[path][row.kind if row else "broken"] += 1
            if row and row.kind == "request":
                endpoints[row.endpoint] += 1
            if row and row.kind == "feedback":
                users.add(str(row.body.get("user", "")))
        for path, counts in days.items():
            kinds += counts
            typer.echo(f"{path.name}  {path.stat().st_size / 1000:.0f} kB  {listed(counts)}")
        typer.echo(f"in all {kinds.total()} rows: {listed(kinds)}")
        typer.echo(f"of days that are lines: {listed(endpoints)} requests; {len(users)} users gave feedback")


@log.command()
def verify(folder: Folder = None) -> None:
    """Check every line against its checksum, and every Parquet file; say which are cut or changed."""
    import pyarrow as pa

    from monitoring.archive import archived, read_rows

    with plain_errors():
        events, whole, broken = opened(folder), 0, list[str]()
        for path, number, row in events.lines():
            whole += row is not None
            if row is None:
                broken.append(f"{path.name}, line {number}: cut or changed")
        for path in archived(events):
            try:
                whole += sum(1 for _ in read_rows(path))
            except (pa.ArrowException, OSError, TypeError, ValueError) as error:
                broken.append(f"archive/{path.name}: {error}")
        for told in broken[:MOST_SHOWN]:
            typer.echo(told)
        if broken:
            raise StageError(
                f"{len(broken)} of {whole + len(broken)} rows or files cannot be read and are passed over: a "
                f"kill cuts at most one line; more than that is damage, put back a copy of the file"
            )
        typer.echo(f"{whole} rows, every one as it was written")


@log.command()
def export(
    file: Annotated[Path, typer.Argument(help="FILE.parquet or FILE.jsonl")],
    since: Annotated[str, typer.Option(help="day or ISO time to begin at")] = "",
    kind: Annotated[str, typer.Option(help="request, answer or feedback alone")] = "",
    folder: Folder = None,
) -> None:
    """Write rows of all days to one file."""
    from monitoring.archive import every_row, write_rows
    from monitoring.rows import line_of

    with plain_errors():
        if kind not in ("", "request", "answer", "feedback"):
            raise StageError(f"there is no kind {kind!r}: request, answer or feedback")
        try:
            datetime.fromisoformat(since or "2000-01-01")
        except ValueError:
            raise StageError(f"--since {since!r} is no day or time: write 2026-12-01") from None
        rows = (row for row in every_row(opened(folder), since) if kind in ("", row.kind))
        if file.suffix == ".parquet":
            count = write_rows(file, rows)
        elif file.suffix == ".jsonl":
            count = 0
            with whole_file(file) as partial, partial.open("w") as handle:
                for count, row in enumerate(rows, 1):  # noqa: B007  (told below)
                    handle.write(line_of(row))
        else:
            raise StageError(f"{file}: name it .parquet or .jsonl")
        typer.echo(f"{file}: {count} rows")


@log.command()
def rotate(folder: Folder = None) -> None:
    """Turn days that are over to Parquet, and remove what is older than is kept (`log` in params.yaml)."""
    from monitoring import archive

    with plain_errors():
        kept = load_params().log
        done = archive.rotate(
            opened(folder), datetime.now(timezone.utc).date(), kept.live_days, kept.keep_days
        )
        for day, why in done.left.items():
            typer.echo(f"{day} stays as it is: {why}", err=True)
        typer.echo(
            f"{len(done.turned)} days turned to Parquet, {len(done.removed)} removed; lines are kept for "
            f"{kept.live_days} days, everything for {kept.keep_days or 'ever'}"
        )
