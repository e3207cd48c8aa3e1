"""Comparisons of two answers, out of the log: what `ostinato snapshot` writes for `align`."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from models.align.preferences import Preference
from models.find.interactions import JUDGED, weight_of
from monitoring.rows import Row

MOST_EACH = 10  # disliked answers that each liked one of a user is set against, the nearest in time
NOT_ASKED = {
    "revise",
    "seed",
    "n",
    "best_of",
    "track_controls",
    "bar_controls",
    "locks",
    "user",
}  # of a request: what is no part of the prompt, or rare enough to be left to the jury


def preferences_of(rows: Iterable[Row], feedback: Iterable[Row], gone: set[str]) -> list[Preference]:
    """Comparisons in the log: pairs that were offered, and a user's liked or accepted answers against the
    disliked or undone ones."""
    answers: dict[str, Row] = {}
    asked: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.kind == "answer" and "midi" in row.body:
            answers[row.id] = row
        elif row.kind == "request":
            asked[row.request_id] = row.body
    found: list[Preference] = []
    felt: dict[str, list[tuple[float, Row, str]]] = defaultdict(list)
    for event in feedback:
        user, item = str(event.body.get("user", "")), str(event.body.get("item", ""))
        if not user or user in gone or item not in answers:
            continue
        kind = str(event.body.get("event", ""))
        if kind == "prefer":
            other = answers.get(str(event.body.get("over", "")))
            if other is not None:
                found.append(
                    _preference(
                        user,
                        event.time,
                        answers[item],
                        other,
                        str(answers[item].body.get("shown", "")),
                        asked,
                        "pair",
                    )
                )
        elif kind in JUDGED:
            felt[user].append(
                (weight_of(kind, float(event.body.get("value") or 0.0)), answers[item], event.time)
            )
    for user, events in felt.items():
        last = {row.id: (weight, row, time) for weight, row, time in events}  # the newest word on an answer
        liked, disliked = ([e for e in last.values() if sign * e[0] > 0] for sign in (1, -1))
        for _, row, time in liked:
            for _, other, _ in sorted(
                disliked,
                key=lambda e: (e[1].request_id != row.request_id, abs(_moment(e[2]) - _moment(time))),
            )[:MOST_EACH]:
                found.append(
                    _preference(
                        user, time, row, other, "", asked, "edits" if row.endpoint == "edit" else "likes"
                    )
                )
    return sorted(found, key=lambda p: (p.time, p.user, p.chosen_id, p.rejected_id))


def _preference(
    user: str, time: str, chosen: Row, rejected: Row, side: str, asked: dict[str, dict[str, Any]], by: str
) -> Preference:
    return Preference(
        user,
        time,
        chosen.id,
        rejected.id,
        chosen.body["midi"],
        rejected.body["midi"],
        side,
        _prompt(chosen, rejected, asked),
        by,
    )


def _prompt(chosen: Row, rejected: Row, asked: dict[str, dict[str, Any]]) -> str:
    """What both were asked to be, as JSON; "" where they were asked different things, or something that a
    prompt does not hold."""
    bodies = [
        asked.get(row.request_id, {}) if row.endpoint in ("compose", "pair") else {}
        for row in (chosen, rejected)
    ]
    plain = [
        {name: value for name, value in body.items() if name not in NOT_ASKED and value is not None}
        for body in bodies
    ]
    unusual = any(
        body.get("track_controls") or body.get("bar_controls") or (body.get("locks") or {}).get("scale")
        for body in bodies
    )
    if not bodies[0] or plain[0] != plain[1] or unusual:
        return ""
    plain[0]["controls"] = {
        name: value for name, value in (plain[0].get("controls") or {}).items() if value is not None
    }
    return json.dumps(plain[0], sort_keys=True)


def _moment(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0
