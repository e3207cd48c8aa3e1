"""The promotion log: aliases keep no history, so every change of them is a row here. It lives in the store,
as tags of the registered model, so that every host that shares the store reads and continues one log."""

import getpass
import json
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from pipelines.running.tracking import MODEL, home

PREFIX = "promotion."


def promotion_log(client: Any) -> list[dict[str, Any]]:
    """Every promotion, refusal and rollback, oldest first."""
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_registered_model(MODEL).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    return [json.loads(value) for key, value in sorted(tags.items()) if key.startswith(PREFIX)]


def append(
    client: Any, *, before: int | None, to: int | None, verdict: dict[str, Any] | None, **row: Any
) -> None:
    """Add a row: who did what when, from which version to which, why, and the gate's numbers. verdict: of
    `Verdict.to_json`."""
    checks = (verdict or {}).get("checks", [])
    evidence = {c["name"]: [c["value"], f"{c['op']} {c['threshold']:g}", c["passed"]] for c in checks}
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "who": getpass.getuser(),
        "from": before,
        "to": to,
        **row,
        "evidence": evidence,
    }
    _write(client, entry)


def _write(client: Any, entry: dict[str, Any], key: str = "") -> None:
    key = key or f"{time.time_ns():020d}.{uuid.uuid4().hex[:8]}"
    client.set_registered_model_tag(MODEL, PREFIX + key, json.dumps(entry, separators=(",", ":")))


def adopt_older(client: Any) -> None:
    """Take in the file in which earlier versions of Ostinato kept the log, once. A row has the same key each
    time, so that a kill in the middle costs nothing."""
    path = home() / "promotions.jsonl"
    if not path.exists() or not client.search_registered_models(f"name='{MODEL}'"):
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a line that a kill or a full disk cut
        _write(client, {**row, "evidence": {}}, f"{0:010d}{number:010d}.adopted")
    path.rename(path.with_suffix(".jsonl.adopted"))
