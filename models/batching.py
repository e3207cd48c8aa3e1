"""One thread that serves every request of a process: they join the running batch between tokens and leave when they are done."""

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from models.decoding import Batch, Decoder, Job
from models.fill import Filled, FillRequest, Region
from models.grammar import Grammar
from models.tokens import CellTokenizer

logger = logging.getLogger("ostinato")


class Busy(RuntimeError):
    """Too many requests wait already; the caller should try again later."""


@dataclass
class Ticket:
    """A request at work. `cancel` frees its place at the next token; `result` then raises InterruptedError."""

    future: "Future[Filled]"
    job: Job

    def result(self) -> Filled:
        """The answer. Raises TimeoutError past the deadline, InterruptedError if cancelled, LockError where locks leave nothing."""
        return self.future.result()

    def cancel(self) -> None:
        self.job.cancelled = True


class Batcher:
    """Continuous batching (Yu et al. 2022, Orca) over one decoder."""

    def __init__(self, decoder: Decoder, tokenizer: CellTokenizer, most_waiting: int = 64) -> None:
        self._decoder, self._tokenizer, self._most_waiting = decoder, tokenizer, most_waiting
        self._batch = Batch(decoder, Grammar(tokenizer, decoder.slots))
        self._waiting: deque[Job] = deque()
        self._futures: dict[int, tuple[Future[Filled], Region]] = {}
        self._changed = threading.Condition()  # its lock can be taken again by the thread that holds it
        self._open = True
        self._thread = threading.Thread(target=self._work, daemon=True, name="decoding")
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """(requests at work, requests waiting)."""
        return len(self._batch), len(self._waiting)

    def submit(self, request: FillRequest, deadline_s: float | None = None) -> Ticket:
        """Queue a request. Raises ValueError (LockError, NotRepresentable) for what cannot be asked, Busy where the queue is full."""
        region = Region(self._tokenizer, request)
        job = region.job(self._decoder.context, time.monotonic() + deadline_s if deadline_s is not None else float("inf"))
        self._tokenizer.prefix(request.labels)  # an unknown label is told here, not on the thread that serves everybody
        if job.slots > self._decoder.slots:
            raise ValueError(f"guidance needs {job.slots} places at once, the engine has {self._decoder.slots}")
        future: Future[Filled] = Future()
        with self._changed:
            if not self._open:
                raise RuntimeError("the engine is closed")
            if len(self._waiting) >= self._most_waiting:
                raise Busy(f"{len(self._waiting)} requests wait already: try again in a few seconds")
            self._futures[id(job)] = (future, region)
            self._waiting.append(job)
            self._changed.notify()
        return Ticket(future, job)

    def close(self) -> None:
        """End the thread; what is at work is cancelled."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting and not len(self._batch):
                    self._changed.wait()
                if not self._open:
                    return self._fail_all(InterruptedError("the engine was closed"))
                arrived = self._admissible()
            try:
                for job in arrived:
                    try:
                        self._batch.admit(job)
                    except Exception as error:  # this request's alone: the others go on
                        self._settle(job, error)
                for job, outcome in self._batch.step():
                    self._settle(job, outcome)
            except Exception as error:  # a bug must not leave callers waiting: they are told, and the next ones are served
                logger.exception("decoding failed")
                self._fail_all(error)
                self._batch = Batch(self._decoder, Grammar(self._tokenizer, self._decoder.slots))

    def _admissible(self) -> list[Job]:
        """One waiting job, if there is room: its prompt is read in one pass between two tokens of the others. Those that need not wait any more go."""
        now = time.monotonic()
        for job in [job for job in self._waiting if job.cancelled or now > job.deadline]:
            self._waiting.remove(job)
            self._settle(job, InterruptedError("cancelled") if job.cancelled else TimeoutError("not begun in time"))
        return [self._waiting.popleft()] if self._waiting and self._batch.room_for(self._waiting[0]) else []

    def _settle(self, job: Job, outcome: list[int] | Exception) -> None:
        with self._changed:
            future, region = self._futures.pop(id(job))
        if isinstance(outcome, Exception):
            return future.set_exception(outcome)
        try:
            future.set_result(region.answer(outcome))
        except Exception as error:
            future.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            self._waiting.clear()
            for future, _ in self._futures.values():
                future.set_exception(error)
            self._futures.clear()
