import pytest
from hypothesis import given
from hypothesis import strategies as st

from music.writing.note_values import GRID, ONE_SYMBOL, values

METRES = ((4, 4), (3, 4), (2, 2), (6, 8), (9, 8), (12, 8), (5, 4), (7, 8), (3, 2))


@given(st.sampled_from(METRES), st.data())
def test_any_stretch_is_written_whole_in_symbols_that_exist(
    metre: tuple[int, int], data: st.DataObject
) -> None:
    bar = 4 * GRID * metre[0] // metre[1]
    onset = data.draw(st.integers(0, bar - 1))
    end = data.draw(st.integers(onset + 1, bar))
    found = values(onset, end, metre)
    at = onset
    for place, length in found:
        assert place == at and length in ONE_SYMBOL
        at += length
    assert at == end


@pytest.mark.parametrize(
    ("onset", "end", "metre", "lengths"),
    [
        (0, 96, (4, 4), [96]),
        (24, 72, (4, 4), [48]),  # a minim on the second crotchet
        (12, 48, (4, 4), [36]),
        (36, 60, (4, 4), [12, 12]),  # over the middle of the bar: tied
        (24, 48, (6, 8), [12, 12]),  # over the dotted crotchet: tied
        (0, 72, (6, 8), [72]),
        (0, 60, (4, 4), [48, 12]),
        (8, 24, (4, 4), [16]),  # of a triplet
    ],
)
def test_stretches_are_split_where_the_beat_must_be_seen(
    onset: int, end: int, metre: tuple[int, int], lengths: list[int]
) -> None:
    assert [length for _, length in values(onset, end, metre)] == lengths
