"""Chords and form as people write them."""

import numpy as np
import pytest

from models.decoding.script import Plan
from models.fill.asked import chord_line, form_places
from models.tokens.place import NONE
from models.tokens.tokenizer import CellTokenizer
from music.score.chords import NO_CHORD

PLAN = Plan(((4, 4),) * 4, (0,))


def test_chords_of_a_bar_share_it(tokenizer: CellTokenizer) -> None:
    line = chord_line(tokenizer, PLAN, "Dm7 | G7 C | | N.C.")
    assert line[0].tolist()[0] == 2 and line[47].tolist()[0] == 2
    assert (line[48, 0], line[71, 0], line[72, 0]) == (7, 7, 0)
    assert (line[96:144] == NONE).all(), "an empty bar is left open"
    assert line[144, 0] == NO_CHORD


def test_a_bar_may_be_open_in_part_or_as_the_one_before(tokenizer: CellTokenizer) -> None:
    line = chord_line(tokenizer, PLAN, "C ? | % | F", first=1)
    assert (line[:48] == NONE).all() and line[48, 0] == 0 and line[72, 0] == NONE
    assert np.array_equal(line[48:96], line[96:144])
    assert line[144, 0] == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("C | C | C | C | C", "chords for 5 bars, but there are 4"),
        ("C D E F G", "5 chords in a bar of 4 beats"),
        ("C | Xyz", "unknown chord 'Xyz'"),
    ],
)
def test_chords_that_cannot_be_are_told(tokenizer: CellTokenizer, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        chord_line(tokenizer, PLAN, text)


def test_sections_share_the_bars_and_come_back() -> None:
    places, copied = form_places("AABB'", 16)
    assert copied == (4, 5, 6, 7), "B' is varied"
    assert places[12].tolist() == [1, 0, 3, 8]
    places, copied = form_places("A:4 B:8 A:4", 16)
    assert places[12:, 3].tolist() == [0, 1, 2, 3] and copied == (12, 13, 14), (
        "the last bar is written as an ending"
    )


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("AAB", "do not make 16 bars"),
        ("A:8 B:4", "but 12"),
        ("verse", "unreadable form"),
        ("", "unreadable form"),
    ],
)
def test_forms_that_do_not_sum_are_told(form: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        form_places(form, 16)
