import numpy as np
import pytest
from symusic import Tempo

from music.editing import transform as t
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells, digest
from tests.music.score.test_file_cells import TUNE, file_of

ALL = np.ones((3, 1), dtype=bool)
SECOND = np.array([[False], [True], [False]])


def pitches(file: FileCells) -> list[int]:
    return [note.pitch for note in file.score.tracks[0].notes]


def onsets(file: FileCells) -> list[int]:
    return [note.time for note in file.score.tracks[0].notes]


def test_transposing_moves_the_region_alone() -> None:
    file = file_of(*TUNE)
    up = t.on_notes(file, SECOND, t.transpose(5))
    assert pitches(up) == [60, 61, 62, 63, 69, 70, 71, 72, 68, 69, 70, 71]
    assert digest(up, SECOND) == digest(file, SECOND)
    assert digest(up, np.zeros((3, 1), dtype=bool)) != digest(file, np.zeros((3, 1), dtype=bool))


def test_transposing_out_of_midi_says_how_far() -> None:
    with pytest.raises(UnreadableScore, match=r"reach 160 to 171"):
        t.on_notes(file_of(*TUNE), ALL, t.transpose(100))


def test_to_a_key_takes_the_shorter_way_and_refuses_another_mode() -> None:
    tune = file_of((0, 480, 60), (480, 480, 64))
    assert pitches(t.on_notes(tune, np.ones((1, 1), dtype=bool), t.to_key("C major", "A major"))) == [57, 61]
    with pytest.raises(ValueError, match="different modes"):
        t.to_key("C major", "A minor")


def test_diatonic_steps_stay_in_the_scale() -> None:
    tune = file_of((0, 100, 60), (100, 100, 64), (200, 100, 71), (300, 100, 61))
    assert pitches(t.on_notes(tune, np.ones((1, 1), dtype=bool), t.diatonic("C major", 2))) == [
        64,
        67,
        74,
        65,
    ]


def test_quantise_goes_all_the_way_or_part_of_it() -> None:
    tune = file_of((13, 400, 60), (470, 250, 62), (1000, 300, 64))
    assert onsets(t.on_notes(tune, np.ones((1, 1), dtype=bool), t.quantise(120))) == [0, 480, 960]
    assert onsets(t.on_notes(tune, np.ones((1, 1), dtype=bool), t.quantise(120, 0.5))) == [6, 475, 980]


def test_a_note_that_a_rule_would_move_out_of_its_region_stays() -> None:
    file = file_of(*TUNE, (3790, 50, 90))
    done = t.on_notes(file, SECOND, t.quantise(480))
    assert 3790 in onsets(done)
    assert digest(done, SECOND) == digest(file, SECOND)


def test_swing_delays_second_quavers_only() -> None:
    tune = file_of((0, 240, 60), (240, 240, 62), (480, 240, 64))
    assert onsets(t.on_notes(tune, np.ones((1, 1), dtype=bool), t.swing(480, 2 / 3))) == [0, 320, 480]


def test_humanise_is_seeded_and_stays_in_its_bars() -> None:
    file = file_of(*TUNE)
    a, b, c = (t.on_notes(file, ALL, t.humanise(seed, 20, 5)) for seed in (1, 1, 2))
    assert onsets(a) == onsets(b) != onsets(c)
    assert onsets(a) != onsets(file)


def test_inverting_and_reversing_twice_gives_the_tune_back() -> None:
    file = file_of(*TUNE)
    assert pitches(t.on_notes(t.on_notes(file, ALL, t.invert(66)), ALL, t.invert(66))) == pitches(file)
    back = t.on_notes(file, ALL, t.retrograde(0, 5760))
    assert pitches(back) == pitches(file)[::-1]
    assert digest(t.on_notes(back, ALL, t.retrograde(0, 5760)), ~ALL) == digest(file, ~ALL)


def test_tempo_stretch_and_barlines() -> None:
    file = file_of(*TUNE)
    file.score.tempos.append(Tempo(0, 120))
    assert [round(x.qpm) for x in t.with_tempo(file, factor=0.5).score.tempos] == [60]
    double = t.stretched(file, 2)
    assert onsets(double) == [2 * onset for onset in onsets(file)]
    assert double.shape == (6, 1)
    assert t.rebarred(file, 3, 4).shape == (4, 1)
    assert onsets(t.rebarred(file, 3, 4)) == onsets(file)


def test_split_merge_and_trim() -> None:
    file = file_of(*TUNE)
    two = t.split_at(file, 0, 66)
    assert [sorted(n.pitch for n in track.notes) for track in two.score.tracks] == [
        list(range(66, 72)),
        list(range(60, 66)),
    ]
    assert pitches(t.merged(two, [0, 1])) == pitches(file)
    middle = t.trimmed(file, 1, 2)
    assert pitches(middle) == [64, 65, 66, 67]
    assert onsets(middle) == [0, 480, 960, 1440]
    with pytest.raises(ValueError, match="choose another"):
        t.split_at(file, 0, 10)
