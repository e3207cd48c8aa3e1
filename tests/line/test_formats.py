"""Scores in and out of the service in any format."""

import base64

import pytest

from music.reading.files import only_piece, read_format
from music.score.form import Limits, note_array
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]

TUNE = 'X:1\nT:A Scale\nM:4/4\nL:1/4\nQ:1/4=100\nK:G\n"G"GABc|"D"defg|"C"gfed|"G"cBAG|\n'
KERN = "**kern\n*M4/4\n*k[f#]\n=1\n4g\n4a\n4b\n4cc\n=2\n4dd\n4ee\n4ff#\n4gg\n=3\n1dd\n=4\n1g\n==\n*-\n"


def pitches(data: bytes, format_: str) -> list[int]:
    score = only_piece(read_format(data, format_, Limits())).score
    return [pitch for track in score.tracks for pitch in note_array(track)[:, 2].tolist()]


def test_a_lead_sheet_is_edited_and_comes_back_as_one(server: Server) -> None:
    body = {"score": {"data": TUNE}, "operation": "infill", "bars": [3, 3], "seed": 5, "format": "musicxml"}
    status, answer = server.ask("/v1/edit", body)
    assert status == 200, answer
    (found,) = answer["alternatives"]
    reading = only_piece(read_format(found["score"]["data"].encode(), "musicxml", Limits()))
    score, bar = reading.score, 4 * reading.score.tpq
    kept = [p for t, _, p in note_array(score.tracks[0]).tolist() if not 2 * bar <= t < 3 * bar]
    assert kept == [67, 69, 71, 72, 74, 76, 78, 79, 72, 71, 69, 67]
    symbols = dict(reading.chords)
    assert (symbols[0], symbols[bar], symbols[3 * bar]) == ("G", "D", "G")
    assert pitches(base64.b64decode(found["midi"]), "midi") == note_array(score.tracks[0])[:, 2].tolist()


def test_an_answer_in_notation_can_be_sent_back_as_it_is(server: Server) -> None:
    status, answer = server.ask("/v1/compose", {"bars": 4, "seed": 3, "format": "abc"})
    assert status == 200, answer
    take = answer["takes"][0]
    assert take["score"]["format"] == "abc"
    status, judged = server.ask("/v1/score", {"score": take["score"]})
    assert status == 200, judged
    assert (judged["bars"], judged["notes"]) == (take["bars"], take["notes"])
    status, edited = server.ask(
        "/v1/edit", {"parent": take["id"], "operation": "retrograde", "format": "abc"}
    )
    assert status == 200, edited
    assert edited["alternatives"][0]["score"]["format"] == "abc"


@pytest.mark.parametrize(
    ("media", "format_"),
    [("audio/midi", "midi"), ("application/vnd.recordare.musicxml+xml", "musicxml"), ("text/vnd.abc", "abc")],
)
def test_accept_gives_the_file_alone(server: Server, media: str, format_: str) -> None:
    body = {"bars": 4, "seed": 3}
    data, headers = server.fetch("/v1/compose", body, media)
    assert headers["content-type"].startswith(media)
    assert headers["ostinato-seed"] == "3"
    take = server.ask("/v1/compose", body)[1]["takes"][0]
    assert pitches(data, format_) == pitches(base64.b64decode(take["midi"]), "midi")
    status, edited = server.ask("/v1/edit", {"parent": headers["ostinato-id"], "operation": "invert"})
    assert status == 200, edited


def test_loudness_follows_the_rule_unless_it_is_off(server: Server) -> None:
    heard = {}
    for dynamics in ("plain", "off"):
        body = {"bars": 4, "seed": 3, "dynamics": dynamics}
        midi = base64.b64decode(server.ask("/v1/compose", body)[1]["takes"][0]["midi"])
        score = only_piece(read_format(midi, "midi", Limits())).score
        heard[dynamics] = note_array(score.tracks[0], loudness=True)
    assert (heard["plain"][:, :3] == heard["off"][:, :3]).all()
    assert len(set(heard["off"][:, 3].tolist())) == 1
    assert len(set(heard["plain"][:, 3].tolist())) > 1


def test_kern_is_compared_with_the_catalogue(server: Server) -> None:
    status, answer = server.ask("/v1/similar", {"score": {"data": KERN, "format": "kern"}, "k": 2})
    assert status == 200, answer
    assert len(answer["found"]) == 2


def test_a_piano_is_scored_and_told_as_what(server: Server) -> None:
    piano = TUNE.replace("K:G", "K:G\n%%MIDI program 26")
    status, answer = server.ask("/v1/score", {"score": {"data": piano, "format": "abc"}})
    assert status == 200, answer
    assert "is read as" in answer["warnings"][0]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/edit", {"score": {"data": "X"}, "operation": "infill"}, "score"),
        ("/v1/edit", {"operation": "infill"}, ""),
        ("/v1/score", {"midi": "TVRoZA==", "score": {"data": TUNE}}, ""),
        ("/v1/compose", {"format": "pdf"}, "format"),
    ],
)
def test_bad_scores_are_refused(server: Server, path: str, body: dict[str, object], field: str) -> None:
    status, answer = server.ask(path, body)
    assert (status, answer["error"].get("field", "")) == (422, field)
