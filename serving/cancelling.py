"""Work ends when nobody waits for it: a client that closes its connection cancels what it asked for."""

import threading
from collections.abc import Sequence
from typing import Any

from models.decoding.batching import Ticket


class Cancelling:
    """The tickets of one request, and whether its client is still there."""

    def __init__(self) -> None:
        self._lock, self._gone, self._tickets = threading.Lock(), False, list[Ticket[Any]]()

    def watch(self, tickets: Sequence[Ticket[Any]]) -> None:
        """Take on tickets; those of a client that has gone are cancelled at once."""
        with self._lock:
            self._tickets = list(tickets)
            gone = self._gone
        if gone:
            self.cancel()

    def cancel(self) -> None:
        """The client has gone."""
        with self._lock:
            self._gone = True
            for ticket in self._tickets:
                ticket.cancel()


class AtWork:
    """Requests of this process by id: where the middleware, which hears of a disconnect, finds the work to
    end."""

    def __init__(self) -> None:
        self._lock, self._by_id = threading.Lock(), dict[str, Cancelling]()

    def begin(self, request_id: str) -> Cancelling:
        with self._lock:
            return self._by_id.setdefault(request_id, Cancelling())

    def end(self, request_id: str) -> None:
        with self._lock:
            self._by_id.pop(request_id, None)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            found = self._by_id.get(request_id)
        if found:
            found.cancel()


AT_WORK = AtWork()
