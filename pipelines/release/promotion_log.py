"""The promotion log: aliases keep no history, so every change of them is a line here."""

import getpass
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.running.tracking import home

if TYPE_CHECKING:
    pass


def _log_path() -> Path:
    return home() / "promotions.jsonl"


def promotion_log() -> list[dict[str, Any]]:
    """Every promotion and rollback, oldest first."""
    path = _log_path()
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            # a line that a kill or a full disk cut; the next command writes a `recovered` line for it
            continue
    return rows


def _append_log(**row: Any) -> None:
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "who": getpass.getuser(),
        **row,
    }
    path = _log_path()
    cut = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as handle:
        handle.write(("\n" if cut else "") + json.dumps(entry) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
