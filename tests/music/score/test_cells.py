import numpy as np
import pytest
from hypothesis import given
from symusic import Score

from music.analysis.descriptors import describe
from music.score.cells import BY_NAME, cell_statistics, control_values, digest_outside, tempo_class
from music.score.form import bar_table, build, note_array
from tests.conftest import TPQ, normal_scores


def test_statistics_of_a_small_score_by_hand() -> None:
    notes = np.array(
        [(0, 24, 60), (12, 24, 64), (42, 12, 67), (48, 48, 72)]
    )  # the third starts off the beat and sounds through the barline
    score = build([(40, False, notes), (52, False, np.array([(0, 96, 48)]))], [(0, 4, 4)], TPQ, 80)
    first, second = cell_statistics(score)[:, 0]
    assert first.tolist() == [3, 60, 36 + 12, 1, 60, 67]
    assert second.tolist() == [1, 48, 42, 0, 72, 72]
    values = control_values(cell_statistics(score)[:, 0], 96, TPQ)
    assert values == {
        "density": 4 / 8,
        "polyphony": 108 / 90,
        "range": 12.0,
        "note_length": 108 / 4 / TPQ,
        "syncopation": 0.25,
    }
    assert control_values(cell_statistics(score)[1:, 1], 48, TPQ) is None, "no note starts there"


@given(score=normal_scores(drums=False))
def test_sums_over_all_cells_are_the_descriptors_of_the_piece(score: Score) -> None:
    statistics, length = cell_statistics(score), int(bar_table(score)[:, 1].sum())
    described = describe(score)
    assert statistics[:, :, 0].sum() / (length / TPQ) == pytest.approx(described["note_density"], abs=1e-5)
    assert statistics[:, :, 1].sum() / statistics[:, :, 0].sum() / TPQ == pytest.approx(
        described["mean_note_length"], abs=1e-5
    )
    assert statistics[:, :, 3].sum() / statistics[:, :, 0].sum() == pytest.approx(
        described["syncopation"], abs=1e-5
    )
    assert statistics[:, :, 5].max() - statistics[:, :, 4].min() == described["pitch_range"]


@given(score=normal_scores())
def test_the_digest_sees_a_change_outside_the_region_and_none_inside(score: Score) -> None:
    bars = bar_table(score)
    track = next(k for k, t in enumerate(score.tracks) if len(t.notes))
    notes = note_array(score.tracks[track])
    bar = int(np.searchsorted(bars[:, 0], notes[0, 0], side="right")) - 1
    changed = notes.copy()
    changed[0, 2] = (changed[0, 2] + 1) % 128
    parts = [
        (t.program, t.is_drum, changed if k == track else note_array(t)) for k, t in enumerate(score.tracks)
    ]
    other = build(parts, [(ts.time, ts.numerator, ts.denominator) for ts in score.time_signatures], TPQ, 80)
    assert digest_outside(score, [(bar, track)]) == digest_outside(other, [(bar, track)])
    assert digest_outside(score, []) != digest_outside(other, [])


def test_classes_have_names_a_person_can_read() -> None:
    density = BY_NAME["density"]
    assert density.class_of(1.9) == 4
    assert density.describe_class(4) == "1.75-2.25 notes per quarter"
    assert density.describe_class(0) == "0-0.25 notes per quarter"
    assert density.describe_class(density.classes - 1) == "4+ notes per quarter"
    assert [tempo_class(qpm) for qpm in (60, 72, 120, 180)] == ["slow", "moderate", "fast", "very_fast"]
