import numpy as np

from music.analysis.voices import SILENT, chord_of, voice_grid, voice_leading
from music.score.form import build


def chorale(*voices: list[int]):  # type: ignore[no-untyped-def]
    tracks = [
        (52, False, np.array([[12 * i, 12, pitch] for i, pitch in enumerate(voice)], dtype=np.int64))
        for voice in voices
    ]
    return build(tracks, [(0, 4, 4)], 12, 80)


def test_parallels_are_found_and_contrary_motion_is_none() -> None:
    told = voice_leading(chorale([67, 69, 71], [60, 62, 64]), 12)  # fifths all the way
    assert (told.moves, told.parallel_fifths, told.parallel_octaves) == (2, 2, 0)
    assert voice_leading(chorale([72, 74], [60, 62]), 12).parallel_octaves == 1
    contrary = voice_leading(chorale([67, 71], [60, 55]), 12)
    assert (contrary.moves, contrary.parallel_fifths) == (1, 0)
    assert voice_leading(chorale([67, 67], [60, 60]), 12).parallel_fifths == 0, "held, not moved"


def test_crossings_and_compass() -> None:
    told = voice_leading(chorale([60, 62], [64, 59], [40, 50], [50, 30]), 12)
    assert told.crossings == 1 + 1
    assert told.out_of_compass == 1 + 1  # tenor 40, bass 30


def test_grid_and_chords() -> None:
    grid = voice_grid(chorale([72, 71], [67], [64, 62], [48, 43]), 12)
    assert grid.tolist() == [[72, 67, 64, 48], [71, SILENT, 62, 43]]
    assert [chord_of(row) for row in grid] == [(0, "major"), (7, "major")]
    assert chord_of(np.array([60, 72, SILENT])) is None
