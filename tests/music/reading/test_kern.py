"""**kern: spines that split and join, ties, instruments."""

import pytest

from music.reading.files import Reading, read_file
from music.score.errors import UnreadableScore
from music.score.form import Limits, note_array


def read(*lines: str) -> Reading:
    (found,) = read_file("\n".join(lines).encode(), "x.krn", Limits())
    assert isinstance(found, Reading)
    return found


def sounding(found: Reading, track: int = 0) -> list[tuple[float, float, int]]:
    tpq = found.score.tpq
    return [(o / tpq, d / tpq, p) for o, d, p in note_array(found.score.tracks[track]).tolist()]


def test_three_subspines_join_in_one_line() -> None:
    found = read(
        "**kern",
        "*M4/4",
        "=1",
        "*^",
        "*^\t*",
        "4c\t4e\t4g",
        "4d\t4f\t4a",
        "*v\t*v\t*v",
        "2c",
        "=2",
        "1c",
        "*-",
    )
    assert len(sounding(found)) == 8
    assert sounding(found)[-2:] == [(2, 2, 60), (4, 4, 60)]


def test_spines_split_join_and_split_again_without_loss() -> None:
    found = read(
        "**kern",
        "*M4/4",
        "=1",
        *("*^", "4c\t4e", "4d\t4f", "*v\t*v", "2g"),
        "=2",
        *("*^", "2c\t2a", "2d\t2b", "*v\t*v"),
        "*-",
    )
    assert len(sounding(found)) == 9


def test_ties_join_every_note_of_a_chord() -> None:
    found = read("**kern", "*M4/4", "=1", "[2c [2e", "2c] 2e]", "=2", "1c", "*-")
    assert sounding(found)[:2] == [(0, 4, 60), (0, 4, 64)]


def test_instruments_by_code_and_by_name() -> None:
    found = read("**kern\t**kern", '*Icello\t*I"Flute', "*M2/4\t*M2/4", "2C\t2cc", "2D\t2dd", "*-\t*-")
    assert [track.program for track in found.score.tracks] == [73, 42]


def test_a_broken_line_is_named() -> None:
    with pytest.raises(UnreadableScore, match="line 4"):
        read("**kern", "*M4/4", "4c", "4", "*-")
