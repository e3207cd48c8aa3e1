"""Round trips: what is written is read back by the readers of the house and rendered by verovio."""

import re
import shutil
from importlib import metadata
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symusic import Score

from music.reading.files import Reading, read_file
from music.score.form import Limits, bar_table, build, normalise, note_array
from music.writing.engraving import engraved
from music.writing.files import chords_heard, format_of, written
from music.writing.spelling import key_of_label, spelled

CORPUS = Path(str(metadata.distribution("music21").locate_file("music21/corpus")))
PIECES = [
    "bach/bwv5.7.mxl", "bach/bwv66.6.mxl", "ryansMammoth/EmonAcnuckJig.abc", "haydn/opus74no1/movement1.mxl",
    "schumann_clara/polonaise_op1n1.xml",
    "leadSheet/fosterBrownHair.mxl", "trecento/PMFC_12_2-Gloria (Gubbio).xml",
]  # fmt: skip
FORMATS = ("musicxml", "abc")


def read(data: bytes, suffix: str) -> Reading:
    found = read_file(data, f"a.{suffix}", Limits(max_bytes=10**8))[0]
    assert isinstance(found, Reading), found
    return found


def sounding(score: Score, grid: int = 12) -> tuple[dict[int, list[list[int]]], list[list[int]]]:
    """Notes by program (drums -1) and bars. ABC keeps voices apart, so tracks of a program are one."""
    normal = normalise(score, ticks_per_quarter=grid, velocity=80)
    notes: dict[int, list[list[int]]] = {}
    for track in normal.tracks:
        notes.setdefault(-1 if track.is_drum else track.program, []).extend(note_array(track).tolist())
    return {program: sorted(rows) for program, rows in notes.items()}, bar_table(normal)[:, :2].tolist()


def changes(reading: Reading) -> list[str]:
    """Chord symbols; the reader of ABC gives one that is repeated once."""
    return [symbol for symbol, _ in groupby(symbol for _, symbol in reading.chords)]


def piece(name: str) -> Reading:
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"{name} is not in the installed corpus")
    return read(path.read_bytes(), path.suffix[1:])


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", PIECES)
def test_real_pieces_come_back_note_for_note(name: str, to: str) -> None:
    source = piece(name)
    data = written(source.score, to, chords=source.chords)
    assert data == written(source.score, to, chords=source.chords)  # the same notes, the same bytes
    back = read(data, to)
    before, after = sounding(source.score), sounding(back.score)
    assert after == before
    assert changes(back) == changes(source)


# of a piano: abc2midi does not know the lowest notes of MIDI
LINES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 60), st.integers(21, 108)), min_size=1, max_size=30
)


@pytest.mark.parametrize("to", FORMATS)
@given(st.sampled_from([(4, 4), (3, 4), (6, 8), (2, 2), (5, 8)]), LINES)
@settings(max_examples=15)
def test_any_line_comes_back(to: str, metre: tuple[int, int], steps: list[tuple[int, int, int]]) -> None:
    notes, at = [], 0
    for gap, length, pitch in steps:
        notes.append((at + gap, length, pitch))
        at += gap + length
    score = build([(40, False, np.array(notes))], [(0, *metre)], 12, velocity=80)
    assert sounding(read(written(score, to), to).score)[0] == sounding(score)[0]


@pytest.mark.parametrize("to", FORMATS)
def test_verovio_renders_what_is_written(to: str) -> None:
    verovio = pytest.importorskip("verovio")
    kit = verovio.toolkit()
    for name in PIECES[:4]:
        assert kit.loadData(written(piece(name).score, to).decode()) and "<svg" in kit.renderToSVG(1)


def scale(*rows: tuple[int, int, int]) -> Score:
    return build([(0, False, np.array(rows))], [(0, 4, 4)], 24, velocity=80)


def test_notes_are_spelled_for_their_key() -> None:
    assert spelled(61, key_of_label("A major")) == ("C", 1, 4)
    assert spelled(61, key_of_label("F minor")) == ("D", -1, 4)
    assert spelled(68, key_of_label("A minor")) == ("G", 1, 4)  # the leading note
    assert spelled(71, key_of_label("Db major"))[0] == "C"


def test_a_triplet_a_tie_and_an_upbeat_as_they_stand_in_abc() -> None:
    notes = [(72, 24, 67), (96, 8, 72), (104, 8, 74), (112, 8, 76), (120, 96, 78), (216, 72, 79)]
    text = written(scale(*notes), "abc", "G major").decode()
    assert "K:G clef=treble" in text
    assert "G2| (3cde f6-| f2 g6|]" in text


def test_keyboards_have_two_staves_and_four_voices_their_clefs() -> None:
    piano = engraved(scale((0, 96, 40), (0, 96, 72)))
    assert [staff.clef for staff in piano.parts[0].staves] == ["treble", "bass"]
    choir = engraved(piece("bach/bwv5.7.mxl").score)
    assert [part.staves[0].clef for part in choir.parts] == ["treble", "treble", "treble8vb", "bass"]


def test_drums_keep_their_instruments() -> None:
    kit = build(
        [(0, True, np.array([(0, 24, 36), (0, 24, 42), (24, 24, 38), (48, 24, 49)]))],
        [(0, 4, 4)],
        24,
        velocity=80,
    )
    for to in FORMATS:
        back = read(written(kit, to), to)
        assert back.score.tracks[0].is_drum
        assert sorted(note.pitch for note in back.score.tracks[0].notes) == [36, 38, 42, 49]


def test_chords_heard_stand_where_they_change() -> None:
    score = scale(*((0, 96, p) for p in (48, 64, 67)), *((96, 96, p) for p in (43, 62, 71)))
    assert chords_heard(score, "C major") == [(0, "C"), (96, "G")]


def test_what_cannot_be_written_says_so() -> None:
    with pytest.raises(ValueError, match=r"\.pdf is not a format to write; known are \.mid"):
        format_of("a.pdf")
    with pytest.raises(ValueError, match="format 'pdf' is unknown"):
        written(scale((0, 24, 60)), "pdf")


@pytest.mark.skipif(not shutil.which("mscore3"), reason="MuseScore is not installed")
@pytest.mark.e2e
def test_musescore_opens_it(tmp_path: Path) -> None:
    import os
    import subprocess

    (tmp_path / "a.musicxml").write_bytes(written(piece("bach/bwv66.6.mxl").score, "musicxml"))
    command = ["mscore3", "-o", str(tmp_path / "a.mid"), str(tmp_path / "a.musicxml")]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=120,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
    )
    opened = read((tmp_path / "a.mid").read_bytes(), "mid")
    assert opened.score.note_num() == piece("bach/bwv66.6.mxl").score.note_num()


@pytest.mark.parametrize(("metre", "together"), [((6, 8), 3), ((3, 4), 2)])
def test_every_bar_is_beamed_by_the_beat(metre: tuple[int, int], together: int) -> None:
    notes = np.array([[6 * n, 6, 67 + n % 3] for n in range(24)])
    score = build([(40, False, notes)], [(0, *metre)], 12, 80)
    beams = re.findall(r'<beam number="1">(\w+)</beam>', written(score, "musicxml").decode())
    assert beams == ["begin", *["continue"] * (together - 2), "end"] * (24 // together)
