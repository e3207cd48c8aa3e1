"""DELETE /v1/requests/{id}: end a request, in whichever worker or replica it is at work: they share the
folder of the log."""

import asyncio
import threading
from pathlib import Path

from serving.in_flight import cancelled

LOOK_S, WAIT_S = 0.2, 1.0  # between looks of a worker; how long an answer is waited for


class Endings:
    """Markers in a folder, each named after a request, with its owner inside; who has that request ends it
    and takes the marker away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def end(self, request_id: str, owner: str) -> bool:
        """Whether a request of that owner was at work."""
        if cancelled(request_id, owner):
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        marker = self._folder / request_id
        marker.write_text(owner)
        for _ in range(round(WAIT_S / LOOK_S) + 1):
            await asyncio.sleep(LOOK_S)
            if not marker.exists():
                return True
        marker.unlink(missing_ok=True)
        return False

    def watch(self, stop: threading.Event) -> None:
        """End what others ask to be ended, until `stop`."""
        threading.Thread(target=self._watch, args=(stop,), daemon=True).start()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            for marker in self._folder.glob("*"):
                try:
                    if cancelled(marker.name, marker.read_text()):
                        marker.unlink()
                except FileNotFoundError:  # another was faster, or nobody waits any more
                    pass
