"""How a piece ends and how it marks its metre: what a listener takes as being in a key and in time."""

import numpy as np
from symusic import Score

from music.score.form import bar_table, note_array
from music.score.keys import TONICS, key_correlations, key_index

METRE_PARTS = 16  # a bar's onset profile has so many parts


def key_margin(pitch_classes: np.ndarray, key: str) -> float:
    """Correlation of a pitch-class histogram (12,) with the profile of `key` (its third decides between major
    and minor), less that of the best other key: above 0 where Krumhansl's estimate is the key. Raises
    ValueError for an unknown key."""
    tonic, mode = key_index(key)
    correlations = key_correlations(pitch_classes)
    asked = tonic + len(TONICS) * (mode in (1, 2))
    return float(correlations[asked] - np.delete(correlations, asked).max())


def cadence(score: Score, key: str) -> float | None:
    """Share of four signs of an ending: the last top note on the tonic, the lowest sounding then on the
    tonic, the last note in the last bar, and at least as long as the median note. None where nothing is
    pitched."""
    parts = [note_array(track) for track in score.tracks if not track.is_drum and len(track.notes)]
    if not parts:
        return None
    tonic, _ = key_index(key)
    notes = np.concatenate(parts)
    last = notes[notes[:, 0] + notes[:, 1] >= (notes[:, 0] + notes[:, 1]).max()]
    top = parts[0][-1]  # of the first track: the melody
    bar = bar_table(score)[-1, 0]
    signs = (
        top[2] % 12 == tonic,
        last[:, 2].min() % 12 == tonic,
        top[0] >= bar or top[0] + top[1] > bar,
        top[1] >= np.median(notes[:, 1]),
    )
    return float(np.mean(signs))


def metre_profile(score: Score) -> np.ndarray:
    """Where in the bar notes start, weighted by the square root of their length: float64 (METRE_PARTS,) of
    sum 1."""
    table = bar_table(score)
    profile = np.zeros(METRE_PARTS)
    for track in score.tracks:
        notes = note_array(track)
        if len(notes):
            bar = np.searchsorted(table[:, 0], notes[:, 0], side="right") - 1
            where = ((notes[:, 0] - table[bar, 0]) * METRE_PARTS // np.maximum(table[bar, 1], 1)).clip(
                0, METRE_PARTS - 1
            )
            profile += np.bincount(where, weights=np.sqrt(notes[:, 1]), minlength=METRE_PARTS)
    return profile / max(profile.sum(), 1e-12)
