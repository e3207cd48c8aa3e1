import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Score

from music.analysis.words import interval_words, rhythm_words
from music.score.form import bar_table, note_array
from music.score.passages import excerpt, spans, unkeyed
from tests.conftest import normal_scores


@given(st.integers(1, 200), st.integers(1, 16))
def test_spans_cover_every_bar_once(bars: int, length: int) -> None:
    found = spans(bars, length)
    assert [b for a, z in found for b in range(a, z)] == list(range(bars))


@given(normal_scores(), st.data())
def test_an_excerpt_has_the_notes_that_begin_in_it(score: Score, data: st.DataObject) -> None:
    table = bar_table(score)
    first = data.draw(st.integers(0, len(table) - 1))
    last = data.draw(st.integers(first + 1, len(table)))
    part = excerpt(score, (first, last))
    start, end = table[first, 0], table[last - 1, :2].sum()
    for whole, mine in zip(score.tracks, part.tracks, strict=True):
        notes = note_array(whole)
        inside = notes[(notes[:, 0] >= start) & (notes[:, 0] < end)]
        assert np.array_equal(note_array(mine)[:, [0, 2]] + np.array([start, 0]), inside[:, [0, 2]])
        assert (note_array(mine)[:, :2].sum(axis=1) <= end - start).all()


@given(normal_scores(drums=False), st.integers(-11, 11))
def test_words_and_the_common_pitch_do_not_depend_on_the_key(score: Score, shift: int) -> None:
    pitches = np.concatenate([note_array(track)[:, 2] for track in score.tracks])
    if pitches.min() + shift < 0 or pitches.max() + shift > 127 or np.ptp(pitches) > 60:
        return
    moved = score.copy()
    for track in moved.tracks:
        track.shift_pitch(shift, inplace=True)
    assert np.array_equal(np.sort(interval_words(score)), np.sort(interval_words(moved)))
    assert np.array_equal(rhythm_words(score), rhythm_words(moved))
    same = [[note_array(track).tolist() for track in unkeyed(each).tracks] for each in (score, moved)]
    assert same[0] == same[1]


@pytest.mark.parametrize("change", ["pitch", "onset"])
def test_words_tell_tunes_apart(change: str) -> None:
    from music.score.form import build

    notes = np.array([[12 * i, 12, 60 + (i * 5) % 7] for i in range(16)])
    other = notes.copy()
    other[5, {"pitch": 2, "onset": 0}[change]] += 3
    a, b = (build([(40, False, each)], [(0, 4, 4)], 12, 80) for each in (notes, other))
    words = {"pitch": interval_words, "onset": rhythm_words}[change]
    assert set(words(a).tolist()) != set(words(b).tolist())
