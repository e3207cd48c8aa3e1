"""Composing over HTTP."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from symusic import Score

from models.align.parts import Heard
from models.bundle import open_bundle
from models.tokens.labels import Labels
from music.analysis.structure import bar_contents
from music.analysis.voices import parallels, voice_grid
from music.score.form import bar_table, normalise, note_array
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


def test_composing_gives_what_was_asked_and_the_same_again(server: Server) -> None:
    request = {
        "style": "irish",
        "metre": "6/8",
        "bars": 5,
        "key": "D major",
        "seed": 11,
        "n": 2,
        "tempo": 96,
        "instruments": ["fiddle"],
    }
    status, answer = server.ask("/v1/compose", request)
    assert status == 200
    again = server.ask("/v1/compose", request)[1]
    assert [take["midi"] for take in answer["takes"]] == [take["midi"] for take in again["takes"]]
    assert answer["takes"][0]["midi"] != answer["takes"][1]["midi"]
    score = Score.from_midi(base64.b64decode(answer["takes"][0]["midi"]))
    assert [(int(n), int(d)) for _, _, n, d in bar_table(score)] == [(6, 8)] * 5
    assert [track.program for track in score.tracks] == [40]
    assert round(score.tempos[0].qpm) == 96
    card = answer["takes"][0]["scorecard"]
    assert card["obeyed"]["bars"] and card["obeyed"]["metre"]
    assert 0 <= card["percentile"] <= 100


def test_controls_and_locks_are_asked_over_http(server: Server) -> None:
    locks = {"scale": "D major", "lowest": 60, "highest": 79, "grid": "1/8"}
    request = {
        "metre": "4/4",
        "bars": 3,
        "instruments": ["fiddle"],
        "controls": {"density": 2, "polyphony": 1},
        "bar_controls": [{"bar": 3, "density": 0.5}],
        "locks": locks,
        "guidance": 1.5,
        "seed": 4,
    }
    status, answer = server.ask("/v1/compose", request)
    assert status == 200, answer
    notes = note_array(Score.from_midi(base64.b64decode(answer["takes"][0]["midi"])).tracks[0])
    assert set((notes[:, 2] % 12).tolist()) <= {2, 4, 6, 7, 9, 11, 1}
    assert notes[:, 2].min() >= 60 and notes[:, 2].max() <= 79
    assert not (notes[:, :2] % 6).any()
    assert answer["takes"][0]["scorecard"]["asked"]["density"] == "1.75-2.25 notes per quarter"
    for wrong, message in (
        ({"locks": {"scale": "H"}}, "tonics"),
        ({"locks": {"lowest": 61, "highest": 61, "scale": "C major"}}, "no pitch of the scale"),
        ({"bar_controls": [{"bar": 9}]}, "no bar 9"),
        ({"track_controls": [{}, {}]}, "name the instruments"),
    ):
        status, answer = server.ask(
            "/v1/compose", {"metre": "4/4", "bars": 3, "instruments": ["fiddle"]} | wrong
        )
        assert status == 422
        assert message in answer["error"]["message"]


def test_parallels_are_kept_from_where_it_is_asked(server: Server) -> None:
    found = {}
    for led in (True, False):
        status, answer = server.ask(
            "/v1/compose",
            {
                "metre": "4/4",
                "bars": 8,
                "instruments": ["fiddle"] * 4,
                "controls": {"polyphony": 1},
                "locks": {"scale": "C major", "voice_leading": led},
                "seed": 2,
                "n": 6,
            },
        )
        assert status == 200, answer
        scores = [Score.from_midi(base64.b64decode(take["midi"])) for take in answer["takes"]]
        found[led] = sum(len(parallels(voice_grid(score, score.tpq // 2))) for score in scores)
    assert found[True] * 4 < found[False], found


def test_the_best_of_some_drafts_is_answered_and_can_be_had_again(server: Server, tiny_line: Path) -> None:
    rewards, won = open_bundle(tiny_line / "bundle").rewards, {}
    request = {
        "style": "irish",
        "key": "D major",
        "metre": "4/4",
        "bars": 4,
        "instruments": ["fiddle"],
        "seed": 5,
        "n": 4,
    }
    for best_of in (1, 6):
        status, answer = server.ask("/v1/compose", request | {"best_of": best_of})
        assert status == 200, answer
        scores = [
            normalise(Score.from_midi(base64.b64decode(take["midi"])), ticks_per_quarter=12, velocity=80)
            for take in answer["takes"]
        ]
        won[best_of] = [rewards.total(Heard(score, Labels("irish", "", "D major", 4))) for score in scores]
    assert all(few <= many for few, many in zip(won[1], won[6], strict=True)) and won[1] != won[6], won
    for take in answer["takes"]:
        assert (
            server.ask("/v1/compose", request | {"seed": take["seed"], "n": 1})[1]["takes"][0]["midi"]
            == take["midi"]
        )
    status, answer = server.ask("/v1/compose", request | {"n": 8, "best_of": 8})
    assert status == 422 and "at most 32 are written at once" in answer["error"]["message"]


def test_many_at_once_get_what_each_gets_alone(server: Server) -> None:
    asked = [
        {"metre": "4/4", "bars": 2 + seed % 3, "seed": seed, "instruments": ["fiddle"]} for seed in range(8)
    ]
    alone = [server.ask("/v1/compose", request)[1]["takes"][0]["midi"] for request in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda request: server.ask("/v1/compose", request)[1]["takes"][0]["midi"], asked)
        )
    assert together == alone


def test_sections_come_back_chords_are_named_and_unknown_instruments_are_told(server: Server) -> None:
    request = {
        "style": "irish",
        "metre": "4/4",
        "key": "D major",
        "bars": 16,
        "form": "AABA",
        "chords": "D | G | A7 | D",
        "instruments": ["flute"],
        "seed": 2,
    }
    status, answer = server.ask("/v1/compose", request)
    assert status == 200, answer
    take = answer["takes"][0]
    assert len(take["chords"].split(" | ")) == 16
    score = normalise(Score.from_midi(base64.b64decode(take["midi"])), ticks_per_quarter=12, velocity=80)
    contents = bar_contents(score)
    assert contents[:4] == contents[4:8] and contents[12:15] == contents[:3], "all but the last bar"
    (notes,) = (note_array(track) for track in score.tracks)
    assert (notes[1:, 0] >= notes[:-1, 0] + notes[:-1, 1]).all(), "a flute plays one line"
    if score.tracks[0].program == 73 and answer["takes"][0]["warnings"]:
        assert "the track has the instrument asked" in take["warnings"][0]
    again = server.ask("/v1/compose", {**request, "form": "", "chords": take["chords"]})
    assert again[0] == 200, "what an answer names can be asked for"


def test_forms_and_chords_that_cannot_be_are_a_422_that_says_what_can(server: Server) -> None:
    for wrong, message in (
        ({"form": "AAB", "bars": 16}, "do not make 16 bars"),
        ({"form": "verse", "bars": 16}, "unreadable form"),
        ({"chords": "C | Hm", "bars": 4}, "unknown chord 'Hm'"),
        ({"chords": "C | C | C", "bars": 2}, "chords for 3 bars"),
    ):
        status, answer = server.ask("/v1/compose", {"metre": "4/4", **wrong})
        assert status == 422 and message in answer["error"]["message"], answer
