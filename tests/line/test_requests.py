"""Requests as more than question and answer: streamed, ended, kept as jobs, and whose they are."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from models.bundle import open_bundle
from monitoring.log import EventLog
from music.reading.files import read_midi
from music.score.form import Limits
from tests.conftest import run
from tests.server import Server, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]

LONG = {"bars": 64, "instruments": ["fiddle"] * 4, "n": 4, "temperature": 1.0}


def told_notes(events: list[tuple[str, Any]], draft: int) -> set[tuple[float, ...]]:
    """Notes (track, onset in quarters from the start, length, pitch) of a draft in 4/4 as bars told them."""
    return {
        (n["track"], (data["bar"] - 1) * 4 + n["start"], n["length"], n["pitch"])
        for kind, data in events
        if kind == "bar" and data["draft"] == draft
        for n in data["notes"]
    }


def notes_of(midi: str) -> set[tuple[float, ...]]:
    score = read_midi(base64.b64decode(midi), Limits())
    return {
        (k + 1, n.time / score.tpq, n.duration / score.tpq, n.pitch)
        for k, track in enumerate(score.tracks)
        for n in track.notes
    }


def test_the_bars_that_are_told_are_those_of_the_answer(server: Server) -> None:
    body = {"bars": 6, "metre": "4/4", "n": 2, "seed": 5, "form": "free"}
    events = list(server.events("/v1/compose", body))
    assert [events[0][0], events[-1][0]] == ["begin", "done"]
    answer = events[-1][1]
    assert answer["request_id"] == events[0][1]["request_id"]
    for k, take in enumerate(answer["takes"]):
        bars = [data["bar"] for kind, data in events if kind == "bar" and data["draft"] == k + 1]
        assert bars == list(range(1, 7))
        assert told_notes(events, k + 1) == notes_of(take["midi"])


def test_bars_of_an_edit_have_the_numbers_of_the_file(server: Server) -> None:
    asked = {"bars": 8, "metre": "4/4", "instruments": ["piano", "fiddle"], "seed": 2}
    take = server.ask("/v1/compose", asked)[1]
    body = {"parent": take["takes"][0]["id"], "operation": "infill", "bars": [5, 6], "tracks": [2], "seed": 3}
    events = list(server.events("/v1/edit", body))
    bars = [data for kind, data in events if kind == "bar"]
    assert [data["bar"] for data in bars] == [5, 6]
    assert {note["track"] for data in bars for note in data["notes"]} <= {2}
    assert told_notes(events, 1) <= notes_of(events[-1][1]["alternatives"][0]["midi"])


def test_what_cannot_be_done_is_the_last_event(server: Server) -> None:
    *_, (kind, data) = server.events("/v1/compose", {"style": "polka"})
    assert (kind, data["status"], data["error"]["code"]) == ("error", 422, "invalid")


def test_a_request_that_is_deleted_ends(server: Server) -> None:
    begin = time.monotonic()
    stream = server.events("/v1/compose", LONG)
    request_id = next(stream)[1]["request_id"]
    assert server.ask(f"/v1/requests/{request_id}", method="DELETE") == (
        200,
        {"request_id": request_id, "ended": True},
    )
    *_, (kind, data) = stream
    assert (kind, data["error"]["code"]) == ("error", "cancelled")
    assert time.monotonic() - begin < 10
    assert server.ask(f"/v1/requests/{request_id}", method="DELETE")[0] == 404


def job_of(server: Server, job_id: str, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status, job = server.ask(f"/v1/jobs/{job_id}")
        assert status == 200, job
        if job["state"] != "waiting":
            return job
        time.sleep(0.2)
    raise AssertionError(f"job {job_id} is not settled")


def test_a_job_is_answered_later_as_it_would_have_been_at_once(server: Server) -> None:
    body = {"bars": 4, "seed": 9}
    status, job = server.ask("/v1/compose", body, prefer="respond-async")
    assert (status, job["state"]) == (202, "waiting")
    done = job_of(server, job["id"])
    now = server.ask("/v1/compose", body)[1]
    assert done["state"] == "done"
    assert done["answer"]["takes"][0]["midi"] == now["takes"][0]["midi"]
    assert done["answer"]["request_id"] == job["id"]
    assert server.ask("/v1/compose", {"style": "polka"}, prefer="respond-async")[0] == 202
    assert server.ask("/v1/score", {"midi": "TVRoZA=="}, prefer="respond-async")[0] == 422


def test_jobs_survive_a_kill_and_keys_keep_what_is_theirs(tiny_line: Path, tmp_path: Path) -> None:
    environment = {"OSTINATO_KEYS": str(tmp_path / "keys.json"), "OSTINATO_LOG": str(tmp_path / "log")}
    first, second = (
        run(tiny_line, "keys", "add", *name, **environment).stdout.strip()
        for name in (["first"], ["second", "--keep-music"])
    )
    with served(tiny_line, **environment) as server:
        assert server.ask("/v1/compose", {})[0] == 401
        job = server.ask("/v1/compose", {"bars": 4, "seed": 1}, key=first, prefer="respond-async")[1]
        server.process.kill()
        server.process.wait()
    with served(tiny_line, **environment) as server:
        assert server.ask(f"/v1/jobs/{job['id']}", key=second)[0] == 404
        until = time.monotonic() + 60
        while (found := server.ask(f"/v1/jobs/{job['id']}", key=first)[1])["state"] == "waiting":
            assert time.monotonic() < until
            time.sleep(0.2)
        take = found["answer"]["takes"][0]["id"]
        edit = {"parent": take, "operation": "retrograde"}
        assert server.ask("/v1/edit", edit, key=first)[0] == 200
        assert server.ask("/v1/edit", edit, key=second)[0] == 422
        sent = {"midi": found["answer"]["takes"][0]["midi"], "operation": "retrograde"}
        for key, status in ((first, 422), (second, 200)):  # music that was sent is kept where the key says so
            done = server.ask("/v1/edit", sent, key=key)[1]["alternatives"][0]
            child = {"parent": done["id"], "operation": "invert"}
            again = server.ask("/v1/edit", child, key=key)
            assert again[0] == status, again
            kept = [row for row in EventLog(tmp_path / "log").rows() if row.id == done["id"]]
            assert ("midi" in kept[0].body) == (status == 200)
            assert status == 200 or "--keep-music" in again[1]["error"]["message"]
        like = {"user": "u", "item": take, "event": "like"}
        assert server.ask("/v1/feedback", like, key=first)[0] == 200
        assert server.ask("/v1/feedback", like, key=second)[0] == 422
        assert server.ask("/v1/similar", {"id": take}, key=second)[0] == 422
        item = open_bundle(tiny_line / "bundle").catalogue.items[0].id
        assert server.ask("/v1/feedback", {**like, "item": item}, key=first)[0] == 200
        assert server.ask("/v1/recommend", {"user": "u"}, key=first)[1]["likes"] == 2
        assert server.ask("/v1/recommend", {"user": "u"}, key=second)[1]["likes"] == 0
        run(tiny_line, "keys", "revoke", "second", **environment)
        assert server.ask("/v1/model", key=second)[0] == 401


def test_an_address_that_others_reach_needs_keys_or_to_be_told(tiny_line: Path, tmp_path: Path) -> None:
    refused = run(
        tiny_line, "serve", "--host", "0.0.0.0", "--port", "0", check=False, OSTINATO_HOME=str(tmp_path)
    )
    assert refused.returncode
    assert "ostinato keys add" in refused.stderr + refused.stdout


def test_a_blind_pair_is_not_told_by_its_seed(server: Server) -> None:
    body = {"style": "irish", "bars": 2, "metre": "4/4", "seed": 4}
    pair, again = server.ask("/v1/pair", body)[1], server.ask("/v1/pair", body)[1]
    shown = {take["midi"] for take in pair["takes"]}
    assert shown == {take["midi"] for take in again["takes"]}
    composed = server.ask("/v1/compose", {**body, "n": 8})[1]["takes"]
    assert not shown & {take["midi"] for take in composed}
