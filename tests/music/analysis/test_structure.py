import numpy as np

from music.analysis.sections import sections_of
from music.analysis.structure import has_upbeat, repetition, same_bars, shared_passage
from music.score.form import build
from tests.conftest import TPQ

BAR = 48
NOTES = [(0, 12, 60), (12, 12, 62), (24, 24, 64)]


def tune(bars: list[int]) -> object:
    """Bars of three notes, each raised by a number of semitones."""
    notes = [
        (BAR * b + onset, duration, pitch + raised)
        for b, raised in enumerate(bars)
        for onset, duration, pitch in NOTES
    ]
    return build([(40, False, np.array(notes))], [(0, 4, 4)], TPQ, 80)


def test_repetition_counts_bars_that_come_back_after_the_lag() -> None:
    assert repetition(tune([0, 1, 2, 3, 0, 1, 2, 9]), 4) == 0.75
    assert repetition(tune([0, 0, 0, 0, 0]), 4) == 1.0
    assert repetition(tune([0, 1, 2, 3]), 4) is None


def test_a_shared_passage_is_found_in_another_key() -> None:
    assert shared_passage(tune([0, 5, 1, 8]), tune([3, 3, 6, 11, 7, 14]), 8) == (1, 3)
    assert shared_passage(tune([0, 5]), tune([0, 1]), 5) is None


def test_an_upbeat_belongs_to_the_first_section_and_the_last_bar_to_the_last() -> None:
    # A A B B of eight bars; between the sections a bar holds the end of one and the upbeat of the next
    line, other = [60, 62, 64, 65, 67, 69, 71], [72, 74, 72, 71, 69, 67, 65]
    notes = [(36, 12, 55)]
    for s, section in enumerate((line, line, other, other)):
        start = BAR * (1 + 8 * s)
        notes += [(start + b * BAR, BAR, pitch) for b, pitch in enumerate(section)]
        notes += [(start + 7 * BAR, 36, 60)] + ([(start + 7 * BAR + 36, 12, 55 + s)] if s < 3 else [])
    with_upbeat = build([(40, False, np.array(notes))], [(0, 4, 4)], 12, 80)
    found = [(section.first, section.length, section.letter) for section in sections_of(with_upbeat)]
    assert found == [(0, 9, 0), (9, 8, 0), (17, 8, 1), (25, 8, 1)]
    assert has_upbeat(with_upbeat) and same_bars(with_upbeat, 8) == 7 / 8
