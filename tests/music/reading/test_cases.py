"""Small files written after public bug reports against other tools: what must come out of each."""

import json
from typing import Any

import pytest

from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, apply_rule
from music.analysis.descriptors import histograms
from music.reading.files import Reading, read_file
from music.reading.midi import read_source
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells
from music.score.form import Limits, bar_table, normalise, note_array
from music.score.keys import estimate_key
from tests.conftest import SHARED

CASES = SHARED / "cases"
TABLE = json.loads((CASES / "cases.json").read_text()) if CASES.exists() else []
pytestmark = pytest.mark.skipif(not TABLE, reason="the cases are not beside the checkout")


def notes_of(track: Any, tpq: int, count: int) -> list[list[float]]:
    return [[o / tpq, d / tpq, p] for o, d, p in note_array(track).tolist()[:count]]


def check(expect: dict[str, Any], found: list[Any]) -> None:
    readings = [each for each in found if isinstance(each, Reading)]
    assert readings, found
    score = readings[0].score
    bars = [[start / score.tpq, length / score.tpq, f"{n}/{d}"] for start, length, n, d in bar_table(score)]
    programs = [[track.program, track.is_drum] for track in score.tracks]
    for name, value in expect.items():
        if name == "programs":
            assert programs == value
        elif name == "notes":
            assert score.note_num() == value
        elif name == "tunes":
            assert len(readings) == value
        elif name == "bars":
            assert bars[: len(value)] == value
        elif name == "bars_count":
            assert len(bars) == value
        elif name == "bar_first_pitches":
            onsets = {o: p for o, _, p in reversed(note_array(score.tracks[0]).tolist())}
            assert [onsets[int(start)] for start in bar_table(score)[:, 0]] == value
        elif name.endswith("_first_notes"):
            assert notes_of(score.tracks[int(name[5]) - 1], score.tpq, len(value)) == value
        elif name == "notes_sorted_track":
            have = [row for track in score.tracks for row in notes_of(track, score.tpq, 99)]
            assert all(row in have for row in value)
        elif name == "key_signature":
            assert score.key_signatures[0].key == value
        elif name == "tempos":
            assert [[t.time / score.tpq, round(t.qpm, 1)] for t in score.tempos] == value
        elif name == "key_label":
            sharps = score.key_signatures[0].key if score.key_signatures else None
            normal = normalise(score, ticks_per_quarter=12, velocity=80)
            assert estimate_key(histograms(normal)["pitch_class_histogram"], sharps)[0] == value
        else:  # of an edit, below
            assert name.startswith(("edit_", "outside_", "one_program", "other_events", "refused_"))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: str(case["file"]))
def test_files_are_read_right(case: dict[str, Any]) -> None:
    expect, name = case["expect"], case["file"]
    data = (CASES / name).read_bytes()
    if "clear_error" in expect or "error_or_bars" in expect:
        with pytest.raises(UnreadableScore, match=r"\w+ \w+"):
            read_file(data, name, Limits())
        return
    check(expect, read_file(data, name, Limits()))


@pytest.mark.parametrize(
    "case",
    [case for case in TABLE if case.get("do", {}).get("op") in RULES],
    ids=lambda case: str(case["file"]),
)
def test_edits_by_rule_keep_all_else(case: dict[str, Any]) -> None:
    data, (first, last) = (CASES / case["file"]).read_bytes(), case["do"]["bars"]
    (reading,) = read_file(data, case["file"], LIMITS)
    assert isinstance(reading, Reading)
    file = FileCells.of(reading.score)
    rule = Rule(semitones=case["do"]["semitones"])
    answer = apply_rule(file, case["do"]["op"], rule, (first - 1, last), None, reading.source)
    assert answer.contract.kept
    after = read_source(answer.midi, LIMITS)
    tpq = after.score.tpq
    if "edit_tempos" in case["expect"]:
        told = [[t.time / tpq, round(t.qpm, 1)] for t in after.score.tempos]
        assert told == case["expect"]["edit_tempos"]
    if reading.source:
        before, now = (
            sorted(
                (n, event.tick, event.status, event.data)
                for n, events in enumerate(each.file.tracks)
                for event in events
                if event.kind not in (0x80, 0x90)
            )
            for each in (reading.source, after)
        )
        assert before == now
