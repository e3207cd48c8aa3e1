"""Passages: a score cut into a few bars each, in a form that does not depend on the key."""

from itertools import pairwise

import numpy as np
from symusic import Score

from music.score.form import bar_table, build, note_array

BARS, FEWEST_BARS, FEWEST_NOTES = (
    8,
    4,
    4,
)  # bars of a passage; a rest of fewer goes to the one before; fewer notes say nothing
MEDIAN_PITCH = 67  # of the top voice, after `unkeyed`
HIGHEST = 127


def spans(bars: int, length: int = BARS, first: int = 0) -> list[tuple[int, int]]:
    """[first, last) of the passages of a piece: `length` bars each from bar `first` on, the last one up to
    FEWEST_BARS - 1 longer."""
    cuts = list(range(first, bars, length))
    if len(cuts) > 1 and bars - cuts[-1] < min(FEWEST_BARS, length):
        cuts.pop()
    return list(pairwise([*cuts, bars]))


def excerpt(score: Score, bars: tuple[int, int]) -> Score:
    """Bars [first, last) of a score in normal form as a score of their own; a note that begins inside is cut
    at the end. All tracks stay, some perhaps empty."""
    table = bar_table(score)
    start, end = int(table[bars[0], 0]), int(table[bars[1] - 1, :2].sum())
    tracks = []
    for track in score.tracks:
        notes = note_array(track)
        inside = notes[(notes[:, 0] >= start) & (notes[:, 0] < end)]
        inside[:, 1] = np.minimum(inside[:, 1], end - inside[:, 0])
        tracks.append((track.program, track.is_drum, inside - np.array([start, 0, 0])))
    metres = table[bars[0] : bars[1]]
    changes = [
        (int(row[0]) - start, int(row[2]), int(row[3]))
        for i, row in enumerate(metres)
        if not i or (row[2:] != metres[i - 1, 2:]).any()
    ]
    return build(tracks, changes, score.tpq, 80)


def sounding(score: Score) -> Score:
    """The score without its empty tracks."""
    kept = score.copy()
    for index in reversed(range(len(kept.tracks))):
        if not len(kept.tracks[index].notes):
            del kept.tracks[index]
    return kept


def unkeyed(score: Score) -> Score:
    """The score moved so that the median pitch of its highest pitched track is MEDIAN_PITCH: the same for
    every transposition of it, as far as 0-127 allows."""
    pitched = [note_array(track)[:, 2] for track in score.tracks if not track.is_drum and len(track.notes)]
    if not pitched:
        return score
    top = max(pitched, key=lambda pitches: float(pitches.mean()))
    shift = MEDIAN_PITCH - int(np.sort(top)[len(top) // 2])
    low, high = min(int(p.min()) for p in pitched), max(int(p.max()) for p in pitched)
    shift = min(max(shift, -low), HIGHEST - high)
    moved = score.copy()
    for track in moved.tracks:
        if not track.is_drum:
            track.shift_pitch(shift, inplace=True)
    return moved
