import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from symusic import ControlChange, Note, Score, Tempo, TextMeta, TimeSignature, Track

from music.editing.reshape import with_bars, with_metre, with_tracks
from music.score.file_cells import FileCells, clear_of, difference, digest, notes_of, with_cells


def file_of(*notes: tuple[int, int, int], tpq: int = 480, metre: tuple[int, int] = (4, 4)) -> FileCells:
    score = Score(tpq)
    score.time_signatures.append(TimeSignature(0, *metre))
    track = Track("Fiddle", 40, False)
    for onset, duration, pitch in notes:
        track.notes.append(Note(onset, duration, pitch, 91))
    score.tracks.append(track)
    return FileCells.of(score)


TUNE = [(480 * i, 400, 60 + i) for i in range(12)]  # three bars


def test_a_note_just_before_a_barline_belongs_to_the_bar_it_opens() -> None:
    file = file_of((0, 480, 60), (1905, 480, 62), (1890, 10, 64), (1920, 480, 65))
    assert file.bar_of(np.array([0, 1905, 1890, 1920])).tolist() == [0, 1, 0, 1]


def test_new_cells_go_in_and_nothing_else_moves() -> None:
    file = file_of(*TUNE)
    file.score.tracks[0].controls.append(ControlChange(700, 64, 127))
    file.score.tempos.append(Tempo(1000, 93))
    region = np.zeros(file.shape, dtype=bool)
    region[1] = True
    after = FileCells(with_cells(file, region, {0: np.array([[1920, 1000, 80, 50]])}), file.bars)
    assert digest(after, region) == digest(file, region)
    assert [n.pitch for n in after.score.tracks[0].notes] == [60, 61, 62, 63, 80, 68, 69, 70, 71]
    assert [c.time for c in after.score.tracks[0].controls] == [700]
    assert after.score.tempos[0].time == 1000
    assert difference(file, after) == [{"track": 1, "bar": 2, "added": 1, "removed": 4, "moved": 0}]


@given(st.integers(0, 11), st.sampled_from([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]))
def test_any_change_of_a_kept_note_changes_the_digest(which: int, by: tuple[int, ...]) -> None:
    file = file_of(*TUNE)
    region = np.zeros(file.shape, dtype=bool)
    region[1] = True
    notes = file.notes(0)
    notes[which] += np.array(by)
    changed = file_of(*TUNE)
    from music.score.file_cells import set_notes

    set_notes(changed.score.tracks[0], notes)
    assert (digest(changed, region) == digest(file, region)) == (4 <= which < 8)


def test_new_notes_are_cut_where_they_would_sound_with_a_kept_one() -> None:
    kept = np.array([[100, 50, 60, 80], [300, 50, 60, 80]])
    new = np.array([[0, 120, 60, 70], [120, 250, 60, 70], [90, 300, 61, 70], [310, 20, 60, 70]])
    assert clear_of(new, kept).tolist() == [[0, 100, 60, 70], [90, 300, 61, 70], [150, 150, 60, 70]]


SOUNDS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(60, 62)), max_size=25)


@given(SOUNDS, SOUNDS)
def test_no_new_note_sounds_with_a_kept_or_another_new_one(
    kept: list[tuple[int, int, int]], new: list[tuple[int, int, int]]
) -> None:
    rows = [np.array([(*note, 80) for note in notes], dtype=np.int64).reshape(-1, 4) for notes in (kept, new)]
    found = clear_of(rows[1], rows[0]).tolist()
    taken = {(tick, pitch) for onset, length, pitch in kept for tick in range(onset, onset + max(length, 1))}
    for onset, length, pitch, _ in found:
        mine = {(tick, pitch) for tick in range(onset, onset + length)}
        assert length > 0
        assert not mine & taken
        taken |= mine
    asked = {(tick, pitch) for onset, length, pitch in new for tick in range(onset, onset + length)}
    free = asked - {(t, p) for onset, length, p in kept for t in range(onset, onset + max(length, 1))}
    begun = {(onset, pitch) for onset, length, pitch in new if length}
    heard = {(tick, pitch) for onset, length, pitch, _ in found for tick in range(onset, onset + length)}
    assert begun & free <= heard


def test_many_notes_and_many_tracks_take_no_time_to_speak_of() -> None:
    import time

    score = Score(480)
    many = Track("", 0, False)
    for i in range(20_000):
        many.notes.append(Note(i % 1900, 5, 20 + i % 90, 80))
    score.tracks.append(many)
    for k in range(255):
        track = Track("", k % 128, False)
        track.notes.append(Note(k, 10, 60, 80))
        score.tracks.append(track)
    score.tracks[1].notes.append(Note(480 * 4 * 5000, 10, 60, 80))
    file = FileCells.of(score)
    region = np.zeros(file.shape, dtype=bool)
    region[0, 0] = True
    begin = time.perf_counter()
    after = FileCells(with_cells(file, region, {0: file.notes(0) + np.array([1, 0, 1, 0])}), file.bars)
    assert difference(file, after)[0]["bar"] == 1
    assert digest(after, region) == digest(file, region)
    assert time.perf_counter() - begin < 5  # 28 s and more where it is quadratic


def test_a_note_that_a_long_kept_one_would_push_out_of_the_region_goes() -> None:
    file = file_of(*TUNE[:4], (1900 - 480, 2600, 90), *TUNE[4:])
    region = np.zeros(file.shape, dtype=bool)
    region[1] = True
    after = FileCells(
        with_cells(file, region, {0: np.array([[1920, 100, 90, 50], [2000, 100, 80, 50]])}), file.bars
    )
    assert digest(after, region) == digest(file, region)
    assert sorted(after.notes(0)[after.bar_of(after.notes(0)[:, 0]) == 1, 2].tolist()) == [80]


def test_bars_before_move_everything_and_the_contract_counts_the_old_bars() -> None:
    file = file_of(*TUNE)
    file.score.markers.append(TextMeta(1920, "B"))
    file.score.tempos.append(Tempo(0, 100))
    for at_start in (True, False):
        longer = with_bars(file, 2, at_start)
        numbers = np.array([-1, -1, 0, 1, 2] if at_start else [0, 1, 2, -1, -1])
        region = np.repeat(numbers[:, None] < 0, 1, axis=1)
        assert longer.shape == (5, 1)
        assert digest(longer, region, numbers) == digest(file, np.zeros(file.shape, dtype=bool))
        assert longer.score.markers[0].time == (1920 + 3840 * at_start)
        assert longer.score.tempos[0].qpm == 100
        assert longer.score.tempos[0].time == 0


def test_another_metre_for_some_bars_keeps_the_others_bar_by_bar() -> None:
    file = file_of(*TUNE)
    waltz = with_metre(file, 1, 2, 3, 4)
    assert waltz.bars.tolist() == [[0, 1920, 4, 4], [1920, 1440, 3, 4], [3360, 1920, 4, 4]]
    assert [(ts.time, ts.numerator) for ts in waltz.score.time_signatures] == [(0, 4), (1920, 3), (3360, 4)]
    region = np.array([[False], [True], [False]])
    assert digest(waltz, region) == digest(file, region)
    again = FileCells.of(waltz.score)
    assert np.array_equal(again.bars, waltz.bars)
    assert [int(b) for b in waltz.bar_of(notes_of(waltz.score.tracks[0])[:, 0])] == [0] * 4 + [1] * 4 + [
        2
    ] * 4


def test_added_tracks_are_empty_and_last() -> None:
    file = with_tracks(file_of(*TUNE), [52, -1])
    assert [(t.program, t.is_drum, len(t.notes)) for t in file.score.tracks] == [
        (40, False, 12),
        (52, False, 0),
        (0, True, 0),
    ]
