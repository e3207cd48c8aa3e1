"""What every endpoint works with and does alike: the row of a request, those of its answer or failure,
seeds."""

import hmac
import logging
import random
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import bentoml

from models.bundle import Bundle
from models.find.finder import Finder
from models.judge.scorecard import Judged
from monitoring import metrics
from monitoring.log import EventLog
from monitoring.rows import Row
from monitoring.wins import WinsOfLog
from serving.engine import Engine
from serving.errors import Crowded, Gone, Refused
from serving.in_flight import current

logger = logging.getLogger("ostinato")


@dataclass
class Exchange:
    """One request and its answers: `answer` adds a row, which is written when the exchange ends well."""

    endpoint: str
    request_id: str
    model: str
    seed: int
    begin: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    _answered: int = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begin

    def next_id(self) -> str:
        """Id of the next answer of this request."""
        self._answered += 1
        return f"{self.request_id}-{self._answered}"

    def answer(
        self,
        body: dict[str, Any],
        *,
        side: str = "",
        card: Judged | None = None,
        nats: float | None = None,
        seed: int | None = None,
        answer_id: str = "",
        model: str = "",
        noted: bool = True,
    ) -> None:
        """A row of the answer. side: of drift it counts to; card: its scorecard (or only its nats per note);
        noted: the scorecard goes into the histograms too."""
        opening: dict[str, float] = {}
        if card:
            opening, nats = card.opening, float(card.scorecard["nats_per_note"])
            if noted:
                metrics.NATS.labels(side, self.model).observe(nats)
                for name, value in opening.items():
                    metrics.DESCRIPTOR.labels(name, side, self.model).observe(value)
        row = {"side": side, "nats_per_note": nats, "descriptors": opening, "body": body}
        row |= {"model": model or self.model, "seed": self.seed if seed is None else seed}
        self.rows.append({**row, "id": answer_id} if answer_id else row)


@dataclass
class Desk:
    """The parts of the service that endpoints share."""

    model: str
    version: str
    bundle: Bundle
    engine: Engine
    rival: Engine | None
    finder: Finder
    log: EventLog
    wins: WinsOfLog
    secret: bytes  # of the log: what is blind stays so to who knows the seed
    closing: threading.Event = field(default_factory=threading.Event)  # set when it answers no more

    @staticmethod
    def seed_of(asked: int | None, room: int) -> int:
        """The seed asked, or one drawn so that `room` seeds after it are seeds too."""
        return asked if asked is not None else random.SystemRandom().randrange(2**31 - room)

    def hidden_seed(self, seed: int, room: int) -> int:
        """A seed that follows from another, but not for who does not know the secret."""
        digest = hmac.digest(self.secret, str(seed).encode(), "sha256")
        return int.from_bytes(digest[:8], "big") % (2**31 - room)

    def answer_of(self, answer_id: str) -> Row | None:
        """The answer of an id in the log, if it was given to who asks now."""
        row = self.log.answer(answer_id)
        return row if row is not None and row.owner == current().owner else None

    def check_owned(self, ids: Iterable[str], field: str) -> None:
        """Raises Refused for an id that is an answer to somebody else; one of the catalogue, or of nothing,
        is not looked at."""
        for name in ids if current().owner else ():
            if name not in self.finder.catalogue.row_of and self.answer_of(name) is None:
                raise Refused(
                    f"no item or answer {name!r}: it was never there, was removed, or its music is not kept",
                    field,
                )

    @contextmanager
    def exchange(self, endpoint: str, body: dict[str, Any], seed: int = 0) -> Iterator[Exchange]:
        """Log a request, then its answers; one that ends in an error has that as its answer."""
        exchange = Exchange(endpoint, current().id or uuid.uuid4().hex, self.model, seed)
        self.append(Row("request", endpoint, exchange.request_id, self.model, seed, body=body))
        try:
            yield exchange
        except Exception as error:
            ours = not isinstance(error, (Refused, Crowded, InterruptedError))
            told = {"error": str(error)[:1000], **({"fault": True} if ours else {})}
            self.append(Row("answer", endpoint, exchange.request_id, self.model, seed, body=told))
            if isinstance(error, InterruptedError):
                raise Gone("nobody waits for the answer any more: the work was ended") from None
            raise
        seconds = exchange.seconds
        self.append(
            *(Row("answer", endpoint, exchange.request_id, seconds=seconds, **row) for row in exchange.rows)
        )

    def append(self, *rows: Row) -> None:
        """Write rows to the log, as of who asks. Raises ServiceUnavailable where that fails."""
        try:
            self.log.append(*(replace(row, owner=current().owner) for row in rows))
        except OSError:
            metrics.LOG_ERRORS.inc()
            logger.exception("a row could not be written to the log")
            raise bentoml.exceptions.ServiceUnavailable(
                "the log cannot be written (is the disk full?); nothing is answered that is not logged"
            ) from None
