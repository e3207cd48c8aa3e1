"""Requests at work in this process: what a decoding thread does for one ends when nobody waits for it any
more, and what is written is told to whoever listens."""

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from models.decoding.batching import Ticket
from models.fill.heard import BarHeard, hearing
from models.fill.region import Region
from models.tokens.tokenizer import CellTokenizer

DEADLINE_S = 40.0  # to write what a request asks, inside the service's timeout of 60
NOTE = ("track", "start", "length", "pitch")  # of a note as it is told: quarters, start from the barline
Tell = Callable[[str, dict[str, Any]], None]  # an event and its data


class InFlight:
    """One request: its id and owner (the id of a key, "" where there are none), its tickets, and whether
    anybody still waits for them. tell: where it is listened to; seconds: it may take; user: of the client's,
    an opaque id; keeps: the log keeps music that was sent."""

    def __init__(
        self,
        request_id: str = "",
        owner: str = "",
        tell: Tell | None = None,
        seconds: float = DEADLINE_S,
        user: str = "",
        keeps: bool = True,
    ) -> None:
        self.id, self.owner, self.tell, self.seconds = request_id, owner, tell, seconds
        self.keeps = keeps
        self.who = f"{owner}/{user}" if user else owner or request_id  # who gets a challenger, or does not
        self.model = ""  # tag of the one that answers, when that is known
        self._lock, self._gone, self._tickets = threading.Lock(), False, list[Ticket[Any]]()
        self._drafts = 0

    def add(self, ticket: Ticket[Any]) -> None:
        """Take on a ticket; that of a client who has gone is cancelled at once."""
        with self._lock:
            self._tickets.append(ticket)
            if self._gone:
                ticket.cancel()

    @property
    def group(self) -> str:
        """Who shares what can be written at once: a key, or where there are none each request."""
        return self.owner or self.id

    def listener(self, user: str) -> str:
        """A user id as it is kept: those of one key are no others'."""
        return f"{self.owner}/{user}" if self.owner and user else user

    def hearing(self, region: Region, tokenizer: CellTokenizer) -> Callable[[Sequence[int]], None] | None:
        """What tells the bars of a region, the next of this request, as they are written; None where nobody
        listens."""
        if self.tell is None:
            return None
        tell = self.tell
        with self._lock:
            self._drafts += 1
            draft = self._drafts

        def heard(bar: BarHeard) -> None:
            notes = [dict(zip(NOTE, (k + 1, *note), strict=True)) for k, *note in bar.notes]
            tell("bar", {"draft": draft, "bar": bar.bar + 1, "notes": notes})

        return hearing(region, tokenizer, heard)

    def cancel(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._gone = True
            for ticket in self._tickets:
                ticket.cancel()


_CURRENT: ContextVar[InFlight | None] = ContextVar("in flight", default=None)
_AT_WORK: dict[str, InFlight] = {}


def begin(flight: InFlight) -> InFlight:
    """That of the request that this task serves, and the threads it starts, until `end`."""
    _CURRENT.set(flight)
    _AT_WORK[flight.id] = flight
    return flight


def end(flight: InFlight) -> None:
    """It is answered."""
    _AT_WORK.pop(flight.id, None)


def current() -> InFlight:
    """Of the request that is being served; outside of one, one that nobody listens to or ends."""
    return _CURRENT.get() or InFlight()


def cancelled(request_id: str, owner: str) -> bool:
    """End a request at work in this process; False where there is none of that owner."""
    flight = _AT_WORK.get(request_id)
    if flight is None or flight.owner != owner:
        return False
    flight.cancel()
    return True
