"""Work ends when nobody waits for it: a client that closes its connection, or whose time is up, cancels what
it asked for."""

import threading
from contextvars import ContextVar
from typing import Any

from models.decoding.batching import Ticket


class Cancelling:
    """The tickets of one request, and whether anybody still waits for them."""

    def __init__(self) -> None:
        self._lock, self._gone, self._tickets = threading.Lock(), False, list[Ticket[Any]]()

    def add(self, ticket: Ticket[Any]) -> None:
        """Take on a ticket; that of a client who has gone is cancelled at once."""
        with self._lock:
            self._tickets.append(ticket)
            if self._gone:
                ticket.cancel()

    def cancel(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._gone = True
            for ticket in self._tickets:
                ticket.cancel()


_CURRENT: ContextVar[Cancelling | None] = ContextVar("cancelling", default=None)


def begin() -> Cancelling:
    """Of the request that this task serves, and the threads it starts."""
    found = Cancelling()
    _CURRENT.set(found)
    return found


def watched(ticket: Ticket[Any]) -> None:
    """Have a ticket end with the request that is being served; outside of one it goes on."""
    current = _CURRENT.get()
    if current:
        current.add(ticket)
