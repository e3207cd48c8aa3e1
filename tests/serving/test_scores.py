"""Scores over HTTP: formats told apart, text or base64, what cannot be read, what a client accepts."""

import base64
import json
import zipfile
from io import BytesIO

import numpy as np
import pytest

from music.reading.files import detected
from music.score.form import Limits, build, to_midi
from music.writing.files import written
from serving.errors import Refused
from serving.scores import ScoreFile, ScoreSent, accepted, score_file

TUNE = "X:1\nT:Scale\nM:4/4\nL:1/4\nK:G\nGABc|defg|\n"
KERN = "**kern\n*M4/4\n=1\n4g\n4a\n4b\n4cc\n=\n*-\n"
NOTES = np.array([(0, 12, 67), (12, 12, 69), (24, 12, 71), (36, 12, 72)])
SCORE = build([(40, False, NOTES)], [(0, 4, 4)], 12)
PITCHES = [67, 69, 71, 72]


def zipped(text: bytes) -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("score.musicxml", text)
    return archive.getvalue()


FILES = {
    "midi": to_midi(SCORE),
    "musicxml": written(SCORE, "musicxml"),
    "mxl": zipped(written(SCORE, "musicxml")),
    "abc": TUNE.encode(),
    "kern": KERN.encode(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("told", [True, False])
def test_every_format_is_read_told_or_not(name: str, told: bool) -> None:
    data = base64.b64encode(FILES[name]).decode()
    sent = ScoreSent.model_validate({"score": {"data": data, "format": name if told else ""}})
    pitches = [note.pitch for track in sent.reading(Limits()).score.tracks for note in track.notes]
    assert pitches[:4] == PITCHES
    assert detected(FILES[name]) == name


@pytest.mark.parametrize("name", ["musicxml", "abc", "kern"])
def test_text_may_be_sent_as_it_is(name: str) -> None:
    sent = ScoreSent.model_validate({"score": {"data": FILES[name].decode()}})
    assert sent.reading(Limits()).score.tracks[0].notes[0].pitch == 67


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({"midi": "####"}, "midi is not base64", "midi"),
        ({"midi": "\xe9\u2028"}, "midi is not base64", "midi"),
        ({"score": {"data": "no score at all"}}, "score is not base64", "score"),
        ({"score": {"data": base64.b64encode(b"words").decode()}}, "none of the formats", "score"),
        ({"score": {"data": TUNE + "\n" + TUNE.replace("X:1", "X:2")}}, "2 tunes", "score"),
        ({"score": {"data": TUNE, "format": "musicxml"}}, "as XML", "score"),
    ],
)
def test_what_cannot_be_read_is_told_where_it_came(body: dict[str, object], message: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        ScoreSent.model_validate(body).reading(Limits())
    told = json.loads(str(refused.value))["error"]
    assert message in told["message"]
    assert told["field"] == field


def test_two_scores_at_once_are_refused() -> None:
    sent = ScoreSent.model_validate({"midi": "TVRoZA==", "score": {"data": TUNE}})
    with pytest.raises(ValueError, match="give one score"):
        sent.sent()


@pytest.mark.parametrize(
    ("header", "media"),
    [
        ("", ""),
        ("*/*", ""),
        ("audio/midi", "audio/midi"),
        ("application/json, audio/midi", ""),
        ("text/html, Application/vnd.recordare.musicxml+xml;q=0.9", "application/vnd.recordare.musicxml+xml"),
    ],
)
def test_the_first_that_is_served_is_what_is_accepted(header: str, media: str) -> None:
    assert accepted(header) == media


def test_notation_is_text_and_midi_has_its_own_field() -> None:
    assert score_file(SCORE, "midi") is None
    file = score_file(SCORE, "abc", "G major", [(0, "G")])
    assert isinstance(file, ScoreFile)
    assert '"G"' in file.data
    assert detected(file.data.encode()) == "abc"
