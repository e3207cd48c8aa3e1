"""Stage `ingest`: read every source to one Parquet of pieces with provenance. A broken file is reported,
never fatal."""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from music.reading.files import LABELS, Reading, read_file
from music.score.errors import UnreadableScore
from music.score.form import Limits, to_midi
from pipelines.running.files import run_stage, write_json, write_parquet
from pipelines.running.params import Ingest, Source, load_params
from pipelines.running.sources import CACHE, Item, items_of

OUT = Path("data/ingest")
REPORT = Path("reports/ingest_report.json")
CHUNK = 40  # files a worker takes at once
CHORDS = pa.list_(pa.struct([("quarter", pa.float64()), ("symbol", pa.string())]))
PIECE = pa.schema(
    [
        ("piece_id", pa.string()),
        ("collection", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("licence", pa.string()),
        ("converter", pa.string()),
        ("score_made", pa.bool_()),
        ("program", pa.int32()),
        *((label, pa.string()) for label in LABELS),
        ("chords", CHORDS),
        ("midi", pa.binary()),
    ]
)
Failure = dict[str, str]


def read_items(
    source: Source, items: list[Item], limits: Limits
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Pieces and failures of some files; runs in a worker process."""
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for item in items:
        try:
            data = item.path.read_bytes()
            readings = read_file(data, item.name, limits)
        except Exception as error:  # whatever a reader makes of a broken file, the others are read
            reason = str(error) if isinstance(error, UnreadableScore) else f"{type(error).__name__}: {error}"
            failures.append({"collection": source.name, "path": item.name, "reason": reason})
            continue
        digest = hashlib.sha256(data).hexdigest()
        for reading in readings:
            if isinstance(reading, Reading):
                rows.append(_row(source, item, digest, data, reading))
            else:
                failures.append(
                    {"collection": source.name, "path": f"{item.name}#{reading[0]}", "reason": reading[1]}
                )
    return rows, failures


def _row(source: Source, item: Item, digest: str, data: bytes, reading: Reading) -> dict[str, Any]:
    style = next(
        (style for start, style in source.styles.items() if item.path.name.startswith(start)), source.style
    )
    labels = (
        {"style": style, "composer": source.composer}
        | {k: v for k, v in reading.labels.items() if v}
        | {k: v for k, v in item.labels.items() if v}
    )
    name = f"{item.name}#{reading.member}" if reading.member else item.name
    return {
        "piece_id": f"{source.name}/{name}",
        "collection": source.name,
        "path": name,
        "sha256": digest,
        "licence": source.licence,
        "converter": reading.converter,
        "score_made": reading.score_made,
        "program": source.program,
        **{label: labels.get(label, "") for label in LABELS},
        "chords": [
            {"quarter": tick / reading.score.tpq, "symbol": symbol} for tick, symbol in reading.chords
        ],
        "midi": to_midi(reading.score) if reading.score_made else data,
    }


def _read_alone(
    source: Source, item: Item, limits: Limits, timeout_s: float
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """One file in a process of its own, for files suspected of killing or hanging their reader."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(read_items, source, [item], limits).result(timeout=timeout_s)
        except BrokenProcessPool:
            reason = (
                "the reader crashed on this file: check that it opens in a notation program and export "
                "it again"
            )
        except TimeoutError:
            reason = f"reading took more than {timeout_s:.0f} s (ingest.timeout_s)"
            for process in list(pool._processes.values()):
                process.kill()
    return [], [{"collection": source.name, "path": item.name, "reason": reason}]


def read_source(
    source: Source, items: list[Item], params: Ingest
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """All files of a source on a process pool. Finished chunks are kept until the stage ends, so a killed run
    goes on where it was."""
    limits = Limits(max_bytes=int(params.max_file_mb * 1e6))
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    parts = [CACHE / "ingest" / f"{source.name}-{_chunk_key(source, chunk, limits)}.json" for chunk in chunks]
    waiting = [i for i, part in enumerate(parts) if not part.exists()]
    workers = params.processes or os.cpu_count() or 1
    suspects: list[int] = []
    with tqdm(total=len(items), desc=f"read {source.name}", unit="file", mininterval=2) as bar:
        bar.update(sum(len(chunks[i]) for i in range(len(chunks)) if i not in waiting))
        for i, found in _in_pool(source, chunks, waiting, limits, workers, params.timeout_s):
            if found is None:
                suspects.append(i)
                continue
            _keep_part(parts[i], *found)
            bar.update(len(chunks[i]))
        for i in suspects:  # a worker died or hung: find the file by reading each alone
            rows: list[dict[str, Any]] = []
            failures: list[Failure] = []
            for item in chunks[i]:
                more, failed = _read_alone(source, item, limits, params.timeout_s)
                rows, failures = rows + more, failures + failed
                bar.update(1)
            _keep_part(parts[i], rows, failures)
    pieces: list[dict[str, Any]] = []
    reasons: list[Failure] = []
    for part in parts:
        pieces += pq.read_table(part.with_suffix(".parquet")).to_pylist()
        reasons += json.loads(part.read_text())
    return pieces, reasons


def _in_pool(
    source: Source,
    chunks: list[list[Item]],
    waiting: list[int],
    limits: Limits,
    workers: int,
    timeout_s: float,
) -> Iterator[tuple[int, tuple[list[dict[str, Any]], list[Failure]] | None]]:
    """(chunk, its pieces and failures) as they are done; (chunk, None) where the pool broke or no chunk ended
    for four times `timeout_s`."""
    if not waiting:
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    futures = {pool.submit(read_items, source, chunks[i], limits): i for i in waiting}
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, timeout=timeout_s * 4, return_when=FIRST_COMPLETED)
            if not done:
                raise TimeoutError
            for future in done:
                if isinstance(future.exception(), BrokenProcessPool):
                    pending.add(future)
                    raise BrokenProcessPool
                yield futures[future], future.result()
    except (BrokenProcessPool, TimeoutError):
        for process in list((pool._processes or {}).values()):
            process.kill()
        yield from ((i, None) for i in sorted(futures[future] for future in pending))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _chunk_key(source: Source, chunk: list[Item], limits: Limits) -> str:
    stamps = [
        (item.name, item.path.stat().st_size, item.path.stat().st_mtime_ns, sorted(item.labels.items()))
        for item in chunk
    ]
    readers = [path.read_text() for path in sorted(Path("music").rglob("*.py"))]
    return hashlib.sha256(repr((source, stamps, limits, readers)).encode()).hexdigest()[:16]


def _keep_part(part: Path, rows: list[dict[str, Any]], failures: list[Failure]) -> None:
    write_parquet(part.with_suffix(".parquet"), rows, PIECE)
    write_json(part, failures)  # written last: a part counts as done when this file is there


def main() -> None:
    params = load_params().ingest
    shutil.rmtree(OUT, ignore_errors=True)
    report: dict[str, Any] = {"collections": {}, "failures": []}
    for source in params.sources:
        if source.extended and not params.extended:
            continue
        items = items_of(source, params.music21_version)
        if params.max_pieces_per_source:
            items = items[: params.max_pieces_per_source]
        pieces, failures = read_source(source, items, params)
        if params.max_pieces_per_source:
            pieces = pieces[: params.max_pieces_per_source]
        write_parquet(OUT / f"{source.name}.parquet", pieces, PIECE)
        report["collections"][source.name] = {
            "files": len(items),
            "pieces": len(pieces),
            "failed": len(failures),
            "licence": source.licence,
        }
        report["failures"] += failures
    write_json(REPORT, report)
    shutil.rmtree(CACHE / "ingest", ignore_errors=True)


if __name__ == "__main__":
    run_stage(main)
