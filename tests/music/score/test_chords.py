"""Chords by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from music.score.chords import NAMES, NO_CHORD, UnknownChord, chord_name, parse_chord


@given(st.integers(0, 11), st.integers(0, len(NAMES) - 1), st.integers(0, 11))
def test_every_name_is_read_as_it_is_written(root: int, quality: int, bass: int) -> None:
    assert parse_chord(chord_name(root, quality, bass)) == (root, quality, bass)


@pytest.mark.parametrize(
    ("symbol", "meant"),
    [
        ("Dm7", (2, "m7", 2)),
        ("F#dim", (6, "dim", 6)),
        ("Bbmaj7", (10, "maj7", 10)),
        ("A/C#", (9, "", 1)),
        ("Am7b5", (9, "m7b5", 9)),
        ("G13", (7, "7", 7)),
        ("Cadd9", (0, "", 0)),
        ("CM7", (0, "maj7", 0)),
        ("Cm", (0, "m", 0)),
        ("E-7", (4, "m7", 4)),
        ("Gsus4", (7, "sus4", 7)),
        ("B°7", (11, "dim7", 11)),
    ],
)
def test_the_spellings_of_lead_sheets_are_known(symbol: str, meant: tuple[int, str, int]) -> None:
    root, quality, bass = parse_chord(symbol)
    assert (root, NAMES[quality], bass) == meant


def test_no_chord_and_what_is_none() -> None:
    assert parse_chord("N.C.")[0] == NO_CHORD
    for symbol in ("H7", "Cfoo", "", "c", "C/H"):
        with pytest.raises(UnknownChord, match="unknown chord"):
            parse_chord(symbol)
