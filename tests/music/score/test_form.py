import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, TextMeta, TimeSignature, Track

from music.score.errors import UnreadableScore
from music.score.form import (
    Limits,
    bar_table,
    check_limits,
    end_tick,
    normalise,
    note_array,
    same_notes,
    to_midi,
    without_overlaps,
)
from tests.conftest import normal_scores


def raw_score(notes: list[tuple[int, int, int]], tpq: int = 480, metre: tuple[int, int] = (4, 4)) -> Score:
    score = Score(tpq)
    score.time_signatures.append(TimeSignature(0, *metre))
    track = Track("Somebody's name", program=40)
    for onset, duration, pitch in notes:
        track.notes.append(Note(onset, duration, pitch, 99))
    track.lyrics.append(TextMeta(0, "words"))
    score.tracks.append(track)
    return score


def test_normal_form_keeps_only_notes_programs_and_metre() -> None:
    score = raw_score([(0, 480, 60), (481, 470, 62)])
    score.tracks.append(Track("empty"))
    normal = normalise(score, ticks_per_quarter=12, velocity=80)
    assert [(t.name, t.program, len(t.lyrics)) for t in normal.tracks] == [("", 40, 0)]
    assert note_array(normal.tracks[0]).tolist() == [[0, 12, 60], [12, 12, 62]]
    assert {n.velocity for n in normal.tracks[0].notes} == {80}


def test_triplets_and_sixteenths_are_exact_at_twelve_ticks() -> None:
    normal = normalise(
        raw_score([(0, 160, 60), (160, 160, 62), (320, 160, 64), (480, 120, 65), (600, 120, 67)]),
        ticks_per_quarter=12,
        velocity=80,
    )
    assert note_array(normal.tracks[0])[:, 0].tolist() == [0, 4, 8, 12, 15]


def test_silent_bars_before_the_first_note_are_removed() -> None:
    normal = normalise(raw_score([(480 * 9, 480, 60)]), ticks_per_quarter=12, velocity=80)
    assert note_array(normal.tracks[0]).tolist() == [[12, 12, 60]]


def test_a_change_of_metre_inside_a_bar_moves_to_the_nearest_barline() -> None:
    score = raw_score([(0, 480 * 8, 60)])
    score.time_signatures.append(TimeSignature(480 * 4 + 100, 3, 4))
    assert bar_table(normalise(score, ticks_per_quarter=12, velocity=80)).tolist() == [
        [0, 48, 4, 4],
        [48, 36, 3, 4],
        [84, 36, 3, 4],
    ]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50), st.integers(58, 62)), min_size=1, max_size=60)
)
def test_overlaps_are_resolved_without_losing_an_onset(notes: list[tuple[int, int, int]]) -> None:
    clean = without_overlaps(np.array(notes, dtype=np.int64))
    assert {(o, p) for o, _, p in notes} == {(int(o), int(p)) for o, _, p in clean}
    for pitch in {p for _, _, p in notes}:
        line = clean[clean[:, 2] == pitch]
        assert (line[1:, 0] >= line[:-1, 0] + line[:-1, 1]).all()


@given(normal_scores())
def test_normal_form_is_its_own_normal_form(score: Score) -> None:
    assert same_notes(normalise(score, ticks_per_quarter=12, velocity=80), score)


@given(normal_scores())
def test_midi_file_gives_the_same_notes_back(score: Score) -> None:
    assert same_notes(Score.from_midi(to_midi(score)), score)


def test_an_event_at_two_hundred_million_ticks_is_refused_before_any_work() -> None:
    score = raw_score([(0, 480, 60)])
    score.time_signatures.append(TimeSignature(200_000_000, 3, 4))
    with pytest.raises(UnreadableScore, match="at most 20000 quarters"):
        check_limits(score, Limits())


def test_a_metre_that_does_not_fit_the_grid_says_what_to_do() -> None:
    with pytest.raises(UnreadableScore, match="raise prepare.ticks_per_quarter"):
        normalise(raw_score([(0, 480, 60)], metre=(5, 32)), ticks_per_quarter=12, velocity=80)


@given(
    st.lists(
        st.tuples(st.integers(0, 9600), st.sampled_from([(4, 4), (3, 4), (1, 4), (6, 8), (5, 8)])), max_size=6
    )
)
def test_bars_follow_each_other_whatever_the_changes_of_metre(
    changes: list[tuple[int, tuple[int, int]]],
) -> None:
    score = raw_score([(0, 9600, 60)])
    score.time_signatures.clear()
    for tick, metre in sorted(changes):
        score.time_signatures.append(TimeSignature(tick, *metre))
    bars = bar_table(normalise(score, ticks_per_quarter=12, velocity=80))
    assert (bars[:-1, 0] + bars[:-1, 1] == bars[1:, 0]).all()
    assert (bars[:, 1] == 48 * bars[:, 2] // bars[:, 3]).all(), "every bar is whole"


def test_bars_reach_the_end_of_the_last_note() -> None:
    normal = normalise(raw_score([(0, 480 * 5, 60)]), ticks_per_quarter=12, velocity=80)
    bars = bar_table(normal)
    assert end_tick(normal) == 60
    assert len(bars) == 2
