"""Performed music on a grid.

Every beat is read as straight (four places) or as a triplet (three), whichever its onsets lie nearer to, the
triplet only where it is clearly nearer: rounding each onset by itself to a grid that holds both would write a
late quaver as a twelfth. (A choice by beat after Temperley, Music and Probability, 2007, without its prior.)
"""

import numpy as np
from symusic import Score

from music.score.form import as_notes, note_array

STRAIGHT, TRIPLET = 4, 3  # places in a beat
PRIOR = 1.5  # how many times nearer, in squared distance, a triplet must lie


def _choose(onsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of onsets (n,), in quarters, and how far each lay from its own."""
    beat = np.floor(onsets + 1 / (2 * STRAIGHT)).astype(np.int64)
    near = [np.rint(onsets * places) / places for places in (STRAIGHT, TRIPLET)]
    far = [np.abs(onsets - each) for each in near]
    first = int(beat.min()) if len(beat) else 0
    cost = [np.bincount(beat - first, weights=each**2) for each in far]
    triplet = (cost[1] * PRIOR < cost[0])[beat - first]
    return np.where(triplet, near[1], near[0]), np.where(triplet, far[1], far[0])


def quantised(score: Score) -> tuple[Score, float]:
    """The score with its onsets at places of their beats and its notes ended at the nearest place; and the
    mean distance of the onsets from there, in quarters. Tracks are read together: they share a beat."""
    tracks = [note_array(track, loudness=True) for track in score.tracks]
    onsets = np.concatenate([notes[:, 0] for notes in tracks]) / score.tpq
    placed, far = _choose(onsets)
    found, at = score.copy(), 0
    for track, notes in zip(found.tracks, tracks, strict=True):
        mine = placed[at : at + len(notes)]
        ends = np.rint((notes[:, 0] + notes[:, 1]) / score.tpq * STRAIGHT) / STRAIGHT
        starts = np.rint(mine * score.tpq).astype(np.int64)
        lasts = np.maximum(np.rint(ends * score.tpq).astype(np.int64) - starts, score.tpq // (2 * STRAIGHT))
        rows = np.column_stack([starts, lasts, notes[:, 2:]])
        track.notes = as_notes(rows)
        at += len(notes)
    return found, float(far.mean()) if len(far) else 0.0
