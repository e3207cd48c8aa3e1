"""The one log: every request, answer and piece of feedback is one JSON line, appended and on disk before the
client hears of it.

Rows of one schema from many processes share a file a day: each append holds a lock and is fsynced, so a kill
loses nothing that was answered and at most the last line is cut, which readers pass over and count. Nothing
personal is in a row: no address, no header, no text of a score.
"""

import fcntl
import json
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.rows import Row, line_of, row_of
from monitoring.whole_file import write_whole

PREFIX = "events-"  # of a file, before its day
Places = dict[str, tuple[int, int]]  # how far each file was read: its inode, and a byte


class EventLog:
    """Append-only log in a folder, one file a day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._places: Places = {}
        self._answers: dict[str, tuple[str, int]] = {}  # by id: file, and byte it begins at

    def append(self, *rows: Row) -> None:
        """Write rows and wait until they are on disk. Raises OSError (a full disk) with nothing half-written
        left behind."""
        data = "".join(map(line_of, rows)).encode()
        path = self.folder / f"{PREFIX}{rows[0].time[:10]}.jsonl"
        descriptor = locked(path)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = (
                    b"\n" + data
                )  # a kill cut the last line: start on a new one, so that only that line is lost
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(28, "the disk is full")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One thread of one process at a time, of all that share the folder: to write what depends on what is
        there."""
        descriptor = os.open(self.folder / ".alone", os.O_RDWR | os.O_CREAT, 0o640)
        if self.folder.stat().st_mode & stat.S_IWOTH and os.fstat(descriptor).st_uid == os.getuid():
            os.fchmod(descriptor, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def secret(self) -> bytes:
        """32 random bytes that are the same for all who share the folder."""
        path = self.folder / ".secret"
        with self.alone():
            if not path.exists():
                write_whole(path, secrets.token_bytes(32), 0o600)
            return path.read_bytes()

    def rows(self, since: str = "") -> Iterator[Row]:
        """Whole rows in order of time, from the ISO time `since` on; broken lines are passed over (see
        `broken`)."""
        for _, _, row in self.lines(since[:10]):
            if row is not None and row.time >= since:
                yield row

    def news(self, places: Places, replaced: Callable[[], None]) -> Iterator[Row]:
        """Whole rows since the last call with the same `places` (a dict that this keeps: inode and byte by
        file). Where a file was replaced (`forget`), `replaced` is called and everything comes again."""
        for _, _, line in self._new_lines(places, replaced):
            row = row_of(line.decode(errors="replace"))
            if row is not None:
                yield row

    def _new_lines(self, places: Places, replaced: Callable[[], None]) -> Iterator[tuple[str, int, bytes]]:
        """(file, byte it begins at, line) of whole lines that are not empty."""
        paths = self.segments()
        if any(path.name in places and places[path.name][0] != path.stat().st_ino for path in paths):
            places.clear()
            replaced()
        for path in paths:
            with path.open("rb") as handle:
                inode = os.fstat(handle.fileno()).st_ino
                _, place = places.get(path.name, (0, 0))
                handle.seek(place)
                for line in handle:
                    if not line.endswith(b"\n"):
                        break  # being written
                    begun, place = place, place + len(line)
                    places[path.name] = (inode, place)
                    if line.strip():
                        yield path.name, begun, line

    def answer(self, answer_id: str) -> Row | None:
        """The answer of an id; None where there is none. Only what was written since the last call is read:
        where every answer lies is remembered."""
        for _ in range(2):  # a file that `forget` replaces in between has other rows there: look again
            with self._lock:
                for name, begun, line in self._new_lines(self._places, self._answers.clear):
                    row = row_of(line.decode(errors="replace")) if b'"answer"' in line else None
                    if row is not None and row.kind == "answer":
                        self._answers[row.id] = (name, begun)
                name, begun = self._answers.get(answer_id, ("", 0))
            try:
                with (self.folder / name).open("rb") as handle:
                    handle.seek(begun)
                    row = row_of(handle.readline().decode(errors="replace"))
            except (FileNotFoundError, IsADirectoryError):  # no such answer, or its file went
                return None
            if row is not None and row.id == answer_id:
                return row
        return None

    def history(self, answer_id: str) -> list[Row]:
        """The answers that led to this one, the oldest first."""
        chain: list[Row] = []
        while (
            answer_id
            and (row := self.answer(answer_id)) is not None
            and all(row.id != seen.id for seen in chain)
        ):
            chain.insert(0, row)
            answer_id = str(row.body.get("parent", ""))
        return chain

    def forget(self, user: str) -> int:
        """Remove every row whose body names `user`, for good; returns how many. Files are replaced whole, so
        a kill loses nothing."""
        gone = 0
        for path in self.segments():
            descriptor = locked(path)
            temporary = path.with_name(f".{path.name}.part")
            try:
                with path.open("rb") as handle:
                    lines = handle.readlines()
                kept = [line for line in lines if not _names(line, user)]
                if len(kept) < len(lines):
                    gone += len(lines) - len(kept)
                    with temporary.open("wb") as handle:
                        handle.writelines(kept)
                        handle.flush()
                        os.fsync(handle.fileno())
                    shutil.copymode(path, temporary)
                    temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
                os.close(descriptor)
        return gone

    def broken(self) -> int:
        """How many lines cannot be read."""
        return sum(row is None for _, _, row in self.lines())

    def segments(self) -> list[Path]:
        """Its files, one a day, the oldest first."""
        return sorted(self.folder.glob(f"{PREFIX}*.jsonl"))

    def lines(self, since_day: str = "") -> Iterator[tuple[Path, int, Row | None]]:
        """(file, number of the line from 1, its row or None) of every line that is not empty."""
        for path in self.segments():
            if path.stem.removeprefix(PREFIX) < since_day:
                continue
            with path.open(encoding="utf-8", errors="replace") as handle:
                for number, line in enumerate(handle, 1):
                    if line.strip():
                        yield path, number, row_of(line)


def locked(path: Path) -> int:
    """Descriptor of a file of the log, locked. A file that was replaced while we waited for its lock is
    opened again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        if path.parent.stat().st_mode & stat.S_IWOTH and os.fstat(descriptor).st_uid == os.getuid():
            os.fchmod(descriptor, 0o666)  # of a folder that a container and its host share: either may write
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _names(line: bytes, user: str) -> bool:
    """Whether a line is of a user; a broken line that holds the name is too."""
    if json.dumps(user).encode() not in line:
        return False
    row = row_of(line.decode(errors="replace"))
    return row is None or row.body.get("user") == user


def feedback_once(rows: Iterable[Row]) -> Iterator[Row]:
    """Feedback, each idempotency key once: the first that came."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if row.kind != "feedback":
            continue
        key = (str(row.body.get("user", "")), str(row.body.get("key", "")))
        if not key[1] or key not in seen:
            seen.add(key)
            yield row
