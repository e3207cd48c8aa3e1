"""Instruments by what parts of scores are called."""

import pytest

from music.score.instruments import name_of, program_of_part


@pytest.mark.parametrize(
    ("part", "instrument"),
    [
        ("Violin II", "Violin"),
        ("Violino I.", "Violin"),
        ("Violas", "Viola"),
        ("Violoncello", "Cello"),
        ("Viola da gamba", "Cello"),
        ("Double Bass", "Contrabass"),
        ("Flöte 1", "Flute"),
        ("Clarinet in Bb", "Clarinet"),
        ("Bass Clarinet in Bb", "Clarinet"),
        ("Alto Saxophone", "Alto Sax"),
        ("Cor anglais", "English Horn"),
        ("Corno in F", "French Horn"),
        ("Electric Guitar (jazz)", "Electric Guitar (jazz)"),
        ("Basso", "Choir Aahs"),
        ("Tenor", "Choir Aahs"),
        ("Singstimme", "Choir Aahs"),
        ("Staff 1", "Acoustic Grand Piano"),
        ("", "Acoustic Grand Piano"),
    ],
)
def test_parts_have_the_instrument_they_are_called_by(part: str, instrument: str) -> None:
    assert name_of(program_of_part(part)) == instrument
