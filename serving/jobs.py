"""Long work as jobs (`Prefer: respond-async`, RFC 7240): a request is put on disk and answered at once, its
answer is fetched later, and a restart loses nothing.

A job is a file in a folder that all workers and replicas share; who holds its lock works at it, and the lock
of a process that dies is free. What was sent is kept until it is answered, the answer for a day.
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from monitoring.whole_file import write_whole
from serving.errors import error_of
from serving.in_flight import InFlight, begin, end

logger = logging.getLogger("ostinato")

State = Literal["waiting", "done", "failed", "ended"]
LOOK_S, KEPT_S, AT_ONCE, MOST_WAITING = 0.2, 24 * 3600.0, 2, 256
SECONDS = 600.0  # that a job may take


class JobAnswer(BaseModel):
    id: str = Field(description="of the request; DELETE /v1/requests/{id} ends it")
    state: State
    endpoint: str
    made: float = Field(description="seconds since 1970")
    answer: dict[str, Any] | None = Field(None, description="of the endpoint, when it is done")
    error: dict[str, Any] | None = Field(None, description="in the one shape of errors, where it failed")


class EndAnswer(BaseModel):
    request_id: str
    ended: bool = Field(description="always true: a request that is not at work is a 404")


@dataclass(frozen=True)
class Job:
    """A request for later. tries: how often it was begun."""

    id: str
    owner: str
    endpoint: str  # its path
    body: dict[str, Any] = field(default_factory=dict)
    state: State = "waiting"
    made: float = field(default_factory=time.time)
    tries: int = 0
    keeps: bool = True  # the log keeps music that was sent
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class TooManyJobs(RuntimeError):
    """So many wait already that this one cannot be kept."""


MOST_TRIES = 3  # a request that ends the process that works at it must not do so for ever


class Jobs:
    """The jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, job: Job) -> None:
        """Keep a job; it is on disk when this returns. Raises TooManyJobs, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in self.folder.glob("*.waiting")) >= MOST_WAITING:
            raise TooManyJobs(f"{MOST_WAITING} jobs wait already: try again in a minute")
        self._write(job)
        (self.folder / f"{job.id}.waiting").touch()

    def of(self, job_id: str, owner: str) -> Job | None:
        """The job of an id, if that owner made it."""
        job = self._read(job_id)
        return job if job and job.owner == owner else None

    def end(self, job_id: str, owner: str) -> bool:
        """End a job that waits; False for one that is at work (or none)."""
        job = self.of(job_id, owner)
        if job is None or job.state != "waiting":
            return False
        with self._held(job_id) as mine:
            if mine:
                self._settle(job, state="ended")
        return mine

    def work(self, carry_out: Callable[[str, dict[str, Any]], BaseModel], stop: threading.Event) -> None:
        """Carry jobs out, on threads of their own, until `stop`. carry_out: path and body of a request."""
        for _ in range(AT_ONCE):
            threading.Thread(target=self._work, args=(carry_out, stop), daemon=True).start()

    def _work(self, carry_out: Callable[[str, dict[str, Any]], BaseModel], stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            try:
                for marker in sorted(self.folder.glob("*.waiting"), key=_age):
                    with self._held(marker.stem) as mine:
                        if mine and marker.exists() and not stop.is_set():
                            self._carry_out(marker.stem, carry_out)
                self._sweep()
            except OSError:  # a full disk: what waits goes on waiting
                logger.exception("jobs cannot be worked at")

    def _carry_out(self, job_id: str, carry_out: Callable[[str, dict[str, Any]], BaseModel]) -> None:
        job = self._read(job_id)
        if job is None or job.state != "waiting":  # no job, or its process was killed once it was settled
            return (self.folder / f"{job_id}.waiting").unlink(missing_ok=True)
        if job.tries >= MOST_TRIES:
            why = f"the service ended {job.tries} times while it worked at this: ask for less"
            return self._settle(job, state="failed", error={"code": "internal", "message": why})
        self._write(job := Job(**{**asdict(job), "tries": job.tries + 1}))
        flight = begin(InFlight(job.id, job.owner, seconds=SECONDS, keeps=job.keeps))
        try:
            answer = carry_out(job.endpoint, job.body).model_dump(mode="json")
            self._settle(job, state="done", answer=answer)
        except Exception as error:
            told = error_of(error)
            if told["code"] == "internal":
                logger.exception("job %s failed", job.id)
            self._settle(job, state="ended" if told["code"] == "cancelled" else "failed", error=told)
        finally:
            end(flight)

    def _settle(self, job: Job, **outcome: Any) -> None:
        """What came of a job; what was sent is not needed any more."""
        self._write(Job(**{**asdict(job), "body": {}, **outcome}))
        (self.folder / f"{job.id}.waiting").unlink(missing_ok=True)

    def _read(self, job_id: str) -> Job | None:
        """What is kept of a job; a file that is none (changed by hand, or of another version) stays."""
        try:
            return Job(**json.loads((self.folder / f"{job_id}.json").read_text()))
        except FileNotFoundError:
            return None
        except (TypeError, ValueError):
            logger.exception("%s.json in the folder of jobs is no job of this version", job_id)
            return None

    def _write(self, job: Job) -> None:
        write_whole(self.folder / f"{job.id}.json", json.dumps(asdict(job)))

    @contextmanager
    def _held(self, job_id: str) -> Iterator[bool]:
        """Whether this thread alone is at a job."""
        descriptor = os.open(self.folder / f".{job_id}.lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            yield _locks(descriptor)
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what was answered long ago."""
        old = time.time() - KEPT_S
        for path in self.folder.glob("*.json"):
            if _age(path) < old and not path.with_suffix(".waiting").exists():
                path.unlink(missing_ok=True)
                (self.folder / f".{path.stem}.lock").unlink(missing_ok=True)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
