"""Threads that serve every request of a process: requests join a running batch between tokens and leave when
they are done."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from models.decoding.grammar import Grammar
from models.decoding.loop import Batch, Decoder, Job
from models.tokens.tokenizer import CellTokenizer

logger = logging.getLogger("ostinato")


SHARE = 7, 8  # of the places that one group may have
T = TypeVar("T")
Answer_co = TypeVar("Answer_co", covariant=True)


class Work(Protocol[Answer_co]):
    """What a batcher serves: a request that makes its job and reads its answer."""

    def job(self, context: int, deadline: float) -> Job: ...
    def answer(self, written: list[int]) -> Answer_co: ...


class Busy(RuntimeError):
    """Too many requests wait already; the caller should try again later."""


@dataclass
class Ticket(Generic[T]):
    """A request at work. `cancel` frees its place at the next token; `result` then raises
    InterruptedError."""

    future: Future[T]
    job: Job

    def result(self) -> T:
        """The answer. Raises TimeoutError past the deadline, InterruptedError if cancelled, LockError where
        locks leave nothing."""
        return self.future.result()

    def cancel(self) -> None:
        self.job.cancelled = True


@dataclass
class _Lane:
    """A decoder, its running batch, and the requests given to it."""

    decoder: Decoder
    batch: Batch
    given: dict[int, Job] = field(default_factory=dict)


class Batcher:
    """Continuous batching (Yu et al. 2022, Orca) over one decoder or more, each with a thread of its own.

    With two on two cores, one thread chooses tokens while the other multiplies matrices; a request goes where
    the fewest are at work. Which one serves it makes no difference to its notes. Who has least at work comes
    first, and nobody has every place: a small request never waits for a large one to end.
    """

    def __init__(self, decoders: Sequence[Decoder], tokenizer: CellTokenizer, most_waiting: int = 64) -> None:
        self._tokenizer, self._most_waiting = tokenizer, most_waiting
        self._lanes = [
            _Lane(decoder, Batch(decoder, Grammar(tokenizer, decoder.slots))) for decoder in decoders
        ]
        self._context, self._slots = (
            min(decoder.context for decoder in decoders),
            min(decoder.slots for decoder in decoders),
        )
        self._most_of_one = sum(decoder.slots for decoder in decoders) * SHARE[0] // SHARE[1]
        self._waiting: deque[Job] = deque()
        self._futures: dict[int, tuple[Future[Any], Work[Any]]] = {}
        self._changed = threading.Condition()  # its lock can be taken again by the thread that holds it
        self._open = True
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), daemon=True, name=f"decoding-{i}")
            for i, lane in enumerate(self._lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """(requests at work, requests waiting)."""
        return sum(len(lane.batch) for lane in self._lanes), len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether every thread is at work or waits for some; false once closed."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(
        self,
        work: Work[T],
        deadline_s: float | None = None,
        heard: Callable[[Sequence[int]], None] | None = None,
        group: str = "",
    ) -> Ticket[T]:
        """Queue a request; `heard` and `group` as `Job` has them. Raises ValueError (LockError,
        NotRepresentable) for what cannot be asked, Busy where the queue is full."""
        job = work.job(
            self._context, time.monotonic() + deadline_s if deadline_s is not None else float("inf")
        )
        job.heard, job.group = heard, group
        if job.slots > self._slots:
            raise ValueError(f"guidance needs {job.slots} places at once, the engine has {self._slots}")
        future: Future[T] = Future()
        with self._changed:
            if not self._open:
                raise RuntimeError("the engine is closed")
            if len(self._waiting) >= self._most_waiting:
                raise Busy(f"{len(self._waiting)} requests wait already: try again in a few seconds")
            self._futures[id(job)] = (future, work)
            self._waiting.append(job)
            self._changed.notify_all()
        return Ticket(future, job)

    def close(self) -> None:
        """End the threads; what is at work or waits is cancelled."""
        with self._changed:
            self._open = False
            for job in self._waiting:
                self._settle(job, InterruptedError("the engine was closed"))
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, lane: _Lane) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting and not len(lane.batch):
                    self._changed.wait()
                if not self._open:
                    return self._fail(lane, InterruptedError("the engine was closed"))
            try:
                with self._changed:
                    arrived = self._admissible(lane)
                for job in arrived:
                    try:
                        lane.batch.admit(job)
                    except Exception as error:  # this request's alone: the others go on
                        self._leave(lane, job, error)
                for job, outcome in lane.batch.step():
                    self._leave(lane, job, outcome)
            except (
                Exception
            ) as error:  # a bug must not leave callers waiting: they are told, and the next ones are served
                logger.exception("decoding failed")
                self._fail(lane, error)
                lane.batch = Batch(lane.decoder, Grammar(self._tokenizer, lane.decoder.slots))

    def _admissible(self, lane: _Lane) -> list[Job]:
        """One waiting job, if it is this lane's turn: its prompt is read in one pass between two tokens of
        the others. Those that need not wait any more go."""
        now = time.monotonic()
        for late in [job for job in self._waiting if job.cancelled or now > job.deadline]:
            self._waiting.remove(late)
            self._settle(
                late, InterruptedError("cancelled") if late.cancelled else TimeoutError("not begun in time")
            )
        job = self._next()
        if job is None or not lane.batch.room_for(job):
            return []
        if len(lane.given) > min(
            len(other.given) for other in self._lanes if other is lane or other.batch.room_for(job)
        ):
            return []
        self._waiting.remove(job)
        lane.given[id(job)] = job
        return [job]

    def _next(self) -> Job | None:
        """The job whose group has least at work, of one group the one that came first."""
        held = Counter[str]()
        for lane in self._lanes:
            for job in lane.given.values():
                held[job.group] += job.slots
        able = [
            job
            for job in self._waiting
            if not job.group or not held[job.group] or held[job.group] < self._most_of_one
        ]
        return min(able, key=lambda job: held[job.group], default=None)

    def _leave(self, lane: _Lane, job: Job, outcome: list[int] | Exception) -> None:
        del lane.given[id(job)]
        self._settle(job, outcome)

    def _settle(self, job: Job, outcome: list[int] | Exception) -> None:
        with self._changed:
            future, work = self._futures.pop(id(job))
        if isinstance(outcome, Exception):
            return future.set_exception(outcome)
        try:
            future.set_result(work.answer(outcome))
        except Exception as error:
            future.set_exception(error)

    def _fail(self, lane: _Lane, error: Exception) -> None:
        for job in list(lane.given.values()):
            self._leave(lane, job, error)
