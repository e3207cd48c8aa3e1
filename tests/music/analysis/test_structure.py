import numpy as np

from music.analysis.structure import repetition, shared_passage
from music.score.form import build
from tests.conftest import TPQ

BAR = [(0, 12, 60), (12, 12, 62), (24, 24, 64)]


def tune(bars: list[int]) -> object:
    """Bars of three notes, each raised by a number of semitones."""
    notes = [
        (48 * b + onset, duration, pitch + raised)
        for b, raised in enumerate(bars)
        for onset, duration, pitch in BAR
    ]
    return build([(40, False, np.array(notes))], [(0, 4, 4)], TPQ, 80)


def test_repetition_counts_bars_that_come_back_after_the_lag() -> None:
    assert repetition(tune([0, 1, 2, 3, 0, 1, 2, 9]), 4) == 0.75
    assert repetition(tune([0, 0, 0, 0, 0]), 4) == 1.0
    assert repetition(tune([0, 1, 2, 3]), 4) is None


def test_a_shared_passage_is_found_in_another_key() -> None:
    assert shared_passage(tune([0, 5, 1, 8]), tune([3, 3, 6, 11, 7, 14]), 8) == (1, 3)
    assert shared_passage(tune([0, 5]), tune([0, 1]), 5) is None
