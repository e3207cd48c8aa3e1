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


def ends_on_tonic(score: Score, key: str) -> tuple[bool, bool]:
    """Whether the last note of the first track is the tonic, and whether it is held for a quarter or more and
    reaches the last bar. Raises ValueError for an unknown key."""
    tonic, _ = key_index(key)
    tops = [note_array(track) for track in score.tracks if not track.is_drum and len(track.notes)]
    if not tops:
        return False, False
    onset, duration, pitch = tops[0][-1].tolist()
    home = pitch % 12 == tonic
    start = int(bar_table(score)[-1, 0])
    return home, home and duration >= score.tpq and onset + duration > start


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
