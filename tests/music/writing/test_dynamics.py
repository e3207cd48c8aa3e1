"""The plain rule of loudness."""

import numpy as np
from hypothesis import given, settings

from music.score.form import build, note_array, same_notes
from music.writing.dynamics import ARCH, ON_BEAT, with_dynamics
from tests.conftest import normal_scores


def velocities(bars: int = 4, metre: tuple[int, int] = (4, 4), step: int = 6) -> np.ndarray:
    """Of a note on every quaver, (bars, notes of a bar)."""
    length = 48 * metre[0] // metre[1]
    onsets = np.arange(0, bars * length, step)
    notes = np.column_stack([onsets, np.full((len(onsets), 2), (step, 60))])
    score = with_dynamics(build([(0, False, notes)], [(0, *metre)], 12))
    return note_array(score.tracks[0], loudness=True)[:, 3].reshape(bars, -1)


def test_barline_middle_beat_and_between_are_told_apart() -> None:
    bar = velocities(64)[2].astype(int)  # the arch is nearly level over one bar of the middle
    assert bar[0] > bar[4] > bar[2] > bar[1]
    assert abs(bar[2] - bar[6]) <= ARCH


def test_a_jig_has_two_beats() -> None:
    bar = velocities(4, (6, 8))[1]
    assert bar[0] > bar[3] > max(bar[1], bar[2], bar[4], bar[5])


def test_a_phrase_swells_to_its_middle_and_falls() -> None:
    downbeats = velocities(8)[:, 0]
    assert downbeats[2] == 80 + ON_BEAT[0] + ARCH
    assert downbeats[0] == downbeats[4] == 80 + ON_BEAT[0]
    assert list(downbeats[:4]) == list(downbeats[4:])


@settings(max_examples=30, deadline=None)
@given(normal_scores())
def test_nothing_but_loudness_changes(score) -> None:  # type: ignore[no-untyped-def]
    before = [note_array(track).tolist() for track in score.tracks]
    loud = with_dynamics(score)
    assert same_notes(score, loud)
    assert [note_array(track).tolist() for track in score.tracks] == before
    assert all(1 <= note.velocity <= 127 for track in loud.tracks for note in track.notes)
