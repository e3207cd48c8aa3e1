"""Editing over HTTP and on the command line."""

import base64
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from symusic import Score

from models.bundle import open_bundle
from monitoring.log import EventLog
from music.score.file_cells import notes_of
from music.score.form import normalise, note_array
from tests.conftest import run
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


def fiddle_tune(bars: int = 8) -> str:
    """Base64 MIDI of an even tune in 4/4, 480 ticks a quarter, with a pedal and a name."""
    from symusic import ControlChange, Note, TimeSignature, Track

    score = Score(480)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    track = Track("Mine", 40, False)
    for i in range(4 * bars):
        track.notes.append(Note(480 * i, 470, 62 + (i * 5) % 12, 77))
    track.controls.append(ControlChange(960, 64, 127))
    score.tracks.append(track)
    return base64.b64encode(bytes(score.dumps_midi())).decode()


def test_an_edit_changes_its_region_and_the_answer_proves_it(server: Server, tiny_line: Path) -> None:
    midi = fiddle_tune()
    status, answer = server.ask(
        "/v1/edit", {"midi": midi, "operation": "infill", "bars": [3, 4], "tracks": [1], "n": 2, "seed": 3}
    )
    assert status == 200, answer
    first, second = answer["alternatives"]
    assert first["contract"]["equal"] and first["contract"]["cells_kept"] == 6
    assert {change["bar"] for change in first["changes"]} == {3, 4}
    assert first["midi"] != second["midi"]
    assert answer["scorecard_before"]["nats_per_note"] > 0 and first["scorecard"]["nats_per_note"] > 0
    old, new = (
        note_array(Score.from_midi(base64.b64decode(data)).tracks[0]) for data in (midi, first["midi"])
    )
    outside = [notes[(notes[:, 0] < 3840) | (notes[:, 0] >= 7680)].tolist() for notes in (old, new)]
    assert outside[0] == outside[1]
    assert (
        server.ask(
            "/v1/edit",
            {"midi": midi, "operation": "infill", "bars": [3, 4], "tracks": [1], "n": 2, "seed": 3},
        )[1]["alternatives"][0]["midi"]
        == first["midi"]
    )


def test_restyling_looks_for_the_style_with_the_judges_of_the_bundle(server: Server, tiny_line: Path) -> None:
    judge = open_bundle(tiny_line / "bundle").judges["style"]
    surer = []
    for style in judge.labels[:2]:
        status, answer = server.ask(
            "/v1/edit",
            {"midi": fiddle_tune(), "operation": "restyle", "style": style, "strength": 1.0, "seed": 2},
        )
        assert status == 200, answer
        written = normalise(
            Score.from_midi(base64.b64decode(answer["alternatives"][0]["midi"])),
            ticks_per_quarter=12,
            velocity=80,
        )
        surer.append(judge.log_probabilities([written])[0])
    assert surer[0][0] - surer[0][1] > surer[1][0] - surer[1][1]


def test_an_edit_starts_from_an_earlier_answer_and_history_tells_the_chain(
    server: Server, tiny_line: Path
) -> None:
    first = server.ask("/v1/edit", {"midi": fiddle_tune(), "operation": "transpose", "semitones": 2})[1][
        "alternatives"
    ][0]
    second = server.ask("/v1/edit", {"parent": first["id"], "operation": "vary", "strength": 0.5, "seed": 1})[
        1
    ]["alternatives"][0]
    status, undone = server.ask(
        "/v1/edit", {"parent": first["id"], "operation": "transpose", "semitones": -2}
    )
    assert status == 200
    notes = [
        note_array(Score.from_midi(base64.b64decode(data)).tracks[0]).tolist()
        for data in (fiddle_tune(), undone["alternatives"][0]["midi"])
    ]
    assert notes[0] == notes[1]
    told = run(tiny_line, "history", second["id"]).stdout.splitlines()
    assert [line.split()[1] for line in told] == [first["id"], second["id"]]
    logged = (tiny_line / ".ostinato/log").glob("*.jsonl")
    assert "Mine" not in "".join(
        base64.b64decode(row.body["midi"]).decode("latin-1")
        for _ in logged
        for row in EventLog(tiny_line / ".ostinato/log").rows()
        if row.endpoint == "edit" and "midi" in row.body
    )
    composed = server.ask("/v1/compose", {"metre": "4/4", "bars": 2, "instruments": ["fiddle"], "seed": 1})[
        1
    ]["takes"][0]
    assert server.ask("/v1/edit", {"parent": composed["id"], "operation": "retrograde"})[0] == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"operation": "infill", "semitones": 2}, "infill takes no semitones"),
        ({"operation": "polish"}, "infill"),
        ({"operation": "infill", "bars": [7, 99]}, "bars 1 to 8"),
        ({"operation": "infill", "tracks": [4]}, "the score has 1 Mine"),
        ({"operation": "restyle", "style": "polka"}, "known are"),
        ({"operation": "transpose", "semitones": 120}, "reach"),
        ({"operation": "transpose"}, "one of semitones"),
        ({"operation": "infill", "bars": [5, 2]}, "the first lies after the last"),
        ({"operation": "infill", "parent": "nobody"}, "one of the two"),
    ],
)
def test_edits_that_cannot_be_done_say_why(server: Server, body: dict[str, object], message: str) -> None:
    status, answer = server.ask("/v1/edit", {"midi": fiddle_tune()} | body)
    assert status == 422
    assert message in answer["error"]["message"]
    assert server.ask("/v1/edit", {"parent": "nobody", "operation": "vary"})[0] == 422


def test_a_client_that_goes_away_cancels_its_edit(server: Server) -> None:
    import http.client

    body = json.dumps({"midi": fiddle_tune(60), "operation": "vary", "strength": 1.0, "n": 8, "seed": 1})
    begin = time.monotonic()
    status, _ = server.ask("/v1/edit", json.loads(body))
    whole = time.monotonic() - begin
    assert status == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/edit", body, {"content-type": "application/json"})
    time.sleep(min(0.3, whole / 4))
    connection.close()
    deadline = time.monotonic() + whole
    while time.monotonic() < deadline and not (
        found := re.search(
            r'ostinato_edits_total{contract="cancelled",model="\w+",operation="vary"} 1.0',
            server.ask("/metrics")[1],
        )
    ):
        time.sleep(0.05)
    assert found


def test_a_file_is_edited_on_the_command_line(tiny_line: Path, tmp_path: Path) -> None:
    tune = tmp_path / "tune.abc"
    tune.write_text("X:1\nT:Mine\nM:4/4\nL:1/8\nK:D\n" + "DEFG ABcd|" * 8 + "\n")
    told = run(tiny_line, "edit", str(tune), "infill", "--bars", "3-4", "--seed", "2").stdout
    assert "kept" in told
    assert re.search(r"nats per note \d+\.\d\d -> \d+\.\d\d", told)
    assert (tmp_path / "tune.infill.mid").is_file()
    again = run(tiny_line, "edit", str(tune), "infill", "--bars", "3-4", check=False)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert (
        "infill takes no qpm"
        in run(tiny_line, "edit", str(tune), "infill", "--qpm", "90", check=False).stderr
    )


def test_notes_that_are_named_stay_while_the_rest_is_written(server: Server) -> None:
    midi = fiddle_tune()
    request = {"midi": midi, "operation": "infill", "bars": [3, 4], "tracks": [1], "seed": 5}
    kept = [{"track": 1, "note": 10}, {"track": 1, "note": 15}]
    status, answer = server.ask("/v1/edit", {**request, "keep": kept, "chords": "D | A7"})
    assert status == 200, answer
    old, new = (
        notes_of(Score.from_midi(base64.b64decode(data)).tracks[0])
        for data in (midi, answer["alternatives"][0]["midi"])
    )
    there = {tuple(note) for note in new.tolist()}
    assert tuple(old[9].tolist()) in there and tuple(old[14].tolist()) in there
    assert " | " in answer["alternatives"][0]["chords"]
    for wrong, message in (
        ({"keep": [{"track": 1, "note": 1}]}, "outside the region"),
        ({"keep": [{"track": 1, "note": 99}]}, "has 32 notes"),
        ({"operation": "melody", "keep": kept}, "melody takes no keep"),
        ({"chords": "D | A7 | D | A7 | D | D | D | D"}, "chords for 8 bars"),
    ):
        status, answer = server.ask("/v1/edit", {**request, **wrong})
        assert status == 422 and message in answer["error"]["message"], answer


def test_what_is_written_beside_chords_keeps_to_its_part(server: Server) -> None:
    from symusic import Note, TimeSignature, Track

    score = Score(480)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    melody, chords = Track("Tune", 73, False), Track("Chords", 24, False)
    for i in range(32):
        melody.notes.append(Note(480 * i, 470, 67 + (i * 5) % 12, 77))
    for bar in range(8):
        for pitch in (48, 52, 55):
            chords.notes.append(Note(1920 * bar, 1900, pitch + 5 * (bar % 2), 60))
    score.tracks.extend([melody, chords])
    midi = base64.b64encode(bytes(score.dumps_midi())).decode()
    for operation in ("infill", "vary", "elaborate"):
        status, answer = server.ask(
            "/v1/edit", {"midi": midi, "operation": operation, "bars": [3, 6], "tracks": [1], "seed": 1}
        )
        assert status == 200, answer
        notes = note_array(Score.from_midi(base64.b64decode(answer["alternatives"][0]["midi"])).tracks[0])
        notes = notes[np.argsort(notes[:, 0], kind="stable")]
        assert notes[:, 2].min() >= 65 and notes[:, 2].max() <= 80, operation
        assert (notes[1:, 0] >= notes[:-1, 0] + notes[:-1, 1]).all(), operation
