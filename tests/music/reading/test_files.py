import random
from pathlib import Path

import pytest
from symusic import Score

from music.reading.files import Reading, read_file, read_midi
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise, note_array, to_midi
from tests.music.score.test_form import raw_score

XML = """<?xml version="1.0" encoding="UTF-8"?><score-partwise version="3.1"><part-list>
<score-part id="P1"><part-name>Violin I</part-name></score-part></part-list><part id="P1">
<measure number="0" implicit="yes">
<attributes><divisions>2</divisions><key><fifths>1</fifths></key>
<time><beats>3</beats><beat-type>4</beat-type></time></attributes>
<note><pitch><step>D</step><octave>5</octave></pitch><duration>2</duration><type>quarter</type></note></measure>
<measure number="1"><note><pitch><step>G</step><octave>4</octave></pitch><duration>6</duration>
<tie type="start"/>
<notations><tied type="start"/></notations></note></measure>
<measure number="2"><note><pitch><step>G</step><octave>4</octave></pitch><duration>4</duration>
<tie type="stop"/>
<notations><tied type="stop"/></notations></note><note><rest/><duration>2</duration></note></measure>
</part></score-partwise>"""


def test_musicxml_keeps_bars_upbeat_ties_and_instrument() -> None:
    reading = read_file(XML.encode(), "a.musicxml", Limits())[0]
    assert isinstance(reading, Reading)
    score = normalise(reading.score, ticks_per_quarter=12, velocity=80)
    assert score.tracks[0].program == 40
    assert note_array(score.tracks[0]).tolist() == [[24, 12, 74], [36, 60, 67]]
    assert bar_table(score)[:, 1].tolist() == [36, 36, 36]


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.mid", "the file is empty"),
        (b"MThd\x00\x00", "a.mid", "damaged MIDI"),
        (b"RIFFxxxx", "a.mid", "does not start with MThd"),
        (b"x", "a.txt", "known are .mid"),
        (b"<xml/>", "a.xml", "cannot read"),
        (b"**kern\n*-\n", "a.krn", ""),
        (b"PK\x03\x04junk", "a.mxl", "cannot read"),
        (b"x" * 300, "big.mid", "at most 200"),
    ],
)
def test_what_is_no_score_is_refused_with_a_reason(data: bytes, name: str, message: str) -> None:
    with pytest.raises(UnreadableScore, match=message):
        read_file(data, name, Limits(max_bytes=200))


def test_mutated_midi_is_read_or_refused_and_never_anything_else() -> None:
    whole = bytearray(to_midi(raw_score([(i * 240, 240, 60 + i % 12) for i in range(64)])))
    draw = random.Random(3)
    read = refused = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(4, len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            data = data[: draw.randrange(len(data))]
        try:
            normalise(read_midi(bytes(data), Limits(max_quarters=2000)), ticks_per_quarter=12, velocity=80)
            read += 1
        except UnreadableScore:
            refused += 1
    assert read > 100
    assert refused > 100


def test_the_corpus_bach_file_has_four_voices_in_whole_bars() -> None:
    from importlib import metadata

    path = Path(str(metadata.distribution("music21").locate_file("music21/corpus/bach/bwv102.7.mxl")))
    reading = read_file(path.read_bytes(), path.name, Limits())[0]
    assert isinstance(reading, Reading)
    score: Score = normalise(reading.score, ticks_per_quarter=12, velocity=80)
    assert [track.program for track in score.tracks] == [52] * 4
    assert set(bar_table(score)[:, 1].tolist()) == {48}
