"""Chords, closes and sections of music written by hand, and chords beside music21's on real chorales."""

from pathlib import Path

import numpy as np
import pytest
from symusic import Score

from music.analysis.chords import chords_of, lead_sheet
from music.analysis.harmony import closes, final_root, harmony, root_agreement
from music.analysis.sections import bar_places, form_of, sections_of
from music.score.form import build
from tests.conftest import TPQ


def voices(*chords: tuple[int, ...]) -> Score:
    """Four voices, a chord a beat, highest first."""
    tracks = [
        (52, False, np.array([(TPQ * i, TPQ, chord[k]) for i, chord in enumerate(chords)])) for k in range(4)
    ]
    return build(tracks, [(0, 4, 4)], TPQ, 80)


CADENCE = voices((72, 67, 64, 48), (69, 65, 60, 53), (71, 67, 62, 55), (72, 67, 64, 48))  # I IV V I in C


def test_a_cadence_is_named_and_closes() -> None:
    assert lead_sheet(CADENCE, "C major") == "C F G C"
    assert closes(CADENCE, "C major") == (True, True)
    assert closes(CADENCE, "G major") == (False, False)
    assert final_root(CADENCE) == 0
    assert harmony(CADENCE).chords == 1.0 and harmony(CADENCE).foreign == 0.0


def test_what_is_no_chord_is_counted() -> None:
    cluster = voices((62, 61, 60, 48), (72, 67, 64, 48))
    assert harmony(cluster).foreign == 0.5


def test_inversions_name_their_bass() -> None:
    assert lead_sheet(voices(*[(72, 67, 64, 52)] * 4)) == "C/E"


def test_roots_of_two_settings_agree_where_they_do() -> None:
    other = voices((72, 67, 64, 48), (69, 65, 60, 53), (71, 67, 64, 52), (72, 67, 64, 48))  # E minor for G
    assert root_agreement(CADENCE, other) == (3, 4)


def test_a_tune_implies_the_chords_of_its_key() -> None:
    notes = [
        (12 * i, 12, p)
        for i, p in enumerate([60, 64, 67, 64, 65, 69, 72, 69, 67, 71, 74, 71, 60, 64, 67, 72])
    ]
    score = build([(40, False, np.array(notes))], [(0, 4, 4)], TPQ, 80)
    assert lead_sheet(score, "C major") == "C | F | G | C"


def test_sections_that_come_back_are_found() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(60, 80, 8 * 4) for _ in range(2))
    pitches = np.concatenate([a, a, b, b])
    notes = np.stack([12 * np.arange(len(pitches)), np.full(len(pitches), 12), pitches], axis=1)
    score = build([(40, False, notes)], [(0, 4, 4)], TPQ, 80)
    found = sections_of(score)
    assert form_of(found) == "AABB"
    places = bar_places(found, 32)
    assert places[8].tolist() == [0, 0, 7, 0] and places[31].tolist() == [1, 7, 0, 23]


def test_roots_are_those_of_music21_on_plain_chords_of_bach() -> None:
    corpus = pytest.importorskip("music21.corpus")
    from music21 import chord as m21

    from music.reading.files import Reading, read_file
    from music.score.form import Limits, normalise, note_array

    same = total = 0
    for number in ("bwv269", "bwv66.6", "bwv10.7", "bwv244.3"):
        found = corpus.getWork(f"bach/{number}")
        path = Path(found[0] if isinstance(found, list) else found)
        (reading,) = [r for r in read_file(path.read_bytes(), path.name, Limits()) if isinstance(r, Reading)]
        score = normalise(reading.score, ticks_per_quarter=TPQ, velocity=80)
        notes = np.concatenate([note_array(track) for track in score.tracks])
        for tick, _, root, _, _ in chords_of(score).tolist():
            sounding = notes[(notes[:, 0] <= tick) & (notes[:, 0] + notes[:, 1] > tick), 2]
            theirs = m21.Chord([int(p) for p in sounding]) if len(set(sounding % 12)) == 3 else None
            if theirs is not None and theirs.isTriad():
                total += 1
                same += theirs.root().pitchClass == root
    assert total > 100
    assert same / total > 0.85, f"{same} of {total} plain triads have music21's root"
