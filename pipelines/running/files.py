"""Writing outputs so that a half-written file is never taken for a whole one, and one shape of error for
every command."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.running.params import ParamsError, load_params


class StageError(RuntimeError):
    """A stage or command cannot go on; the message says what to do."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """What a person can mend is one line and exit code 1."""
    import typer

    try:
        yield
    except Exception as error:
        from models.bundle import BundleError  # loads torch: only where something went wrong

        if not isinstance(error, (StageError, ParamsError, BundleError)):
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it takes the place of `path` only when the block ends without
    error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented, sorted JSON; NaN is refused because no reader of ours accepts it."""
    with whole_file(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=float) + "\n"
        )


def write_parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def write_csv(path: Path, header: list[str], rows: list[tuple[Any, ...]]) -> None:
    import csv

    with whole_file(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(rows)


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage; errors a person can mend end in one clear line and exit code 1, all others in their
    traceback."""
    from music.score.errors import UnreadableScore
    from pipelines.running.machine import be_quiet, fix_threads

    try:
        be_quiet()
        fix_threads(load_params().machine.threads)
        main()
    except (StageError, ParamsError, UnreadableScore) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if disk_is_full(error):
            sys.exit(
                "error: the disk is full. Free some space and run `dvc repro` again: finished "
                "stages are kept, this one starts from its last checkpoint."
            )
        raise


def disk_is_full(error: BaseException | None, folder: Path = Path()) -> bool:
    """True where an error, or what caused it, says so, or there is no space left: sqlite and torch raise
    errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return shutil.disk_usage(folder).free < 2**20
